/** The requests of a disk that have begun and not ended. Some take several locks, one after another. */
import type { MaybePromise } from '../../storage/contract.ts';

/** Counts requests, so that closing waits for the end of each and not only for the lock that it holds at the time. */
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

  /** Resolves when none is running; at once when none is. */
  whenIdle(): MaybePromise<void> {
    if (this.#count === 0) return undefined;
    return new Promise((resolve) => {
      this.#idle.push(resolve);
    });
  }
}
