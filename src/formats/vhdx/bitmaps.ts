/**
 * Sector bitmaps of a differencing image: a block of 1 MiB for each chunk, with a bit a sector, the lowest of a byte first.
 * Bits are numbered by their place in the file. Pages are loaded when needed, changed in memory, and logged by the flush.
 */
import { type MetadataPage, MetadataPages } from '../../blocks/metadata-pages.ts';
import { bitRunEnd, hasBit, setBits } from '../../blocks/sector-bitmap.ts';
import { assert } from '../../errors.ts';
import type { MetaWrite } from '../../image/contract.ts';
import { isPromise, type MaybePromise, type Storage } from '../../storage/contract.ts';
import { PAGE } from './layout.ts';

const PAGE_BITS = PAGE * 8;
const ORDER = 'lowest-first';

/** A run of bits that are alike. */
export interface BitRun {
  readonly stored: boolean;
  /** One more than the last bit. */
  readonly end: number;
}

/** See the head of this file. */
export class SectorBitmaps {
  readonly #pages: MetadataPages;

  constructor(storage: Storage) {
    const length = Number.MAX_SAFE_INTEGER - PAGE + 1;
    this.#pages = new MetadataPages({ storage, fileOffset: 0, length, pageBytes: PAGE, unit: PAGE });
  }

  get dirtyBytes(): number {
    return this.#pages.dirtyBytes;
  }

  /** The run of bits like the one at `bit`, at `end` at the latest, as far as one page goes. */
  run(bit: number, end: number): MaybePromise<BitRun> {
    const page = this.#pages.get(Math.floor(bit / PAGE_BITS));
    return isPromise(page) ? page.then((one) => runIn(one, bit, end)) : runIn(page, bit, end);
  }

  /** Loads the pages that hold bits `[first, end)`, and keeps them in memory until `unpin`. */
  async pin(first: number, end: number): Promise<void> {
    for (let index = Math.floor(first / PAGE_BITS); index * PAGE_BITS < end; index++) {
      const page = await this.#pages.get(index);
      page.pins++;
    }
  }

  unpin(first: number, end: number): void {
    for (const [page] of this.#pinned(first, end)) page.pins--;
  }

  /** Sets bits `[first, end)`, whose pages are pinned, or clears them. */
  set(first: number, end: number, isSet: boolean): void {
    for (const [page, from, to] of this.#pinned(first, end)) {
      setBits(page.bytes, from, to, ORDER, isSet);
      this.#pages.touch(page, 0, PAGE);
    }
  }

  seal(): MetaWrite[] {
    return this.#pages.seal();
  }

  settle(): void {
    this.#pages.settle();
  }

  *#pinned(first: number, end: number): Generator<[MetadataPage, number, number]> {
    for (let index = Math.floor(first / PAGE_BITS); index * PAGE_BITS < end; index++) {
      const page = this.#pages.peek(index);
      assert(page !== undefined, 'a pinned page is in memory');
      const start = index * PAGE_BITS;
      yield [page, Math.max(first - start, 0), Math.min(end - start, PAGE_BITS)];
    }
  }
}

function runIn({ bytes }: MetadataPage, bit: number, end: number): BitRun {
  const start = bit - (bit % PAGE_BITS);
  const last = Math.min(end - start, PAGE_BITS);
  const stored = hasBit(bytes, bit - start, ORDER);
  return { stored, end: start + bitRunEnd(bytes, bit - start, last, ORDER) };
}
