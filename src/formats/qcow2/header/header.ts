/**
 * The header cluster of a QCOW2 image: decoding, checking, encoding. After `parseHeader` returns, the rest of this
 * format may trust every number: each is inside the bounds of the format, and no table is longer than its limit.
 *
 * Unknown fields and extensions are kept, so that `serializeHeader` is lossless.
 */
import { alignDown, alignUp, divCeil, isAligned, SECTOR } from '../../../binary/numbers.ts';
import { type ErrorDetails, hex, hex32, ImageError, printable, withContext } from '../../../errors.ts';
import { decodeBackingName } from '../../../image/backing-name.ts';
import {
  AUTOCLEAR,
  BACKING_NAME_MAX,
  CLUSTER_BITS_EXTENDED_MIN,
  CLUSTER_BITS_MAX,
  CLUSTER_BITS_MIN,
  COMPATIBLE,
  COMPRESSION,
  CRYPT,
  ENTRY_BYTES,
  EXTENDED_ENTRY_BYTES,
  FEATURE_KIND,
  HEADER,
  HEADER_LENGTH_2,
  HEADER_LENGTH_3_MIN,
  INCOMPATIBLE,
  INCOMPATIBLE_KNOWN,
  MAGIC,
  type RawHeader,
  REFCOUNT_ORDER_2,
  REFCOUNT_ORDER_MAX,
  VERSION_2,
  VERSION_3,
} from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';
import { decodeExtensions, type Extension, encodeExtensions, type KnownExtensions } from './extensions.ts';

/** Checked content of the header cluster: stored values first, then derived ones. */
export interface Qcow2Header extends KnownExtensions {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  /** Stored disk size in guest bytes; `virtualSize` is rounded to sectors. */
  readonly size: number;
  readonly cryptMethod: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  readonly incompatible: bigint;
  readonly compatible: bigint;
  readonly autoclear: bigint;
  /** The width of a refcount is `2 ** refcountOrder` bits. */
  readonly refcountOrder: number;
  readonly headerLength: number;
  /** Bytes 105 to 111, and the rest of a longer header. */
  readonly unknownFields: Uint8Array;
  readonly backingName: string | null;
  /** All extensions except the end marker, in order. */
  readonly extensions: readonly Extension[];

  readonly clusterSize: number;
  /** Guest bytes, a multiple of 512. */
  readonly virtualSize: number;
  readonly compression: 'zlib' | 'zstd';
  readonly extendedL2: boolean;
  /** L2 entries in one table, which is one cluster. */
  readonly l2Entries: number;
  readonly warnings: readonly string[];
}

/** Bytes needed to find the length of the header cluster. */
export const HEADER_START = HEADER.size;

/** The length of the header cluster, from the first bytes of the file. Throws as `parseHeader` does. */
export function headerClusterBytes(start: Uint8Array, path: string): number {
  try {
    checkSignature(start);
    return 2 ** checkClusterBits(HEADER.get(start, 'clusterBits'));
  } catch (error) {
    throw withContext(error, { path });
  }
}

/**
 * Decodes and checks the first cluster of a file (zeroes where the file is shorter). Throws `invalid-format`,
 * `unsupported`, `limit` or `corrupt`.
 */
export function parseHeader(cluster: Uint8Array, fileSize: number, path: string): Qcow2Header {
  try {
    return checkHeader(decodeRaw(cluster, fileSize), cluster, fileSize);
  } catch (error) {
    throw withContext(error, { path });
  }
}

/** A header as bytes of a whole cluster. Throws `limit` when extensions and backing name do not fit into it. */
export function serializeHeader(header: Qcow2Header): Uint8Array {
  const cluster = new Uint8Array(header.clusterSize);
  const extensions = encodeExtensions(header.extensions);
  const name = new TextEncoder().encode(header.backingName ?? '');
  const backingOffset = header.headerLength + extensions.length;
  if (backingOffset + name.length > cluster.length) {
    throw new ImageError('limit', 'The header does not fit into its cluster', {
      field: 'header extensions and backing file name',
      found: `${backingOffset + name.length} bytes`,
      expected: `at most ${cluster.length}`,
      hint: 'Use a shorter name for the backing file, or larger clusters.',
    });
  }
  const raw: RawHeader = {
    ...header,
    magic: MAGIC,
    backingOffset: header.backingName === null ? 0 : backingOffset,
    backingLength: name.length,
    compressionType: COMPRESSION[header.compression],
    padding: new Uint8Array(7),
  };
  cluster.set(HEADER.encode(raw).subarray(0, Math.min(header.headerLength, HEADER.size)));
  if (header.headerLength > HEADER_LENGTH_3_MIN) cluster.set(header.unknownFields, HEADER.fields.padding.offset);
  cluster.set(extensions, header.headerLength);
  cluster.set(name, backingOffset);
  return cluster;
}

