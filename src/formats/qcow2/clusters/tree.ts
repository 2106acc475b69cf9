/**
 * The tree of one L1 table: its L2 tables, and the clusters that their entries refer to. For operations that change the
 * counts of a whole tree, so it is strict: anything that cannot be counted throws `corrupt`.
 *
 * A cluster counts once for each path to it. An L2 table with two L1 entries is visited twice, with all its entries;
 * two compressed clusters in one cluster of the file are two references to it. That is how QEMU counts.
 */
import { divCeil } from '../../../binary/numbers.ts';
import { hex, ImageError } from '../../../errors.ts';
import { isPromise, type MaybePromise, type Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import type { Turns } from '../../../storage/turns.ts';
import type { Qcow2Header } from '../header/header.ts';
import { COMPRESSED_HIGH, ENTRY_BYTES, EXTENDED_ENTRY_BYTES } from '../layout.ts';
import { offsetOf } from './cluster-map.ts';
import { compressedClusters } from './entries.ts';

/** Small steps that an L2 table counts as. */
const STEPS_TABLE = 128;

/** Position of an L1 table. */
export interface L1Place {
  readonly l1Offset: number;
  readonly l1Entries: number;
}

/** The file that a tree belongs to. */
export interface TreeFile {
  readonly storage: Storage;
  readonly header: Pick<Qcow2Header, 'clusterSize' | 'clusterBits' | 'extendedL2' | 'l2Entries'>;
}

/** One L2 table as on the medium. */
export interface L2Table {
  /** Its index in the L1 table. */
  readonly index: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** L1 entries that the disk itself needs; QEMU stores machine states after them. */
export function l1EntriesFor(size: number, header: TreeFile['header']): number {
  return divCeil(size, header.clusterSize * header.l2Entries);
}

/** Entries of an L1 table. */
export async function readL1({ storage }: TreeFile, { l1Offset, l1Entries }: L1Place): Promise<DataView> {
  const bytes = new Uint8Array(l1Entries * ENTRY_BYTES);
  await readPadded(storage, l1Offset, bytes);
  return new DataView(bytes.buffer);
}

/** The L2 tables of an L1 table, in order. The buffer is reused for the next one. Each counts as a turn. */
export async function* l2Tables(file: TreeFile, l1: DataView, turns: Turns): AsyncGenerator<L2Table> {
  const { storage, header } = file;
  const bytes = new Uint8Array(header.clusterSize);
  const view = new DataView(bytes.buffer);
  for (let index = 0; index * ENTRY_BYTES < l1.byteLength; index++) {
    const offset = offsetOf(l1.getUint32(index * ENTRY_BYTES), l1.getUint32(index * ENTRY_BYTES + 4));
    if (offset === 0) continue;
    const turn = turns.take(STEPS_TABLE);
    if (turn !== undefined) await turn;
    if (offset % header.clusterSize !== 0 || offset >= storage.size) {
      throw broken(file, 'An L1 entry points where no L2 table can be', offset);
    }
    await readPadded(storage, offset, bytes);
    yield { index, offset, bytes, view };
  }
}

/** Bytes of an L2 entry. */
export function l2EntryBytes({ extendedL2 }: Pick<Qcow2Header, 'extendedL2'>): number {
  return extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES;
}

/** Clusters that the entries of an L2 table refer to, once per reference. */
export function clustersIn(file: TreeFile, view: DataView): number[] {
  const { storage, header } = file;
  const { clusterSize } = header;
  const clusters: number[] = [];
  for (let at = 0; at < view.byteLength; at += l2EntryBytes(header)) {
    const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
    if ((high & COMPRESSED_HIGH) !== 0) {
      const { position, first, end } = compressedClusters(file.header, high, low);
      if (position >= storage.size) throw broken(file, 'A compressed cluster begins beyond the end', position);
      for (let cluster = first; cluster < end; cluster++) clusters.push(cluster);
      continue;
    }
    const host = offsetOf(high, low);
    if (host === 0) continue;
    if (host % clusterSize !== 0 || host >= storage.size + clusterSize) {
      throw broken(file, 'An L2 entry points where no cluster can be', host);
    }
    clusters.push(host / clusterSize);
  }
  return clusters;
}

/** Visits every reference of a tree: each L2 table, then its entries. `table`: called after each table. */
export async function eachReference(
  file: TreeFile,
  l1: DataView,
  how: {
    readonly visit: (cluster: number) => MaybePromise<void>;
    readonly table?: (() => MaybePromise<void>) | undefined;
    readonly turns: Turns;
  },
): Promise<void> {
  const { visit, table, turns } = how;
  for await (const { offset, view } of l2Tables(file, l1, turns)) {
    for (const cluster of [offset / file.header.clusterSize, ...clustersIn(file, view)]) {
      const done = visit(cluster);
      if (isPromise(done)) await done;
    }
    const done = table?.();
    if (isPromise(done)) await done;
  }
}

function broken({ storage }: TreeFile, message: string, offset: number): ImageError {
  return new ImageError('corrupt', message, {
    path: storage.label,
    found: hex(offset),
    hint: 'Check and repair the image.',
  });
}
