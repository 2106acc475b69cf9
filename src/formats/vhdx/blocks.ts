/**
 * The blocks of a VHDX image that is written: the block allocation table (BAT), and in a differencing image the sector
 * bitmaps. Reading them is in reader.ts.
 *
 * A differencing image stores a block whole where all of it is written at once (state "fully present"), and otherwise the
 * sectors that were written ("partially present"), whose bits are set. Other images store whole blocks.
 *
 * Order of the pages of a flush, which the log keeps, such that any first part of them is consistent:
 *   1. where a partly stored block was given up and got another place since: the table without the new one, so that the
 *      bits of the new place never count for the old one;
 *   2. pages of sector bitmaps;
 *   3. pages of the table, the last one first: the entry of a bitmap follows those of its blocks.
 */
import { alignDown, alignUp, divCeil, SECTOR } from '../../binary/numbers.ts';
import { BlockMap } from '../../blocks/block-map.ts';
import { assert } from '../../errors.ts';
import type { Relocation, WriteSlot } from '../../image/contract.ts';
import { isPromise, type MaybePromise } from '../../storage/contract.ts';
import { BAT_ENTRY, entryFor, offsetOf, stateOf } from './bat.ts';
import { BITMAP_BYTES, PAGE, STATE } from './layout.ts';
import type { LogPage } from './log-entry.ts';
import { pagesOf } from './log-writer.ts';
import { type BlockBits, mapParts, type VhdxBlocksParts, type VhdxReader } from './reader.ts';
import type { VhdxRoom } from './room.ts';

/** A block that gets a place: several writers may fill parts of it. */
interface PendingBlock {
  readonly slot: WriteSlot;
  /** Entry of the block before. */
  readonly before: number;
  /** Null: the block is stored whole, and zero where nothing is written. */
  readonly bits: BlockBits | null;
  /** The file reaches to the end of the block. */
  readonly ready: Promise<void>;
  users: number;
}

/** Whole sectors of a block. */
interface SectorCut {
  readonly start: number;
  readonly end: number;
}

/** See the head of this file. */
export class VhdxBlocks {
  readonly map: BlockMap<VhdxRoom>;
  readonly #parts: VhdxBlocksParts;
  readonly #reader: VhdxReader;
  readonly #pending = new Map<number, PendingBlock>();
  /** New bitmaps by chunk, while they are made. */
  readonly #making = new Map<number, Promise<void>>();
  /** Partly stored blocks that were given up since the last seal. */
  #left = new Set<number>();
  /** Those among them whose bits were changed for a new place. */
  #again = new Set<number>();
  /** Blocks that became partly stored since the last seal, with the entries that they had. */
  #fresh = new Map<number, number>();

  constructor(parts: VhdxBlocksParts, reader: VhdxReader) {
    this.#parts = parts;
    this.#reader = reader;
    this.map = new BlockMap(mapParts(parts));
  }

  get dirtyBytes(): number {
    return this.map.dirtyBytes + this.#reader.bitmaps.dirtyBytes;
  }

  /** See `Image.prepareWrite`. */
  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    if (!this.#parts.facts.hasParent) return this.map.prepareWrite(guestOffset, length);
    const { blockSize } = this.#parts.facts;
    const found = this.map.map(guestOffset, length);
    if (isPromise(found)) return found.then(() => this.prepareWrite(guestOffset, length));
    if (found.kind === 'data') return this.#sectorsAt(found.fileOffset, guestOffset, length);
    const wholeEnd = this.#wholeEnd(guestOffset, length);
    if (wholeEnd > guestOffset) return this.map.prepareWrite(guestOffset, wholeEnd - guestOffset);
    const block = Math.floor(guestOffset / blockSize);
    if (found.kind === 'zero') return this.#sectorsOfZero(block, guestOffset, length);
    const bitmap = this.#bitmapOf(block);
    if (typeof bitmap !== 'number') return bitmap.then(() => this.prepareWrite(guestOffset, length));
    return this.#sectorsOfNew(block, guestOffset, length);
  }

  /** See `Image.unmap`. */
  unmap(guestOffset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    const { hasParent, blockSize } = this.#parts.facts;
    const { bat, virtualSize } = this.#parts;
    const last = divCeil(Math.min(guestOffset + length, virtualSize), blockSize);
    for (let block = guestOffset / blockSize; hasParent && block < last; block = bat.sameUntil(block)) {
      const entry = bat.get(block);
      if (entry === undefined) return bat.load(block).then(() => this.unmap(guestOffset, length, to));
      if (stateOf(entry) === STATE.partial) this.#left.add(block);
    }
    return this.map.unmap(guestOffset, length, to);
  }

