/**
 * Creation of an empty QCOW2 image.
 *
 * Everything is laid out before the first byte is written: header, refcount table, refcount blocks, L1 table, and with
 * preallocation the L2 tables and the data behind them.
 */
import { alignUp, divCeil, SECTOR } from '../../binary/numbers.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import { requireText } from '../../image/backing-name.ts';
import type { FormatCreateOptions, Measure } from '../../image/contract.ts';
import { preallocate } from '../../image/preallocate.ts';
import { wantsVariant } from '../../image/variants.ts';
import type { NewFiles, Storage } from '../../storage/contract.ts';
import { refcountsPerBlock, setRefcount } from './clusters/refcounts.ts';
import { CONFIG, type Preallocation, WORDS } from './config.ts';
import { flag, powerOfTwo, word } from './config-values.ts';
import { encodeFormat } from './header/backing-format.ts';
import type { Extension } from './header/extensions.ts';
import { type Qcow2Header, serializeHeader } from './header/header.ts';
import {
  AUTOCLEAR,
  BACKING_NAME_MAX,
  CLUSTER_BITS_EXTENDED_MIN,
  CLUSTER_BITS_MAX,
  CLUSTER_BITS_MIN,
  COMPATIBLE,
  COPIED_HIGH,
  ENTRY_BYTES,
  EXTENDED_ENTRY_BYTES,
  EXTENSION_TYPE,
  FEATURE_KIND,
  FEATURE_NAME,
  HEADER,
  HEADER_LENGTH_2,
  INCOMPATIBLE,
  OFFSET_HIGH,
  REFCOUNT_ORDER_2,
  VERSION_2,
  VERSION_3,
} from './layout.ts';
import { QCOW2_LIMITS } from './limits.ts';

const HIGH = 2 ** 32;
const WRITE_BYTES = 1024 * 1024;
const DEFAULT_CLUSTER = 65_536;

/** Layout of a new image; in clusters unless stated in bytes. */
export interface Qcow2Plan {
  readonly header: Qcow2Header;
  readonly virtualSize: number;
  readonly preallocation: Preallocation;
  readonly blocks: number;
  readonly l1Clusters: number;
  readonly tables: number;
  readonly dataClusters: number;
  readonly totalClusters: number;
  /** Name of the new data file; null: data is in the image. */
  readonly dataFile: string | null;
  /** Bytes allocated at creation; 0 for none. */
  readonly preallocates: number;
}

/** QEMU's feature name table. */
const FEATURES: readonly (readonly [kind: keyof typeof FEATURE_KIND, bit: number, name: string])[] = [
  ['incompatible', 0, 'dirty bit'],
  ['incompatible', 1, 'corrupt bit'],
  ['incompatible', 2, 'external data file'],
  ['incompatible', 3, 'compression type'],
  ['incompatible', 4, 'extended L2 entries'],
  ['compatible', 0, 'lazy refcounts'],
  ['autoclear', 0, 'bitmaps'],
  ['autoclear', 1, 'raw external data'],
];

