/** Bytes in memory, in pages: unwritten pages read as zero and take no space. Callers check ranges. */
import type { StorageExtent } from './contract.ts';

/** Maximum number of pages examined for one run: callers ask again. */
const LOOK_AHEAD = 65_536;
/** Up to this many pages, a gap is measured by checking all of them. */
const FEW_PAGES = 1024;

/** Growable bytes; untouched pages take no memory. */
export class SparseBytes {
  readonly pageSize: number;
  readonly #pages = new Map<number, Uint8Array>();
  #size = 0;

  constructor(pageSize = 64 * 1024) {
    this.pageSize = pageSize;
  }

  get size(): number {
    return this.#size;
  }

  get allocatedSize(): number {
    return this.#pages.size * this.pageSize;
  }

  read(offset: number, target: Uint8Array): void {
    for (let at = 0; at < target.length; ) {
      const { index, start, count } = this.#piece(offset + at, target.length - at);
      const page = this.#pages.get(index);
      if (page === undefined) target.fill(0, at, at + count);
      else target.set(page.subarray(start, start + count), at);
      at += count;
    }
  }

  /** Writes, extending the end if necessary. */
  write(offset: number, source: Uint8Array): void {
    for (let at = 0; at < source.length; ) {
      const { index, start, count } = this.#piece(offset + at, source.length - at);
      let page = this.#pages.get(index);
      if (page === undefined) {
        page = new Uint8Array(this.pageSize);
        this.#pages.set(index, page);
      }
      page.set(source.subarray(at, at + count), start);
      at += count;
    }
    if (source.length > 0) this.#size = Math.max(this.#size, offset + source.length);
  }

  /** Makes a range read as zero. Whole pages are freed. */
  zero(offset: number, length: number): void {
    const end = offset + length;
    const first = Math.floor(offset / this.pageSize);
    const last = Math.ceil(end / this.pageSize);
    // A range of terabytes has more pages than there are: look at the shorter list.
    const pages = last - first > this.#pages.size ? this.#pages.keys() : numbers(first, last);
    for (const index of pages) {
      const start = Math.max(offset - index * this.pageSize, 0);
      const stop = Math.min(end - index * this.pageSize, this.pageSize);
      if (start >= stop) continue;
      if (stop - start === this.pageSize) this.#pages.delete(index);
      else this.#pages.get(index)?.fill(0, start, stop);
    }
  }

  resize(size: number): void {
    // What is cut off must not come back when the storage grows again.
    if (size < this.#size) this.zero(size, Math.ceil(this.#size / this.pageSize) * this.pageSize - size);
    this.#size = size;
  }

  /** The run around an offset inside. On very large stores it may end before the next change. */
  extentAt(offset: number): StorageExtent {
    const index = Math.floor(offset / this.pageSize);
    const data = this.#pages.has(index);
    const [first, last] = data || this.#pages.size > FEW_PAGES ? this.#walk(index, data) : this.#gap(index);
    return { start: first * this.pageSize, end: Math.min(last * this.pageSize, this.#size), data };
  }

  /** Extends a run page by page while the kind stays the same. */
  #walk(index: number, data: boolean): [number, number] {
    let first = index;
    let last = index + 1;
    const stop = Math.min(Math.ceil(this.#size / this.pageSize), index + LOOK_AHEAD);
    while (last < stop && this.#pages.has(last) === data) last++;
    while (first > 0 && index - first < LOOK_AHEAD && this.#pages.has(first - 1) === data) first--;
    return [first, last];
  }

  /** The gap between existing pages, if there are few. */
  #gap(index: number): [number, number] {
    let first = 0;
    let last = Number.POSITIVE_INFINITY;
    for (const page of this.#pages.keys()) {
      if (page < index) first = Math.max(first, page + 1);
      else last = Math.min(last, page);
    }
    return [first, last];
  }

  /** The part of a range that lies in one page. */
  #piece(offset: number, length: number): { index: number; start: number; count: number } {
    const index = Math.floor(offset / this.pageSize);
    const start = offset - index * this.pageSize;
    return { index, start, count: Math.min(this.pageSize - start, length) };
  }
}

function* numbers(first: number, end: number): Generator<number> {
  for (let value = first; value < end; value++) yield value;
}