  /** New space for a block, nearer the start of the file. Its bits stay what they are. */
  async relocate(guestOffset: number): Promise<Relocation | null> {
    const { bat, facts } = this.#parts;
    const block = guestOffset / facts.blockSize;
    while (bat.get(block) === undefined) await bat.load(block);
    const entry = bat.get(block) ?? 0;
    const hole = this.map.slots.lowestHole();
    if (hole === null || hole * facts.blockSize >= offsetOf(entry)) return null;
    const from = await this.map.map(guestOffset, 1);
    const slot = await this.map.relocate(guestOffset);
    if (slot === null || from.kind !== 'data') return null;
    const commit = (): void => {
      slot.commit();
      bat.set(block, entryFor(slot.fileOffset, stateOf(entry)));
    };
    return { ...slot, commit, from };
  }

  /** Pages of the next flush, in the order of the head of this file. */
  seal(): LogPage[][] {
    const bits = pagesOf(this.#reader.bitmaps.seal());
    const table = pagesOf(this.map.seal()).reverse();
    const first = this.#again.size > 0 ? this.#withoutFresh(table) : [];
    this.#left = new Set();
    this.#again = new Set();
    this.#fresh = new Map();
    return [first, bits, table];
  }

  settle(ok: boolean): void {
    this.#reader.bitmaps.settle();
    this.map.settle(ok);
  }

  /** End of the whole blocks at the start of a range; its start: there is none. */
  #wholeEnd(guestOffset: number, length: number): number {
    const { blockSize } = this.#parts.facts;
    const end = guestOffset + length;
    if (guestOffset % blockSize !== 0) return guestOffset;
    return end === this.#parts.virtualSize ? end : alignDown(end, blockSize);
  }