/** Rejects a table of pointers that overlaps the header. */
export function refuseInHeader(offset: number, length: number, clusterSize: number, details: ErrorDetails): void {
  if (length === 0 || offset >= clusterSize) return;
  throw invalid('A table overlaps the header', { ...details, found: hex(offset) });
}

/** Rejects a table that is misaligned, or ends past the addressable range. Its length is checked before. */
export function checkTablePlace(offset: number, length: number, clusterSize: number, details: ErrorDetails): void {
  if (!isAligned(offset, clusterSize)) {
    throw invalid('A table is not aligned to clusters', {
      ...details,
      found: hex(offset),
      expected: `a multiple of ${clusterSize}`,
    });
  }
  if (!Number.isSafeInteger(offset + length)) {
    throw new ImageError('limit', 'A table is beyond the addressable range', { ...details, found: hex(offset) });
  }
}

function invalid(message: string, details: ErrorDetails): ImageError {
  return new ImageError('invalid-format', message, details);
}

function checkSignature(start: Uint8Array): 2 | 3 {
  const magic = HEADER.get(start, 'magic');
  if (magic !== MAGIC) {
    throw invalid('This is not a QCOW2 image: the signature does not match', {
      offset: HEADER.fields.magic.offset,
      field: 'magic',
      found: hex32(magic),
      expected: hex32(MAGIC),
    });
  }
  const version = HEADER.get(start, 'version');
  if (version === VERSION_2 || version === VERSION_3) return version;
  throw new ImageError('unsupported', 'This version of QCOW2 is not supported', {
    offset: HEADER.fields.version.offset,
    field: 'version',
    found: version,
    expected: '2 or 3',
  });
}

function checkClusterBits(clusterBits: number): number {
  if (clusterBits >= CLUSTER_BITS_MIN && clusterBits <= CLUSTER_BITS_MAX) return clusterBits;
  throw invalid('The cluster size is not valid', {
    offset: HEADER.fields.clusterBits.offset,
    field: 'clusterBits',
    found: clusterBits,
    expected: `from ${CLUSTER_BITS_MIN} to ${CLUSTER_BITS_MAX}`,
  });
}

/** The fields; those past the header length are 0. */
function decodeRaw(cluster: Uint8Array, fileSize: number): RawHeader {
  const version = checkSignature(cluster);
  if (fileSize < (version === VERSION_2 ? HEADER_LENGTH_2 : HEADER_LENGTH_3_MIN)) {
    throw invalid('The QCOW2 header is cut off', { field: 'header', found: `a file of ${fileSize} bytes` });
  }
  checkClusterBits(HEADER.get(cluster, 'clusterBits'));
  if (version === VERSION_2) {
    const short = new Uint8Array(HEADER.size);
    short.set(cluster.subarray(0, HEADER_LENGTH_2));
    return { ...HEADER.decode(short), refcountOrder: REFCOUNT_ORDER_2, headerLength: HEADER_LENGTH_2 };
  }
  const headerLength = HEADER.get(cluster, 'headerLength');
  if (headerLength < HEADER_LENGTH_3_MIN || headerLength % 8 !== 0 || headerLength > cluster.length) {
    throw invalid('The length of the header is not valid', {
      offset: HEADER.fields.headerLength.offset,
      field: 'headerLength',
      found: headerLength,
      expected: `a multiple of 8 from ${HEADER_LENGTH_3_MIN} to ${cluster.length}`,
    });
  }
  const known = new Uint8Array(HEADER.size);
  known.set(cluster.subarray(0, Math.min(headerLength, HEADER.size)));
  return HEADER.decode(known);
}

