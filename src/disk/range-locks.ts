/**
 * Locks on byte ranges: overlapping requests are kept apart, everything else runs together. Shared holders may
 * overlap each other. First come, first served: a request waits for every earlier one that it conflicts with, held or
 * still waiting, so nobody starves.
 */
import { assert } from '../errors.ts';
import type { MaybePromise } from '../storage/contract.ts';

/** A held range; give it back once. */
export interface RangeLock {
  release(): void;
}

interface Entry extends RangeLock {
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
  /** Earlier entries that this one waits for. */
  blockers: number;
  /** Later entries that wait for this one. */
  waiters: Entry[] | null;
  wake: ((lock: RangeLock) => void) | null;
  released: boolean;
  previous: Entry | null;
  next: Entry | null;
}

/** The locks of one disk. Without a conflict, taking one costs no promise. */
export class RangeLocks {
  #first: Entry | null = null;
  #last: Entry | null = null;
  #exclusive = 0;

  /** True when a shared lock on the range would be granted at once. */
  isFree(start: number, end: number): boolean {
    if (this.#exclusive === 0) return true;
    for (let entry = this.#first; entry !== null; entry = entry.next) {
      if (entry.exclusive && entry.start < end && start < entry.end) return false;
    }
    return true;
  }

  /** Takes `[start, end)`, now or when every earlier conflicting lock was given back. */
  acquire(start: number, end: number, exclusive: boolean): MaybePromise<RangeLock> {
    const entry: Entry = {
      start,
      end,
      exclusive,
      blockers: 0,
      waiters: null,
      wake: null,
      released: false,
      previous: this.#last,
      next: null,
      release: () => this.#release(entry),
    };
    if (exclusive || this.#exclusive > 0) this.#block(entry);
    if (this.#last === null) this.#first = entry;
    else this.#last.next = entry;
    this.#last = entry;
    if (exclusive) this.#exclusive++;
    if (entry.blockers === 0) return entry;
    return new Promise((resolve) => {
      entry.wake = resolve;
    });
  }

  #block(entry: Entry): void {
    for (let earlier = this.#first; earlier !== null; earlier = earlier.next) {
      const overlap = earlier.start < entry.end && entry.start < earlier.end;
      if (!overlap || !(earlier.exclusive || entry.exclusive)) continue;
      entry.blockers++;
      earlier.waiters ??= [];
      earlier.waiters.push(entry);
    }
  }

  #release(entry: Entry): void {
    assert(!entry.released && entry.blockers === 0, 'a lock is given back once');
    entry.released = true;
    if (entry.previous === null) this.#first = entry.next;
    else entry.previous.next = entry.next;
    if (entry.next === null) this.#last = entry.previous;
    else entry.next.previous = entry.previous;
    if (entry.exclusive) this.#exclusive--;
    for (const waiter of entry.waiters ?? []) {
      waiter.blockers--;
      if (waiter.blockers === 0) waiter.wake?.(waiter);
    }
  }
}
