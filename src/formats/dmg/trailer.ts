/** The trailer of a DMG, found and checked; and what is said of files that have none. */
import { hasText, lastPlacesOf } from '../../binary/look.ts';
import { SECTOR } from '../../binary/numbers.ts';
import type { StructValue } from '../../binary/struct.ts';
import { ImageError } from '../../errors.ts';
import { AS_RAW } from '../../image/probe.ts';
import type { Storage } from '../../storage/contract.ts';
import { ARCHIVE, ENCRYPTED_END, ENCRYPTED_START, MAGIC, TRAILER, VERSION } from './layout.ts';

/** Bytes at the end of a file in which a trailer is searched for. */
const TAIL = 1024;
/** Longest disk whose offsets are exact. */
const SECTORS_MAX = Math.floor(Number.MAX_SAFE_INTEGER / SECTOR);

/** A trailer and its place. */
export interface Trailer extends StructValue<typeof TRAILER> {
  readonly fileOffset: number;
  /** Bytes of the file behind it. */
  readonly behind: number;
}

/** Finds and checks the trailer. Throws `invalid-format`, `unsupported`, `corrupt`. */
export async function readTrailer(storage: Storage): Promise<Trailer> {
  const tail = new Uint8Array(Math.min(TAIL, storage.size));
  await storage.read(storage.size - tail.length, tail);
  for (const at of lastPlacesOf(tail, MAGIC)) {
    if (at + TRAILER.size > tail.length) continue;
    if (TRAILER.get(tail, 'version', at) !== VERSION || TRAILER.get(tail, 'headerSize', at) !== TRAILER.size) continue;
    const fileOffset = storage.size - tail.length + at;
    const trailer = { ...decoded(tail, at, storage), fileOffset, behind: tail.length - at - TRAILER.size };
    checkTrailer(trailer, storage);
    return trailer;
  }
  throw await withoutTrailer(storage, tail);
}

/** Numbers beyond what any file has are refused with the place of the trailer. */
function decoded(tail: Uint8Array, at: number, { label, size }: Storage): StructValue<typeof TRAILER> {
  try {
    return TRAILER.decode(tail, at);
  } catch (cause) {
    throw new ImageError('corrupt', 'A number in the trailer of the DMG is not possible', {
      path: label,
      offset: size - tail.length + at,
      cause,
    });
  }
}

function checkTrailer(trailer: Trailer, { label: path }: Storage): void {
  const { fileOffset, sectorCount } = trailer;
  const parts = [
    ['data fork', trailer.dataOffset, trailer.dataLength],
    ['resource fork', trailer.forkOffset, trailer.forkLength],
    ['property list', trailer.xmlOffset, trailer.xmlLength],
  ] as const;
  for (const [field, offset, length] of parts) {
    if (length === 0 || offset + length <= fileOffset) continue;
    throw new ImageError('corrupt', `The ${field} of the DMG lies outside the file, which was cut off or changed`, {
      path,
      field,
      found: `${length} bytes from ${offset} on`,
      expected: `an end at or before ${fileOffset}, where the trailer begins`,
    });
  }
  if (sectorCount > SECTORS_MAX) {
    throw new ImageError('limit', 'The disk of the DMG is too long', {
      path,
      field: 'sector count',
      found: sectorCount,
    });
  }
}

/** The reason why a file is not opened. */
async function withoutTrailer(storage: Storage, tail: Uint8Array): Promise<ImageError> {
  const { label: path } = storage;
  const head = new Uint8Array(Math.min(8, storage.size));
  await storage.read(0, head);
  const unsupported = (what: string, remedy: string): ImageError =>
    new ImageError('unsupported', `The file is ${what}, which vdkit cannot open`, {
      path,
      hint: `${remedy}; or ${AS_RAW}.`,
    });
  if (hasText(head, 0, ENCRYPTED_START) || hasText(tail, tail.length - ENCRYPTED_END.length, ENCRYPTED_END)) {
    return unsupported('an encrypted DMG', 'Decrypt it first (hdiutil convert -format UDZO)');
  }
  if (hasText(head, 0, ARCHIVE)) return unsupported('a XAR archive', 'Extract the DMG in it first (xar -x)');
  if (hasText(head, 0, MAGIC)) {
    return unsupported('a DMG of an obsolete layout', 'Convert it first (hdiutil convert -format UDZO)');
  }
  return new ImageError('invalid-format', 'The file has no trailer of a DMG', {
    path,
    expected: `"${MAGIC}" and version ${VERSION} in the last ${TAIL} bytes`,
    hint: `A plain disk with the name of a DMG: ${AS_RAW}.`,
  });
}
