/**
 * Selections of the pending operations that reached the medium: the choices at one cut, the most revealing first.
 * Operations are split into pieces of one sector, and their change of size is a separate piece.
 *
 * Splitting every ordered pair does not need a state per pair: metadata pieces get numbers, and for every bit of the
 * number one state keeps those with the bit set and one keeps the others. Any two numbers differ in some bit.
 */
import { type Fate, KEPT, LOST } from './medium-state.ts';
import type { Random } from './random.ts';

/** One operation that a cut can lose. */
export interface Pending {
  /** Sector pieces. */
  readonly sectors: number;
  /** Has a change of size, or a link beside an unlink, that can happen separately. */
  readonly splitsSize: boolean;
  /** Touches metadata. */
  readonly metadata: boolean;
}

/** A fate for each pending operation. */
export type Selection = readonly Fate[];

/** Metadata writes longer than this count as one piece when pairs are split. */
const PAIRED_SECTORS = 64;
/** The data is lost, but the file has its new length. */
const SIZE_ONLY: Fate = { pieces: 'none', size: true };
/** The data arrived, but not the size of the file. */
const NO_SIZE: Fate = { pieces: 'all', size: false };

/** States that are always visited: nothing, everything, every pair split, every operation alone and missing. */
export function* requiredSelections(pending: readonly Pending[], random: Random): Generator<Selection> {
  yield pending.map(() => LOST);
  yield pending.map(() => KEPT);
  yield* metadataAgainstData(pending);
  yield* splitPairs(pending, random);
  for (const alone of pending.keys()) {
    yield pending.map((_, index) => (index === alone ? KEPT : LOST));
    yield pending.map((_, index) => (index === alone ? LOST : KEPT));
  }
  yield* tornAtSizes(pending);
  yield* tornAtSectors(pending, random);
}

function* metadataAgainstData(pending: readonly Pending[]): Generator<Selection> {
  for (const [metadata, data] of [
    [KEPT, LOST],
    [LOST, KEPT],
    [KEPT, SIZE_ONLY],
    [KEPT, NO_SIZE],
  ] as const) {
    yield pending.map((item) => (item.metadata ? metadata : data));
  }
}

function* splitPairs(pending: readonly Pending[], random: Random): Generator<Selection> {
  const pieces = metadataPieces(pending);
  for (let bit = 1; bit < pieces; bit *= 2) {
    for (const wanted of [0, bit]) {
      const isKept = (piece: number): boolean => (piece & bit) === wanted;
      yield withMetadata(pending, isKept, () => LOST);
      yield withMetadata(pending, isKept, () => KEPT);
      yield withMetadata(pending, isKept, () => (random.chance(0.5) ? KEPT : LOST));
    }
  }
}

/** Every combination of metadata pieces, with random fates for the rest. Nothing when there are too many. */
export function* metadataCombinations(
  pending: readonly Pending[],
  limit: number,
  random: Random,
): Generator<Selection> {
  const pieces = metadataPieces(pending);
  if (pieces < 2 || pieces > 20 || 2 ** pieces > limit) return;
  const first = random.below(2 ** pieces);
  for (let step = 0; step < 2 ** pieces; step++) {
    const code = (first + step) % 2 ** pieces;
    yield withMetadata(
      pending,
      (piece) => ((code >> piece) & 1) === 1,
      () => (random.chance(0.5) ? KEPT : LOST),
    );
  }
}

/** Metadata pieces are numbered through all operations; the others get separate fates. */
function withMetadata(pending: readonly Pending[], isKept: (piece: number) => boolean, others: () => Fate): Selection {
  let next = 0;
  return pending.map((item) => {
    if (!item.metadata) return others();
    const count = piecesOf(item);
    const first = next;
    next += count;
    if (count === 1) return isKept(first) ? KEPT : LOST;
    const pieces = new Uint8Array(count);
    for (let index = 0; index < count; index++) pieces[index] = isKept(first + index) ? 1 : 0;
    return canonical(pieces, pieces.includes(1));
  });
}

function metadataPieces(pending: readonly Pending[]): number {
  return pending.reduce((sum, item) => sum + (item.metadata ? piecesOf(item) : 0), 0);
}

/** Pieces of an operation distinguished in pairs: its sectors, unless it is so long that it counts as one. */
export function piecesOf(item: Pick<Pending, 'sectors'>): number {
  return item.sectors > PAIRED_SECTORS ? 1 : Math.max(item.sectors, 1);
}