function checkHeader(raw: RawHeader, cluster: Uint8Array, fileSize: number): Qcow2Header {
  const warnings: string[] = [];
  const backing = checkBacking(raw, cluster);
  const { known, extensions } = decodeExtensions(cluster.subarray(0, backing?.offset ?? cluster.length), raw);
  checkIncompatible(raw.incompatible, known);
  checkFeatures(raw, known, backing !== null);
  const extendedL2 = (raw.incompatible & INCOMPATIBLE.extendedL2) !== 0n;
  const clusterSize = cluster.length;
  const l2Entries = clusterSize / (extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES);
  checkTables(raw, clusterSize, l2Entries, fileSize);
  if (raw.size % SECTOR !== 0) {
    warnings.push(`The disk size ${raw.size} is not a multiple of 512; the partial sector at the end is ignored.`);
  }
  if ((raw.incompatible & INCOMPATIBLE.corrupt) !== 0n) {
    warnings.push(
      'The image is marked as corrupt: data may be wrong, and it cannot be written before a repair (vdkit check --repair).',
    );
  }
  if (known.dataFileName !== null && (raw.incompatible & INCOMPATIBLE.dataFile) === 0n) {
    warnings.push('The image names an external data file but does not use one; the name is ignored.');
  }
  const unknownEnd = Math.max(raw.headerLength, HEADER.fields.padding.offset);
  return {
    ...raw,
    ...known,
    version: raw.version === VERSION_2 ? VERSION_2 : VERSION_3,
    unknownFields: cluster.slice(HEADER.fields.padding.offset, unknownEnd),
    backingName: backing?.name ?? null,
    extensions,
    clusterSize,
    virtualSize: alignDown(raw.size, SECTOR),
    compression: raw.compressionType === COMPRESSION.zstd ? 'zstd' : 'zlib',
    extendedL2,
    l2Entries,
    warnings,
  };
}

/** The backing file name, a string in the header cluster. */
function checkBacking(raw: RawHeader, cluster: Uint8Array): { readonly name: string; readonly offset: number } | null {
  const { backingOffset: offset, backingLength: length, headerLength } = raw;
  if (offset === 0) return null;
  if (length > BACKING_NAME_MAX || length === 0) {
    throw invalid('The length of the backing file name is not valid', {
      offset: HEADER.fields.backingLength.offset,
      field: 'backingLength',
      found: length,
      expected: `from 1 to ${BACKING_NAME_MAX}`,
    });
  }
  if (offset < headerLength || offset + length > cluster.length) {
    throw invalid('The backing file name is outside the header cluster', {
      offset: HEADER.fields.backingOffset.offset,
      field: 'backingOffset',
      found: hex(offset),
      expected: `from ${hex(headerLength)} to ${hex(cluster.length - length)}`,
    });
  }
  return {
    name: decodeBackingName(cluster.subarray(offset, offset + length), { field: 'backing file name', offset }),
    offset,
  };
}

function checkIncompatible(features: bigint, known: KnownExtensions): void {
  const unknown = features & ~INCOMPATIBLE_KNOWN;
  if (unknown === 0n) return;
  const bits = Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => (unknown & (1n << BigInt(bit))) !== 0n);
  const names = bits.map((bit) => {
    const entry = known.featureNames.find((one) => one.kind === FEATURE_KIND.incompatible && one.bit === bit);
    return entry === undefined ? `bit ${bit}` : `"${printable(entry.name)}" (bit ${bit})`;
  });
  throw new ImageError('unsupported', `The image requires features that vdkit does not support: ${names.join(', ')}`, {
    offset: HEADER.fields.incompatible.offset,
    field: 'incompatible',
    found: hex(features),
    expected: `no bits outside ${hex(INCOMPATIBLE_KNOWN)}`,
    hint: 'Convert it with the program that created it.',
  });
}

/** Feature bits and fields that must agree. */
function checkFeatures(raw: RawHeader, known: KnownExtensions, backing: boolean): void {
  const has = (bit: bigint): boolean => (raw.incompatible & bit) !== 0n;
  if (raw.cryptMethod > CRYPT.luks) {
    throw new ImageError('unsupported', 'The encryption method is unknown', {
      offset: HEADER.fields.cryptMethod.offset,
      field: 'cryptMethod',
      found: raw.cryptMethod,
      expected: 'at most 2',
    });
  }
  if (raw.compressionType > COMPRESSION.zstd) {
    throw new ImageError('unsupported', 'The compression type is not supported', {
      offset: HEADER.fields.compressionType.offset,
      field: 'compressionType',
      found: raw.compressionType,
      expected: '0 (zlib) or 1 (zstd)',
    });
  }
  if (has(INCOMPATIBLE.compression) !== (raw.compressionType !== COMPRESSION.zlib)) {
    throw invalid('The compression type does not match its feature bit', {
      offset: HEADER.fields.compressionType.offset,
      field: 'compressionType',
      found: raw.compressionType,
      expected: has(INCOMPATIBLE.compression) ? 'anything but 0' : '0',
    });
  }
  if (has(INCOMPATIBLE.extendedL2) && raw.clusterBits < CLUSTER_BITS_EXTENDED_MIN) {
    throw invalid('The clusters are too small for subclusters', {
      offset: HEADER.fields.clusterBits.offset,
      field: 'clusterBits',
      found: raw.clusterBits,
      expected: `at least ${CLUSTER_BITS_EXTENDED_MIN}`,
    });
  }
  if (raw.refcountOrder > REFCOUNT_ORDER_MAX) {
    throw invalid('The refcount width is not valid', {
      offset: HEADER.fields.refcountOrder.offset,
      field: 'refcountOrder',
      found: raw.refcountOrder,
      expected: `at most ${REFCOUNT_ORDER_MAX}`,
    });
  }
  const raws = has(INCOMPATIBLE.dataFile) && (raw.autoclear & AUTOCLEAR.dataFileRaw) !== 0n;
  if (raws && backing) {
    throw invalid('The image has a backing file and a raw data file, which contradict each other', {
      offset: HEADER.fields.autoclear.offset,
      field: 'autoclear',
      found: hex(raw.autoclear),
    });
  }
  if (known.dataFileName !== null)
    decodeBackingName(new TextEncoder().encode(known.dataFileName), { field: 'data file name', offset: 0 });
}

