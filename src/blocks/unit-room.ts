/**
 * Room of a file, counted in units, where blocks of several units lie among other things of any number of them. To the
 * block map a slot is `units / units of a block`, which may be a fraction: blocks begin at any unit.
 */
import type { SparseBitSet } from '../binary/bits.ts';
import { divCeil } from '../binary/numbers.ts';
import type { BlockRoom } from './block-reader.ts';
import { SlotAllocator, type SlotRun } from './slot-allocator.ts';

/** A part of the file that was taken. */
export interface TakenRoom {
  readonly fileOffset: number;
  /** It was in use before: its old content is stale. */
  readonly recycled: boolean;
}

/** Allocates blocks: the lowest hole that is long enough, then the end of the file. */
export class UnitRoom implements BlockRoom {
  /** The units, for what moves other things than blocks. */
  readonly units: SlotAllocator;
  readonly #unitBytes: number;
  /** Units of a block. */
  readonly #block: number;
  /** No hole in front of this unit has room for a block. */
  #searched = 0;

  /** `used`: units in use, all of them in front of `end`. */
  constructor(used: SparseBitSet, end: number, { unitBytes, blockBytes }: { unitBytes: number; blockBytes: number }) {
    this.units = new SlotAllocator(used, end);
    this.#unitBytes = unitBytes;
    this.#block = blockBytes / unitBytes;
  }

  get committedEnd(): number {
    return this.units.committedEnd / this.#block;
  }

  /** File offset behind everything that is in use. */
  get fileEnd(): number {
    return this.units.committedEnd * this.#unitBytes;
  }

  get used(): number {
    return this.units.used / this.#block;
  }

  get holes(): number {
    return this.units.holes / this.#block;
  }

  get fillable(): number {
    return this.lowestHole() === null ? 0 : this.holes;
  }

  take(wanted: number): SlotRun {
    const hole = this.#takeHole();
    const run = hole ?? this.units.takeAtEnd(wanted * this.#block);
    return { ...run, first: run.first / this.#block, count: run.count / this.#block };
  }

  /** The lowest hole with room for a block, as a slot; null: there is none. */
  lowestHole(): number | null {
    const run = this.#takeHole();
    if (run === null) return null;
    this.units.giveBack(run);
    this.#searched = run.first;
    return run.first / this.#block;
  }

  /** Takes room at the end for something else than blocks. It counts as in use on the medium at once. */
  takeAtEnd(bytes: number): TakenRoom {
    const run = this.units.takeAtEnd(divCeil(bytes, this.#unitBytes));
    this.units.committed(run);
    return { fileOffset: run.first * this.#unitBytes, recycled: run.recycled };
  }

  giveBack(run: SlotRun): void {
    this.units.giveBack(this.#unitsOf(run));
    this.#searched = 0;
  }

  committed(run: SlotRun): void {
    this.units.committed(this.#unitsOf(run));
  }

  pin(slot: number): void {
    const first = slot * this.#block;
    for (let unit = first; unit < first + this.#block; unit++) this.units.pin(unit);
  }

  seal(): void {
    this.units.seal();
  }

  settle(): void {
    this.units.settle();
    this.#searched = 0;
  }

  trim(): number {
    return this.units.trim() / this.#block;
  }

  #takeHole(): SlotRun | null {
    if (this.units.holes < this.#block) return null;
    const end = this.units.used + this.units.holes;
    const run = this.units.takeHoles(this.#block, this.#searched, end);
    this.#searched = run === null ? end : run.first + run.count;
    return run;
  }

  #unitsOf({ first, count, recycled }: SlotRun): SlotRun {
    return { first: first * this.#block, count: count * this.#block, recycled };
  }
}
