/**
 * One-level maps: the file holds blocks of one size in slots, and a table names the slot of each block.
 *
 * A format describes its entries (`BlockEntries`) and keeps its header; the rest of such a map is here: runs of
 * neighbours, room for new blocks, discarding blocks, and shrinking the file. Slots are handed out and given up
 * as slot-allocator.ts describes. A flush of the format must make the payload durable, and what counts slots, before it
 * publishes the sectors of `seal`.
 */
import { SparseBitSet } from '../binary/bits.ts';
import { divCeil } from '../binary/numbers.ts';
import { assert, ImageError, withContext } from '../errors.ts';
import type { Mapping, MetaWrite, WriteSlot } from '../image/contract.ts';
import type { MaybePromise, OperationOptions, Storage } from '../storage/contract.ts';
import { Turns } from '../storage/turns.ts';
import { type ChangeGuard, imageReadOnly } from './guarded.ts';
import { SlotAllocator, type SlotPolicy, type SlotRun } from './slot-allocator.ts';
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

/** Parts of a map. */
export interface BlockMapParts {
  readonly storage: Storage;
  readonly table: EntryTable;
  readonly entries: BlockEntries;
  readonly layout: BlockLayout;
  /** Null: the image is only read. */
  readonly allocator: SlotAllocator | null;
  readonly guard: ChangeGuard;
  /** File offset of entry 0, for errors. */
  readonly tableOffset: number;
  /** Room behind the end of the file counts as zero, where the storage grows so. Default true. */
  readonly growsZeroed?: boolean | undefined;
}

/** Result of a scan of the whole map. */
export interface MapScan {
  readonly allocator: SlotAllocator;
  /** Reason why the image must not be written, or null. */
  readonly obstacle: string | null;
}

/** Reads the whole map once, in pieces, before the first write: which slots are in use, and whether writing is safe. */
export async function scanMap(
  { storage, table, entries, layout }: Pick<BlockMapParts, 'storage' | 'table' | 'entries' | 'layout'>,
  { appendOnly, ...options }: OperationOptions & SlotPolicy = {},
): Promise<MapScan> {
  const { dataOffset } = layout;
  const slotBytes = slotBytesOf(layout);
  const used = new SparseBitSet();
  let end = 0;
  let obstacle: string | null = null;
  await table.scan((entry, index) => {
    if (obstacle !== null || entries.kindOf(entry) !== 'data') return;
    const fileOffset = entries.slotOffset(entry);
    const slot = (fileOffset - dataOffset) / slotBytes;
    if (fileOffset >= storage.size) {
      obstacle = `entry ${index} of its block map points beyond the end of the file`;
    } else if (!Number.isInteger(slot) || slot < 0) {
      obstacle = `entry ${index} of its block map points where no block can be`;
    } else if (!used.add(slot)) {
      obstacle = `entry ${index} of its block map points at a block that another entry uses too`;
    }
    end = Math.max(end, slot + 1);
  }, options);
  return { allocator: new SlotAllocator(used, end, { appendOnly }), obstacle };
}

/** See the head of this file. */
export class BlockMap {
  readonly #storage: Storage;
  readonly #table: EntryTable;
  readonly #entries: BlockEntries;
  readonly #layout: BlockLayout;
  readonly #allocator: SlotAllocator | null;
  readonly #guard: ChangeGuard;
  readonly #tableOffset: number;
  readonly #growsZeroed: boolean;
  readonly #slotBytes: number;
  /** Difference between the entries of blocks that are neighbours in the file; 0: none are. */
  readonly #step: number;

  constructor(parts: BlockMapParts) {
    const { layout, entries } = parts;
    this.#storage = parts.storage;
    this.#table = parts.table;
    this.#entries = entries;
    this.#layout = layout;
    this.#allocator = parts.allocator;
    this.#guard = parts.guard;
    this.#tableOffset = parts.tableOffset;
    this.#growsZeroed = (parts.growsZeroed ?? true) && parts.storage.can.growsZeroed;
    this.#slotBytes = slotBytesOf(layout);
    const apart = layout.leadBytes !== 0;
    this.#step = apart ? 0 : entries.entryAt(layout.dataOffset + this.#slotBytes) - entries.entryAt(layout.dataOffset);
  }

