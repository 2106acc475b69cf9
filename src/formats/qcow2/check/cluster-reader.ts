/** Reader for many one-cluster tables, or one long table: large concurrent reads, holes skipped. */
import { throwIfAborted } from '../../../errors.ts';
import { allDone, markHandled } from '../../../storage/all-done.ts';
import type { Storage, StorageExtent } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { Turns } from '../../../storage/turns.ts';

/** Bytes per read, unless clusters are larger. */
const PIECE = 1024 * 1024;
/** Gaps up to this size are read rather than skipped. */
const GAP = 4096;
/** Ranges up to this size are read without searching for holes: in files in memory the search may take longer. */
const UNASKED = 1024 * 1024;
/** Concurrent reads, and the bytes in all of them. */
const READS = 32;
const BATCH_BYTES = 4 * 1024 * 1024;

/** Visits one cluster or one piece of a table. Returns true if the bytes were changed and must be written back. */
export type Visit = (view: DataView, index: number) => boolean;

interface Group {
  readonly clusters: number[];
  readonly start: number;
  bytes: Uint8Array<ArrayBuffer>;
}

/** Finds holes in a storage; caches the last answer. */
class Holes {
  readonly #storage: Storage;
  #known: StorageExtent = { start: 0, end: 0, data: true };
  #unasked = UNASKED;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** True when the whole range surely reads as zero and skipping it is worthwhile. */
  async covers(offset: number, length: number): Promise<boolean> {
    if (offset >= this.#storage.size) return true;
    if (length <= this.#unasked) {
      this.#unasked -= length;
      return false;
    }
    if (offset < this.#known.start || offset >= this.#known.end) this.#known = await this.#storage.extentAt(offset);
    const { end, data } = this.#known;
    return !data && (end >= offset + length || end >= this.#storage.size);
  }
}

/**
 * Visits clusters by ascending index. Holes are skipped: they contain only zeroes. Clusters changed by `visit` are
 * written back, without a flush. Returns true if any were.
 */
export async function visitClusters(
  storage: Storage,
  clusters: Iterable<number>,
  how: { readonly clusterSize: number; readonly visit: Visit; readonly signal?: AbortSignal | undefined },
): Promise<boolean> {
  const { clusterSize, visit, signal } = how;
  const batches = batchesOf(storage, clusters, clusterSize, new Turns(signal, 'The check'));
  let changed = false;
  let next = markHandled(load(storage, batches.next()));
  for (;;) {
    const batch = await next;
    if (batch === null) return changed;
    throwIfAborted(signal, 'The check');
    next = markHandled(load(storage, batches.next()));
    try {
      for (const group of batch) if (await visitGroup(storage, group, clusterSize, visit)) changed = true;
    } catch (error) {
      await next.catch(() => {});
      throw error;
    }
  }
}

/** Visits a table of any length in pieces; `index` is the offset inside it. Holes are skipped. */
export async function visitTable(
  storage: Storage,
  table: { readonly offset: number; readonly length: number; readonly signal?: AbortSignal | undefined },
  visit: Visit,
): Promise<boolean> {
  const holes = new Holes(storage);
  let changed = false;
  for (let start = 0; start < table.length; start += PIECE) {
    throwIfAborted(table.signal, 'The check');
    const bytes = Math.min(PIECE, table.length - start);
    if (await holes.covers(table.offset + start, bytes)) continue;
    const view = new DataView(new ArrayBuffer(bytes));
    await readPadded(storage, table.offset + start, new Uint8Array(view.buffer));
    if (!visit(view, start)) continue;
    await writeBack(storage, table.offset + start, new Uint8Array(view.buffer));
    changed = true;
  }
  return changed;
}

async function visitGroup(storage: Storage, group: Group, clusterSize: number, visit: Visit): Promise<boolean> {
  let changed = false;
  for (const index of group.clusters) {
    const at = index * clusterSize - group.start;
    if (!visit(new DataView(group.bytes.buffer, at, clusterSize), index)) continue;
    changed = true;
    await writeBack(storage, index * clusterSize, group.bytes.subarray(at, at + clusterSize));
  }
  return changed;
}

/** Never extends the file with zeroes: that could bring clusters past its end into range. */
async function writeBack(storage: Storage, offset: number, bytes: Uint8Array): Promise<void> {
  let end = bytes.length;
  const inside = Math.max(storage.size - offset, 0);
  while (end > inside && bytes[end - 1] === 0) end--;
  await storage.write(offset, bytes.subarray(0, end));
}

async function load(storage: Storage, batch: Promise<IteratorResult<Group[], void>>): Promise<Group[] | null> {
  const { value } = await batch;
  if (value === undefined) return null;
  await allDone(value.map((group) => readPadded(storage, group.start, group.bytes)));
  return value;
}

async function* batchesOf(
  storage: Storage,
  clusters: Iterable<number>,
  clusterSize: number,
  turns: Turns,
): AsyncGenerator<Group[]> {
  const holes = new Holes(storage);
  let batch: Group[] = [];
  let bytes = 0;
  const close = (group: Group | undefined): void => {
    const last = group?.clusters.at(-1);
    if (group === undefined || last === undefined) return;
    group.bytes = new Uint8Array((last + 1) * clusterSize - group.start);
    bytes += group.bytes.length;
  };
  for (const index of clusters) {
    const start = index * clusterSize;
    const turn = turns.take();
    if (turn !== undefined) await turn;
    if (await holes.covers(start, clusterSize)) continue;
    const group = batch.at(-1);
    const end = ((group?.clusters.at(-1) ?? -1) + 1) * clusterSize;
    if (group !== undefined && start - end <= GAP && start + clusterSize - group.start <= PIECE) {
      group.clusters.push(index);
      continue;
    }
    close(group);
    if (batch.length >= READS || bytes >= BATCH_BYTES) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push({ clusters: [index], start, bytes: new Uint8Array(0) });
  }
  close(batch.at(-1));
  if (batch.length > 0) yield batch;
}
