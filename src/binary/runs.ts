/** Lists of mostly consecutive whole numbers, such as freed clusters and slots. */
import type { NumberRange } from './ranges.ts';

/** Bytes of memory for one run. */
const RUN_BYTES = 16;

/**
 * Numbers in order of insertion, with repetitions. Consecutive numbers are stored as one run, so that freeing a whole
 * disk takes no more memory than freeing a cluster.
 */
export class RunList {
  /** Start, end, start, end, … */
  readonly #borders: number[] = [];

  /** Bytes of memory in use. */
  get memoryBytes(): number {
    return (this.#borders.length / 2) * RUN_BYTES;
  }

  push(value: number): void {
    const last = this.#borders.length - 1;
    if (last >= 0 && this.#borders[last] === value) this.#borders[last] = value + 1;
    else this.#borders.push(value, value + 1);
  }

  /** The runs in order of insertion. */
  *[Symbol.iterator](): Generator<NumberRange> {
    for (let at = 0; at + 1 < this.#borders.length; at += 2) {
      yield { start: this.#borders[at] ?? 0, end: this.#borders[at + 1] ?? 0 };
    }
  }
}
