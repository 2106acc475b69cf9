/** The stored refcounts: the table, its blocks, and the counts in them. */
import { SparseBitSet } from '../../../binary/bits.ts';
import { divCeil } from '../../../binary/numbers.ts';
import { hex } from '../../../errors.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { getRefcount, refcountsPerBlock } from '../clusters/refcounts.ts';
import type { Qcow2Header } from '../header/header.ts';
import { ENTRY_BYTES, REFCOUNT_ORDER_2 } from '../layout.ts';
import { visitClusters, visitTable } from './cluster-reader.ts';
import type { FindingList } from './finding-list.ts';
import { COUNT_MAX, PAGE_COUNTS, PagedCounts } from './paged-counts.ts';

const HIGH = 2 ** 32;
/** Bits of a table entry that are not part of the offset. */
const RESERVED_LOW = 0x1ff;

/** Stored refcount structures, and whether they are usable. */
export interface StoredCounts {
  readonly counts: PagedCounts;
  /** Offset of the block for each table entry; 0: no usable block. */
  readonly blocks: Float64Array;
  readonly perBlock: number;
  /** Clusters of usable blocks. */
  readonly blockClusters: SparseBitSet;
  /** Clusters referenced by bad entries: not to be written while the table is in use. */
  readonly namedClusters: SparseBitSet;
  /** True when an entry is bad: the structures must be rebuilt. */
  readonly broken: boolean;
  /** Blocks with counts for clusters past the end of the file. */
  readonly blocksBeyond: SparseBitSet;
}

/** Reads all counts of clusters in the file. Reports bad table entries, and counts of clusters past the end. */
export async function readStoredCounts(
  storage: Storage,
  header: Qcow2Header,
  list: FindingList,
  options: OperationOptions,
): Promise<StoredCounts> {
  const perBlock = refcountsPerBlock(header.clusterSize, header.refcountOrder);
  const table = await readTable(storage, header, list, options);
  const counts = new PagedCounts('stored reference counts');
  const blocksBeyond = new SparseBitSet();
  // A compressed stream may reach into the cluster that begins where the file ends.
  const limit = divCeil(storage.size, header.clusterSize) + 1;
  const tableIndexOf = blocksInOrder(table.blocks, header.clusterSize, () => true);
  await visitClusters(storage, tableIndexOf.clusters, {
    clusterSize: header.clusterSize,
    signal: options.signal,
    visit: (view, cluster) => {
      const first = tableIndexOf.find(cluster) * perBlock;
      if (header.refcountOrder === REFCOUNT_ORDER_2 && first < limit) {
        const here = Math.min(perBlock, limit - first);
        decodeUsual(view, counts, first, first + here);
        if (!isZero(view, here * 2)) blocksBeyond.add(first / perBlock);
        return false;
      }
      const beyond = decodeBlock(view, header.refcountOrder, (index, count) => {
        if (first + index >= limit) return false;
        counts.set(first + index, count);
        return true;
      });
      if (beyond) blocksBeyond.add(first / perBlock);
      return false;
    },
  });
  if (blocksBeyond.size > 0) {
    list.add('warning', 'count-beyond-file', () => 'Clusters beyond the end of the file are counted as used.');
  }
  return { ...table, counts, perBlock, blocksBeyond };
}

async function readTable(storage: Storage, header: Qcow2Header, list: FindingList, { signal }: OperationOptions) {
  const { clusterSize, refcountTableOffset: offset } = header;
  const length = header.refcountTableClusters * clusterSize;
  const blocks = new Float64Array(length / ENTRY_BYTES);
  const blockClusters = new SparseBitSet();
  const namedClusters = new SparseBitSet();
  let broken = false;
  const bad = (index: number, place: number, code: string, what: string): void => {
    broken = true;
    namedClusters.add(Math.floor(place / clusterSize));
    list.add('corruption', code, () => `Refcount block ${index}, at ${hex(place)}, ${what}.`, {
      fileOffset: offset + index * ENTRY_BYTES,
    });
  };
  await visitTable(storage, { offset, length, signal }, (view, start) => {
    for (let at = 0; at < view.byteLength; at += ENTRY_BYTES) {
      const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
      if (high === 0 && low === 0) continue;
      const index = (start + at) / ENTRY_BYTES;
      const place = high * HIGH + (low - (low & RESERVED_LOW));
      if ((low & RESERVED_LOW) !== 0) bad(index, place, 'refcount-reserved', 'has reserved bits in its table entry');
      else if (place % clusterSize !== 0) bad(index, place, 'refcount-unaligned', 'does not begin at a cluster');
      else if (place >= storage.size) bad(index, place, 'refcount-outside', 'lies beyond the end of the file');
      else if (!blockClusters.add(place / clusterSize)) bad(index, place, 'refcount-double', 'is there twice');
      else blocks[index] = place;
    }
    return false;
  });
  return { blocks, blockClusters, namedClusters, broken };
}

/** Blocks in file order, with their table index. */
export interface BlockOrder {
  /** Ascending. */
  readonly clusters: Float64Array;
  /** Table index of a block. Clusters must be asked for in ascending order. */
  find(cluster: number): number;
}

/** The selected blocks in file order. */
export function blocksInOrder(
  blocks: Float64Array,
  clusterSize: number,
  wanted: (index: number) => boolean,
): BlockOrder {
  const chosen: number[] = [];
  for (let index = 0; index < blocks.length; index++) if (blocks[index] !== 0 && wanted(index)) chosen.push(index);
  const indices = Uint32Array.from(chosen.sort((one, other) => (blocks[one] ?? 0) - (blocks[other] ?? 0)));
  const clusters = Float64Array.from(indices, (index) => (blocks[index] ?? 0) / clusterSize);
  let last = 0;
  return {
    clusters,
    find(cluster) {
      while (clusters[last] !== cluster) last++;
      return indices[last] ?? 0;
    },
  };
}

/** True when only zeroes follow. */
function isZero(view: DataView, from: number): boolean {
  for (let at = from; at < view.byteLength; at += 2) if (view.getUint16(at) !== 0) return false;
  return true;
}

/** The usual width, for clusters in the file: nearly all decoding is done here. */
function decodeUsual(view: DataView, counts: PagedCounts, first: number, end: number): void {
  for (let index = first; index < end; ) {
    const key = Math.floor(index / PAGE_COUNTS);
    const pageStart = key * PAGE_COUNTS;
    const pageEnd = Math.min(pageStart + PAGE_COUNTS, end);
    const page = counts.pageToAdd(key);
    for (; index < pageEnd; index++) {
      const count = view.getUint16((index - first) * 2);
      if (count <= 0xff) page[index - pageStart] = count;
      else break;
    }
    // A rare count that makes the page wider.
    if (index < pageEnd) {
      counts.set(index, view.getUint16((index - first) * 2));
      index++;
    }
  }
}

/** Passes every non-zero count to the receiver. True when the receiver rejected one. */
function decodeBlock(view: DataView, order: number, receive: (index: number, count: number) => boolean): boolean {
  let refused = false;
  if (order === 6) {
    for (let at = 0; at < view.byteLength; at += 8) {
      const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
      if (high !== 0 || low !== 0) refused = !receive(at / 8, high === 0 ? low : COUNT_MAX) || refused;
    }
    return refused;
  }
  const perWord = 32 >> order;
  for (let word = 0; word * 4 < view.byteLength; word++) {
    if (view.getUint32(word * 4) === 0) continue;
    for (let index = word * perWord; index < (word + 1) * perWord; index++) {
      const count = getRefcount(view, index, order);
      if (count !== 0) refused = !receive(index, count) || refused;
    }
  }
  return refused;
}
