/**
 * Counts ordered pairs (a, b) of metadata pieces that were pending together, and those seen split: a there, b not. A
 * piece is one sector of one write, so the sectors of a long write can be told apart too.
 */
import type { Fate } from './medium-state.ts';
import type { MediumOperation } from './operation-log.ts';
import { type Pending, piecesOf } from './selections.ts';

/** Larger than the piece count of any operation. */
const PIECES = 128;
/** Piece numbers stay far below this. */
const STRIDE = 2 ** 26;

/** Counter of ordered pairs of metadata pieces that were pending together, and of those seen split. */
export class PairCoverage {
  readonly #split = new Set<number>();
  readonly #total = new Set<number>();
  /** Pairs of the current cut that no state has split yet. */
  #open = new Set<number>();

  get total(): number {
    return this.#total.size;
  }

  get split(): number {
    return this.#split.size;
  }

  /** Starts a cut at which these operations are pending. */
  enter(operations: readonly MediumOperation[], pending: readonly Pending[]): void {
    this.#open = new Set();
    const pieces: number[] = [];
    forMetadata(operations, pending, (operation, count) => {
      for (let piece = 0; piece < count; piece++) pieces.push(operation.id * PIECES + piece);
    });
    for (const one of pieces) {
      for (const other of pieces) {
        if (one === other) continue;
        const pair = one * STRIDE + other;
        this.#total.add(pair);
        if (!this.#split.has(pair)) this.#open.add(pair);
      }
    }
  }

  /** Counts the pairs that one state of the cut splits. */
  visit(operations: readonly MediumOperation[], pending: readonly Pending[], selection: readonly Fate[]): void {
    if (this.#open.size === 0) return;
    const kept: number[] = [];
    const lost: number[] = [];
    forMetadata(operations, pending, (operation, count, index) => {
      const fate = selection[index];
      if (fate === undefined) return;
      for (let piece = 0; piece < count; piece++) {
        const there = isThere(fate, piece);
        if (there !== null) (there ? kept : lost).push(operation.id * PIECES + piece);
      }
    });
    for (const one of kept) {
      for (const other of lost) {
        const pair = one * STRIDE + other;
        if (this.#open.delete(pair)) this.#split.add(pair);
      }
    }
  }
}

function forMetadata(
  operations: readonly MediumOperation[],
  pending: readonly Pending[],
  visit: (operation: MediumOperation, pieces: number, index: number) => void,
): void {
  operations.forEach((operation, index) => {
    const item = pending[index];
    if (item?.metadata === true) visit(operation, piecesOf(item), index);
  });
}

/** Null when it is partially present. */
function isThere(fate: Fate, piece: number): boolean | null {
  if (fate.pieces === 'none') return fate.size ? null : false;
  if (!fate.size) return null;
  return fate.pieces === 'all' || fate.pieces[piece] === 1;
}
