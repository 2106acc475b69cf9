/**
 * Locks on byte ranges: overlapping requests are kept apart, everything else runs together. Shared holders may overlap
 * each other. First come, first served: a request waits for every earlier conflicting one, held or waiting, so none
 * starves.
 *
 * A hundred thousand requests at once cost little more each than ten: a request checks only those in the same cells of
 * the disk, from the latest backwards, and stops at an exclusive one that covers it there, which waits for all before.
 */
import { assert } from '../../errors.ts';
import type { MaybePromise } from '../../storage/contract.ts';

/** A held range; release it once. */
export interface RangeLock {
  release(): void;
}

interface Entry extends RangeLock {
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
  /** Number of earlier entries that this one waits for. */
  blockers: number;
  /** Later entries that wait for this one. */
  waiters: Entry[] | null;
  /** The last request that checked it. */
  seenBy: Entry | null;
  wake: ((lock: RangeLock) => void) | null;
  released: boolean;
}

/** Bytes of a cell, and maximum number of cells that an entry is listed in. */
const CELL = 64 * 1024;
const CELLS_MAX = 64;
/** Maximum number of released entries in a list. */
const DEAD_MAX = 16;

/** The entries of one cell in order of arrival. */
class EntryList {
  readonly start: number;
  readonly end: number;
  #entries: Entry[] = [];
  #dead = 0;

  constructor(start: number, end: number) {
    this.start = start;
    this.end = end;
  }

  /** The part of a range in the cell. */
  part(range: { readonly start: number; readonly end: number }): readonly [number, number] {
    return [Math.max(range.start, this.start), Math.min(range.end, this.end)];
  }

  add(entry: Entry): void {
    this.#entries.push(entry);
  }

  /** Counts a released entry. True: none is left. */
  remove(): boolean {
    this.#dead++;
    if (this.#dead === this.#entries.length) {
      this.#entries = [];
      this.#dead = 0;
      return true;
    }
    if (this.#dead > DEAD_MAX && this.#dead * 2 > this.#entries.length) {
      this.#entries = this.#entries.filter(({ released }) => !released);
      this.#dead = 0;
    }
    return false;
  }

  some(is: (entry: Entry) => boolean): boolean {
    return this.#entries.some((entry) => !entry.released && is(entry));
  }

  *latestFirst(): Generator<Entry> {
    for (let at = this.#entries.length - 1; at >= 0; at--) {
      const entry = this.#entries[at];
      if (entry !== undefined && !entry.released) yield entry;
    }
  }
}

/** The locks of one disk. Without a conflict, taking one costs no promise. */
export class RangeLocks {
  readonly #cells = new Map<number, EntryList>();
  /** Entries covering too many cells. */
  readonly #wide = new EntryList(0, Number.MAX_SAFE_INTEGER);
  #exclusive = 0;

  /** True when a shared lock on the range would be granted at once. */
  isFree(start: number, end: number): boolean {
    if (this.#exclusive === 0) return true;
    const taken = ({ exclusive, start: first, end: last }: Entry): boolean => exclusive && first < end && start < last;
    for (const list of this.#listsFor(start, end)) if (list.some(taken)) return false;
    return true;
  }

  /** Takes `[start, end)`, now or when every earlier conflicting lock is released. */
  acquire(start: number, end: number, exclusive: boolean): MaybePromise<RangeLock> {
    const entry: Entry = {
      start,
      end,
      exclusive,
      blockers: 0,
      waiters: null,
      seenBy: null,
      wake: null,
      released: false,
      release: () => this.#release(entry),
    };
    if (exclusive || this.#exclusive > 0) this.#block(entry);
    for (const list of this.#ownLists(entry)) list.add(entry);
    if (exclusive) this.#exclusive++;
    if (entry.blockers === 0) return entry;
    return new Promise((resolve) => {
      entry.wake = resolve;
    });
  }

  #block(entry: Entry): void {
    for (const list of this.#listsFor(entry.start, entry.end)) {
      const [from, to] = list.part(entry);
      for (const earlier of list.latestFirst()) {
        const overlap = earlier.start < entry.end && entry.start < earlier.end;
        if (!overlap || !(earlier.exclusive || entry.exclusive)) continue;
        if (earlier.seenBy !== entry) {
          earlier.seenBy = entry;
          entry.blockers++;
          earlier.waiters ??= [];
          earlier.waiters.push(entry);
        }
        // It waits for everything before it that could be in the way here.
        if (earlier.exclusive && earlier.start <= from && to <= earlier.end) break;
      }
    }
  }

  /** Lists that may contain conflicts with a range. */
  #listsFor(start: number, end: number): EntryList[] {
    const first = Math.floor(start / CELL);
    const last = Math.floor((end - 1) / CELL);
    if (last - first >= CELLS_MAX) return [this.#wide, ...this.#cells.values()];
    const lists = [this.#wide];
    for (let cell = first; cell <= last; cell++) {
      const list = this.#cells.get(cell);
      if (list !== undefined) lists.push(list);
    }
    return lists;
  }

  /** Lists that contain an entry. */
  #ownLists({ start, end }: Entry): EntryList[] {
    const first = Math.floor(start / CELL);
    const last = Math.floor((end - 1) / CELL);
    if (last - first >= CELLS_MAX) return [this.#wide];
    const lists: EntryList[] = [];
    for (let cell = first; cell <= last; cell++) {
      let list = this.#cells.get(cell);
      if (list === undefined) {
        list = new EntryList(cell * CELL, (cell + 1) * CELL);
        this.#cells.set(cell, list);
      }
      lists.push(list);
    }
    return lists;
  }

  #release(entry: Entry): void {
    assert(!entry.released && entry.blockers === 0, 'a lock is given back once');
    entry.released = true;
    for (const list of this.#ownLists(entry)) {
      if (list.remove() && list !== this.#wide) this.#cells.delete(list.start / CELL);
    }
    if (entry.exclusive) this.#exclusive--;
    for (const waiter of entry.waiters ?? []) {
      waiter.blockers--;
      if (waiter.blockers === 0) waiter.wake?.(waiter);
    }
  }
}
