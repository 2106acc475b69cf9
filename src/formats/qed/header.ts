/** The header of a QED image, decoded and checked: after it, every number can be trusted. */
import { isPowerOfTwo, SECTOR } from '../../binary/numbers.ts';
import { type ErrorDetails, hex, ImageError } from '../../errors.ts';
import { decodeBackingName } from '../../image/backing-name.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import {
  BACKING_NAME_MAX,
  CLUSTER_MAX,
  CLUSTER_MIN,
  FEATURE,
  FEATURES_KNOWN,
  HEADER,
  type Header,
  L1_ENTRIES_MAX,
  MAGIC,
  TABLE_MAX,
} from './layout.ts';

/** Checked content of a header. Places and sizes in bytes. */
export interface QedLayout {
  readonly header: Header;
  /** The first sector, as it is on the medium. */
  readonly sector: Uint8Array;
  readonly virtualSize: number;
  readonly clusterSize: number;
  /** Of the L1 table and of each L2 table. */
  readonly tableBytes: number;
  readonly tableEntries: number;
  /** Entries of the L1 table that are read. */
  readonly l1Entries: number;
  readonly l1Offset: number;
  /** Header and, as a rule, backing file name: clusters begin behind it. */
  readonly headerBytes: number;
  /** Null: there is none. */
  readonly backing: Backing | null;
  readonly needCheck: boolean;
}

/** The backing file as the header names it. */
export interface Backing {
  /** Empty: the header has no name. */
  readonly name: string;
  readonly fileOffset: number;
  readonly length: number;
  /** It is a raw disk, whatever it looks like. */
  readonly raw: boolean;
}

/** Reads and checks the header. Throws `invalid-format`, `unsupported`, `corrupt`, `limit`. */
export async function readHeader(storage: Storage, options: OperationOptions = {}): Promise<QedLayout> {
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector, options);
  if (storage.size < HEADER.size || HEADER.get(sector, 'magic') !== MAGIC) {
    throw fault(storage, 'invalid-format', 'This is not a QED image: the signature does not match', 'magic', {
      found: hex(HEADER.get(sector, 'magic')),
      expected: hex(MAGIC),
    });
  }
  const header = HEADER.decode(sector);
  checkSizes(storage, header);
  checkFeatures(storage, header);
  const { clusterSize, tableSize, headerSize, imageSize, features } = header;
  const tableBytes = tableSize * clusterSize;
  const tableEntries = tableBytes / 8;
  const headerBytes = headerSize * clusterSize;
  return {
    header,
    sector,
    virtualSize: imageSize,
    clusterSize,
    tableBytes,
    tableEntries,
    l1Entries: Math.min(tableEntries, L1_ENTRIES_MAX),
    l1Offset: l1Of(storage, header, tableBytes, headerBytes),
    headerBytes,
    backing: await backingOf(storage, header, options),
    needCheck: (features & FEATURE.needCheck) !== 0n,
  };
}

/** Bytes of the largest disk with such clusters and tables, at most what a number holds. */
export function largestDisk(clusterSize: number, tableSize: number): number {
  const entries = (BigInt(clusterSize) * BigInt(tableSize)) / 8n;
  const most = entries * entries * BigInt(clusterSize);
  return most > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER - (SECTOR - 1) : Number(most);
}

/** Throws `limit` for a disk that the tables cannot cover. */
export function checkDiskSize(size: number, { clusterSize, header }: QedLayout, path: string): void {
  const most = largestDisk(clusterSize, header.tableSize);
  if (size <= most) return;
  throw new ImageError('limit', 'A QED image with these clusters and tables cannot be that large', {
    path,
    found: `${size} bytes`,
    expected: `at most ${most}`,
    hint: 'Convert it into an image with larger clusters.',
  });
}

/** True for sizes in bytes that a cluster can have. */
export function isClusterSize(size: number): boolean {
  return isPowerOfTwo(size) && size >= CLUSTER_MIN && size <= CLUSTER_MAX;
}

