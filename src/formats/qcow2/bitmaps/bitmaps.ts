/** The directory of persistent dirty bitmaps (section "Bitmaps"): entries of variable length, as objects and as bytes. */
import { alignUp, divCeil } from '../../../binary/numbers.ts';
import { type ErrorDetails, hex32, ImageError } from '../../../errors.ts';
import type { Storage } from '../../../storage/contract.ts';
import { checkTablePlace, type Qcow2Header, refuseInHeader } from '../header/header.ts';
import {
  AUTOCLEAR,
  BITMAP,
  BITMAP_FLAG,
  BITMAP_FLAGS_KNOWN,
  BITMAP_NAME_MAX,
  BITMAP_TYPE,
  ENTRY_ALIGNMENT,
  ENTRY_BYTES,
  GRANULARITY_BITS_MAX,
  GRANULARITY_BITS_MIN,
  VERSION_3,
} from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';
import { textOf } from '../snapshots/snapshots.ts';

/** One persistent bitmap, from its directory entry. */
export interface Bitmap {
  readonly name: string;
  readonly granularityBits: number;
  readonly flags: number;
  readonly tableOffset: number;
  readonly tableEntries: number;
  /** Extra data: empty in all known images. */
  readonly extra: Uint8Array;
  /** The stored name, only if it is not valid UTF-8, so that a rewrite preserves it. */
  readonly nameBytes?: Uint8Array;
}

/** Reads the directory. Throws `limit`, `corrupt` or `invalid-format`. Empty for images without bitmaps. */
export async function readBitmaps(storage: Storage, header: Qcow2Header): Promise<Bitmap[]> {
  const { bitmaps, version, clusterSize } = header;
  if (bitmaps === null || version !== VERSION_3) return [];
  const { count, directoryBytes, directoryOffset } = bitmaps;
  const details = { path: storage.label, offset: directoryOffset, field: 'bitmap directory' };
  if (count > QCOW2_LIMITS.bitmaps || directoryBytes > QCOW2_LIMITS.bitmapDirectoryBytes) {
    throw new ImageError('limit', 'The image exceeds the maximum number of bitmaps', {
      ...details,
      found: `${count} in ${directoryBytes} bytes`,
      expected: `at most ${QCOW2_LIMITS.bitmaps} in ${QCOW2_LIMITS.bitmapDirectoryBytes} bytes`,
    });
  }
  checkTablePlace(directoryOffset, directoryBytes, clusterSize, details);
  if (directoryOffset + directoryBytes > storage.size) {
    throw new ImageError('corrupt', 'The file ends inside the bitmap directory', details);
  }
  const bytes = new Uint8Array(directoryBytes);
  await storage.read(directoryOffset, bytes);
  return parseBitmaps(bytes, count, { ...details, header });
}

/** True if the list is reliable: a writer without bitmap support clears this bit. */
export function bitmapsConsistent(header: Qcow2Header): boolean {
  return (header.autoclear & AUTOCLEAR.bitmaps) !== 0n;
}

/** A bitmap not stored when the program using it ended: it can only be removed. */
export function isInUse(bitmap: Bitmap): boolean {
  return (bitmap.flags & BITMAP_FLAG.inUse) !== 0;
}

/** Table entries needed for a bitmap of a disk of that size. */
export function bitmapTableEntries(size: number, granularityBits: number, clusterSize: number): number {
  return divCeil(divCeil(divCeil(size, 2 ** granularityBits), 8), clusterSize);
}

/** Decodes a directory of `count` entries. */
export function parseBitmaps(
  bytes: Uint8Array,
  count: number,
  where: ErrorDetails & { readonly header: Pick<Qcow2Header, 'clusterSize'> },
): Bitmap[] {
  const { header, ...details } = where;
  const bitmaps: Bitmap[] = [];
  for (let at = 0; bitmaps.length < count; ) {
    if (at + BITMAP.size > bytes.length) throw broken('The bitmap directory ends inside an entry', details);
    const entry = BITMAP.decode(bytes, at);
    const extraStart = at + BITMAP.size;
    const nameStart = extraStart + entry.extraLength;
    const end = nameStart + entry.nameLength;
    if (end > bytes.length) throw broken('The bitmap directory ends inside an entry', details);
    const place = { ...details, ...(details.offset === undefined ? {} : { offset: details.offset + at }) };
    checkEntry(entry, place);
    checkTablePlace(entry.tableOffset, entry.tableEntries * ENTRY_BYTES, header.clusterSize, place);
    refuseInHeader(entry.tableOffset, entry.tableEntries * ENTRY_BYTES, header.clusterSize, place);
    const name = textOf(bytes.slice(nameStart, end));
    bitmaps.push({
      name: name.text,
      ...(name.bytes === null ? {} : { nameBytes: name.bytes }),
      granularityBits: entry.granularityBits,
      flags: entry.flags,
      tableOffset: entry.tableOffset,
      tableEntries: entry.tableEntries,
      extra: bytes.slice(extraStart, nameStart),
    });
    at = alignUp(end, ENTRY_ALIGNMENT);
  }
  return bitmaps;
}

/** The directory as bytes. */
export function serializeBitmaps(bitmaps: readonly Bitmap[]): Uint8Array {
  const entries = bitmaps.map((bitmap) => {
    const name = bitmap.nameBytes ?? new TextEncoder().encode(bitmap.name);
    const { length: extraLength } = bitmap.extra;
    const bytes = new Uint8Array(alignUp(BITMAP.size + extraLength + name.length, ENTRY_ALIGNMENT));
    bytes.set(BITMAP.encode({ ...bitmap, type: BITMAP_TYPE, nameLength: name.length, extraLength }));
    bytes.set(bitmap.extra, BITMAP.size);
    bytes.set(name, BITMAP.size + extraLength);
    return bytes;
  });
  const directory = new Uint8Array(entries.reduce((sum, entry) => sum + entry.length, 0));
  let at = 0;
  for (const entry of entries) {
    directory.set(entry, at);
    at += entry.length;
  }
  return directory;
}

function checkEntry(entry: ReturnType<typeof BITMAP.decode>, details: ErrorDetails): void {
  const { type, flags, granularityBits, nameLength } = entry;
  if (type !== BITMAP_TYPE) throw broken('The type of a bitmap is unknown', { ...details, found: type, expected: 1 });
  if ((flags & ~BITMAP_FLAGS_KNOWN) !== 0) {
    throw broken('A bitmap has unknown flags', { ...details, found: hex32(flags) });
  }
  if (granularityBits < GRANULARITY_BITS_MIN || granularityBits > GRANULARITY_BITS_MAX) {
    throw broken('The granularity of a bitmap is not valid', {
      ...details,
      found: granularityBits,
      expected: `from ${GRANULARITY_BITS_MIN} to ${GRANULARITY_BITS_MAX} bits`,
    });
  }
  if (nameLength === 0 || nameLength > BITMAP_NAME_MAX) {
    throw broken('The name of a bitmap is not valid', {
      ...details,
      found: `${nameLength} bytes`,
      expected: `from 1 to ${BITMAP_NAME_MAX}`,
    });
  }
}

function broken(message: string, details: ErrorDetails): ImageError {
  return new ImageError('corrupt', message, details);
}
