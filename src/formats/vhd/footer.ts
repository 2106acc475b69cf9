/** Footers of VHD images: found, checked, and written back. */
import { alignDown, SECTOR } from '../../binary/numbers.ts';
import { type ErrorDetails, ImageError } from '../../errors.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { checksumOf } from './checksum.ts';
import { DISK_TYPE, EPOCH, FOOTER, FOOTER_COOKIE, type Footer, HEADER, HEADER_COOKIE, SHORT_FOOTER } from './layout.ts';

/** A footer as it was found. */
export interface FoundFooter {
  readonly footer: Footer;
  /** File offset of the footer at the end; null: it is missing, and its copy at the start was taken. */
  readonly fileOffset: number | null;
  /** State of the footer at the end. */
  readonly end: FooterState;
  /** State of the copy at the start; null: images of this type have none. */
  readonly copy: FooterState | null;
  /** The footer at the end has a wrong checksum, and says nothing of the disk that its sound copy does not say. */
  readonly isRestorable: boolean;
}

/**
 * `differs`: the copy is sound but not that of the footer at the end; `short`: without its last byte; `before zeroes`: the
 * file was made longer, and the footer at its new end is not there.
 */
export type FooterState = 'sound' | 'wrong checksum' | 'missing' | 'short' | 'differs' | 'before zeroes';

/** Bytes that are read at a time in a search for a footer, and zeroes that are passed over where no hole is known. */
const PIECE = 64 * 1024;
const MOST_ZEROES = 64 * 1024 * 1024;

interface Candidate {
  readonly bytes: Uint8Array;
  readonly fileOffset: number;
  readonly state: 'sound' | 'wrong checksum' | 'short' | 'before zeroes';
}

/** Finds the footer of an image. Throws `invalid-format`, `unsupported`, `corrupt`, `limit`. */
export async function findFooter(storage: Storage, options: OperationOptions = {}): Promise<FoundFooter> {
  const { size, label } = storage;
  const end = await candidateAt(storage, size - SECTOR, SECTOR, options);
  const start = await copyAt(storage, options);
  const short = end === null ? await candidateAt(storage, size - SHORT_FOOTER, SHORT_FOOTER, options) : null;
  // A wrong footer with a sound copy was cut off while it was written.
  const found = [end, start, short].filter((one) => one !== null);
  const inside = found.length === 0 ? await beforeZeroes(storage, options) : null;
  const all = inside === null ? found : [inside];
  const best = all.find(({ state }) => state !== 'wrong checksum') ?? all[0];
  if (best === undefined) {
    throw new ImageError('invalid-format', 'The file has no VHD footer', {
      path: label,
      found: `${size} bytes`,
      expected: 'the text "conectix" 512 bytes before the end',
      hint: 'The file may have been cut off: copy it again from where it came from.',
    });
  }
  const footer = checkedFooter(best.bytes, label);
  const last = end ?? short ?? inside;
  const hasCopy = footer.type !== DISK_TYPE.fixed;
  return {
    footer,
    fileOffset: last?.fileOffset ?? null,
    end: last?.state ?? 'missing',
    copy: hasCopy ? copyState(start, footer) : null,
    isRestorable: end?.state === 'wrong checksum' && best === start && isSameDisk(end.bytes, start.bytes),
  };
}

/** True if two footers name one disk, with its size and place of the header. Compared as bytes: one of them is damaged. */
function isSameDisk(one: Uint8Array, other: Uint8Array): boolean {
  const { type, dataOffset, currentSize, uuid, savedState } = FOOTER.fields;
  return [type, dataOffset, currentSize, uuid, savedState].every(({ offset, size }) =>
    one.subarray(offset, offset + size).every((byte, at) => byte === other[offset + at]),
  );
}

/** Compared with what is written to the end: a size that is not whole sectors is rounded down. */
function copyState(start: Candidate | null, footer: Footer): FooterState {
  if (start === null) return 'missing';
  if (start.state !== 'sound') return start.state;
  const bytes = encodeFooter(footer);
  return start.bytes.every((byte, at) => byte === bytes[at]) ? 'sound' : 'differs';
}

/**
 * The footer of a fixed image that was growing when it was cut off: the file has its new length, and zeroes behind the last
 * footer. An image of blocks has a copy at its start for that.
 */
