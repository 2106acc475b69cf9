/** Counts ordered pairs (a, b) of metadata operations that were pending together, and those seen split: a there, b not. */
import type { Fate } from './medium-state.ts';
import type { MediumOperation } from './operation-log.ts';

/** Numbers of operations stay far below this. */
const STRIDE = 2 ** 24;

/** See the head of this file. */
export class PairCoverage {
  readonly #split = new Set<number>();
  readonly #total = new Set<number>();
  #window: ReadonlySet<MediumOperation> = new Set();
  /** Pairs of the window that no state has split yet. */
  #open = new Set<number>();

  get total(): number {
    return this.#total.size;
  }

  get split(): number {
    return this.#split.size;
  }

  /** From now on states belong to a cut at which these metadata operations are pending. */
  enter(metadata: readonly MediumOperation[]): void {
    this.#window = new Set(metadata);
    this.#open = new Set();
    for (const one of metadata) {
      for (const other of metadata) {
        if (one === other) continue;
        const pair = one.id * STRIDE + other.id;
        this.#total.add(pair);
        if (!this.#split.has(pair)) this.#open.add(pair);
      }
    }
  }

  /** Counts the pairs that one state splits. Only operations that are there in full, or not at all, count. */
  visit(operations: readonly MediumOperation[], selection: readonly Fate[]): void {
    if (this.#open.size === 0) return;
    const kept: number[] = [];
    const lost: number[] = [];
    operations.forEach((operation, index) => {
      const fate = selection[index];
      if (fate === undefined || !this.#window.has(operation)) return;
      if (fate.pieces === 'all' && fate.size) kept.push(operation.id);
      if (fate.pieces === 'none' && !fate.size) lost.push(operation.id);
    });
    for (const one of kept) {
      for (const other of lost) {
        const pair = one * STRIDE + other;
        if (this.#open.delete(pair)) this.#split.add(pair);
      }
    }
  }
}
