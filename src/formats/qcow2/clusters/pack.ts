/**
 * Compaction: data clusters are moved from the end of the file into holes (the disk copies them), then L2 tables; empty
 * L2 tables and refcount blocks are freed, and the free end is cut off.
 *
 * Shared clusters stay in place: those of snapshots, and compressed ones, whose neighbours share their space. So a file
 * with those may keep holes.
 */
import { KIND } from '../../../blocks/two-level-map.ts';
import type { OperationOptions } from '../../../storage/contract.ts';
import { Turns } from '../../../storage/turns.ts';
import type { Qcow2Header } from '../header/header.ts';
import type { ClusterMap } from './cluster-map.ts';
import { isOwn } from './entries.ts';
import type { L2Tables } from './l2-tables.ts';
import type { RefcountStore } from './refcount-store.ts';

/** The image, as compaction sees it. */
export interface PackHost {
  readonly header: Qcow2Header;
  readonly map: ClusterMap;
  readonly tables: L2Tables;
  readonly counts: RefcountStore;
  flush(): Promise<void>;
  /** Truncates the file to this length, if longer. */
  cutFile(bytes: number): Promise<void>;
}

/** Guest offsets of clusters with space in the file that no guest data uses. */
export async function* idleClusters(
  { header, map, tables }: PackHost,
  { signal }: OperationOptions = {},
): AsyncGenerator<number> {
  const { clusterSize, virtualSize } = header;
  const turns = new Turns(signal, 'Compacting');
  for (let at = 0; at < virtualSize; ) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    while (!map.look(at)) await map.load(at);
    if (map.page === null) {
      at = map.until;
      continue;
    }
    const end = Math.min(at + clusterSize, virtualSize);
    const isEmpty = map.kind === KIND.zero || map.kind === KIND.absent;
    const holds = isEmpty && tables.hostClusters(map.high, map.low).length > 0;
    // Parts of a cluster that read differently stay as they are.
    if (holds && map.runEnd(at, end) === end) yield at;
    at += clusterSize;
  }
}

/** Guest offsets of movable clusters past the end of a packed file. */
export async function* movableClusters(
  { header, map, tables, counts }: PackHost,
  { signal }: OperationOptions = {},
): AsyncGenerator<number> {
  const { clusterSize, virtualSize } = header;
  const turns = new Turns(signal, 'Compacting');
  const { used } = await counts.survey(turns);
  for (let at = 0; at < virtualSize; ) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    while (!map.look(at)) await map.load(at);
    const { page, until } = map;
    if (page === null) {
      at = until;
      continue;
    }
    if (!tables.isJudged(page)) {
      await tables.judge(at);
      continue;
    }
    if (isOwn(map) && Math.floor(map.position / clusterSize) >= used) yield at - (at % clusterSize);
    at = (Math.floor(at / clusterSize) + 1) * clusterSize;
  }
}

/** Called when the moved data is durable: frees empty tables, moves others, and cuts off the free end. */
export async function trimFile(host: PackHost, { signal }: OperationOptions = {}): Promise<void> {
  const { header, map, tables, counts } = host;
  const turns = new Turns(signal, 'Compacting');
  const { used } = await counts.survey(turns);
  for (let at = 0; at < header.virtualSize; at += map.tableBytes) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    let table = map.tableOf(at);
    while (table === undefined) {
      await map.load(at);
      table = map.tableOf(at);
    }
    if (table === 0 || (await tables.drop(at, table))) continue;
    if (table / header.clusterSize >= used) await tables.move(at, table);
  }
  await host.flush();
  // Counts that this lowered, and then those of blocks that are given up.
  await counts.giveUpBlocks();
  await host.flush();
  await host.flush();
  const { end } = await counts.survey(turns);
  await host.cutFile(end * header.clusterSize);
}