  /** Place of the bitmap of a block's chunk, or a promise after which to look again. */
  #bitmapOf(block: number): number | Promise<void> {
    const { bat } = this.#parts;
    const chunk = Math.floor(block / bat.ratio);
    const fileOffset = bat.bitmapOffset(chunk);
    if (fileOffset === undefined) return bat.loadBitmap(chunk);
    if (fileOffset !== null) return fileOffset;
    const running = this.#making.get(chunk);
    if (running !== undefined) return running;
    const making = this.#makeBitmap(chunk).finally(() => this.#making.delete(chunk));
    this.#making.set(chunk, making);
    return making;
  }

  /** A bitmap without any bit, which the next flush names. */
  async #makeBitmap(chunk: number): Promise<void> {
    const { storage, bat } = this.#parts;
    const { fileOffset, recycled } = this.map.slots.takeMib(1);
    const isFresh = !recycled && fileOffset >= storage.size && storage.can.growsZeroed;
    if (isFresh) await storage.write(fileOffset + BITMAP_BYTES - PAGE, new Uint8Array(PAGE));
    else await storage.write(fileOffset, new Uint8Array(BITMAP_BYTES));
    await bat.setBitmap(chunk, entryFor(fileOffset, STATE.present));
  }

  /** A block that hides the parent stays so: it is stored whole, with zeroes around what is written. */
  #sectorsOfZero(block: number, guestOffset: number, length: number): Promise<WriteSlot> {
    const pending = this.#pending.get(block) ?? this.#begin(block, null);
    return this.#share(pending, block, this.#cut(guestOffset, length), () => {});
  }

  async #sectorsOfNew(block: number, guestOffset: number, length: number): Promise<WriteSlot> {
    const bits = await this.#reader.bitsOf(block);
    assert(bits !== null, 'the bitmap of the block was made');
    await this.#reader.bitmaps.pin(bits.first, bits.end);
    const unpin = (): void => this.#reader.bitmaps.unpin(bits.first, bits.end);
    // Looked up in the turn that takes the place: while this waits, another writer may end, and no longer be pending.
    let found = this.map.map(guestOffset, length);
    while (isPromise(found)) {
      await found;
      found = this.map.map(guestOffset, length);
    }
    // Another writer was first.
    if (found.kind !== 'absent') {
      unpin();
      return this.prepareWrite(guestOffset, length);
    }
    const pending = this.#pending.get(block) ?? this.#begin(block, bits);
    return this.#share(pending, block, this.#cut(guestOffset, length), unpin);
  }

  /** A part of a pending block. */
  #share(pending: PendingBlock, block: number, cut: SectorCut, ended: () => void): Promise<WriteSlot> {
    pending.users++;
    const { slot, bits } = pending;
    const isOpen = (): boolean => this.#pending.get(block) === pending;
    const place = slot.fileOffset + (cut.start - block * this.#parts.facts.blockSize);
    const one = this.#slot(place, cut, {
      first: bits?.first ?? null,
      done: () => {
        ended();
        pending.users--;
        // The first one makes the block a part of the disk.
        if (!isOpen()) return;
        this.#pending.delete(block);
        slot.commit();
        if (bits === null) return;
        this.#parts.bat.set(block, entryFor(slot.fileOffset, STATE.partial));
        this.#fresh.set(block, pending.before);
      },
      given: () => {
        ended();
        pending.users--;
        if (pending.users > 0 || !isOpen()) return;
        this.#pending.delete(block);
        slot.abort();
      },
    });
    return pending.ready.then(
      () => one,
      (error: unknown) => {
        one.abort();
        throw error;
      },
    );
  }

  /** Takes a place for a block, whose entry and bits are in memory, and clears its bits. `bits` null: it is zero. */
  #begin(block: number, bits: BlockBits | null): PendingBlock {
    const { bat, facts } = this.#parts;
    const before = bat.get(block) ?? 0;
    const slot = this.map.prepareWrite(block * facts.blockSize, facts.blockSize);
    assert(!isPromise(slot), 'the entry of the block is in memory');
    if (bits !== null) {
      this.#reader.bitmaps.set(bits.first, bits.end, false);
      if (this.#left.has(block)) this.#again.add(block);
    }
    const pending: PendingBlock = { slot, before, bits, ready: this.#makeReady(slot, bits === null), users: 0 };
    this.#pending.set(block, pending);
    return pending;
  }

  /** The file reaches to the end of a new block, which reads as zero where its bits do not tell. */
  async #makeReady(slot: WriteSlot, isZero: boolean): Promise<void> {
    const { storage } = this.#parts;
    const end = slot.fileOffset + slot.length;
    await storage.write(end - SECTOR, new Uint8Array(SECTOR));
    if (isZero && !slot.readsZero) await storage.zero(slot.fileOffset, slot.length, { punch: false });
  }

  /** Space for sectors of a block that stands at its place already. */
  async #sectorsAt(fileOffset: number, guestOffset: number, length: number): Promise<WriteSlot> {
    const { facts, logicalSector } = this.#parts;
    const bits = await this.#reader.bitsOf(Math.floor(guestOffset / facts.blockSize));
    if (bits === null) return this.#withBitmap(fileOffset, guestOffset, length);
    const cut = this.#cut(guestOffset, length);
    const at = (offset: number): number => bits.first + (offset % facts.blockSize) / logicalSector;
    const first = at(cut.start);
    const last = first + (cut.end - cut.start) / logicalSector;
    await this.#reader.bitmaps.pin(first, last);
    const unpin = (): void => this.#reader.bitmaps.unpin(first, last);
    const place = fileOffset - (guestOffset - cut.start);
    return this.#slot(place, cut, { first: bits.first, done: unpin, given: unpin });
  }

  /** A chunk without a bitmap that has partly stored blocks: all bits are clear. */
  async #withBitmap(fileOffset: number, guestOffset: number, length: number): Promise<WriteSlot> {
    await this.#bitmapOf(Math.floor(guestOffset / this.#parts.facts.blockSize));
    return this.#sectorsAt(fileOffset, guestOffset, length);
  }

  #cut(guestOffset: number, length: number): SectorCut {
    const { facts, logicalSector } = this.#parts;
    const start = alignDown(guestOffset, logicalSector);
    const blockEnd = alignDown(guestOffset, facts.blockSize) + facts.blockSize;
    return { start, end: Math.min(alignUp(guestOffset + length, logicalSector), blockEnd) };
  }

  /** `first`: bit of the first sector of the block; null: it is stored whole. */
  #slot(
    fileOffset: number,
    { start, end }: SectorCut,
    how: { readonly first: number | null; readonly done: () => void; readonly given: () => void },
  ): WriteSlot {
    const { storage, facts, logicalSector } = this.#parts;
    const bit = (how.first ?? 0) + (start % facts.blockSize) / logicalSector;
    return {
      storage,
      fileOffset,
      length: end - start,
      guestOffset: start,
      readsZero: false,
      commit: () => {
        if (how.first !== null) this.#reader.bitmaps.set(bit, bit + (end - start) / logicalSector, true);
        how.done();
      },
      abort: how.given,
    };
  }

  /** Pages of the table in which no block has become partly stored. */
  #withoutFresh(table: readonly LogPage[]): LogPage[] {
    const { bat } = this.#parts;
    const pages = table.map(({ fileOffset, bytes }) => ({ fileOffset, bytes: bytes.slice() }));
    for (const [block, before] of this.#fresh) {
      const at = bat.entryOffset(block);
      const page = pages.find(({ fileOffset }) => fileOffset === alignDown(at, PAGE));
      if (page === undefined) continue;
      const view = new DataView(page.bytes.buffer);
      const inPage = at % PAGE;
      if (stateOf(BAT_ENTRY.get(view, inPage)) === STATE.partial) BAT_ENTRY.put(view, inPage, before);
    }
    return pages;
  }
}
