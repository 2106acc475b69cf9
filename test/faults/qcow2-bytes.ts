/** Small QCOW2 images made byte by byte, so that tests know where everything is, and ways to damage them. */

import { refcountsPerBlock, setRefcount } from '../../src/formats/qcow2/clusters/refcounts.ts';
import { HEADER, SNAPSHOT, SNAPSHOT_EXTRA } from '../../src/formats/qcow2/layout.ts';

export interface BuildOptions {
  readonly clusterSize?: number;
  readonly version?: 2 | 3;
  /** Refcounts have `2 ** order` bits. */
  readonly order?: number;
  /** L2 tables, and clusters with data in each. */
  readonly tables?: number;
  readonly perTable?: number;
  /** A snapshot that shares all L2 tables with the disk. */
  readonly snapshot?: boolean;
}

export interface BuiltImage {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly clusterSize: number;
  /** Offsets. */
  readonly refcountTable: number;
  readonly refcountBlocks: readonly number[];
  readonly l1: number;
  readonly l2: readonly number[];
  readonly data: readonly number[];
  readonly snapshotTable: number;
  readonly snapshotL1: number;
}

const COPIED = 0x8000_0000;

/** All counts and flags are right. Data cluster n is filled with n + 1. */
export function buildQcow2(options: BuildOptions = {}): BuiltImage {
  const { clusterSize = 512, version = 3, order = 4, tables = 3, perTable = 5, snapshot = false } = options;
  const counts: number[] = [];
  const take = (count: number): number => (counts.push(count) - 1) * clusterSize;
  const shared = snapshot ? 2 : 1;
  take(1);
  const refcountTable = take(1);
  const l1 = take(1);
  const l2 = Array.from({ length: tables }, () => take(shared));
  const data = Array.from({ length: tables * perTable }, () => take(shared));
  const snapshotTable = snapshot ? take(1) : 0;
  const snapshotL1 = snapshot ? take(1) : 0;
  const perBlock = refcountsPerBlock(clusterSize, order);
  const refcountBlocks: number[] = [];
  while (refcountBlocks.length * perBlock < counts.length) refcountBlocks.push(take(1));

  const bytes = new Uint8Array(counts.length * clusterSize);
  const view = new DataView(bytes.buffer);
  const l2Entries = clusterSize / 8;
  bytes.set(
    HEADER.encode({
      ...HEADER.decode(new Uint8Array(HEADER.size)),
      ...{ magic: 0x5146_49fb, version, clusterBits: Math.log2(clusterSize), size: tables * l2Entries * clusterSize },
      ...{ l1Entries: tables, l1Offset: l1, refcountTableOffset: refcountTable, refcountTableClusters: 1 },
      ...(snapshot ? { snapshotCount: 1, snapshotsOffset: snapshotTable } : {}),
      ...(version === 3 ? { refcountOrder: order, headerLength: 112 } : {}),
    }),
  );
  const put = (at: number, flag: number, offset: number): void => {
    view.setUint32(at, flag);
    view.setUint32(at + 4, offset);
  };
  refcountBlocks.forEach((block, index) => {
    put(refcountTable + index * 8, 0, block);
  });
  counts.forEach((count, cluster) => {
    const block = refcountBlocks[Math.floor(cluster / perBlock)] ?? 0;
    setRefcount(new DataView(bytes.buffer, block, clusterSize), cluster % perBlock, order, count);
  });
  const flag = snapshot ? 0 : COPIED;
  l2.forEach((table, index) => {
    put(l1 + index * 8, flag, table);
  });
  data.forEach((place, index) => {
    put((l2[Math.floor(index / perTable)] ?? 0) + (index % perTable) * 8, flag, place);
    bytes.fill(index + 1, place, place + clusterSize);
  });
  if (snapshot) {
    bytes.copyWithin(snapshotL1, l1, l1 + tables * 8);
    const empty = SNAPSHOT.decode(new Uint8Array(SNAPSHOT.size));
    const fixed = { ...empty, l1Offset: snapshotL1, l1Entries: tables, idLength: 1, nameLength: 3, extraLength: 24 };
    bytes.set(SNAPSHOT.encode(fixed), snapshotTable);
    const diskSize = tables * l2Entries * clusterSize;
    bytes.set(SNAPSHOT_EXTRA.encode({ vmStateSize: 0, diskSize, icount: 0n }), snapshotTable + SNAPSHOT.size);
    bytes.set(new TextEncoder().encode('1one'), snapshotTable + SNAPSHOT.size + SNAPSHOT_EXTRA.size);
  }
  return { bytes, view, clusterSize, refcountTable, refcountBlocks, l1, l2, data, snapshotTable, snapshotL1 };
}

/** Sets the stored count of a cluster, at an offset, in an image of 16-bit counts with one block. */
export function setCount(image: BuiltImage, offset: number, count: number): void {
  image.view.setUint16((image.refcountBlocks[0] ?? 0) + (offset / image.clusterSize) * 2, count);
}

/** Changes an entry: its upper and its lower half. */
export function setEntry(image: BuiltImage, at: number, high: number, low: number): void {
  image.view.setUint32(at, high);
  image.view.setUint32(at + 4, low);
}

export const at = (list: readonly number[], index: number): number => list[index] ?? 0;