async function beforeZeroes(storage: Storage, options: OperationOptions): Promise<Candidate | null> {
  const piece = new Uint8Array(PIECE);
  let left = MOST_ZEROES;
  for (let end = storage.size; end > 0 && left > 0; ) {
    const extent = await storage.extentAt(end - 1, options);
    if (!extent.data) {
      end = Math.min(extent.start, end - 1);
      continue;
    }
    const start = Math.max(alignDown(end - 1, PIECE), extent.start);
    const bytes = piece.subarray(0, end - start);
    await readPadded(storage, start, bytes, options);
    const last = bytes.findLastIndex((byte) => byte !== 0);
    if (last >= 0) return soundAt(storage, alignDown(start + last, SECTOR), options);
    left -= bytes.length;
    end = start;
  }
  return null;
}

async function soundAt(storage: Storage, fileOffset: number, options: OperationOptions): Promise<Candidate | null> {
  const found = await candidateAt(storage, fileOffset, SECTOR, options);
  if (found?.state !== 'sound' || FOOTER.get(found.bytes, 'type') !== DISK_TYPE.fixed) return null;
  return FOOTER.get(found.bytes, 'currentSize') > fileOffset ? null : { ...found, state: 'before zeroes' };
}

async function candidateAt(
  storage: Storage,
  fileOffset: number,
  length: number,
  options: OperationOptions,
): Promise<Candidate | null> {
  if (fileOffset < 0) return null;
  const bytes = new Uint8Array(FOOTER.size);
  await readPadded(storage, fileOffset, bytes.subarray(0, length), options);
  if (FOOTER.get(bytes, 'cookie') !== FOOTER_COOKIE) return null;
  const fits = FOOTER.get(bytes, 'checksum') === checksumOf(bytes, FOOTER.fields.checksum.offset);
  if (length < SECTOR) return fits ? { bytes, fileOffset, state: 'short' } : null;
  return { bytes, fileOffset, state: fits ? 'sound' : 'wrong checksum' };
}

/** The copy at the start, which counts only with the header that it leads to: a guest may write such a sector too. */
async function copyAt(storage: Storage, options: OperationOptions): Promise<Candidate | null> {
  const found = await candidateAt(storage, 0, SECTOR, options);
  if (found === null) return null;
  const type = FOOTER.get(found.bytes, 'type');
  if (type !== DISK_TYPE.dynamic && type !== DISK_TYPE.differencing) return null;
  const dataOffset = FOOTER.get(found.bytes, 'dataOffset');
  if (dataOffset > BigInt(storage.size - HEADER.size)) return null;
  const header = new Uint8Array(HEADER.size);
  await readPadded(storage, Number(dataOffset), header, options);
  return HEADER.get(header, 'cookie') === HEADER_COOKIE ? found : null;
}

function checkedFooter(bytes: Uint8Array, path: string): Footer {
  const version = FOOTER.get(bytes, 'version');
  if (version >>> 16 !== 1)
    throw fault('unsupported', 'The version of the image is not known', path, 'version', version);
  const type = FOOTER.get(bytes, 'type');
  if (!(Object.values(DISK_TYPE) as number[]).includes(type)) {
    throw fault('unsupported', 'Images of this type cannot be opened', path, 'disk type', type);
  }
  const footer = FOOTER.decode(bytes);
  const currentSize = alignDown(footer.currentSize, SECTOR);
  if (currentSize === 0)
    throw fault('corrupt', 'The image has a disk of no bytes', path, 'current size', footer.currentSize);
  return { ...footer, currentSize };
}

/** A fault in the footer or the header. */
export function fault(
  kind: 'corrupt' | 'unsupported' | 'limit',
  message: string,
  path: string,
  field: string,
  found: ErrorDetails['found'],
  expected?: string,
): ImageError {
  return new ImageError(kind, message, { status: 'VERR_VD_VHD_INVALID_HEADER', path, field, found, expected });
}

/** The 512 bytes of a footer, with the checksum that fits. */
export function encodeFooter(footer: Footer): Uint8Array {
  const bytes = FOOTER.encode(footer);
  FOOTER.put(bytes, 'checksum', checksumOf(bytes, FOOTER.fields.checksum.offset));
  return bytes;
}

/** A time stamp of now. */
export function timestampNow(): number {
  return Math.max(0, Math.floor(Date.now() / 1000) - EPOCH);
}
