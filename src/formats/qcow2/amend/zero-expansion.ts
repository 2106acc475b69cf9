/**
 * Removal of zero flags from L2 tables, since version 2 has none: without a backing file the entries become absent,
 * otherwise they get clusters of zeroes. The disk and its snapshots read the same at every step.
 *
 * For some tables at a time, each line durable before the next: counts of the new clusters, which read zero; the
 * entries; then the counts of the old clusters are lowered. At the end COPIED is set where one reference is left. A
 * table shared by several trees is changed once, in place, and its clusters count once for each of them.
 */
import { SECTOR } from '../../../binary/numbers.ts';
import { ImageError } from '../../../errors.ts';
import type { AmendOptions } from '../../../image/contract.ts';
import { LIMITS } from '../../../limits.ts';
import { isPromise, type MaybePromise } from '../../../storage/contract.ts';
import { Turns } from '../../../storage/turns.ts';
import { offsetOf } from '../clusters/cluster-map.ts';
import { writeFlags } from '../clusters/copied-flags.ts';
import { entryOf } from '../clusters/entries.ts';
import type { ClusterRun } from '../clusters/refcount-store.ts';
import { type TableHost, withCount } from '../clusters/table-room.ts';
import { type L1Place, l2Tables, readL1 } from '../clusters/tree.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, ENTRY_BYTES, OFFSET_HIGH, ZERO_LOW } from '../layout.ts';

/** Limit of changed bytes and freed clusters that wait for a flush. */
const BATCH_BYTES = 1024 * 1024;
const BATCH_CLUSTERS = 65_536;

/** The image, as the expansion sees it. */
export interface ExpansionHost extends TableHost {
  readonly snapshots: readonly L1Place[];
  /** Makes counts and all earlier writes durable. */
  flush(): Promise<void>;
}

/** A table and its references. */
interface Shared {
  paths: number;
  active: boolean;
}

/** Changes waiting for a flush. */
interface Batch {
  readonly sectors: { readonly offset: number; readonly bytes: Uint8Array }[];
  readonly lower: number[];
  bytes: number;
}

/** Expands all zero flags, in snapshots too. `shown`: absent clusters show a backing file. */
export async function expandZeroes(host: ExpansionHost, shown: boolean, how: AmendOptions): Promise<void> {
  const { header } = host;
  const places: readonly L1Place[] = [header, ...host.snapshots];
  const tables = await sharedTables(host, places);
  const batch: Batch = { sectors: [], lower: [], bytes: 0 };
  const turns = new Turns(how.signal, 'The change');
  let lowered = false;
  let done = 0;
  for (const place of places) {
    const l1 = await readL1(host, place);
    for await (const { offset, view } of l2Tables(host, l1, turns)) {
      const table = tables.get(offset);
      if (table === undefined) continue;
      // Those that lead to it as well find it done.
      tables.delete(offset);
      await expandTable(host, { offset, view, table, shown }, batch);
      if (batch.bytes >= BATCH_BYTES || batch.lower.length >= BATCH_CLUSTERS) {
        lowered = (await publish(host, batch)) || lowered;
      }
      done++;
      const { clusterSize } = header;
      how.onProgress?.({ operation: 'amend', done: done * clusterSize, total: (done + tables.size) * clusterSize });
    }
  }
  lowered = (await publish(host, batch)) || lowered;
  if (!lowered) return;
  const single = (cluster: number): MaybePromise<boolean> => {
    const count = host.counts.count(cluster);
    return isPromise(count) ? count.then((found) => found === 1) : count === 1;
  };
  await writeFlags(host, header.l1Offset, await readL1(host, header), { isCopied: single, turns });
}

async function sharedTables(host: ExpansionHost, places: readonly L1Place[]): Promise<Map<number, Shared>> {
  const tables = new Map<number, Shared>();
  for (const [number, place] of places.entries()) {
    const l1 = await readL1(host, place);
    for (let at = 0; at < l1.byteLength; at += ENTRY_BYTES) {
      const offset = offsetOf(l1.getUint32(at), l1.getUint32(at + 4));
      if (offset === 0) continue;
      const table = tables.get(offset) ?? { paths: 0, active: false };
      tables.set(offset, { paths: table.paths + 1, active: table.active || number === 0 });
    }
  }
  return tables;
}

