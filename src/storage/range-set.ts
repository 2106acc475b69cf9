/** Sets of byte ranges. */

/** A stretch of bytes; `end` is exclusive. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Disjoint ranges in ascending order, never adjacent. */
export class RangeSet {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  get count(): number {
    return this.#starts.length;
  }

  /** Adds a range, joined with the ranges that it overlaps or touches. */
  add(start: number, end: number): void {
    if (end <= start) return;
    const first = firstAtLeast(this.#ends, start);
    let last = first;
    let from = start;
    let to = end;
    for (; last < this.#starts.length; last++) {
      const oldStart = this.#starts[last] ?? 0;
      if (oldStart > end) break;
      from = Math.min(from, oldStart);
      to = Math.max(to, this.#ends[last] ?? 0);
    }
    this.#starts.splice(first, last - first, from);
    this.#ends.splice(first, last - first, to);
  }

  /** Removes everything from `start` on. */
  cutFrom(start: number): void {
    const keep = firstAtLeast(this.#starts, start);
    this.#starts.length = keep;
    this.#ends.length = keep;
    const last = this.#ends[keep - 1];
    if (last !== undefined && last > start) this.#ends[keep - 1] = start;
  }

  /** The run around `offset`: inside one of the ranges, or in the gap between two. The last gap has no end. */
  runAt(offset: number): ByteRange & { readonly inside: boolean } {
    const index = firstAtLeast(this.#ends, offset + 1);
    const start = this.#starts[index];
    const end = this.#ends[index];
    if (start !== undefined && end !== undefined && start <= offset) return { start, end, inside: true };
    return { start: this.#ends[index - 1] ?? 0, end: start ?? Number.POSITIVE_INFINITY, inside: false };
  }
}

/** Index of the first value that is not below `wanted`, in an ascending list. */
function firstAtLeast(values: readonly number[], wanted: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] ?? 0) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