/** Checks the options and lays out the image. Throws `invalid-argument` or `limit`; touches nothing. */
export function planQcow2(options: FormatCreateOptions, parentName: string | null): Qcow2Plan {
  const { size } = options;
  if (!Number.isSafeInteger(size) || size < 0 || size % SECTOR !== 0) {
    throw new ImageError('invalid-argument', 'The disk size is not valid', {
      status: 'VERR_VD_INVALID_SIZE',
      found: size,
      expected: 'a multiple of 512',
    });
  }
  const wishes = wishesOf(options, parentName);
  for (const name of [parentName, wishes.dataFile]) requireText(name ?? '');
  const clusterSize = 2 ** wishes.clusterBits;
  const entryBytes = wishes.extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES;
  const l2Entries = clusterSize / entryBytes;
  // A table of no entries would leave its cluster counted and unused.
  const l1Entries = Math.max(divCeil(size, clusterSize * l2Entries), 1);
  if (l1Entries * ENTRY_BYTES > QCOW2_LIMITS.l1Bytes) {
    throw new ImageError('limit', 'A QCOW2 image of this size requires larger clusters', {
      found: `${clusterSize} bytes for ${size} bytes of disk`,
      expected: `an L1 table of at most ${QCOW2_LIMITS.l1Bytes} bytes`,
      hint: `Choose a larger ${CONFIG.clusterSize}.`,
    });
  }
  const full = wishes.preallocation !== 'off';
  const tables = full ? l1Entries : 0;
  const dataClusters = full && wishes.dataFile === null ? divCeil(size, clusterSize) : 0;
  const l1Clusters = divCeil(l1Entries * ENTRY_BYTES, clusterSize);
  const counted = countSelf(1 + l1Clusters + tables + dataClusters, clusterSize, wishes.refcountOrder);
  const l1First = 1 + counted.tableClusters + counted.blocks;
  const header = headerOf(options, wishes, {
    l1Entries,
    l1Offset: l1First * clusterSize,
    refcountTableClusters: counted.tableClusters,
    clusterSize,
    l2Entries,
  });
  const totalClusters = l1First + l1Clusters + tables + dataClusters;
  if (!Number.isSafeInteger(totalClusters * clusterSize)) {
    throw new ImageError('limit', 'A preallocated image of this size exceeds the addressable range');
  }
  return {
    header,
    virtualSize: size,
    preallocation: wishes.preallocation,
    blocks: counted.blocks,
    l1Clusters,
    tables,
    dataClusters,
    totalClusters,
    dataFile: wishes.dataFile,
    preallocates:
      wishes.preallocation === 'falloc' || wishes.preallocation === 'full' ? totalClusters * clusterSize : 0,
  };
}

/** Refcount blocks and table clusters for `others` other clusters and themselves. */
function countSelf(others: number, clusterSize: number, order: number): { blocks: number; tableClusters: number } {
  const perBlock = refcountsPerBlock(clusterSize, order);
  let [blocks, tableClusters] = [1, 1];
  for (;;) {
    const needed = divCeil(others + blocks + tableClusters, perBlock);
    const table = divCeil(needed * ENTRY_BYTES, clusterSize);
    if (needed <= blocks && table <= tableClusters) break;
    [blocks, tableClusters] = [Math.max(needed, blocks), Math.max(table, tableClusters)];
  }
  if (tableClusters * clusterSize > QCOW2_LIMITS.refcountTableBytes) {
    throw new ImageError('limit', 'A preallocated image of this size requires larger clusters', {
      expected: `a refcount table of at most ${QCOW2_LIMITS.refcountTableBytes} bytes`,
      hint: `Choose a larger ${CONFIG.clusterSize}, or smaller ${CONFIG.refcountBits}.`,
    });
  }
  return { blocks, tableClusters };
}

interface Wishes {
  readonly clusterBits: number;
  readonly refcountOrder: number;
  readonly version: 2 | 3;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  readonly compression: 'zlib' | 'zstd';
  readonly preallocation: Preallocation;
  readonly dataFile: string | null;
  readonly dataFileRaw: boolean;
  readonly backingName: string | null;
}

function wishesOf(options: FormatCreateOptions, backingName: string | null): Wishes {
  const config = options.config ?? {};
  const clusterSize = powerOfTwo(
    config,
    CONFIG.clusterSize,
    DEFAULT_CLUSTER,
    2 ** CLUSTER_BITS_MIN,
    2 ** CLUSTER_BITS_MAX,
  );
  const refcountBits = powerOfTwo(config, CONFIG.refcountBits, 16, 1, 64);
  const compat = word(config, CONFIG.compat, WORDS.compat, '1.1');
  const wishes: Wishes = {
    clusterBits: Math.log2(clusterSize),
    refcountOrder: Math.log2(refcountBits),
    version: compat === '0.10' || compat === 'v2' ? VERSION_2 : VERSION_3,
    lazyRefcounts: flag(config, CONFIG.lazyRefcounts),
    extendedL2: flag(config, CONFIG.extendedL2),
    compression: word(config, CONFIG.compressionType, WORDS.compression, 'zlib'),
    preallocation: word(config, CONFIG.preallocation, WORDS.preallocation, 'off'),
    dataFile: config[CONFIG.dataFile] === undefined ? null : String(config[CONFIG.dataFile]),
    dataFileRaw: flag(config, CONFIG.dataFileRaw),
    backingName,
  };
  checkTogether(options, wishes);
  return wishes;
}