  /** Slots of an image that is written. Throws `io` after a failure, `read-only`. */
  get slots(): SlotAllocator {
    this.#guard.check();
    if (this.#allocator === null) throw imageReadOnly(this.#storage.label);
    return this.#allocator;
  }

  /** True when the image was opened for writing and can be. */
  get isWritten(): boolean {
    return this.#allocator !== null;
  }

  /** Throws when no block may be changed, as `slots` does. */
  checkWritable(): void {
    this.#guard.check();
    if (this.#allocator === null) throw imageReadOnly(this.#storage.label);
  }

  /** One more than the highest slot that a block may stand in; 0 when the image is only read. */
  get committedEnd(): number {
    return this.#allocator?.committedEnd ?? 0;
  }

  get dirtyBytes(): number {
    return this.#table.dirtyBytes;
  }

  /** Bytes of holes that compacting can give back. */
  get reclaimable(): number {
    return (this.#allocator?.holes ?? 0) * this.#slotBytes;
  }

  /** The entries that the next flush publishes. */
  seal(): MetaWrite[] {
    this.slots.seal();
    return this.#table.seal();
  }

  /** The flush ended. */
  settle(ok: boolean): void {
    this.#table.settle();
    if (ok) this.#allocator?.settle();
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

  /** See `Image.prepareWrite`. */
  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    const { blockSize } = this.#layout;
    const first = Math.floor(guestOffset / blockSize);
    if (this.#table.get(first) === undefined) {
      return this.#table.load(first).then(() => this.prepareWrite(guestOffset, length));
    }
    const wanted = divCeil(guestOffset + length, blockSize) - first;
    const contiguous = this.#step === 0 ? 1 : Math.min(wanted, this.#table.pageRest(first));
    return this.#slot(first, this.slots, this.#take(contiguous, guestOffset));
  }

  /** See `Image.unmap`. The slot of a discarded block is reused once the map without it is durable. */
  unmap(guestOffset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    const { blockSize, virtualSize } = this.#layout;
    assert(guestOffset % blockSize === 0, 'whole units are unmapped');
    const { slots } = this;
    const { zero, absent } = this.#entries;
    const marker = to === 'zero' && zero !== null ? zero : absent;
    const last = divCeil(Math.min(guestOffset + length, virtualSize), blockSize);
    for (let index = guestOffset / blockSize; index < last; ) {
      const entry = this.#table.get(index);
      if (entry === undefined) {
        const at = index * blockSize;
        return this.#table.load(index).then(() => this.unmap(at, guestOffset + length - at, to));
      }
      if (this.#entries.kindOf(entry) === 'data') slots.pin(this.#slotOf(entry));
      const next = entry === marker ? this.#table.sameUntil(index) : index + 1;
      if (entry !== marker) this.#table.set(index, marker);
      index = next;
    }
    return undefined;
  }

  /** Blocks whose slots lie where a packed image has none: see `Image.movable`. */
  async *movable({ signal }: OperationOptions = {}): AsyncGenerator<number> {
    const turns = new Turns(signal, 'Compacting');
    const packed = this.slots.used;
    const { blockSize, virtualSize } = this.#layout;
    // Entries behind those of the disk keep their slots: what they hold cannot be reached.
    for (let index = 0; index * blockSize < virtualSize; index = this.#table.sameUntil(index)) {
      const turn = turns.take();
      if (turn !== undefined) await turn;
      let entry = this.#table.get(index);
      if (entry === undefined) {
        await this.#table.load(index);
        entry = this.#table.get(index) ?? this.#entries.absent;
      }
      if (this.#entries.kindOf(entry) === 'data' && this.#slotOf(entry) >= packed) yield index * blockSize;
    }
  }

  /** The lowest hole, for a block listed by `movable`. Its old slot is pinned when the new one is committed. */
  relocate(guestOffset: number): MaybePromise<WriteSlot | null> {
    const index = Math.floor(guestOffset / this.#layout.blockSize);
    const entry = this.#table.get(index);
    if (entry === undefined) return this.#table.load(index).then(() => this.relocate(guestOffset));
    const { slots } = this;
    if (this.#entries.kindOf(entry) !== 'data' || slots.fillable === 0) return null;
    const slot = this.#slot(index, slots, slots.take(1));
    return {
      ...slot,
      commit: () => {
        slot.commit();
        slots.pin(this.#slotOf(entry));
      },
    };
  }

  /** Forgets holes at the end. Returns how many slots are left, and the file offset where the last one ends. */
  trim(): { readonly slots: number; readonly fileEnd: number } {
    const slots = this.slots.trim();
    return { slots, fileEnd: this.#layout.dataOffset + slots * this.#slotBytes };
  }

  /** Slots of all blocks that hold data, in the order of the file. As the medium has them, so flush first. */
  async *blocks(): AsyncGenerator<{ readonly guestOffset: number; readonly fileOffset: number }> {
    const owners: { fileOffset: number; index: number }[] = [];
    await this.#table.scan((entry, index) => {
      if (this.#entries.kindOf(entry) === 'data') owners.push({ fileOffset: this.#entries.slotOffset(entry), index });
    });
    owners.sort((a, b) => a.fileOffset - b.fileOffset);
    for (const { fileOffset, index } of owners) yield { guestOffset: index * this.#layout.blockSize, fileOffset };
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
    let next = this.#table.sameUntil(index);
    while (next * blockSize < end && this.#table.get(next) === entry) next = this.#table.sameUntil(next);
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
      writable: this.#allocator !== null && !this.#guard.failed,
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

  #slotOf(entry: number): number {
    return (this.#entries.slotOffset(entry) - this.#layout.dataOffset) / this.#slotBytes;
  }

  /** Takes slots that entries can name. Throws `no-space` if there are none. */
  #take(wanted: number, guestOffset: number): SlotRun {
    const { dataOffset, slotsEnd = Number.POSITIVE_INFINITY } = this.#layout;
    const { slots } = this;
    const fits = ({ first, count }: SlotRun): boolean => dataOffset + (first + count) * this.#slotBytes <= slotsEnd;
    let run = slots.take(wanted);
    if (fits(run)) return run;
    slots.giveBack(run);
    // What is left of a longer run may fit.
    run = slots.take(1);
    if (fits(run)) return run;
    slots.giveBack(run);
    throw new ImageError('no-space', 'The file is as long as its block map can address', {
      path: this.#storage.label,
      guestOffset,
      found: `${slots.used} blocks in use`,
      expected: `blocks that end at or before ${slotsEnd}`,
      hint: 'Compact the image, or convert it into one of another variant or format.',
    });
  }

  #slot(first: number, slots: SlotAllocator, run: SlotRun): WriteSlot {
    const { blockSize, leadBytes, dataOffset } = this.#layout;
    const start = dataOffset + run.first * this.#slotBytes;
    this.#table.pin(first);
    let open = true;
    const finish = (): void => {
      assert(open, 'a slot ends once');
      open = false;
      this.#table.unpin(first);
    };
    return {
      storage: this.#storage,
      fileOffset: start + leadBytes,
      length: run.count * blockSize,
      guestOffset: first * blockSize,
      readsZero: !run.recycled && start >= this.#storage.size && this.#growsZeroed,
      commit: () => {
        const entry = this.#entries.entryAt(start);
        for (let n = 0; n < run.count; n++) this.#table.set(first + n, entry + n * this.#step);
        slots.committed(run);
        finish();
      },
      abort: () => {
        slots.giveBack(run);
        finish();
      },
    };
  }
}

function slotBytesOf({ blockSize, leadBytes }: BlockLayout): number {
  return leadBytes + blockSize;
}
