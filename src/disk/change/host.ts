/** What operations on the structure of a disk need of it: its chain as it is, and to be alone. */
import type { MaybePromise } from '../../storage/contract.ts';
import type { DiskOpenOptions } from '../options.ts';
import type { ActiveImage } from '../path/active-image.ts';
import type { RangeLock } from '../path/range-locks.ts';
import type { ChainServices } from './stack.ts';

/** The disk, as its operations see it. */
export interface DiskHost {
  readonly head: ActiveImage;
  readonly tools: ChainServices;
  readonly options: DiskOpenOptions;
  /** Waits for requests in the range and holds back new ones. */
  lock(start: number, end: number): MaybePromise<RangeLock>;
  /** Runs something while no request does. */
  exclusive<T>(run: () => Promise<T>): Promise<T>;
  /** The same, for something that changes what the last image reads. */
  changing(run: () => Promise<void>): Promise<void>;
  /** Operations on the structure come one after another. Throws `read-only`. */
  structural<T>(run: () => Promise<T>): Promise<T>;
  /** The same for what may be done with a disk that is only read. */
  reordering<T>(run: () => Promise<T>): Promise<T>;
  /** The last image becomes as closing would leave it. Nothing else may run meanwhile. */
  quiesce(): Promise<void>;
  /** The chain is another one from now on. Nothing else runs meanwhile. */
  replaceHead(head: ActiveImage): void;
}
