/**
 * Making the file short: data clusters are moved from its end into holes (the disk copies them), then L2 tables, those
 * that lead nowhere are given up, then refcount blocks that count nothing any more are given up, and the free end is cut off.
 *
 * What others hold too stays where it is: clusters that a snapshot has, and compressed ones, whose neighbours share
 * their room. So a file with those may keep holes.
 */
import type { OperationOptions } from '../../../storage/contract.ts';
import { Turns } from '../../../storage/turns.ts';
import type { Qcow2Header } from '../header/header.ts';
import type { ClusterMap } from './cluster-map.ts';
import { isOwn } from './entries.ts';
import type { RefcountStore } from './refcount-store.ts';
import type { ClusterWriter } from './writer.ts';

/** The image, as packing sees it. */
export interface PackHost {
  readonly header: Qcow2Header;
  readonly map: ClusterMap;
  readonly writer: ClusterWriter;
  readonly counts: RefcountStore;
  flush(): Promise<void>;
  /** Cuts the file; not shorter than that. */
  cutFile(bytes: number): Promise<void>;
}

/** Guest offsets of clusters that stand behind where a packed file ends, and may be moved. */
export async function* movableClusters(
  { header, map, writer, counts }: PackHost,
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
    if (!writer.isJudged(page)) {
      await writer.judge(at);
      continue;
    }
    if (isOwn(map) && Math.floor(map.position / clusterSize) >= used) yield at - (at % clusterSize);
    at = (Math.floor(at / clusterSize) + 1) * clusterSize;
  }
}

/** After data was moved and that is durable: gives up empty tables, moves others, and cuts off what is free at the end. */
export async function trimFile(host: PackHost, { signal }: OperationOptions = {}): Promise<void> {
  const { header, map, writer, counts } = host;
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
    if (table === 0 || (await writer.dropTable(at, table))) continue;
    if (table / header.clusterSize >= used) await writer.moveTable(at, table);
  }
  await host.flush();
  // Counts that this lowered, and then those of blocks that are given up.
  await counts.giveUpBlocks();
  await host.flush();
  await host.flush();
  const { end } = await counts.survey(turns);
  await host.cutFile(end * header.clusterSize);
}
