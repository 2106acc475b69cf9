/**
 * The blocks of a dynamic or differencing VHD image: the block allocation table (BAT), a sector bitmap before each block, and
 * the footer behind the last one.
 *
 * A dynamic image stores whole blocks: all bits of a new one are set. A differencing image stores the sectors that were
 * written, and shows its parent in the others.
 *
 * Order of writes when a block gets a place, each step durable before the next:
 *   1. a footer behind the room that is used from now on: the last one lies where the next block goes;
 *   2. the data, and the bitmaps of new blocks (stage);
 *   3. BAT entries, and bits of blocks that were there (publish).
 * Room is taken for many blocks at a time. At the end of a session the footer moves behind the last block, and the rest is
 * cut off.
 */
import { alignDown, alignUp, SECTOR } from '../../binary/numbers.ts';
import { type BlockEntries, BlockMap, type MapScan, scanMap } from '../../blocks/block-map.ts';
import type { ChangeGuard } from '../../blocks/guarded.ts';
import { EntryTable, U32_BIG } from '../../blocks/table.ts';
import { assert, isImageError } from '../../errors.ts';
import type { Mapping, MetaWrite, Relocation, WriteSlot } from '../../image/contract.ts';
import { isPromise, type MaybePromise, type OperationOptions, type Storage } from '../../storage/contract.ts';
import { SectorBitmaps } from './bitmaps.ts';
import type { Footers } from './footers.ts';
import { isInSurplus, metadataEndBefore, overlaps, type VhdLayout, withoutSurplus } from './header.ts';
import { BAT_UNUSED } from './layout.ts';

/** Blocks that room is taken for at first; twice as many each time, up to the most. */
const GROWTH = { first: 32, most: 1024 } as const;
/** The last sector that a BAT entry can name. */
const LAST_SECTOR = BAT_UNUSED - 1;

/** Parts of the blocks of an image. */
export interface VhdBlocksParts {
  readonly storage: Storage;
  readonly layout: VhdLayout;
  readonly virtualSize: number;
  /** A parent shows through where nothing is stored. */
  readonly differencing: boolean;
  readonly guard: ChangeGuard;
  /** Null: the image is only read. */
  readonly scan: MapScan | null;
  readonly footers: Footers;
}

/**
 * A block that gets a place: several writers may fill parts of it. It has a bitmap once the first of them has written: until
 * then a flush must not touch its place, where the footer may still be.
 */
interface PendingBlock {
  readonly slot: WriteSlot;
  users: number;
  isCommitted: boolean;
}

/** The table before the first write. */
export interface VhdScan extends MapScan {
  /** File offset of the first slot. */
  readonly dataOffset: number;
  /** The layout as the blocks leave it. */
  readonly layout: VhdLayout;
}

/**
 * First file offset where a slot can begin, such that those in use are slots. Without any, those of a child begin at the
 * footer, so that room for the names of a parent stays; those of a base image follow the metadata. There QEMU puts its first
 * block, and what lies between it and the footer would be data of that block.
 */
function firstSlot(layout: VhdLayout, lowest: number): number {
  const front = metadataEndBefore(layout, lowest);
  if (lowest < front) return front;
  return front + ((alignDown(lowest, SECTOR) - front) % (layout.bitmapBytes + layout.blockSize));
}

/** Reads the whole table before the first write. */
export async function scanBlocks(
  storage: Storage,
  declared: VhdLayout,
  {
    virtualSize,
    footerOffset,
    differencing,
  }: { readonly virtualSize: number; readonly footerOffset: number | null; readonly differencing: boolean },
  options: OperationOptions = {},
): Promise<VhdScan> {
  const table = tableOf(storage, declared);
  const slotBytes = declared.bitmapBytes + declared.blockSize;
  let lowest = Number.POSITIVE_INFINITY;
  let hasSurplus = true;
  await table.scan((entry) => {
    if (entry === BAT_UNUSED) return;
    lowest = Math.min(lowest, entry * SECTOR);
    hasSurplus &&= !isInSurplus(declared, entry * SECTOR, slotBytes);
  }, options);
  const layout = hasSurplus ? declared : withoutSurplus(declared);
  const first = (differencing ? footerOffset : null) ?? metadataEndBefore(layout);
  const dataOffset = firstSlot(layout, Number.isFinite(lowest) ? lowest : first);
  const parts = { storage, table, entries: entriesOf(layout), layout: mapLayout(layout, virtualSize, dataOffset) };
  const scan = await scanMap(parts, options);
  return { ...scan, layout, dataOffset, obstacle: scan.obstacle ?? reserveMetadata(scan, layout, dataOffset) };
}

