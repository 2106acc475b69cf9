/** Running requests of a disk. Some take several locks, one after another. */
import type { MaybePromise } from '../../storage/contract.ts';

/** Counts requests, so that closing waits for the end of each and not only for its current lock. */
export class RunningRequests {
  #count = 0;
  #idle: (() => void)[] = [];

  begin(): void {
    this.#count++;
  }

  end(): void {
    this.#count--;
    if (this.#count > 0) return;
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }

  /** Resolves when none is running; immediately if so now. */
  whenIdle(): MaybePromise<void> {
    if (this.#count === 0) return undefined;
    return new Promise((resolve) => {
      this.#idle.push(resolve);
    });
  }
}
