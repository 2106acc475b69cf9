/**
 * New refcount structures for an image: their layout, and writing them.
 *
 * Order: (1) new blocks, the new table, and a new snapshot table where one is needed, all in unreferenced clusters;
 * durable. (2) One write of sector 0, which switches to all of them at once; durable. A cut leaves the old image with a
 * longer file, or the new one: the old structures count as free in the new ones.
 *
 * The new clusters lie past the end of the file, so that no lost data inside is overwritten. If entries refer to
 * clusters past the end, the file must not grow over them; then a free run inside the file is used.
 */
import { alignUp, divCeil, SECTOR } from '../../../binary/numbers.ts';
import { throwIfAborted } from '../../../errors.ts';
import type { Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import type { Turns } from '../../../storage/turns.ts';
import { refcountMax, setRefcount } from '../clusters/refcounts.ts';
import type { Qcow2Header } from '../header/header.ts';
import { ENTRY_BYTES, HEADER } from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';
import { PAGE_COUNTS, type PagedCounts, STEPS_PAGE } from './paged-counts.ts';
import type { Recount } from './recount.ts';
import type { SnapshotSurvey } from './snapshot-survey.ts';
import type { StoredCounts } from './stored-counts.ts';

/** Bytes per write, unless blocks are larger. */
const PIECE = 1024 * 1024;
const HIGH = 2 ** 32;

/** Facts about the image. */
export interface RebuildParts {
  readonly storage: Storage;
  readonly header: Qcow2Header;
  readonly stored: StoredCounts;
  readonly recount: Recount;
  readonly snapshots: SnapshotSurvey;
  /** Target count of each cluster. */
  readonly kept: PagedCounts;
}

/** Layout: blocks, table and snapshot table, consecutive from cluster `start` on. */
export interface RebuildPlan {
  readonly start: number;
  /** Entries of the refcount table that get a block, ascending. */
  readonly blocks: readonly number[];
  readonly tableClusters: number;
  readonly snapshotClusters: number;
}

/** Finds space. Null when the table would be too long, or there is no space. */
export async function planRebuild(parts: RebuildParts, turns: Turns): Promise<RebuildPlan | null> {
  const { header, stored } = parts;
  const { clusterSize } = header;
  const entriesMax = QCOW2_LIMITS.refcountTableBytes / ENTRY_BYTES;
  const used = await usedBlocks(parts, entriesMax, turns);
  if (used === null) return null;
  const snapshotClusters = divCeil(parts.snapshots.rewritten?.bytes.length ?? 0, clusterSize);
  // Every round takes more room, and with more room there may be more blocks.
  for (let count = used.length + 1 + snapshotClusters; ; ) {
    const start = await findRoom(parts, count, turns);
    if (start === null) return null;
    const blocks = withRange(
      used,
      Math.floor(start / stored.perBlock),
      Math.floor((start + count - 1) / stored.perBlock),
    );
    const entries = (blocks.at(-1) ?? 0) + 1;
    if (entries > entriesMax) return null;
    const tableClusters = divCeil(entries * ENTRY_BYTES, clusterSize);
    const needed = blocks.length + tableClusters + snapshotClusters;
    if (needed <= count) return { start, blocks, tableClusters, snapshotClusters };
    count = needed;
  }
}

/** Writes the planned structures and switches to them. Durable when it resolves. */
export async function rebuild(parts: RebuildParts, plan: RebuildPlan, signal?: AbortSignal): Promise<void> {
  const { storage, header, snapshots } = parts;
  const { clusterSize } = header;
  await writeBlocks(parts, plan, signal);
  const tableOffset = (plan.start + plan.blocks.length) * clusterSize;
  await storage.write(tableOffset, tableBytes(plan, clusterSize));
  const snapshotsOffset = tableOffset + plan.tableClusters * clusterSize;
  if (snapshots.rewritten !== null && plan.snapshotClusters > 0) {
    const bytes = new Uint8Array(plan.snapshotClusters * clusterSize);
    bytes.set(snapshots.rewritten.bytes);
    await storage.write(snapshotsOffset, bytes);
  }
  await storage.flush();
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  HEADER.put(sector, 'refcountTableOffset', tableOffset);
  HEADER.put(sector, 'refcountTableClusters', plan.tableClusters);
  if (snapshots.rewritten !== null) {
    HEADER.put(sector, 'snapshotCount', snapshots.rewritten.count);
    HEADER.put(sector, 'snapshotsOffset', plan.snapshotClusters > 0 ? snapshotsOffset : 0);
  }
  await storage.write(0, sector);
  await storage.flush();
}

/** Count of a cluster without the old structures; the new ones are not included. */
export function countWithout(parts: Omit<RebuildParts, 'storage'>, cluster: number, count: number): number {
  const { header, recount, snapshots } = parts;
  const rest = count - recount.structures.get(cluster);
  if (snapshots.rewritten === null || !recount.snapshotTableCounted) return rest;
  const first = header.snapshotsOffset / header.clusterSize;
  const end = divCeil(header.snapshotsOffset + snapshots.tableBytes, header.clusterSize);
  return cluster >= first && cluster < end ? rest - 1 : rest;
}

/** Blocks needed for the counts, ascending; null when there are too many. */
async function usedBlocks(parts: RebuildParts, max: number, turns: Turns): Promise<number[] | null> {
  const { kept, stored } = parts;
  const blocks: number[] = [];
  for (const cluster of kept.indices()) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    const block = Math.floor(cluster / stored.perBlock);
    if (block === blocks.at(-1) || countWithout(parts, cluster, kept.get(cluster)) <= 0) continue;
    if (block >= max) return null;
    blocks.push(block);
  }
  return blocks;
}

