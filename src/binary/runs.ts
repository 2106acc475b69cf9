/** Lists of whole numbers that mostly follow each other: clusters and slots that are given up. */
import type { NumberRange } from './ranges.ts';

/** Bytes that one run takes in memory. */
const RUN_BYTES = 16;

/**
 * Numbers in the order in which they came, each as often as it came. Those that follow each other are kept as one run,
 * so that a disk that is given up as a whole takes as little memory as a cluster.
 */
export class RunList {
  /** Start, end, start, end, … */
  readonly #borders: number[] = [];

  /** Bytes that they take in memory. */
  get memoryBytes(): number {
    return (this.#borders.length / 2) * RUN_BYTES;
  }

  push(value: number): void {
    const last = this.#borders.length - 1;
    if (last >= 0 && this.#borders[last] === value) this.#borders[last] = value + 1;
    else this.#borders.push(value, value + 1);
  }

  /** The runs in the order in which they began. */
  *[Symbol.iterator](): Generator<NumberRange> {
    for (let at = 0; at + 1 < this.#borders.length; at += 2) {
      yield { start: this.#borders[at] ?? 0, end: this.#borders[at + 1] ?? 0 };
    }
  }
}
