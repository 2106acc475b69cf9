/** The header of dynamic and differencing VHD images, decoded and checked: after it, every number can be trusted. */
import { alignDown, alignUp, divCeil, isPowerOfTwo, largest, SECTOR } from '../../binary/numbers.ts';
import { LIMITS } from '../../limits.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { checksumOf } from './checksum.ts';
import { fault } from './footer.ts';
import { type Footer, HEADER, HEADER_COOKIE, type Header, LOCATOR, LOCATORS, type Locator } from './layout.ts';
import { VHD_LIMITS } from './limits.ts';

/** A stretch of the file that holds metadata. */
export interface MetadataPlace {
  readonly fileOffset: number;
  readonly length: number;
}

/** Checked content of a header. Places and sizes in bytes. */
export interface VhdLayout {
  readonly header: Header;
  /** File offset of the header. */
  readonly headerOffset: number;
  readonly tableOffset: number;
  /**
   * Entries that the table has room for, and those that the disk needs. The header may count more, up to whatever fits into
   * the number: where those reach beyond the file or into a block, the table ends with the entries that the disk needs.
   */
  readonly entries: number;
  readonly blockCount: number;
  readonly blockSize: number;
  /** Bytes of the sector bitmap before each block. */
  readonly bitmapBytes: number;
  readonly locators: readonly Locator[];
  /** Whole sectors of footer copy, header, table and locators: no block may lie there. */
  readonly places: readonly MetadataPlace[];
  readonly checksumFits: boolean;
}

/** Reads the header that a footer leads to. Throws `corrupt`, `limit`. */
export async function readHeader(storage: Storage, footer: Footer, options: OperationOptions = {}): Promise<VhdLayout> {
  const { headerOffset, bytes } = await headerBytes(storage, footer, options);
  const header = HEADER.decode(bytes);
  const { blockSize, tableOffset } = header;
  checkBlockSize(header, storage.label);
  const blockCount = divCeil(footer.currentSize, blockSize);
  checkTable(header, footer, storage, headerOffset);
  const fits = header.entries * 4 <= storage.size - tableOffset;
  const layout = {
    header,
    headerOffset,
    tableOffset,
    blockCount,
    blockSize,
    bitmapBytes: bitmapBytesOf(blockSize),
    locators: locatorsOf(header, storage.size),
    checksumFits: header.checksum === checksumOf(bytes, HEADER.fields.checksum.offset),
  };
  return withEntries(layout, fits ? header.entries : blockCount);
}

function withEntries(layout: Omit<VhdLayout, 'entries' | 'places'>, entries: number): VhdLayout {
  const { headerOffset, tableOffset, locators } = layout;
  const places = [
    { fileOffset: 0, length: SECTOR },
    { fileOffset: headerOffset, length: HEADER.size },
    { fileOffset: tableOffset, length: entries * 4 },
    ...locators,
  ];
  return { ...layout, entries, places: places.map(wholeSectors) };
}

/** The layout with a table that ends with the entries that the disk needs. */
export function withoutSurplus(layout: VhdLayout): VhdLayout {
  return withEntries(layout, layout.blockCount);
}

/** True if a block lies where the table has entries that the disk does not need. */
export function isInSurplus(
  { tableOffset, blockCount, entries }: VhdLayout,
  fileOffset: number,
  length: number,
): boolean {
  const needed = wholeSectors({ fileOffset: tableOffset, length: blockCount * 4 });
  const all = wholeSectors({ fileOffset: tableOffset, length: entries * 4 });
  return overlaps(all, fileOffset, length) && !overlaps(needed, fileOffset, length);
}

/** The number of entries, with the checksum, in the first sector of the header: one write, durable. */
export async function putEntries(
  storage: Storage,
  { header, headerOffset }: VhdLayout,
  entries: number,
): Promise<void> {
  await storage.write(headerOffset, encodeHeader({ ...header, entries }).subarray(0, SECTOR));
  await storage.flush();
}

async function headerBytes(
  storage: Storage,
  { dataOffset }: Footer,
  options: OperationOptions,
): Promise<{ readonly headerOffset: number; readonly bytes: Uint8Array }> {
  const path = storage.label;
  if (dataOffset % BigInt(SECTOR) !== 0n || dataOffset > BigInt(storage.size - HEADER.size)) {
    const expected = 'inside the file, at a sector';
    throw fault(
      'corrupt',
      'The header cannot be where the footer says',
      path,
      'data offset',
      String(dataOffset),
      expected,
    );
  }
  const headerOffset = Number(dataOffset);
  const bytes = new Uint8Array(HEADER.size);
  await readPadded(storage, headerOffset, bytes, options);
  const cookie = HEADER.get(bytes, 'cookie');
  if (cookie !== HEADER_COOKIE) {
    const found = `0x${cookie.toString(16)}`;
    throw fault('corrupt', 'The header of the image is damaged', path, 'cookie', found, '"cxsparse"');
  }
  const version = HEADER.get(bytes, 'version');
  if (version >>> 16 !== 1)
    throw fault('unsupported', 'The version of the header is not known', path, 'version', version);
  return { headerOffset, bytes };
}

