/**
 * A number for each cluster of a file that may be far larger than memory: pages allocated on demand, as narrow as their
 * numbers.
 */
import { ImageError } from '../../../errors.ts';
import type { Turns } from '../../../storage/turns.ts';

/** Clusters of one page. */
export const PAGE_COUNTS = 4096;
/** Small steps that a page counts as. */
export const STEPS_PAGE = 32;
/** Counts saturate here. */
export const COUNT_MAX = 0xffff_ffff;
/** Bytes of all pages: enough for 64 TiB in 64 KiB clusters. */
const MEMORY_MAX = 2 ** 30;

type Page = Uint8Array | Uint16Array | Uint32Array;

/** Counts by index, initially 0. Memory follows the indices in use. */
export class PagedCounts {
  readonly #pages = new Map<number, Page>();
  readonly #what: string;
  readonly #memoryMax: number;
  #bytes = 0;
  #lastKey = -1;
  #last: Page | undefined;

  /**
   * `what`: subject of the message when the limit is exceeded.
   */
  constructor(what: string, memoryMax = MEMORY_MAX) {
    this.#what = what;
    this.#memoryMax = memoryMax;
  }

  /** The count at an index. */
  get(index: number): number {
    return this.#page(Math.floor(index / PAGE_COUNTS))?.[index % PAGE_COUNTS] ?? 0;
  }

  /** Raises a count, up to {@link COUNT_MAX}. Throws `limit` when the counts take too much memory. */
  add(index: number, count: number): void {
    const page = this.#page(Math.floor(index / PAGE_COUNTS));
    const at = index % PAGE_COUNTS;
    const sum = (page?.[at] ?? 0) + count;
    if (page instanceof Uint8Array && sum <= 0xff) page[at] = sum;
    else this.set(index, Math.min(sum, COUNT_MAX));
  }

  /** Sets a count. Throws as `add` does. */
  set(index: number, count: number): void {
    const key = Math.floor(index / PAGE_COUNTS);
    const page = this.#page(key);
    if (page === undefined && count === 0) return;
    const wide = this.#wideEnough(key, page, count);
    wide[index % PAGE_COUNTS] = count;
  }

  /** Numbers of the existing pages, ascending. Page `n` begins at index `n * PAGE_COUNTS`. */
  pages(): Float64Array {
    return Float64Array.from(this.#pages.keys()).sort();
  }

  /** A page, read-only; undefined when all its counts are 0. */
  page(key: number): ArrayLike<number> | undefined {
    return this.#page(key);
  }

  /** A page to count in, for hot loops; created on demand. A sum that overflows goes through `add`. */
  pageToAdd(key: number): Uint8Array | Uint16Array | Uint32Array {
    return this.#wideEnough(key, this.#page(key), 0);
  }

  /** Indices with a non-zero count, ascending. */
  *indices(): Generator<number> {
    for (const key of this.pages()) yield* this.#indicesOf(key);
  }

  *#indicesOf(key: number): Generator<number> {
    const page = this.#page(key);
    for (let at = 0; page !== undefined && at < page.length; at++) if (page[at] !== 0) yield key * PAGE_COUNTS + at;
  }

  /** The maximum of both counts at every index. */
  static async highest(one: PagedCounts, other: PagedCounts, turns: Turns): Promise<PagedCounts> {
    const made = new PagedCounts(one.#what, one.#memoryMax);
    for (const counts of [one, other]) {
      for (const key of counts.pages()) {
        const turn = turns.take(STEPS_PAGE);
        if (turn !== undefined) await turn;
        for (const index of counts.#indicesOf(key)) made.set(index, Math.max(counts.get(index), made.get(index)));
      }
    }
    return made;
  }

  #page(key: number): Page | undefined {
    if (key === this.#lastKey) return this.#last;
    const page = this.#pages.get(key);
    this.#lastKey = key;
    this.#last = page;
    return page;
  }

  #wideEnough(key: number, page: Page | undefined, count: number): Page {
    const bytes = count <= 0xff ? 1 : count <= 0xffff ? 2 : 4;
    if (page !== undefined && page.BYTES_PER_ELEMENT >= bytes) return page;
    this.#bytes += PAGE_COUNTS * (bytes - (page?.BYTES_PER_ELEMENT ?? 0));
    if (this.#bytes > this.#memoryMax) {
      throw new ImageError('limit', `The ${this.#what} of the image exceed the memory limit`, {
        found: `${this.#bytes} bytes`,
        expected: `at most ${this.#memoryMax}`,
      });
    }
    const wide = bytes === 1 ? new Uint8Array(PAGE_COUNTS) : new (bytes === 2 ? Uint16Array : Uint32Array)(PAGE_COUNTS);
    if (page !== undefined) wide.set(page);
    this.#pages.set(key, wide);
    this.#lastKey = key;
    this.#last = wide;
    return wide;
  }
}
