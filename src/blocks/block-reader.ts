/**
 * One-level maps as readers need them: where each block lies, in runs of neighbours. What changes a map is in
 * block-map.ts, which a program loads with the first image that it writes.
 */
import { assert, ImageError, withContext } from '../errors.ts';
import type { Mapping } from '../image/contract.ts';
import type { MaybePromise, Storage } from '../storage/contract.ts';
import type { ChangeGuard } from './guarded.ts';
import type { SlotAllocator } from './slot-allocator.ts';
import type { EntryTable } from './table.ts';

/** State of a block. */
export type BlockKind = 'data' | 'zero' | 'absent';

/** Meaning of the entries of a map. */
export interface BlockEntries {
  kindOf(entry: number): BlockKind;
  /** File offset of the slot that an entry of kind `data` names. */
  slotOffset(entry: number): number;
  /** The entry for a block whose slot begins at that file offset. */
  entryAt(fileOffset: number): number;
  /** The reason why an entry of kind `data` can be none; null: it can be one. Default: all can. */
  problem?(entry: number): string | null;
  /** Entries for blocks without a slot. `zero`: null where the format cannot mark a block as zero. */
  readonly zero: number | null;
  readonly absent: number;
}

/** Sizes of an image with a one-level map. */
export interface BlockLayout {
  readonly virtualSize: number;
  /** Guest bytes of a block. */
  readonly blockSize: number;
  /** File offset of the first slot. */
  readonly dataOffset: number;
  /** Bytes at the start of each slot that hold no guest data: private bytes, a sector bitmap. */
  readonly leadBytes: number;
  /** The file may end inside its last slot: what is missing of it reads zero. Default false. */
  readonly shortLast?: boolean | undefined;
  /** Slots end at or before this file offset: entries cannot name those behind it. Default: there is no bound. */
  readonly slotsEnd?: number | undefined;
}

/** The table of a map, by the number of the block. */
export type BlockTable = Pick<
  EntryTable,
  | 'entryBytes'
  | 'dirtyBytes'
  | 'get'
  | 'load'
  | 'pageRest'
  | 'sameUntil'
  | 'pin'
  | 'unpin'
  | 'set'
  | 'seal'
  | 'settle'
  | 'scan'
>;

/**
 * The room of a map. Slots may begin anywhere: they count from the data offset in lengths of a slot, in parts of one where a
 * format keeps other things between its blocks.
 */
export type BlockRoom = Pick<
  SlotAllocator,
  | 'committedEnd'
  | 'used'
  | 'holes'
  | 'fillable'
  | 'take'
  | 'giveBack'
  | 'committed'
  | 'pin'
  | 'seal'
  | 'settle'
  | 'trim'
>;

/** Parts of a map. */
export interface BlockMapParts<Room extends BlockRoom = SlotAllocator> {
  readonly storage: Storage;
  readonly table: BlockTable;
  readonly entries: BlockEntries;
  readonly layout: BlockLayout;
  /** Null: the image is only read. */
  readonly allocator: Room | null;
  readonly guard: ChangeGuard;
  /** File offset of entry 0, for errors. */
  readonly tableOffset: number;
  /** Room behind the end of the file counts as zero, where the storage grows so. Default true. */
  readonly growsZeroed?: boolean | undefined;
  /** Slots from this file offset on were never written. Default: the end of the file. */
  readonly freshFrom?: (() => number) | undefined;
}

/** Bytes from one slot to the next. */
export function slotBytesOf({ blockSize, leadBytes }: BlockLayout): number {
  return leadBytes + blockSize;
}

/** Difference between the entries of blocks that are neighbours in the file; 0: none are. */
export function entryStep({ layout, entries }: Pick<BlockMapParts, 'layout' | 'entries'>): number {
  if (layout.leadBytes !== 0) return 0;
  return entries.entryAt(layout.dataOffset + slotBytesOf(layout)) - entries.entryAt(layout.dataOffset);
}

/** See the head of this file. */
export class BlockReader {
  readonly #storage: Storage;
  readonly #table: BlockTable;
  readonly #entries: BlockEntries;
  readonly #layout: BlockLayout;
  readonly #guard: ChangeGuard;
  readonly #tableOffset: number;
  readonly #isWritten: boolean;
  readonly #step: number;

  constructor(parts: BlockMapParts<BlockRoom>) {
    this.#storage = parts.storage;
    this.#table = parts.table;
    this.#entries = parts.entries;
    this.#layout = parts.layout;
    this.#guard = parts.guard;
    this.#tableOffset = parts.tableOffset;
    this.#isWritten = parts.allocator !== null;
    this.#step = entryStep(parts);
  }