function* tornAtSizes(pending: readonly Pending[]): Generator<Selection> {
  for (const [torn, item] of pending.entries()) {
    if (!item.splitsSize) continue;
    for (const fate of item.sectors === 0 ? [SIZE_ONLY] : [SIZE_ONLY, NO_SIZE]) {
      yield pending.map((_, index) => (index === torn ? fate : KEPT));
      if (fate === SIZE_ONLY) yield pending.map((_, index) => (index === torn ? fate : LOST));
    }
  }
}

function* tornAtSectors(pending: readonly Pending[], random: Random): Generator<Selection> {
  for (const [torn, item] of pending.entries()) {
    if (item.sectors < 2) continue;
    const border = 1 + random.below(item.sectors - 1);
    const fates = [
      cutAt(item.sectors, border, true),
      cutAt(item.sectors, border, false),
      randomFate(item, 0.5, random),
    ];
    for (const fate of fates) {
      const others = random.chance(0.5) ? KEPT : LOST;
      yield pending.map((_, index) => (index === torn ? fate : others));
    }
  }
}

/** Number of pieces that can be present or not; every combination of them is a state. */
export function unitCount(pending: readonly Pending[]): number {
  return pending.reduce((sum, item) => sum + unitsOf(item), 0);
}

function unitsOf(item: Pending): number {
  return Math.max(item.sectors, 1) + (item.splitsSize ? 1 : 0);
}

/** The state with number `code`, from 0 to 2 ** unitCount - 1. */
export function selectionOf(pending: readonly Pending[], code: number): Selection {
  let rest = code;
  const take = (): number => {
    const bit = rest % 2;
    rest = (rest - bit) / 2;
    return bit;
  };
  return pending.map((item) => {
    if (item.sectors === 0) {
      const there = take() === 1;
      const whole = !item.splitsSize || take() === 1;
      // An old name cannot go before the new one is there.
      if (!there) return LOST;
      return whole ? KEPT : SIZE_ONLY;
    }
    const pieces = new Uint8Array(item.sectors);
    for (let index = 0; index < pieces.length; index++) pieces[index] = take();
    return canonical(pieces, item.splitsSize ? take() === 1 : pieces.includes(1));
  });
}

/** A random state: first a share for all operations, then each piece independently. */
export function randomSelection(pending: readonly Pending[], random: Random): Selection {
  const share = random.pick([0.1, 0.3, 0.5, 0.7, 0.9]);
  const torn = random.chance(0.3);
  return pending.map((item) => {
    if (torn && random.chance(0.3)) return randomFate(item, random.pick([0.2, 0.5, 0.8]), random);
    return random.chance(share) ? KEPT : LOST;
  });
}

function randomFate(item: Pending, share: number, random: Random): Fate {
  if (item.sectors === 0) {
    if (!random.chance(share)) return LOST;
    return item.splitsSize && random.chance(0.5) ? SIZE_ONLY : KEPT;
  }
  const pieces = new Uint8Array(item.sectors);
  for (let index = 0; index < pieces.length; index++) pieces[index] = random.chance(share) ? 1 : 0;
  return canonical(pieces, item.splitsSize ? random.chance(share) : pieces.includes(1));
}

function cutAt(sectors: number, border: number, head: boolean): Fate {
  const pieces = new Uint8Array(sectors);
  if (head) pieces.fill(1, 0, border);
  else pieces.fill(1, border);
  return { pieces, size: true };
}

/** Canonical form of a fate, so that equal ones compare equal. */
function canonical(pieces: Uint8Array, size: boolean): Fate {
  const none = !pieces.includes(1);
  const all = !pieces.includes(0);
  if (none) return size ? SIZE_ONLY : LOST;
  if (all) return size ? KEPT : NO_SIZE;
  return { pieces, size };
}

/** Text that is equal for equal selections of the same operations. */
export function selectionKey(pending: readonly Pending[], selection: Selection): string {
  let key = '';
  selection.forEach((fate, index) => {
    const size = fate.size || pending[index]?.splitsSize === false ? '+' : '-';
    key += fate.pieces === 'all' ? 'a' : fate.pieces === 'none' ? 'n' : fate.pieces.join('');
    key += fate.pieces === 'none' && pending[index]?.splitsSize === false ? '' : size;
  });
  return key;
}