/** True for numbers of clusters that a table can have. */
export function isTableSize(clusters: number): boolean {
  return isPowerOfTwo(clusters) && clusters <= TABLE_MAX;
}

function checkSizes(storage: Storage, { clusterSize, tableSize, headerSize, imageSize }: Header): void {
  const wrong = (message: string, field: keyof Header, found: number, expected: string): ImageError =>
    fault(storage, 'corrupt', message, field, { found, expected });
  if (!isClusterSize(clusterSize)) {
    const expected = `a power of two from ${CLUSTER_MIN} to ${CLUSTER_MAX}`;
    throw wrong('The cluster size is not possible', 'clusterSize', clusterSize, expected);
  }
  if (!isTableSize(tableSize)) {
    throw wrong(
      'The size of the tables is not possible',
      'tableSize',
      tableSize,
      `1, 2, 4, 8 or ${TABLE_MAX} clusters`,
    );
  }
  if (headerSize === 0 || headerSize * clusterSize > 0xffff_ffff) {
    throw wrong('The size of the header is not possible', 'headerSize', headerSize, 'clusters of less than 4 GiB');
  }
  const most = largestDisk(clusterSize, tableSize);
  if (imageSize % SECTOR !== 0 || imageSize > most) {
    throw wrong('The size of the disk is not possible', 'imageSize', imageSize, `a multiple of 512, at most ${most}`);
  }
}

function checkFeatures(storage: Storage, { features }: Header): void {
  const unknown = features & ~FEATURES_KNOWN;
  if (unknown === 0n) return;
  throw fault(storage, 'unsupported', 'The image requires features that vdkit does not support', 'features', {
    found: hex(features),
    expected: `no bits outside ${hex(FEATURES_KNOWN)}`,
    hint: 'Convert it with the program that created it.',
  });
}

function l1Of(storage: Storage, { l1Offset, clusterSize }: Header, tableBytes: number, headerBytes: number): number {
  const last = storage.size - tableBytes;
  const isPossible =
    l1Offset % BigInt(clusterSize) === 0n && l1Offset >= BigInt(headerBytes) && l1Offset <= BigInt(last);
  if (isPossible) return Number(l1Offset);
  throw fault(storage, 'corrupt', 'The L1 table cannot be where the header says', 'l1Offset', {
    found: hex(l1Offset),
    expected: `a multiple of ${hex(clusterSize)} from ${hex(headerBytes)}, with ${tableBytes} bytes in the file`,
  });
}

/** The name lies among the header's clusters; VirtualBox puts a new one behind everything else. */
async function backingOf(storage: Storage, header: Header, options: OperationOptions): Promise<Backing | null> {
  const { features, backingOffset: fileOffset, backingLength: length } = header;
  if ((features & FEATURE.backing) === 0n) return null;
  const raw = (features & FEATURE.backingRaw) !== 0n;
  if (length === 0) return { name: '', fileOffset, length, raw };
  if (length > BACKING_NAME_MAX || fileOffset < HEADER.size || fileOffset + length > storage.size) {
    const found = `${length} bytes at ${hex(fileOffset)}`;
    const expected = `at most ${BACKING_NAME_MAX} bytes behind the header and inside the file`;
    const message = 'The name of the backing file cannot be where the header says';
    throw fault(storage, 'corrupt', message, 'backingOffset', { found, expected });
  }
  const bytes = new Uint8Array(length);
  await readPadded(storage, fileOffset, bytes, options);
  return {
    name: decodeBackingName(bytes, { field: 'backing file name', offset: fileOffset }),
    fileOffset,
    length,
    raw,
  };
}

function fault(
  { label }: Storage,
  kind: 'invalid-format' | 'corrupt' | 'unsupported',
  message: string,
  field: keyof Header,
  details: ErrorDetails,
): ImageError {
  return new ImageError(kind, message, { path: label, field, offset: HEADER.fields[field].offset, ...details });
}