/** Rejects impossible combinations. */
function checkTogether(options: FormatCreateOptions, wishes: Wishes): void {
  const { version, extendedL2, clusterBits, dataFile, dataFileRaw, backingName, preallocation } = wishes;
  const refused: readonly (readonly [boolean, string])[] = [
    [
      version === VERSION_2 && wishes.refcountOrder !== REFCOUNT_ORDER_2,
      'Version 2 supports refcounts of 16 bits only',
    ],
    [version === VERSION_2 && wishes.lazyRefcounts, 'Version 2 does not support lazy refcounts'],
    [version === VERSION_2 && extendedL2, 'Version 2 does not support subclusters'],
    [version === VERSION_2 && wishes.compression !== 'zlib', 'Version 2 supports zlib compression only'],
    [version === VERSION_2 && dataFile !== null, 'Version 2 does not support external data files'],
    [extendedL2 && clusterBits < CLUSTER_BITS_EXTENDED_MIN, 'Subclusters require clusters of at least 16 KiB'],
    [dataFileRaw && dataFile === null, 'Option data_file_raw requires data_file'],
    [dataFileRaw && backingName !== null, 'An image with a raw data file cannot have a backing file'],
    [preallocation !== 'off' && backingName !== null, 'An image with preallocated data cannot have a backing file'],
    [wantsVariant(options, 'diff') && options.parent === undefined, 'A differencing image needs a parent'],
    [(options.comment ?? '') !== '', 'QCOW2 images cannot store a comment'],
    [options.uuid !== undefined, 'QCOW2 images cannot store a UUID'],
  ];
  const [, reason] = refused.find(([is]) => is) ?? [];
  if (reason !== undefined) throw new ImageError('invalid-argument', reason);
  const name = new TextEncoder().encode(backingName ?? '');
  if (name.length <= BACKING_NAME_MAX) return;
  throw new ImageError('invalid-argument', 'The name of the backing file is too long', {
    found: `${name.length} bytes`,
    expected: `at most ${BACKING_NAME_MAX}`,
    hint: 'Move the files closer together, so that the relative path is shorter.',
  });
}

type Placed = Pick<Qcow2Header, 'l1Entries' | 'l1Offset' | 'refcountTableClusters' | 'clusterSize' | 'l2Entries'>;

function headerOf(options: FormatCreateOptions, wishes: Wishes, placed: Placed): Qcow2Header {
  const { version, compression, extendedL2, dataFile, dataFileRaw, lazyRefcounts, backingName } = wishes;
  const backingFormat = backingName === null ? null : (options.parent?.format ?? null);
  const extension = (type: number, data: Uint8Array | null): Extension[] => (data === null ? [] : [{ type, data }]);
  // QEMU leaves the table out where it would fill the header cluster.
  const names = version === VERSION_3 && placed.clusterSize > 4096 ? [featureNames()] : [];
  const incompatible =
    (dataFile === null ? 0n : INCOMPATIBLE.dataFile) |
    (compression === 'zlib' ? 0n : INCOMPATIBLE.compression) |
    (extendedL2 ? INCOMPATIBLE.extendedL2 : 0n);
  const header: Qcow2Header = {
    ...placed,
    version,
    clusterBits: wishes.clusterBits,
    size: options.size,
    cryptMethod: 0,
    refcountTableOffset: placed.clusterSize,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible,
    compatible: lazyRefcounts ? COMPATIBLE.lazyRefcounts : 0n,
    autoclear: dataFileRaw ? AUTOCLEAR.dataFileRaw : 0n,
    refcountOrder: wishes.refcountOrder,
    headerLength: version === VERSION_2 ? HEADER_LENGTH_2 : HEADER.size,
    unknownFields: new Uint8Array(version === VERSION_2 ? 0 : 7),
    backingName,
    backingFormat,
    dataFileName: dataFile,
    featureNames: [],
    bitmaps: null,
    encryption: null,
    extensions: [
      ...extension(EXTENSION_TYPE.backingFormat, backingFormat === null ? null : encodeFormat(backingFormat)),
      ...extension(EXTENSION_TYPE.dataFile, dataFile === null ? null : new TextEncoder().encode(dataFile)),
      ...names,
    ],
    virtualSize: options.size,
    compression,
    extendedL2,
    warnings: [],
  };
  // Refuses what does not fit into the cluster.
  serializeHeader(header);
  return header;
}