interface TableJob {
  readonly offset: number;
  readonly view: DataView;
  readonly table: Shared;
  readonly shown: boolean;
}

/** Changes the entries in memory, allocating clusters of zeroes where needed. */
async function expandTable(host: ExpansionHost, { offset, view, table, shown }: TableJob, batch: Batch): Promise<void> {
  const { header, counts } = host;
  const alone = table.paths === 1 && table.active;
  const changed = new Set<number>();
  const homeless: number[] = [];
  for (let at = 0; at < view.byteLength; at += ENTRY_BYTES) {
    const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
    if ((high & COMPRESSED_HIGH) !== 0 || (low & ZERO_LOW) === 0) continue;
    changed.add(Math.floor(at / SECTOR));
    const place = offsetOf(high, low);
    if (place !== 0 && (await countOf(host, place)) === 1) {
      await zeroRun(host, { first: place / header.clusterSize, count: 1 });
      put(view, at, place, alone);
      continue;
    }
    // Once for each way that leads here.
    for (let path = 0; place !== 0 && path < table.paths; path++) batch.lower.push(place / header.clusterSize);
    if (shown) homeless.push(at);
    else put(view, at, 0, false);
  }
  for (let next = 0; next < homeless.length; ) {
    const run = counts.take(homeless.length - next);
    if (run === undefined) {
      await counts.loadFree();
      continue;
    }
    for (let cluster = run.first; cluster < run.first + run.count; cluster++) {
      for (let path = 1; path < table.paths; path++) counts.raise(cluster);
      const at = homeless[next++] ?? 0;
      put(view, at, cluster * header.clusterSize, alone);
    }
    counts.keep(run);
    await zeroRun(host, run);
  }
  for (const sector of changed) {
    const bytes = new Uint8Array(view.buffer, sector * SECTOR, SECTOR).slice();
    batch.sectors.push({ offset: offset + sector * SECTOR, bytes });
    batch.bytes += SECTOR;
  }
}

/** Writes the changes of a batch. Returns true if clusters were freed. */
async function publish(host: ExpansionHost, batch: Batch): Promise<boolean> {
  const { counts, storage } = host;
  const { sectors, lower } = batch;
  if (sectors.length === 0) return false;
  // What was zeroed in place is durable with the counts.
  await host.flush();
  for (const { offset, bytes } of sectors) await storage.write(offset, bytes);
  await storage.flush();
  for (const cluster of lower) {
    await withCount(counts, cluster, () => counts.lower(cluster));
    if (counts.dirtyBytes >= LIMITS.dirtyMetadataBytes) await host.flush();
  }
  await host.flush();
  const some = lower.length > 0;
  sectors.length = 0;
  lower.length = 0;
  batch.bytes = 0;
  return some;
}

async function countOf({ counts, header, storage }: ExpansionHost, place: number): Promise<number> {
  const cluster = place / header.clusterSize;
  const answer = Number.isInteger(cluster) ? counts.count(cluster) : 0;
  const count = isPromise(answer) ? await answer : answer;
  if (count > 0) return count;
  throw new ImageError('corrupt', 'A cluster is used but not counted, or its offset is not valid', {
    path: storage.label,
    offset: place,
    hint: 'Check and repair the image.',
  });
}

/** Makes clusters read as zero, extending the file if they lie past its end. */
async function zeroRun({ storage, header }: ExpansionHost, { first, count }: ClusterRun): Promise<void> {
  const [start, end] = [first * header.clusterSize, (first + count) * header.clusterSize];
  const inside = storage.can.growsZeroed ? Math.min(end, storage.size) : end;
  if (storage.size < end) await storage.resize(end);
  if (start < inside) await storage.zero(start, inside - start, { punch: storage.can.punch });
}

function put(view: DataView, at: number, place: number, copied: boolean): void {
  const { high, low } = entryOf(place);
  view.setUint32(at, place === 0 ? 0 : copied ? (high | COPIED_HIGH) >>> 0 : high & OFFSET_HIGH);
  view.setUint32(at + 4, low);
}
