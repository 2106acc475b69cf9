/** Reproducible random numbers. */
import { checkArguments, NUMBER } from '../arguments.ts';

/** Pseudo-random numbers from a seed: xorshift32. Fast enough to decide about single sectors. */
export class Random {
  #state: number;

  constructor(seed: number) {
    checkArguments('Random', { seed: [seed, NUMBER] });
    // Neighbouring seeds must not give neighbouring sequences, and zero would stay zero.
    this.#state = Math.imul((seed >>> 0) ^ 0x9e37_79b9, 0x85eb_ca6b) >>> 0 || 0x1f12_3bb5;
    for (let round = 0; round < 4; round++) this.next();
  }

  /** An unsigned 32-bit number, never zero. */
  next(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return this.#state;
  }

  /** Fills the array with the numbers that as many calls of `next` return. */
  fill(words: Uint32Array): void {
    // In a variable: a field holds numbers of this size as objects.
    let state = this.#state;
    for (let index = 0; index < words.length; index++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[index] = state;
    }
    this.#state = state >>> 0;
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return this.next() % limit;
  }

  /** True with the probability `share` (0 to 1). */
  chance(share: number): boolean {
    return this.next() < share * 2 ** 32;
  }

  /** One of the values, which must not be empty. */
  pick<T>(values: readonly [T, ...T[]]): T {
    return values[this.below(values.length)] ?? values[0];
  }

  /** Shuffles the values in place. */
  shuffle<T>(values: T[]): T[] {
    for (let last = values.length - 1; last > 0; last--) {
      const other = this.below(last + 1);
      const value = values[last] as T;
      values[last] = values[other] as T;
      values[other] = value;
    }
    return values;
  }
}
