/** Contract of what an image keeps inside itself beside the disk: states of it, and bitmaps of changes. */
import type { OperationOptions } from '../storage/contract.ts';

/** A state of the disk inside the image. Names come from the image: escape them before printing. */
export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  /** Size of the disk at that time, in guest bytes. */
  readonly virtualSize: number;
  /** Bytes of the saved machine state; 0: none. */
  readonly vmStateSize: number;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
}

/**
 * Changes of internal snapshots. Before each call everything is flushed and `beginChanges` has resolved, with `content`
 * for `apply`; nothing else may run at the same time. A call that resolves is durable; a power cut or a cancel leaves
 * the state before or after it, with leaked space that a check frees. Throws `not-found`, `exists`, `unsupported`, and
 * `limit` when counts or tables would overflow: nothing is changed then.
 */
export interface SnapshotStore {
  /** Saves the current state. `createdMs`: milliseconds since 1970. */
  create(name: string, how: OperationOptions & { readonly createdMs: number }): Promise<SnapshotInfo>;
  /** Restores the saved state, size included. The snapshot stays. */
  apply(idOrName: string, how?: OperationOptions): Promise<void>;
  delete(idOrName: string, how?: OperationOptions): Promise<void>;
  rename(idOrName: string, name: string): Promise<void>;
}

/**
 * Changes of persistent bitmaps. Before each call everything is flushed and `beginChanges` has resolved; nothing else
 * may run at the same time. A call that resolves is durable; a power cut leaves the state before or after it. Throws
 * `not-found`, `exists`, `unsupported`, `limit`, `invalid-argument`.
 */
export interface BitmapStore {
  /** Adds an empty bitmap. `granularity`: bytes per bit. */
  add(name: string, how: { readonly granularity?: number | undefined; readonly enabled: boolean }): Promise<void>;
  /** Removes a bitmap, even an inconsistent one. */
  remove(name: string): Promise<void>;
  /** Clears all bits. */
  clear(name: string): Promise<void>;
  /** Starts or stops recording. */
  enable(name: string, enabled: boolean): Promise<void>;
  /** Adds the bits of other bitmaps, which stay. */
  merge(name: string, sources: readonly string[], how?: OperationOptions): Promise<void>;
}

/** A persistent dirty bitmap inside the image: the parts of the disk changed since it was started. */
export interface BitmapInfo {
  readonly name: string;
  /** Bytes of the disk per bit. */
  readonly granularity: number;
  /** True while it records writes. */
  readonly enabled: boolean;
  /** True when it was not stored at the last close, or another program has written since: it can only be removed. */
  readonly inconsistent: boolean;
}
