/**
 * Sector bitmaps of the blocks of a VHD image: one before each block, with a bit a sector, the highest bit of a byte first.
 * They are pages of metadata: loaded when needed, changed in memory, written by the flush.
 */
import { divCeil, SECTOR } from '../../binary/numbers.ts';
import { type MetadataPage, MetadataPages } from '../../blocks/metadata-pages.ts';
import { bitRunEnd, hasBit, setBits } from '../../blocks/sector-bitmap.ts';
import { assert } from '../../errors.ts';
import type { MetaWrite } from '../../image/contract.ts';
import { isPromise, type MaybePromise, type Storage } from '../../storage/contract.ts';

/** Sectors that a page has bits for. */
const PAGE_BITS = SECTOR * 8;

/** A run of sectors that are alike. */
export interface SectorRun {
  readonly stored: boolean;
  /** One more than the last sector. */
  readonly end: number;
}

/** Bitmaps by the file offset where they begin. */
export class SectorBitmaps {
  readonly #pages: MetadataPages;
  readonly #bytes: number;
  /** Bitmaps of blocks that no table on the medium names, until a flush takes them over. */
  readonly #fresh = new Set<number>();

  /** `bytes`: length of a bitmap. */
  constructor(storage: Storage, bytes: number) {
    this.#bytes = bytes;
    const length = Number.MAX_SAFE_INTEGER - SECTOR + 1;
    this.#pages = new MetadataPages({ storage, fileOffset: 0, length, pageBytes: SECTOR });
  }

  get dirtyBytes(): number {
    return this.#pages.dirtyBytes;
  }

  /** The run of sectors of a block like the one at `sector`, at `end` at the latest. */
  run(fileOffset: number, sector: number, end: number): MaybePromise<SectorRun> {
    const page = this.#page(fileOffset, sector);
    return isPromise(page) ? page.then((one) => runIn(one, sector, end)) : runIn(page, sector, end);
  }

  /** Loads the pages that hold bits `[first, end)`, and keeps them in memory until `unpin`. */
  pin(fileOffset: number, first: number, end: number): MaybePromise<void> {
    for (let at = first; at < end; at += PAGE_BITS - (at % PAGE_BITS)) {
      const page = this.#page(fileOffset, at);
      if (isPromise(page)) {
        return page.then((one) => {
          one.pins++;
          return this.pin(fileOffset, at + PAGE_BITS - (at % PAGE_BITS), end);
        });
      }
      page.pins++;
    }
    return undefined;
  }

  unpin(fileOffset: number, first: number, end: number): void {
    for (const [page] of this.#pinned(fileOffset, first, end)) page.pins--;
  }

  /** Keeps the bitmap of a new block in memory until `release`. */
  keep(fileOffset: number): void {
    for (const page of this.#whole(fileOffset)) page.pins++;
  }

  release(fileOffset: number): void {
    for (const page of this.#whole(fileOffset)) page.pins--;
  }

  /** Sets bits `[first, end)`, whose pages are pinned. */
  set(fileOffset: number, first: number, end: number): void {
    for (const [page, from, to] of this.#pinned(fileOffset, first, end)) {
      setBits(page.bytes, from, to, 'highest-first');
      this.#pages.touch(page, 0, SECTOR);
    }
  }

  /** The bitmap of a new block that the table in memory names from now on: all bits clear, or all set. */
  create(fileOffset: number, isStored: boolean): void {
    this.#fresh.add(fileOffset);
    for (let at = fileOffset; at < fileOffset + this.#bytes; at += SECTOR)
      this.#blank(at).bytes.fill(isStored ? 0xff : 0);
  }

  /** The bitmap of a new block that is a copy of another one, which is loaded. */
  copy(from: Uint8Array, fileOffset: number): void {
    this.#fresh.add(fileOffset);
    for (let at = 0; at < this.#bytes; at += SECTOR) {
      this.#blank(fileOffset + at).bytes.set(from.subarray(at, at + SECTOR));
    }
  }

  /** All bits of a block. */
  async read(fileOffset: number): Promise<Uint8Array> {
    const all = new Uint8Array(this.#bytes);
    for (let at = 0; at < this.#bytes; at += SECTOR) {
      const page = await this.#pages.get((fileOffset + at) / SECTOR);
      all.set(page.bytes, at);
    }
    return all;
  }

  /** Writes of the next flush: bitmaps of new blocks, which nothing on the medium names, and those of others. */
  seal(): { readonly fresh: readonly MetaWrite[]; readonly others: readonly MetaWrite[] } {
    const [fresh, others]: [MetaWrite[], MetaWrite[]] = [[], []];
    for (const write of this.#pages.seal()) {
      for (let at = 0; at < write.bytes.length; at += SECTOR) {
        const fileOffset = write.fileOffset + at;
        const one = { ...write, fileOffset, bytes: write.bytes.subarray(at, at + SECTOR) };
        (this.#isFresh(fileOffset) ? fresh : others).push(one);
      }
    }
    this.#fresh.clear();
    return { fresh, others };
  }

  settle(): void {
    this.#pages.settle();
  }

  #isFresh(fileOffset: number): boolean {
    for (let at = fileOffset; at > fileOffset - this.#bytes; at -= SECTOR) if (this.#fresh.has(at)) return true;
    return false;
  }

  #page(fileOffset: number, sector: number): MaybePromise<MetadataPage> {
    return this.#pages.get(fileOffset / SECTOR + Math.floor(sector / PAGE_BITS));
  }

  /** An empty page; one that a flush is writing keeps its place. */
  #blank(fileOffset: number): MetadataPage {
    const index = fileOffset / SECTOR;
    const old = this.#pages.peek(index);
    if (old === undefined) return this.#pages.blank(index, true);
    old.bytes.fill(0);
    this.#pages.touch(old, 0, SECTOR);
    return old;
  }

  #whole(fileOffset: number): MetadataPage[] {
    return Array.from(this.#pinned(fileOffset, 0, this.#bytes * 8), ([page]) => page);
  }

  *#pinned(fileOffset: number, first: number, end: number): Generator<[MetadataPage, number, number]> {
    for (let index = 0; index < divCeil(end, PAGE_BITS); index++) {
      const [from, to] = [Math.max(first - index * PAGE_BITS, 0), Math.min(end - index * PAGE_BITS, PAGE_BITS)];
      if (from >= to) continue;
      const page = this.#pages.peek(fileOffset / SECTOR + index);
      assert(page !== undefined, 'a pinned page is in memory');
      yield [page, from, to];
    }
  }
}

function runIn({ bytes }: MetadataPage, sector: number, end: number): SectorRun {
  const first = sector - (sector % PAGE_BITS);
  const inPage = Math.min(end - first, PAGE_BITS);
  return {
    stored: hasBit(bytes, sector - first, 'highest-first'),
    end: first + bitRunEnd(bytes, sector - first, inPage, 'highest-first'),
  };
}
