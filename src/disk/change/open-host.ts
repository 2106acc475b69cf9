/** The disk, as operations on its structure see it: one after another, with the disk to themselves where they need it. */
import type { MaybePromise } from '../../storage/contract.ts';
import type { Resolved } from '../open/environment.ts';
import type { DiskOpenOptions } from '../options.ts';
import type { ActiveImage } from '../path/active-image.ts';
import type { RangeLock } from '../path/range-locks.ts';
import type { Requests } from '../path/requests.ts';
import { tidy } from './compact.ts';
import type { DiskHost } from './host.ts';
import type { Merge } from './merge.ts';
import type { ChainServices } from './stack.ts';

/** One open disk. */
export class OpenHost implements DiskHost {
  readonly tools: ChainServices;
  readonly options: Resolved<DiskOpenOptions>;
  readonly #requests: Requests;
  /** Ends with the last structural operation. */
  #structure: Promise<void> = Promise.resolve();

  constructor(requests: Requests, tools: ChainServices, options: Resolved<DiskOpenOptions>) {
    this.#requests = requests;
    this.tools = tools;
    this.options = options;
  }

  get head(): ActiveImage {
    return this.#requests.head;
  }

  /** Resolves when the operation that runs, and those that wait behind it, have ended. */
  get ended(): Promise<void> {
    return this.#structure;
  }

  lock(start: number, end: number): MaybePromise<RangeLock> {
    return this.#requests.locks.acquire(start, end, true);
  }

  exclusive<T>(run: () => Promise<T>): Promise<T> {
    return this.#requests.exclusive(() => this.#afresh(run));
  }

  /** Which ranges it changes the operation notes itself. */
  changing(run: () => Promise<void>): Promise<void> {
    return this.#requests.exclusive(async () => {
      const { head } = this;
      if (!head.ready) await head.begin();
      this.head.noteChange(0, 0);
      try {
        await this.#afresh(run);
      } finally {
        this.head.noteChange(0, 0);
      }
    });
  }

  async structural<T>(run: () => Promise<T>): Promise<T> {
    this.#requests.checkOpen();
    this.#requests.checkWritable();
    return this.inTurn(run);
  }

  async reordering<T>(run: () => Promise<T>): Promise<T> {
    this.#requests.checkOpen();
    return this.#next(run);
  }

  /** Runs an operation on the structure in its turn. A merge lets requests through, but no other operation. */
  inTurn<T>(run: () => Promise<T>): Promise<T> {
    return this.#next(() => {
      this.head.chain.cache?.noteStructure();
      return run();
    });
  }

  async runMerge(merge: Merge): Promise<void> {
    this.#requests.relay = merge;
    try {
      await merge.run();
    } finally {
      this.#requests.relay = null;
    }
  }

  async quiesce(): Promise<void> {
    await this.head.quiesce();
    if (this.head.ready) await tidy(this.head);
    await this.head.end();
  }

  replaceHead(head: ActiveImage): void {
    this.#requests.replaceHead(head);
  }

  #next<T>(run: () => Promise<T>): Promise<T> {
    const done = this.#structure.then(() => {
      this.#requests.checkOpen();
      return run();
    });
    this.#structure = done.then(
      () => {},
      () => {},
    );
    return done;
  }

  /** Drops all cached data afterwards. */
  async #afresh<T>(run: () => Promise<T>): Promise<T> {
    const { cache } = this.head.chain;
    try {
      return await run();
    } finally {
      cache?.clear();
    }
  }
}
