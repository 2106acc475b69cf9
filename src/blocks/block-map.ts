/**
 * One-level maps: the file holds blocks of one size in slots, and a table names the slot of each block.
 *
 * A format describes its entries (`BlockEntries`) and keeps its header; the rest of such a map is here: room for new
 * blocks, discarding blocks, and shrinking the file. Reading it is in block-reader.ts. Slots are handed out and given up
 * as slot-allocator.ts describes. A flush of the format must make the payload durable, and what counts slots, before it
 * publishes the sectors of `seal`.
 */
import { SparseBitSet } from '../binary/bits.ts';
import { divCeil } from '../binary/numbers.ts';
import { assert, ImageError } from '../errors.ts';
import type { Mapping, MetaWrite, WriteSlot } from '../image/contract.ts';
import type { MaybePromise, OperationOptions, Storage } from '../storage/contract.ts';
import { Turns } from '../storage/turns.ts';
import {
  type BlockEntries,
  type BlockLayout,
  type BlockMapParts,
  BlockReader,
  type BlockRoom,
  type BlockTable,
  entryStep,
  slotBytesOf,
} from './block-reader.ts';
import { type ChangeGuard, imageReadOnly } from './guarded.ts';
import { SlotAllocator, type SlotPolicy, type SlotRun } from './slot-allocator.ts';
import type { ScanOptions } from './table.ts';

export type { BlockEntries, BlockKind, BlockLayout, BlockMapParts } from './block-reader.ts';

/** Result of a scan of the whole map. */
export interface MapScan {
  readonly allocator: SlotAllocator;
  /** Reason why the image must not be written, or null. */
  readonly obstacle: string | null;
}

/** Reads the whole map once, in pieces, before the first write: which slots are in use, and whether writing is safe. */
export async function scanMap(
  { storage, table, entries, layout }: Pick<BlockMapParts, 'storage' | 'table' | 'entries' | 'layout'>,
  { appendOnly, ...options }: ScanOptions & SlotPolicy = {},
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
export class BlockMap<Room extends BlockRoom = SlotAllocator> {
  readonly #storage: Storage;
  readonly #table: BlockTable;
  readonly #entries: BlockEntries;
  readonly #layout: BlockLayout;
  readonly #allocator: Room | null;
  readonly #guard: ChangeGuard;
  readonly #reader: BlockReader;
  readonly #growsZeroed: boolean;
  readonly #freshFrom: () => number;
  readonly #slotBytes: number;
  readonly #step: number;

  constructor(parts: BlockMapParts<Room>) {
    const { layout, entries } = parts;
    this.#reader = new BlockReader(parts);
    this.#storage = parts.storage;
    this.#table = parts.table;
    this.#entries = entries;
    this.#layout = layout;
    this.#allocator = parts.allocator;
    this.#guard = parts.guard;
    this.#growsZeroed = (parts.growsZeroed ?? true) && parts.storage.can.growsZeroed;
    this.#freshFrom = parts.freshFrom ?? (() => parts.storage.size);
    this.#slotBytes = slotBytesOf(layout);
    this.#step = entryStep(parts);
  }

  /** Slots of an image that is written. Throws `io` after a failure, `read-only`. */
  get slots(): Room {
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
    return this.#reader.map(guestOffset, length);
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

  #slot(first: number, slots: Room, run: SlotRun): WriteSlot {
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
      readsZero: !run.recycled && start >= this.#freshFrom() && this.#growsZeroed,
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