/** The header extension with the names of feature bits. */
export function featureNames(): Extension {
  const data = new Uint8Array(FEATURES.length * FEATURE_NAME.size);
  for (const [index, [kind, bit, name]] of FEATURES.entries()) {
    data.set(FEATURE_NAME.encode({ kind: FEATURE_KIND[kind], bit, name }), index * FEATURE_NAME.size);
  }
  return { type: EXTENSION_TYPE.featureNames, data };
}

/** Writes a new image and flushes it. Returns its parts by name: a data file, or none. */
export async function writeNewQcow2(
  files: NewFiles,
  options: FormatCreateOptions,
  plan: Qcow2Plan,
): Promise<ReadonlyMap<string, Storage>> {
  const { main } = files;
  const parts = new Map<string, Storage>();
  // A name that is taken is refused before anything is written.
  if (plan.dataFile !== null) parts.set(plan.dataFile, await files.part(plan.dataFile));
  for (const data of parts.values()) await fillDataFile(data, plan, options);
  await writeTables(main, plan, options);
  const { clusterSize } = plan.header;
  const dataStart = (plan.totalClusters - plan.dataClusters) * clusterSize;
  const end = plan.totalClusters * clusterSize;
  if (plan.dataClusters > 0 && plan.preallocates > 0) await preallocate(main, dataStart, end, options);
  if (main.size < end) await main.resize(end);
  // Last: a file without its header is no image, so a cut leaves nothing that looks like one.
  await main.write(0, serializeHeader(plan.header));
  await main.flush();
  return parts;
}

async function fillDataFile(data: Storage, plan: Qcow2Plan, options: FormatCreateOptions): Promise<void> {
  await data.resize(plan.virtualSize);
  if (plan.preallocates > 0) await preallocate(data, 0, plan.virtualSize, options);
  await data.flush();
}

/** All tables, in pieces: with preallocation they may be long. */
async function writeTables(storage: Storage, plan: Qcow2Plan, options: FormatCreateOptions): Promise<void> {
  const { header, blocks, totalClusters, tables, l1Clusters } = plan;
  const { clusterSize, refcountTableClusters, l1Offset } = header;
  const blocksFirst = 1 + refcountTableClusters;
  const pointer = (cluster: number, copied: boolean): readonly [number, number] => {
    const offset = cluster * clusterSize;
    return [((Math.floor(offset / HIGH) & OFFSET_HIGH) | (copied ? COPIED_HIGH : 0)) >>> 0, offset % HIGH];
  };
  await writeEntries(storage, header.refcountTableOffset, blocks, (n) => pointer(blocksFirst + n, false));
  for (let block = 0; block < blocks; block++) {
    throwIfAborted(options.signal, 'Creating the image');
    await storage.write((blocksFirst + block) * clusterSize, countsOf(plan, block));
  }
  const tablesFirst = l1Offset / clusterSize + l1Clusters;
  await writeEntries(storage, l1Offset, header.l1Entries, (n) =>
    tables === 0 ? [0, 0] : pointer(tablesFirst + n, true),
  );
  if (tables > 0) await writeL2(storage, plan, tablesFirst, options);
  if (storage.size < totalClusters * clusterSize) await storage.resize(totalClusters * clusterSize);
}