/** Keeps blocks away from metadata that lies behind the first one. Returns the reason why none may be written, or null. */
function reserveMetadata({ allocator }: MapScan, layout: VhdLayout, dataOffset: number): string | null {
  const slotBytes = layout.bitmapBytes + layout.blockSize;
  const taken = new Set<number>();
  for (const { fileOffset, length } of layout.places) {
    const first = Math.max(Math.floor((fileOffset - dataOffset) / slotBytes), 0);
    for (let slot = first; dataOffset + slot * slotBytes < fileOffset + length; slot++) {
      if (taken.has(slot)) continue;
      taken.add(slot);
      if (!allocator.reserve(slot)) return 'its block map points at metadata';
    }
  }
  return null;
}

function tableOf(storage: Storage, { tableOffset, blockCount }: VhdLayout): EntryTable {
  return new EntryTable({ storage, fileOffset: tableOffset, count: blockCount, form: U32_BIG });
}

function entriesOf({ places, bitmapBytes, blockSize }: VhdLayout): BlockEntries {
  const end = metadataEndBefore({ places });
  const isMetadata = (entry: number): boolean =>
    entry * SECTOR < end && places.some((place) => overlaps(place, entry * SECTOR, bitmapBytes + blockSize));
  return {
    kindOf: (entry) => (entry === BAT_UNUSED ? 'absent' : 'data'),
    slotOffset: (entry) => entry * SECTOR,
    entryAt: (fileOffset) => fileOffset / SECTOR,
    problem: (entry) => (isMetadata(entry) ? 'A block is said to lie among the metadata' : null),
    zero: null,
    absent: BAT_UNUSED,
  };
}

function mapLayout({ blockSize, bitmapBytes }: VhdLayout, virtualSize: number, dataOffset: number) {
  return { virtualSize, blockSize, dataOffset, leadBytes: bitmapBytes, slotsEnd: LAST_SECTOR * SECTOR };
}

/** See the head of this file. */
export class VhdBlocks {
  readonly #parts: VhdBlocksParts & { readonly dataOffset: number };
  readonly #map: BlockMap;
  readonly #bitmaps: SectorBitmaps;
  readonly #pending = new Map<number, PendingBlock>();
  /** End of the room for blocks: where the footer is. */
  #roomEnd: number;
  #growing: Promise<void> | null = null;
  #growth: number = GROWTH.first;
  #freshFrom: number;

