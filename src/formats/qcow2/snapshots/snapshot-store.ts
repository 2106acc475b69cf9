/**
 * Creating, applying, deleting and renaming internal snapshots. Nothing else runs at the same time, and everything is
 * flushed before: the work is done on the medium, and the caches of the image are rebuilt afterwards.
 *
 * Orders of writes; each line is durable before the next:
 *
 * - create: COPIED cleared in the active tables; counts raised, copy of the L1 table and new snapshot table in new
 *   room; the header names the new table; counts of the old table lowered.
 * - apply: stale COPIED cleared in the tables of the snapshot; counts raised, new L1 table; the header names it, and
 *   the size, in one sector; counts of the old tree lowered.
 * - delete: table without the snapshot; the header names it; counts of its tree lowered; COPIED set in the active
 *   tables where one reference is left.
 *
 * A cut, or a cancel, leaves the state before or after, never a count below the references, and never a COPIED flag on
 * a shared cluster: space can leak, and flags can be missing, which costs a copy.
 */
import { ImageError, isImageError, printable } from '../../../errors.ts';
import type { SnapshotInfo, SnapshotStore } from '../../../image/contract.ts';
import { LIMITS } from '../../../limits.ts';
import { isPromise, type MaybePromise, type OperationOptions } from '../../../storage/contract.ts';
import { Turns } from '../../../storage/turns.ts';
import type { RefcountFields } from '../amend/refcount-width.ts';
import { setFlag, writeFlags } from '../clusters/copied-flags.ts';
import { lowerTable, type Room, type TableHost, takeRooms, withCount, writeTable } from '../clusters/table-room.ts';
import { eachReference, l1EntriesFor, readL1 } from '../clusters/tree.ts';
import type { Qcow2Header } from '../header/header.ts';
import { ENTRY_BYTES, INCOMPATIBLE, SNAPSHOT_EXTRA, SNAPSHOT_EXTRA_3, SNAPSHOT_NAME_MAX } from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';
import {
  checkSnapshot,
  findSnapshot,
  noSnapshot,
  type Snapshot,
  serializeSnapshots,
  snapshotInfo,
  snapshotTableBytes,
} from './snapshots.ts';

/** Fields of the first sector that change atomically. */
export type HeaderChanges = Partial<
  Pick<Qcow2Header, 'autoclear' | 'snapshotCount' | 'snapshotsOffset' | 'l1Entries' | 'l1Offset' | 'size'> &
    RefcountFields
>;

/** The image, as its snapshots see it. */
export interface SnapshotHost extends TableHost {
  readonly snapshots: readonly Snapshot[];
  /** True when it has bitmaps, which require a fixed disk size. */
  readonly hasBitmaps: boolean;
  /** Makes counts and all earlier writes durable. */
  flush(): Promise<void>;
  /** Changes the first sector, durably. */
  changeHeader(changes: HeaderChanges): Promise<void>;
  /** Called when the tables on the medium have been replaced. */
  reload(snapshots: readonly Snapshot[]): void;
  /** Called after a partial failure: memory and medium may differ. */
  fail(): void;
}

/** Internal snapshots of an image open for writing. */
export class Qcow2Snapshots implements SnapshotStore {
  readonly #host: SnapshotHost;
  /** The list on the medium during a change. */
  #listed: readonly Snapshot[] = [];

  constructor(host: SnapshotHost) {
    this.#host = host;
  }

