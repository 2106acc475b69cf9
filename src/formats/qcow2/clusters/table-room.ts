/**
 * Space for tables replaced as a whole: allocated, written, and freed when the header names another one. Nothing else
 * may run at the same time.
 */
import { alignUp, divCeil, SECTOR } from '../../../binary/numbers.ts';
import type { MaybePromise, Storage } from '../../../storage/contract.ts';
import type { Qcow2Header } from '../header/header.ts';
import type { ClusterRun, RefcountStore } from './refcount-store.ts';

/** The image, as replacement of tables sees it. */
export interface TableHost {
  readonly storage: Storage;
  readonly counts: RefcountStore;
  readonly header: Qcow2Header;
}

/** Space for a table. */
export interface Room {
  readonly run: ClusterRun;
  readonly offset: number;
}

/** Allocates space for tables of these sizes; all or none. */
export async function takeRooms({ counts, header }: TableHost, sizes: readonly number[]): Promise<Room[]> {
  const rooms: Room[] = [];
  try {
    for (const size of sizes) {
      const count = divCeil(size, header.clusterSize);
      // The L1 table of a disk of 0 bytes.
      if (count === 0) {
        rooms.push({ run: { first: 0, count }, offset: 0 });
        continue;
      }
      const first = count === 1 ? await takeOne(counts) : await counts.takeTogether(count);
      rooms.push({ run: { first, count }, offset: first * header.clusterSize });
    }
  } catch (error) {
    for (const { run } of rooms.filter(({ run: { count } }) => count > 0)) counts.giveBack(run);
    throw error;
  }
  return rooms;
}

/** A single cluster may be anywhere, so freed space is reused. */
async function takeOne(counts: RefcountStore): Promise<number> {
  const run = await counts.takeOne();
  counts.keep(run);
  return run.first;
}

/** Writes a table into new space, padded to the end of a sector. */
export async function writeTable(
  { storage }: Pick<TableHost, 'storage'>,
  room: Pick<Room, 'offset'> | undefined,
  bytes: Uint8Array,
): Promise<void> {
  if (room === undefined || bytes.length === 0) return;
  const whole = new Uint8Array(alignUp(bytes.length, SECTOR));
  whole.set(bytes);
  await storage.write(room.offset, whole);
}

/** Lowers the counts of a table that nothing on the medium refers to. */
export async function lowerTable({ counts, header }: TableHost, offset: number, bytes: number): Promise<void> {
  const first = offset / header.clusterSize;
  for (let cluster = first; cluster < first + divCeil(bytes, header.clusterSize); cluster++) {
    await withCount(counts, cluster, () => counts.lower(cluster));
  }
}

/** Calls back with the count of a cluster in memory. */
export function withCount(counts: RefcountStore, cluster: number, use: (count: number) => void): MaybePromise<void> {
  const count = counts.peek(cluster);
  if (count === undefined) return counts.load(cluster).then(() => withCount(counts, cluster, use));
  use(count);
  return undefined;
}
