/**
 * Room of a VHDX file, counted in MiB: blocks of one length, and between them sector bitmaps of 1 MiB, the log and regions.
 * Before the first write the whole table is read. To the block map a slot is `MiB / MiB of a block`, which may be a fraction: blocks begin at any MiB.
 */
import { SparseBitSet } from '../../binary/bits.ts';
import type { BlockRoom } from '../../blocks/block-reader.ts';
import { SlotAllocator, type SlotRun } from '../../blocks/slot-allocator.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { type Bat, offsetOf, stateOf } from './bat.ts';
import { type EntryFacts, isZero, problemOf } from './entries.ts';
import { BITMAP_BYTES, MIB, STATE } from './layout.ts';

/** Allocates blocks: the lowest hole that is long enough, then the end of the file. */
export class VhdxRoom implements BlockRoom {
  readonly #units: SlotAllocator;
  /** MiB of a block. */
  readonly #block: number;
  /** No hole in front of this MiB has room for a block. */
  #searched = 0;

  /** `used`: MiB in use, all of them in front of `end`. */
  constructor(used: SparseBitSet, end: number, blockSize: number) {
    this.#units = new SlotAllocator(used, end);
    this.#block = blockSize / MIB;
  }

  get committedEnd(): number {
    return this.#units.committedEnd / this.#block;
  }

  /** File offset behind everything that is in use. */
  get fileEnd(): number {
    return this.#units.committedEnd * MIB;
  }

  get used(): number {
    return this.#units.used / this.#block;
  }

  get holes(): number {
    return this.#units.holes / this.#block;
  }

  get fillable(): number {
    return this.lowestHole() === null ? 0 : this.holes;
  }

  take(wanted: number): SlotRun {
    const hole = this.#takeHole();
    const run = hole ?? this.#units.takeAtEnd(wanted * this.#block);
    return { ...run, first: run.first / this.#block, count: run.count / this.#block };
  }

  /** The lowest hole with room for a block, as a slot; null: there is none. */
  lowestHole(): number | null {
    const run = this.#takeHole();
    if (run === null) return null;
    this.#units.giveBack(run);
    this.#searched = run.first;
    return run.first / this.#block;
  }

  /** Takes MiB for something else than blocks. They count as in use on the medium at once. */
  takeMib(count: number): { readonly fileOffset: number; readonly recycled: boolean } {
    const run = this.#units.takeHoles(count, 0, this.#end) ?? this.#units.takeAtEnd(count);
    this.#units.committed(run);
    return { fileOffset: run.first * MIB, recycled: run.recycled };
  }

  /** Gives up MiB that the medium may still name: they are free after the next flush. */
  pinMib(fileOffset: number, length: number): void {
    for (let at = 0; at < length; at += MIB) this.#units.pin((fileOffset + at) / MIB);
  }

  giveBack(run: SlotRun): void {
    this.#units.giveBack(this.#unitsOf(run));
    this.#searched = 0;
  }

  committed(run: SlotRun): void {
    this.#units.committed(this.#unitsOf(run));
  }

  pin(slot: number): void {
    const first = slot * this.#block;
    for (let unit = first; unit < first + this.#block; unit++) this.#units.pin(unit);
  }

  seal(): void {
    this.#units.seal();
  }

  settle(): void {
    this.#units.settle();
    this.#searched = 0;
  }

  trim(): number {
    return this.#units.trim() / this.#block;
  }

  get #end(): number {
    return this.#units.used + this.#units.holes;
  }

  #takeHole(): SlotRun | null {
    if (this.#units.holes < this.#block) return null;
    const run = this.#units.takeHoles(this.#block, this.#searched, this.#end);
    this.#searched = run === null ? this.#end : run.first + run.count;
    return run;
  }

  #unitsOf({ first, count, recycled }: SlotRun): SlotRun {
    return { first: first * this.#block, count: count * this.#block, recycled };
  }
}

/** Result of a scan. */
export interface BatScan {
  readonly room: VhdxRoom;
  /** Reason why the image must not be written, or null. */
  readonly obstacle: string | null;
}

/** Reads the whole table: MiB in use, and whether writing is safe. */
export async function scanRoom(
  storage: Storage,
  bat: Bat,
  facts: EntryFacts,
  options: OperationOptions = {},
): Promise<BatScan> {
  const used = new SparseBitSet();
  let end = 0;
  let obstacle: string | null = null;
  const take = (fileOffset: number, length: number): boolean => {
    let isFree = true;
    const last = Math.ceil((fileOffset + length) / MIB);
    for (let unit = Math.floor(fileOffset / MIB); unit < last; unit++) if (!used.add(unit)) isFree = false;
    end = Math.max(end, last);
    return isFree;
  };
  for (const { fileOffset, length } of facts.taken) take(fileOffset, length);
  await bat.scanAll((entry, index, isBitmap) => {
    if (obstacle !== null) return;
    const what = isBitmap ? `the bitmap of chunk ${index}` : `block ${index}`;
    const state = stateOf(entry);
    if (isBitmap ? !facts.hasParent || state !== STATE.present : state === STATE.notPresent || isZero(state)) return;
    const problem = isBitmap ? null : problemOf(entry, facts);
    const fileOffset = offsetOf(entry);
    if (problem !== null) obstacle = `${problem.charAt(0).toLowerCase()}${problem.slice(1)} (${what})`;
    else if (fileOffset >= storage.size) obstacle = `${what} is said to lie beyond the end of the file`;
    else if (!take(fileOffset, isBitmap ? BITMAP_BYTES : facts.blockSize))
      obstacle = `${what} lies over something else`;
  }, options);
  return { room: new VhdxRoom(used, end, facts.blockSize), obstacle };
}