  async create(
    name: string,
    { createdMs, signal }: OperationOptions & { readonly createdMs: number },
  ): Promise<SnapshotInfo> {
    const { header } = this.#host;
    const turns = new Turns(signal, 'Making the snapshot');
    const snapshots = this.#known();
    this.#checkName(name, null);
    if (snapshots.length >= QCOW2_LIMITS.snapshots) throw this.#limit('The image has the maximum number of snapshots');
    const l1Entries = Math.min(l1EntriesFor(header.size, header), header.l1Entries);
    const l1 = await readL1(this.#host, { ...header, l1Entries });
    await this.#checkCounts(l1, { raising: true, turns });
    const made = { ...newSnapshot(snapshots, name, createdMs, header.size), l1Entries };
    // Where it will lie does not change how long the table is.
    const rooms = await takeRooms(this.#host, [
      l1.byteLength,
      snapshotTableBytes([...snapshots, { ...made, l1Offset: 0 }]),
    ]);
    const snapshot = { ...made, l1Offset: rooms[0]?.offset ?? 0 };
    await this.#change(async () => {
      await writeFlags(this.#host, header.l1Offset, l1, { isCopied: () => false, turns });
      await this.#raiseTree(l1, turns);
      await writeTable(this.#host, rooms[0], bytesOf(l1));
      await this.#switchTable([...snapshots, snapshot], rooms[1]);
    });
    return snapshotInfo(snapshot);
  }