function checkTables(raw: RawHeader, clusterSize: number, l2Entries: number, fileSize: number): void {
  const { fields } = HEADER;
  const l1Bytes = raw.l1Entries * ENTRY_BYTES;
  checkLimit('L1 table', l1Bytes, QCOW2_LIMITS.l1Bytes, fields.l1Entries.offset);
  checkLimit(
    'refcount table',
    raw.refcountTableClusters * clusterSize,
    QCOW2_LIMITS.refcountTableBytes,
    fields.refcountTableClusters.offset,
  );
  if (raw.refcountTableClusters === 0) {
    throw invalid('The image has no refcount table', {
      offset: fields.refcountTableClusters.offset,
      field: 'refcountTableClusters',
      found: 0,
      expected: 'at least 1',
    });
  }
  const needed = divCeil(raw.size, clusterSize * l2Entries);
  if (raw.l1Entries < needed) {
    throw invalid('The L1 table is too short for the disk', {
      offset: fields.l1Entries.offset,
      field: 'l1Entries',
      found: raw.l1Entries,
      expected: `at least ${needed}`,
    });
  }
  const l1Field = { offset: fields.l1Offset.offset, field: 'l1Offset' };
  checkTablePlace(raw.l1Offset, l1Bytes, clusterSize, l1Field);
  refuseInHeader(raw.l1Offset, l1Bytes, clusterSize, l1Field);
  checkTablePlace(raw.refcountTableOffset, raw.refcountTableClusters * clusterSize, clusterSize, {
    offset: fields.refcountTableOffset.offset,
    field: 'refcountTableOffset',
  });
  const l1End = raw.l1Offset + needed * ENTRY_BYTES;
  if (needed > 0 && l1End > fileSize) {
    throw new ImageError('corrupt', 'The file ends inside the L1 table: the image was cut off', {
      offset: raw.l1Offset,
      field: 'L1 table',
      found: `a file of ${fileSize} bytes`,
      expected: `at least ${l1End} bytes`,
      hint: 'Copy the image again from where it came from.',
    });
  }
}

function checkLimit(name: string, bytes: number, limit: number, offset: number): void {
  if (bytes <= limit) return;
  throw new ImageError('limit', `The ${name} exceeds its size limit`, {
    offset,
    field: name,
    found: `${bytes} bytes`,
    expected: `at most ${limit}`,
  });
}

/** Variant words for reports. */
export function variantWords(header: Qcow2Header): string[] {
  const has = (bit: bigint): boolean => (header.incompatible & bit) !== 0n;
  const words = [
    [header.backingName !== null, 'diff'],
    [header.compression === 'zstd', 'zstd'],
    [header.extendedL2, 'extended-l2'],
    [(header.compatible & COMPATIBLE.lazyRefcounts) !== 0n, 'lazy-refcounts'],
    [has(INCOMPATIBLE.dataFile), 'data-file'],
    [has(INCOMPATIBLE.dataFile) && (header.autoclear & AUTOCLEAR.dataFileRaw) !== 0n, 'data-file-raw'],
    [header.cryptMethod !== CRYPT.none, header.cryptMethod === CRYPT.luks ? 'encrypted-luks' : 'encrypted-aes'],
    [has(INCOMPATIBLE.corrupt), 'corrupt'],
  ] as const;
  return ['dynamic', ...words.filter(([is]) => is).map(([, word]) => word)];
}

/** Bytes of header, extensions and names, rounded up to whole sectors: the range rewritten in place. */
export function usedHeaderBytes(header: Qcow2Header): number {
  const name = new TextEncoder().encode(header.backingName ?? '').length;
  return alignUp(header.headerLength + encodeExtensions(header.extensions).length + name, SECTOR);
}

/** The image was not closed cleanly: its refcounts may be old. */
export function isDirty({ incompatible }: Pick<Qcow2Header, 'incompatible'>): boolean {
  return (incompatible & INCOMPATIBLE.dirty) !== 0n;
}