/** The list with all numbers from `first` to `last` added. */
function withRange(blocks: readonly number[], first: number, last: number): number[] {
  const range = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  return [...blocks.filter((block) => block < first), ...range, ...blocks.filter((block) => block > last)];
}

/** A run of clusters that nothing refers to, not even a bad entry of the old table. Null when there is none. */
async function findRoom(parts: RebuildParts, count: number, turns: Turns): Promise<number | null> {
  const { storage, header, recount, stored, kept } = parts;
  const fileClusters = divCeil(storage.size, header.clusterSize);
  const most = Math.floor(recount.sizeLimit / header.clusterSize);
  const runs = freeRuns(kept, stored, { count, turns });
  let inside: number | null = null;
  let end = 0;
  for await (const run of runs) {
    end = run.start;
    if (inside === null && run.start + count <= Math.min(run.end, fileClusters, most)) inside = run.start;
  }
  let behind = Math.max(end, fileClusters);
  for (let at = behind; at < behind + count; at++) if (stored.namedClusters.has(at)) behind = at + 1;
  return behind + count <= most ? behind : inside;
}

/** Unused runs of at least that many clusters; the last one is unbounded. */
async function* freeRuns(
  kept: PagedCounts,
  stored: StoredCounts,
  { count, turns }: { readonly count: number; readonly turns: Turns },
): AsyncGenerator<{ start: number; end: number }> {
  let start = 0;
  for (const key of kept.pages()) {
    const turn = turns.take(STEPS_PAGE);
    if (turn !== undefined) await turn;
    const page = kept.page(key);
    for (let at = 0; page !== undefined && at < PAGE_COUNTS; at++) {
      const cluster = key * PAGE_COUNTS + at;
      if (page[at] === 0 && !stored.namedClusters.has(cluster)) continue;
      if (cluster - start >= count) yield { start, end: cluster };
      start = cluster + 1;
    }
  }
  yield { start, end: Number.POSITIVE_INFINITY };
}

async function writeBlocks(parts: RebuildParts, plan: RebuildPlan, signal: AbortSignal | undefined): Promise<void> {
  const { storage, header } = parts;
  const { clusterSize } = header;
  const perPiece = Math.max(Math.floor(PIECE / clusterSize), 1);
  for (let first = 0; first < plan.blocks.length; first += perPiece) {
    throwIfAborted(signal, 'The repair');
    const blocks = plan.blocks.slice(first, first + perPiece);
    const bytes = new Uint8Array(blocks.length * clusterSize);
    blocks.forEach((block, index) => {
      fillBlock(parts, plan, block, new DataView(bytes.buffer, index * clusterSize, clusterSize));
    });
    await storage.write((plan.start + first) * clusterSize, bytes);
  }
}

function fillBlock(parts: RebuildParts, plan: RebuildPlan, block: number, view: DataView): void {
  const { header, kept, stored } = parts;
  const max = refcountMax(header.refcountOrder);
  const end = plan.start + plan.blocks.length + plan.tableClusters + plan.snapshotClusters;
  const first = block * stored.perBlock;
  for (let at = 0; at < stored.perBlock; ) {
    const cluster = first + at;
    const page = kept.page(Math.floor(cluster / PAGE_COUNTS));
    const pageEnd = Math.min(alignUp(cluster + 1, PAGE_COUNTS), first + stored.perBlock);
    for (let one = cluster; page !== undefined && one < pageEnd; one++) {
      const count = page[one % PAGE_COUNTS] ?? 0;
      if (count === 0) continue;
      setRefcount(view, one - first, header.refcountOrder, Math.min(countWithout(parts, one, count), max));
    }
    at = pageEnd - first;
  }
  const last = Math.min(end, first + stored.perBlock);
  for (let own = Math.max(plan.start, first); own < last; own++)
    setRefcount(view, own - first, header.refcountOrder, 1);
}

function tableBytes(plan: RebuildPlan, clusterSize: number): Uint8Array {
  const table = new Uint8Array(plan.tableClusters * clusterSize);
  const view = new DataView(table.buffer);
  plan.blocks.forEach((block, index) => {
    const offset = (plan.start + index) * clusterSize;
    view.setUint32(block * ENTRY_BYTES, Math.floor(offset / HIGH));
    view.setUint32(block * ENTRY_BYTES + 4, offset % HIGH);
  });
  return table;
}