  async apply(idOrName: string, { signal }: OperationOptions = {}): Promise<void> {
    const { header } = this.#host;
    const turns = new Turns(signal, 'Applying the snapshot');
    const snapshots = this.#known();
    const snapshot = this.#find(idOrName);
    checkSnapshot(snapshot, header, this.#host.storage);
    this.#checkResize(snapshot);
    const needed = l1EntriesFor(snapshot.diskSize, header);
    const kept = await readL1(this.#host, { ...snapshot, l1Entries: needed });
    const old = await readL1(this.#host, header);
    await this.#checkCounts(kept, { raising: true, turns });
    await this.#checkCounts(old, { raising: false, turns });
    const l1Entries = Math.max(header.l1Entries, needed);
    const [room] = await takeRooms(this.#host, [l1Entries * ENTRY_BYTES]);
    await this.#change(async () => {
      await writeFlags(this.#host, null, kept, { isCopied: () => false, turns });
      await this.#raiseTree(kept, turns);
      const bytes = new Uint8Array(l1Entries * ENTRY_BYTES);
      bytes.set(bytesOf(withoutFlags(kept)));
      await writeTable(this.#host, room, bytes);
      await this.#host.flush();
      const l1Offset = room?.offset ?? header.l1Offset;
      await this.#host.changeHeader({ l1Entries, l1Offset, size: snapshot.diskSize });
      await this.#lowerTree(old, turns);
      await lowerTable(this.#host, header.l1Offset, old.byteLength);
      await this.#host.flush();
      this.#host.reload(snapshots);
    });
  }

  async delete(idOrName: string, { signal }: OperationOptions = {}): Promise<void> {
    const { header } = this.#host;
    const turns = new Turns(signal, 'Deleting the snapshot');
    const snapshots = this.#known();
    const snapshot = this.#find(idOrName);
    checkSnapshot(snapshot, header, this.#host.storage);
    const l1 = await readL1(this.#host, snapshot);
    const active = await readL1(this.#host, header);
    await this.#checkCounts(l1, { raising: false, turns });
    await this.#checkCounts(active, { raising: false, turns });
    const rest = snapshots.filter((one) => one !== snapshot);
    const [room] = await takeRooms(this.#host, rest.length === 0 ? [] : [snapshotTableBytes(rest)]);
    await this.#change(async () => {
      await this.#switchTable(rest, room, async () => {
        await this.#lowerTree(l1, turns);
        await lowerTable(this.#host, snapshot.l1Offset, l1.byteLength);
      });
      const isCopied = (cluster: number): MaybePromise<boolean> => this.#isSingle(cluster);
      await writeFlags(this.#host, header.l1Offset, active, { isCopied, turns });
    });
  }

  async rename(idOrName: string, name: string): Promise<void> {
    const snapshot = this.#find(idOrName);
    this.#checkName(name, snapshot);
    const { nameBytes: _old, ...rest } = snapshot;
    const snapshots = this.#known().map((one) => (one === snapshot ? { ...rest, name } : one));
    const [room] = await takeRooms(this.#host, [snapshotTableBytes(snapshots)]);
    await this.#change(() => this.#switchTable(snapshots, room));
  }

  /** The list, if it could be read and may be changed. */
  #known(): readonly Snapshot[] {
    const { header, snapshots, storage } = this.#host;
    if ((header.incompatible & INCOMPATIBLE.dataFile) !== 0n) {
      throw new ImageError('unsupported', 'An image with an external data file cannot have internal snapshots', {
        path: storage.label,
        hint: 'Create a differencing image instead (on the command line: create --parent).',
      });
    }
    if (snapshots.length === header.snapshotCount) return snapshots;
    throw new ImageError('corrupt', 'The list of snapshots cannot be read, so it cannot be changed', {
      path: storage.label,
      hint: 'Check and repair the image.',
    });
  }

  #find(idOrName: string): Snapshot {
    const snapshots = this.#known();
    const found = findSnapshot(snapshots, idOrName);
    if (found === null) throw noSnapshot(snapshots, idOrName, this.#host.storage.label);
    return found;
  }

  /** A name that people can type, that QEMU shows completely, and that is unique. */
  #checkName(name: string, own: Snapshot | null): void {
    const details = { path: this.#host.storage.label, field: 'snapshot name', found: printable(name) };
    const { length } = new TextEncoder().encode(name);
    if (length === 0 || length > SNAPSHOT_NAME_MAX || /\p{Cc}/u.test(name)) {
      const expected = `1 to ${SNAPSHOT_NAME_MAX} bytes without control characters`;
      throw new ImageError('invalid-argument', 'The name of the snapshot is not valid', { ...details, expected });
    }
    if (!this.#known().some((one) => one !== own && (one.name === name || one.id === name))) return;
    throw new ImageError('exists', 'A snapshot with that name or id already exists', {
      ...details,
      hint: 'Choose another name, or delete that snapshot first.',
    });
  }

  /** Throws unless the disk may be resized to the snapshot's size. */
  #checkResize({ diskSize }: Snapshot): void {
    const { header, snapshots, hasBitmaps, storage } = this.#host;
    if (diskSize === header.size) return;
    const details = { path: storage.label, found: `${diskSize} bytes`, expected: `${header.size} bytes` };
    if (hasBitmaps) {
      throw new ImageError('unsupported', 'The disk size of the snapshot differs from that of the bitmaps', {
        ...details,
        hint: 'Remove the bitmaps first.',
      });
    }
    // Without a stored size a snapshot has that of the disk.
    if (snapshots.every(({ extra }) => extra.length >= SNAPSHOT_EXTRA_3)) return;
    throw new ImageError('unsupported', 'The snapshot has another disk size, and other snapshots do not store theirs', {
      ...details,
      hint: 'Convert the image.',
    });
  }

  /** Rejects a tree with wrong counts, or (`raising`) whose counts would overflow. */
  async #checkCounts(
    l1: DataView,
    { raising, turns }: { readonly raising: boolean; readonly turns: Turns },
  ): Promise<void> {
    const { counts, storage, header } = this.#host;
    // Only clusters that might not have room for as many more as they have are worth remembering.
    const more = new Map<number, number>();
    const check = (cluster: number, count: number): void => {
      if (count === 0) {
        throw new ImageError('corrupt', 'A cluster is used but not counted', {
          path: storage.label,
          offset: cluster * header.clusterSize,
          hint: 'Check and repair the image.',
        });
      }
      if (!raising || count <= counts.most / 2) return;
      const added = (more.get(cluster) ?? 0) + 1;
      more.set(cluster, added);
      if (count + added <= counts.most) return;
      throw this.#limit('The reference count of a cluster would exceed its maximum', {
        offset: cluster * header.clusterSize,
        expected: `at most ${counts.most}`,
        hint: 'Delete snapshots, or convert the image to one with wider refcounts (refcount_bits).',
      });
    };
    const visit = (cluster: number): MaybePromise<void> =>
      withCount(this.#host.counts, cluster, (count) => check(cluster, count));
    await eachReference(this.#host, l1, { visit, turns });
  }

  #raiseTree(l1: DataView, turns: Turns): Promise<void> {
    return this.#countTree(l1, turns, (cluster) => this.#host.counts.raise(cluster));
  }

  /** Lowers the counts of a tree that nothing on the medium refers to. */
  #lowerTree(l1: DataView, turns: Turns): Promise<void> {
    return this.#countTree(l1, turns, (cluster) => this.#host.counts.lower(cluster));
  }

  #countTree(l1: DataView, turns: Turns, change: (cluster: number) => void): Promise<void> {
    const { counts } = this.#host;
    return eachReference(this.#host, l1, {
      visit: (cluster) => withCount(this.#host.counts, cluster, () => change(cluster)),
      table: () => (counts.dirtyBytes >= LIMITS.dirtyMetadataBytes ? this.#host.flush() : undefined),
      turns,
    });
  }

  #isSingle(cluster: number): MaybePromise<boolean> {
    const count = this.#host.counts.count(cluster);
    return isPromise(count) ? count.then((found) => found === 1) : count === 1;
  }

  /** Switches the list of snapshots in one step, and frees the old table and its clusters. */
  async #switchTable(
    snapshots: readonly Snapshot[],
    room: Room | undefined,
    lower?: () => Promise<void>,
  ): Promise<void> {
    const { header, snapshots: before } = this.#host;
    await writeTable(this.#host, room, serializeSnapshots(snapshots));
    await this.#host.flush();
    await this.#host.changeHeader({ snapshotCount: snapshots.length, snapshotsOffset: room?.offset ?? 0 });
    this.#listed = snapshots;
    await lower?.();
    if (before.length > 0) await lowerTable(this.#host, header.snapshotsOffset, snapshotTableBytes(before));
    await this.#host.flush();
    this.#host.reload(snapshots);
  }

  /**
   * After a failure the image is read-only. A cancel leaves the state before or after the switch of the header, as a
   * cut does: clusters counted too often are lost until a check.
   */
  async #change(run: () => Promise<void>): Promise<void> {
    this.#listed = this.#host.snapshots;
    try {
      await run();
    } catch (error) {
      if (!isImageError(error) || error.kind !== 'aborted') {
        this.#host.fail();
        throw error;
      }
      await this.#host.flush();
      this.#host.reload(this.#listed);
      throw error;
    }
  }

  #limit(
    message: string,
    details: { offset?: number | undefined; expected?: string | undefined; hint?: string | undefined } = {},
  ): ImageError {
    return new ImageError('limit', message, { path: this.#host.storage.label, ...details });
  }
}

function withoutFlags(l1: DataView): DataView {
  for (let at = 0; at < l1.byteLength; at += ENTRY_BYTES) setFlag(l1, at, false, new Set());
  return l1;
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** As QEMU makes one: the id is one more than the highest, and the instruction count is unknown. */
function newSnapshot(
  snapshots: readonly Snapshot[],
  name: string,
  createdMs: number,
  diskSize: number,
): Omit<Snapshot, 'l1Offset' | 'l1Entries'> {
  const numbers = snapshots.map(({ id }) => (/^\d{1,15}$/.test(id) ? Number(id) : 0));
  const extra = SNAPSHOT_EXTRA.encode({ vmStateSize: 0, diskSize, icount: 2n ** 64n - 1n });
  return {
    id: String(numbers.reduce((highest, number) => Math.max(highest, number), 0) + 1),
    name,
    diskSize,
    vmStateSize: 0,
    seconds: Math.floor(createdMs / 1000) % 2 ** 32,
    nanoseconds: (createdMs % 1000) * 1_000_000,
    guestNanoseconds: 0n,
    extra,
  };
}