/** Block sizes that images may have: powers of two. */
export function isBlockSize(size: number): boolean {
  return isPowerOfTwo(size) && size >= LIMITS.blockSizeMin && size <= VHD_LIMITS.blockBytes;
}

function checkBlockSize({ blockSize }: Header, path: string): void {
  if (isBlockSize(blockSize)) return;
  const expected = `a power of two from ${LIMITS.blockSizeMin} to ${VHD_LIMITS.blockBytes}`;
  const kind = isPowerOfTwo(blockSize) && blockSize > VHD_LIMITS.blockBytes ? 'limit' : 'corrupt';
  throw fault(kind, 'The block size is not possible', path, 'block size', blockSize, expected);
}

function checkTable(
  { entries, blockSize, tableOffset }: Header,
  { currentSize }: Footer,
  storage: Storage,
  headerOffset: number,
): void {
  const path = storage.label;
  const blockCount = divCeil(currentSize, blockSize);
  if (entries < blockCount) {
    const message = 'The block allocation table is too short for the disk';
    throw fault('corrupt', message, path, 'maximum table entries', entries, `at least ${blockCount}`);
  }
  if (blockCount > VHD_LIMITS.entries) {
    const expected = `at most ${VHD_LIMITS.entries} blocks`;
    throw fault('limit', 'The image has too many blocks', path, 'current size', currentSize, expected);
  }
  const inHeader = overlaps({ fileOffset: headerOffset, length: HEADER.size }, tableOffset, blockCount * 4);
  const inFile = tableOffset >= SECTOR && tableOffset + blockCount * 4 <= storage.size;
  if (tableOffset % SECTOR === 0 && inFile && !inHeader) return;
  const message = 'The block allocation table cannot be where the header says';
  throw fault('corrupt', message, path, 'table offset', tableOffset, 'inside the file, at a sector, beside the header');
}

/** Bytes of the sector bitmap before a block. */
export function bitmapBytesOf(blockSize: number): number {
  return alignUp(divCeil(blockSize / SECTOR, 8), SECTOR);
}

function wholeSectors({ fileOffset, length }: MetadataPlace): MetadataPlace {
  const start = alignDown(fileOffset, SECTOR);
  return { fileOffset: start, length: alignUp(fileOffset + length, SECTOR) - start };
}

/** True if a range of the file and a place of metadata have bytes in common. */
export function overlaps(place: MetadataPlace, fileOffset: number, length: number): boolean {
  return fileOffset < place.fileOffset + place.length && place.fileOffset < fileOffset + length;
}

/** End of the metadata that begins before a file offset. */
export function metadataEndBefore({ places }: Pick<VhdLayout, 'places'>, limit = Number.POSITIVE_INFINITY): number {
  const ends = places.filter(({ fileOffset }) => fileOffset < limit).map((place) => place.fileOffset + place.length);
  return largest(ends, 0);
}

/** Locators whose names lie in the file. */
function locatorsOf({ locators }: Header, fileSize: number): Locator[] {
  return Array.from({ length: LOCATORS }, (_, index) => locatorAt(locators, index)).filter(
    (one): one is Locator =>
      one !== null &&
      one.platform !== 0 &&
      one.length > 0 &&
      one.length <= VHD_LIMITS.locatorBytes &&
      one.fileOffset + one.length <= fileSize,
  );
}

/** A locator; null: its name lies further away than any file is long. */
export function locatorAt(locators: Uint8Array, index: number): Locator | null {
  const at = index * LOCATOR.size;
  const view = new DataView(locators.buffer, locators.byteOffset, locators.length);
  const isFar = view.getUint32(at + LOCATOR.fields.fileOffset.offset) > Math.floor(Number.MAX_SAFE_INTEGER / 2 ** 32);
  return isFar ? null : LOCATOR.decode(locators, at);
}

/** The bytes of a header, with the checksum that fits. */
export function encodeHeader(header: Header): Uint8Array {
  const bytes = HEADER.encode(header);
  HEADER.put(bytes, 'checksum', checksumOf(bytes, HEADER.fields.checksum.offset));
  return bytes;
}