  /** See `Image.map`. */
  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    const { blockSize, virtualSize } = this.#layout;
    assert(guestOffset >= 0 && guestOffset < virtualSize && length > 0, 'the mapped range lies inside the disk');
    const index = Math.floor(guestOffset / blockSize);
    const entry = this.#table.get(index);
    if (entry === undefined) return this.#load(index, guestOffset).then(() => this.map(guestOffset, length));
    const end = Math.min(guestOffset + length, virtualSize);
    const kind = this.#entries.kindOf(entry);
    if (kind === 'data') return this.#dataRun(entry, index, guestOffset, end);
    return { kind, length: this.#runEnd(entry, index, end, 0) - guestOffset };
  }

  /** Loads the page of an entry; the error names the range that the page answers for. */
  #load(index: number, guestOffset: number): Promise<void> {
    return this.#table.load(index).catch((error: unknown) => {
      const end = (index + this.#table.pageRest(index)) * this.#layout.blockSize;
      throw withContext(error, { guestOffset, guestLength: end - guestOffset });
    });
  }

  /** End of the run of entries that begins at block `index` and changes by `step` per block. */
  #runEnd(entry: number, index: number, end: number, step: number): number {
    const { blockSize } = this.#layout;
    const { zero, absent } = this.#entries;
    if (step === 0) return this.#equalEnd(entry, index, end);
    let next = index + 1;
    let runEnd = next * blockSize;
    for (let wanted = entry + step; runEnd < end && this.#table.get(next) === wanted; wanted += step) {
      if (wanted === zero || wanted === absent) break;
      next++;
      runEnd += blockSize;
    }
    return Math.min(runEnd, end);
  }

  /** End of the run of equal entries that begins at block `index`. */
  #equalEnd(entry: number, index: number, end: number): number {
    const { blockSize } = this.#layout;
    const last = Math.ceil(end / blockSize);
    let next = this.#table.sameUntil(index, last);
    while (next < last && this.#table.get(next) === entry) next = this.#table.sameUntil(next, last);
    return Math.min(next * blockSize, end);
  }

  #dataRun(entry: number, index: number, guestOffset: number, end: number): Mapping {
    const { blockSize, leadBytes } = this.#layout;
    // Where blocks are kept apart in the file a run is one block.
    const runEnd =
      this.#step === 0 ? Math.min((index + 1) * blockSize, end) : this.#runEnd(entry, index, end, this.#step);
    const fileOffset = this.#entries.slotOffset(entry) + leadBytes + (guestOffset - index * blockSize);
    const problem = this.#entries.problem?.(entry) ?? null;
    if (problem !== null) throw this.#unusable(problem, index, guestOffset, end);
    const available = Math.max(this.#storage.size - fileOffset, 0);
    if (available === 0) {
      const isShort = this.#layout.shortLast === true && this.#entries.slotOffset(entry) < this.#storage.size;
      if (isShort) return { kind: 'zero', length: Math.min((index + 1) * blockSize, end) - guestOffset };
      throw this.#cutOff(index, guestOffset, end);
    }
    return {
      kind: 'data',
      storage: this.#storage,
      fileOffset,
      length: Math.min(runEnd - guestOffset, available),
      writable: this.#isWritten && !this.#guard.failed,
    };
  }

  #unusable(problem: string, index: number, guestOffset: number, end: number): ImageError {
    return new ImageError('corrupt', problem, {
      path: this.#storage.label,
      guestOffset,
      guestLength: Math.min((index + 1) * this.#layout.blockSize, end) - guestOffset,
      field: `block map entry ${index}`,
      hint: 'Other blocks can still be read (on the command line: convert --salvage).',
    });
  }

  #cutOff(index: number, guestOffset: number, end: number): ImageError {
    const entry = this.#table.get(index) ?? 0;
    return new ImageError('corrupt', 'The block map points beyond the end of the file: the image was cut off', {
      status: 'VERR_VD_READ_OUT_OF_RANGE',
      path: this.#storage.label,
      offset: this.#tableOffset + index * this.#table.entryBytes,
      guestOffset,
      guestLength: this.#missingEnd(index, end) - guestOffset,
      field: `block map entry ${index}`,
      found: `block ${entry} at ${this.#entries.slotOffset(entry)}`,
      expected: `less than the file size ${this.#storage.size}`,
      hint: 'Copy the image again from where it came from; blocks before the end can still be read (on the command line: convert --salvage).',
    });
  }

  /** End of the blocks from `index` on that lie beyond the end of the file. */
  #missingEnd(index: number, end: number): number {
    const { blockSize, leadBytes } = this.#layout;
    let next = index + 1;
    for (; next * blockSize < end; next++) {
      const entry = this.#table.get(next);
      if (entry === undefined || this.#entries.kindOf(entry) !== 'data') break;
      if (this.#entries.slotOffset(entry) + leadBytes < this.#storage.size) break;
    }
    return Math.min(next * blockSize, end);
  }
}
