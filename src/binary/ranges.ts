/** Sets of half-open ranges of whole numbers up to 2^53: ranges read, free or dirty. */
import { assert } from '../errors.ts';

/** From `start` up to, not including, `end`. */
export interface NumberRange {
  readonly start: number;
  readonly end: number;
}

/**
 * A set of numbers, kept as its maximal ranges in order. Ranges that touch become one. Finding is a binary search;
 * adding and removing move what lies behind.
 */
export class RangeSet {
  /** Borders in ascending order: start, end, start, end, … No two are equal. */
  #borders: number[] = [];

  constructor(ranges: Iterable<NumberRange> = []) {
    for (const { start, end } of ranges) this.add(start, end);
  }

  /** Number of maximal ranges. */
  get count(): number {
    return this.#borders.length / 2;
  }

  /** Numbers in all ranges together. */
  get total(): number {
    let total = 0;
    for (const { start, end } of this) total += end - start;
    return total;
  }

  /** The maximal ranges in ascending order. The set must not change during the iteration. */
  *[Symbol.iterator](): Generator<NumberRange> {
    for (let at = 0; at < this.#borders.length; at += 2) yield this.#range(at);
  }

  add(start: number, end: number): void {
    checkRange(start, end);
    this.#replace(start, end, true);
  }

  remove(start: number, end: number): void {
    checkRange(start, end);
    this.#replace(start, end, false);
  }

  clear(): void {
    this.#borders = [];
  }

  has(value: number): boolean {
    return this.#upTo(value) % 2 === 1;
  }

  /** True when every number of the range is in the set. */
  covers(start: number, end: number): boolean {
    if (start >= end) return true;
    const at = this.#upTo(start);
    return at % 2 === 1 && end <= this.#border(at);
  }

  /** True when some number of the range is in the set. */
  intersects(start: number, end: number): boolean {
    if (start >= end) return false;
    const at = this.#upTo(start);
    return at % 2 === 1 || (at < this.#borders.length && this.#border(at) < end);
  }

  /** The first maximal range with a number from `from` on: it may begin earlier. Null when there is none. */
  nextRange(from: number): NumberRange | null {
    const at = this.#upTo(from);
    const first = at % 2 === 1 ? at - 1 : at;
    return first < this.#borders.length ? this.#range(first) : null;
  }

  /** The first numbers from `from` on that are not in the set. Behind the last range `end` is Infinity. */
  nextGap(from: number): NumberRange {
    const at = this.#upTo(from);
    const inside = at % 2 === 1;
    const start = inside ? this.#border(at) : from;
    return { start, end: this.#borders[inside ? at + 1 : at] ?? Number.POSITIVE_INFINITY };
  }

  /** Number of borders that are not above `value`: odd inside a range. */
  #upTo(value: number): number {
    let low = 0;
    let high = this.#borders.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#border(middle) <= value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Number of borders that are below `value`. */
  #below(value: number): number {
    const at = this.#upTo(value);
    return at > 0 && this.#border(at - 1) === value ? at - 1 : at;
  }

  #border(at: number): number {
    const border = this.#borders[at];
    assert(border !== undefined, 'a border of a range');
    return border;
  }

  #range(at: number): NumberRange {
    return { start: this.#border(at), end: this.#border(at + 1) };
  }

  /** Drops the borders inside the range and adds those where membership changes. */
  #replace(start: number, end: number, member: boolean): void {
    if (start === end) return;
    const first = this.#below(start);
    const last = this.#upTo(end);
    const before = (first % 2 === 1) !== member;
    const after = (last % 2 === 1) !== member;
    const dropped = last - first;
    if (before && after) this.#borders.splice(first, dropped, start, end);
    else if (before || after) this.#borders.splice(first, dropped, before ? start : end);
    else this.#borders.splice(first, dropped);
  }
}

function checkRange(start: number, end: number): void {
  assert(Number.isSafeInteger(start) && Number.isSafeInteger(end) && start <= end, 'a range of safe whole numbers');
}