/** One refcount block: everything up to the end of the file has one reference. */
function countsOf({ header, totalClusters }: Qcow2Plan, block: number): Uint8Array {
  const bytes = new Uint8Array(header.clusterSize);
  const view = new DataView(bytes.buffer);
  const perBlock = refcountsPerBlock(header.clusterSize, header.refcountOrder);
  const used = Math.min(Math.max(totalClusters - block * perBlock, 0), perBlock);
  for (let n = 0; n < used; n++) setRefcount(view, n, header.refcountOrder, 1);
  return bytes;
}

async function writeL2(
  storage: Storage,
  { header, dataClusters, totalClusters, tables, virtualSize }: Qcow2Plan,
  first: number,
  options: FormatCreateOptions,
): Promise<void> {
  const { clusterSize, l2Entries, extendedL2 } = header;
  const dataFirst = totalClusters - dataClusters;
  const inFile = dataClusters > 0;
  const clusters = divCeil(virtualSize, clusterSize);
  for (let table = 0; table < tables; table++) {
    throwIfAborted(options.signal, 'Creating the image');
    const bytes = new Uint8Array(clusterSize);
    const view = new DataView(bytes.buffer);
    for (let n = 0; n < l2Entries && table * l2Entries + n < clusters; n++) {
      const guest = table * l2Entries + n;
      const offset = (inFile ? dataFirst + guest : guest) * clusterSize;
      const at = n * (extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES);
      view.setUint32(at, ((Math.floor(offset / HIGH) & OFFSET_HIGH) | COPIED_HIGH) >>> 0);
      view.setUint32(at + 4, offset % HIGH);
      if (extendedL2) view.setUint32(at + 12, 0xffff_ffff);
    }
    await storage.write((first + table) * clusterSize, bytes);
  }
}

async function writeEntries(
  storage: Storage,
  offset: number,
  count: number,
  entry: (index: number) => readonly [number, number],
): Promise<void> {
  const perPiece = WRITE_BYTES / ENTRY_BYTES;
  for (let start = 0; start < count; start += perPiece) {
    const length = Math.min(perPiece, count - start);
    const bytes = new Uint8Array(alignUp(length * ENTRY_BYTES, SECTOR));
    const view = new DataView(bytes.buffer);
    for (let n = 0; n < length; n++) {
      const [high, low] = entry(start + n);
      view.setUint32(n * ENTRY_BYTES, high);
      view.setUint32(n * ENTRY_BYTES + 4, low);
    }
    await storage.write(offset + start * ENTRY_BYTES, bytes);
  }
}

/** Size of a new image: every cluster with at least one byte of data, and the tables for them. */
export async function measureQcow2(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const plan = planQcow2(options, null);
  const { clusterSize, l2Entries, refcountOrder, l1Entries } = plan.header;
  const bytesFor = (clusters: number, tables: number): number => {
    const inFile = plan.dataFile === null ? clusters : 0;
    const counted = countSelf(1 + plan.l1Clusters + tables + inFile, clusterSize, refcountOrder);
    return (1 + counted.blocks + counted.tableClusters + plan.l1Clusters + tables + inFile) * clusterSize;
  };
  const all = divCeil(options.size, clusterSize);
  const fullyAllocated = bytesFor(all, l1Entries);
  if (plan.preallocation !== 'off') return { required: fullyAllocated, fullyAllocated };
  let clusters = 0;
  let tables = 0;
  let counted = 0;
  let countedTables = 0;
  for await (const { offset, length } of data) {
    const end = Math.min(divCeil(offset + length, clusterSize), all);
    const first = Math.max(Math.floor(offset / clusterSize), counted);
    if (end <= first) continue;
    clusters += end - first;
    counted = end;
    const lastTable = divCeil(end, l2Entries);
    const firstTable = Math.max(Math.floor(first / l2Entries), countedTables);
    tables += Math.max(lastTable - firstTable, 0);
    countedTables = Math.max(countedTables, lastTable);
  }
  return { required: bytesFor(clusters, tables), fullyAllocated };
}
