/** Services of a disk for operations on its structure: its current chain, and exclusive access. */
import type { MaybePromise } from '../../storage/contract.ts';
import type { Resolved } from '../open/environment.ts';
import type { DiskOpenOptions } from '../options.ts';
import type { ActiveImage } from '../path/active-image.ts';
import type { RangeLock } from '../path/range-locks.ts';
import type { ChainServices } from './stack.ts';

/** A disk as its structural operations see it. */
export interface DiskHost {
  readonly head: ActiveImage;
  readonly tools: ChainServices;
  readonly options: Resolved<DiskOpenOptions>;
  /** Waits for requests in the range and holds back new ones. */
  lock(start: number, end: number): MaybePromise<RangeLock>;
  /** Runs a function while no request does. */
  exclusive<T>(run: () => Promise<T>): Promise<T>;
  /** Like `exclusive`, for a function that changes the data of the last image. */
  changing(run: () => Promise<void>): Promise<void>;
  /** Runs structural operations one after another. Throws `read-only`. */
  structural<T>(run: () => Promise<T>): Promise<T>;
  /** Like `structural`, for operations permitted on a read-only disk. */
  reordering<T>(run: () => Promise<T>): Promise<T>;
  /** Brings the last image into the state that closing would leave. Nothing else may run at the same time. */
  quiesce(): Promise<void>;
  /** Replaces the chain. Nothing else may run at the same time. */
  replaceHead(head: ActiveImage): void;
}