  constructor(parts: VhdBlocksParts & { readonly dataOffset: number }) {
    this.#parts = parts;
    const { storage, layout, virtualSize, scan, guard, dataOffset } = parts;
    const { fileOffset } = parts.footers;
    this.#bitmaps = new SectorBitmaps(storage, layout.bitmapBytes);
    this.#roomEnd = fileOffset === null ? 0 : alignDown(fileOffset, SECTOR);
    this.#freshFrom = this.#freshAfter(fileOffset ?? storage.size, dataOffset);
    this.#map = new BlockMap({
      storage,
      table: tableOf(storage, layout),
      entries: entriesOf(layout),
      layout: mapLayout(layout, virtualSize, dataOffset),
      allocator: scan?.allocator ?? null,
      guard,
      tableOffset: layout.tableOffset,
      freshFrom: () => this.#freshFrom,
    });
  }

  get map(): BlockMap {
    return this.#map;
  }

  get dirtyBytes(): number {
    return this.#map.dirtyBytes + this.#bitmaps.dirtyBytes;
  }

  /** See `Image.map`. */
  locate(guestOffset: number, length: number): MaybePromise<Mapping> {
    const found = this.#map.map(guestOffset, length);
    return isPromise(found)
      ? found.then((one) => this.#bySectors(guestOffset, one))
      : this.#bySectors(guestOffset, found);
  }

  /** See `Image.prepareWrite`. */
  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    return this.#parts.differencing
      ? this.#prepareSectors(guestOffset, length)
      : this.#prepareBlock(guestOffset, length);
  }

  unmap(guestOffset: number, length: number): MaybePromise<void> {
    return this.#map.unmap(guestOffset, length, 'absent');
  }

  /** New space for a block, with the bitmap that it has. */
  async relocate(guestOffset: number): Promise<Relocation | null> {
    const mapping = await this.#map.map(guestOffset, 1);
    const slot = await this.#map.relocate(guestOffset);
    if (slot === null || mapping.kind !== 'data') return null;
    const { bitmapBytes } = this.#parts.layout;
    const bits = await this.#bitmaps.read(mapping.fileOffset - bitmapBytes);
    return {
      ...slot,
      from: mapping,
      commit: () => {
        this.#bitmaps.copy(bits, slot.fileOffset - bitmapBytes);
        slot.commit();
      },
    };
  }

  seal(): { readonly stage: readonly MetaWrite[]; readonly publish: readonly MetaWrite[] } {
    const { fresh, others } = this.#bitmaps.seal();
    return { stage: fresh, publish: [...others, ...this.#map.seal()] };
  }

  settle(ok: boolean): void {
    this.#bitmaps.settle();
    this.#map.settle(ok);
  }

  /**
   * Moves the footer behind the last block, durably, and cuts off what follows. Everything must be flushed. A failure leaves
   * the footer that was there, so the image can be changed further.
   */
  async pack(): Promise<void> {
    const { storage, footers } = this.#parts;
    const end = this.#blocksEnd();
    if (footers.fileOffset === end && storage.size === end + SECTOR) return;
    await this.#orFail(async () => {
      if (footers.fileOffset !== end) await footers.move(end);
      await storage.resize(end + SECTOR);
      await storage.flush();
    });
    this.#roomEnd = end;
    this.#growth = GROWTH.first;
    this.#freshFrom = this.#freshAfter(end, end);
  }

  /** A place for the footer: where it is, or behind everything where it is missing or lies in a block. */
  footerPlace(): number {
    const { storage, footers } = this.#parts;
    const { fileOffset } = footers;
    const end = this.#blocksEnd();
    if (fileOffset !== null && fileOffset % SECTOR === 0 && fileOffset >= end) return fileOffset;
    return Math.max(end, alignUp(storage.size, SECTOR));
  }

  #blocksEnd(): number {
    return Math.max(this.#map.trim().fileEnd, metadataEndBefore(this.#parts.layout));
  }

  /** Writes the footer at the end at a place that may be another, durably. */
  moveFooter(fileOffset: number): Promise<void> {
    return this.#footerAt(fileOffset);
  }

  /** First byte that a block may take. */
  get firstBlock(): number {
    return this.#parts.dataOffset;
  }

  /** A slot over the footer begins with it: the bitmap replaces it. */
  #freshAfter(footerOffset: number, dataOffset: number): number {
    const { bitmapBytes, blockSize } = this.#parts.layout;
    return (footerOffset - dataOffset) % (bitmapBytes + blockSize) === 0 ? footerOffset : footerOffset + SECTOR;
  }

  #bySectors(guestOffset: number, mapping: Mapping): MaybePromise<Mapping> {
    if (mapping.kind !== 'data') return mapping;
    const { blockSize, bitmapBytes } = this.#parts.layout;
    const inBlock = guestOffset % blockSize;
    const bitmap = mapping.fileOffset - inBlock - bitmapBytes;
    const last = Math.ceil((inBlock + mapping.length) / SECTOR);
    const run = this.#bitmaps.run(bitmap, Math.floor(inBlock / SECTOR), last);
    const cut = ({ stored, end }: { readonly stored: boolean; readonly end: number }): Mapping => {
      const length = Math.min(end * SECTOR - inBlock, mapping.length);
      if (stored) return { ...mapping, length };
      // Sectors of a dynamic image that were never written read zero, whatever is stored there.
      return this.#parts.differencing ? { kind: 'absent', length } : { kind: 'encoded', length, zero: true };
    };
    return isPromise(run) ? run.then(cut) : cut(run);
  }

  #prepareBlock(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    const { bitmapBytes } = this.#parts.layout;
    const withBitmap = (slot: WriteSlot): MaybePromise<WriteSlot> => {
      const bitmap = slot.fileOffset - bitmapBytes;
      const ready: WriteSlot = {
        ...slot,
        commit: () => {
          this.#bitmaps.create(bitmap, true);
          slot.commit();
        },
      };
      return this.#withRoom(slot, ready);
    };
    const slot = this.#map.prepareWrite(guestOffset, length);
    return isPromise(slot) ? slot.then(withBitmap) : withBitmap(slot);
  }

  #prepareSectors(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    const found = this.#map.map(guestOffset, length);
    if (isPromise(found)) return found.then(() => this.#prepareSectors(guestOffset, length));
    const { blockSize } = this.#parts.layout;
    const start = alignDown(guestOffset, SECTOR);
    const blockEnd = alignDown(guestOffset, blockSize) + blockSize;
    const end = Math.min(alignUp(guestOffset + length, SECTOR), blockEnd);
    return found.kind === 'data'
      ? this.#sectorsAt(found.fileOffset - (guestOffset - start), start, end)
      : this.#sectorsOfPending(start, end);
  }

  /** Space for single sectors of a block that has no place yet. */
  #sectorsOfPending(start: number, end: number): MaybePromise<WriteSlot> {
    const { storage, layout } = this.#parts;
    const inBlock = start % layout.blockSize;
    const blockStart = start - inBlock;
    const pending = this.#pending.get(blockStart) ?? this.#beginBlock(blockStart);
    pending.users++;
    const [first, last] = [inBlock / SECTOR, (inBlock + (end - start)) / SECTOR];
    return this.#withRoom(pending.slot, {
      storage,
      fileOffset: pending.slot.fileOffset + inBlock,
      length: end - start,
      guestOffset: start,
      readsZero: false,
      commit: () => this.#commitPending(blockStart, pending, first, last),
      abort: () => this.#endPending(blockStart, pending),
    });
  }

  /** The entry of the block was just looked at, so it is in memory. */
  #beginBlock(blockStart: number): PendingBlock {
    const slot = this.#map.prepareWrite(blockStart, this.#parts.layout.blockSize);
    assert(!isPromise(slot), 'the entry of the block is in memory');
    const pending: PendingBlock = { slot, users: 0, isCommitted: false };
    this.#pending.set(blockStart, pending);
    return pending;
  }

  /** The first writer makes the block a part of the disk. */
  #commitPending(blockStart: number, pending: PendingBlock, first: number, last: number): void {
    const bitmap = this.#bitmapOf(pending);
    if (!pending.isCommitted) {
      pending.isCommitted = true;
      this.#pending.delete(blockStart);
      this.#bitmaps.create(bitmap, false);
      // The others find it in memory, however long they take.
      for (let user = 0; user < pending.users; user++) this.#bitmaps.keep(bitmap);
      pending.slot.commit();
    }
    this.#bitmaps.set(bitmap, first, last);
    this.#endPending(blockStart, pending);
  }

  #endPending(blockStart: number, pending: PendingBlock): void {
    pending.users--;
    if (pending.isCommitted) {
      this.#bitmaps.release(this.#bitmapOf(pending));
    } else if (pending.users === 0) {
      this.#pending.delete(blockStart);
      pending.slot.abort();
    }
  }

  #bitmapOf({ slot }: PendingBlock): number {
    return slot.fileOffset - this.#parts.layout.bitmapBytes;
  }

  /** Space for single sectors of a block, from `fileOffset` on; their bits are set when they are written. */
  #sectorsAt(fileOffset: number, start: number, end: number): MaybePromise<WriteSlot> {
    const { storage, layout } = this.#parts;
    const inBlock = start % layout.blockSize;
    const bitmap = fileOffset - inBlock - layout.bitmapBytes;
    const [first, last] = [inBlock / SECTOR, (inBlock + (end - start)) / SECTOR];
    const slot: WriteSlot = {
      storage,
      fileOffset,
      length: end - start,
      guestOffset: start,
      readsZero: false,
      commit: () => {
        this.#bitmaps.set(bitmap, first, last);
        this.#bitmaps.unpin(bitmap, first, last);
      },
      abort: () => this.#bitmaps.unpin(bitmap, first, last),
    };
    const pinned = this.#bitmaps.pin(bitmap, first, last);
    return isPromise(pinned) ? pinned.then(() => slot) : slot;
  }

  /** The slot, once there is a footer behind its block. */
  #withRoom(block: WriteSlot, ready: WriteSlot): MaybePromise<WriteSlot> {
    const end = block.fileOffset + this.#parts.layout.blockSize;
    if (end <= this.#roomEnd) return ready;
    return this.#grow(end).then(
      () => ready,
      (error: unknown) => {
        ready.abort();
        throw error;
      },
    );
  }

  async #grow(end: number): Promise<void> {
    while (end > this.#roomEnd) {
      this.#growing ??= this.#growTo(end).finally(() => {
        this.#growing = null;
      });
      await this.#growing;
    }
  }

  async #growTo(end: number): Promise<void> {
    const { layout, virtualSize } = this.#parts;
    const slot = layout.bitmapBytes + layout.blockSize;
    const left = Math.ceil(virtualSize / layout.blockSize) - this.#map.slots.used;
    const more = Math.max(Math.min(this.#growth - 1, left), 0);
    this.#growth = Math.min(this.#growth * 2, GROWTH.most);
    const most = alignDown(LAST_SECTOR * SECTOR - end, slot);
    const { footers } = this.#parts;
    await this.#orFail(() => footers.moveAway(end + Math.min(more * slot, Math.max(most, 0)), end));
    this.#roomEnd = footers.fileOffset ?? end;
  }

  /** A medium that is full takes other changes; after any other failure its state is not known. */
  async #orFail(change: () => Promise<void>): Promise<void> {
    try {
      await change();
    } catch (error) {
      if (!isImageError(error) || error.kind !== 'no-space') this.#parts.guard.fail();
      throw error;
    }
  }

  async #footerAt(fileOffset: number): Promise<void> {
    await this.#parts.footers.move(fileOffset);
    this.#roomEnd = fileOffset;
  }
}
