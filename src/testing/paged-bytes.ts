/**
 * The content of a file in pages that copies share. `fork` costs one array of pointers; a page is copied when one of
 * its owners first writes to it. Ten thousand cut states of one image fit in memory this way.
 */
import { SECTOR } from '../binary/numbers.ts';

/** Bytes in a page; a sector never lies in two. */
const PAGE = 4096;

interface Page {
  /** The owner that may write without copying. */
  owner: object;
  readonly bytes: Uint8Array;
}

/** A growable byte array that is cheap to copy. Pages never written read as zero and take no space. */
export class PagedBytes {
  #size = 0;
  #pages: (Page | undefined)[] = [];
  #token: object = {};

  get size(): number {
    return this.#size;
  }

  /** An independent copy. */
  fork(): PagedBytes {
    const copy = new PagedBytes();
    copy.#size = this.#size;
    copy.#pages = this.#pages.slice();
    // From now on both sides must copy a page before they write to it.
    this.#token = {};
    return copy;
  }

  /** Fills the target; bytes past the end read as zero. */
  read(offset: number, target: Uint8Array): void {
    for (let done = 0; done < target.length; ) {
      const within = (offset + done) % PAGE;
      const count = Math.min(PAGE - within, target.length - done);
      const page = this.#pages[Math.floor((offset + done) / PAGE)];
      if (page === undefined) {
        done = this.#readGap(offset, target, done);
        continue;
      }
      target.set(count === PAGE ? page.bytes : page.bytes.subarray(within, within + count), done);
      done += count;
    }
  }

  /** Fills the target with zeroes as far as there are no pages; gives the index behind them. */
  #readGap(offset: number, target: Uint8Array, done: number): number {
    let number = Math.floor((offset + done) / PAGE) + 1;
    while (number * PAGE < offset + target.length && this.#pages[number] === undefined) number++;
    const end = Math.min(number * PAGE - offset, target.length);
    target.fill(0, done, end);
    return end;
  }

  /** Stores the bytes and grows to hold them. */
  write(offset: number, source: Uint8Array): void {
    this.put(offset, source);
    this.#size = Math.max(this.#size, offset + source.length);
  }

  /** Stores the bytes without changing the size: bytes past the end appear when the size follows. */
  put(offset: number, source: Uint8Array): void {
    for (let done = 0; done < source.length; ) {
      const within = (offset + done) % PAGE;
      const count = Math.min(PAGE - within, source.length - done);
      const number = Math.floor((offset + done) / PAGE);
      const bytes = source.subarray(done, done + count);
      // Nothing of an old page is left, so it is not copied first.
      if (count === PAGE) this.#replace(number, bytes.slice());
      else this.#own(number).set(bytes, within);
      done += count;
    }
  }

  /** Makes a range read zero. Does not change the size. */
  zero(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#pages.length * PAGE);
    for (let at = offset; at < end; ) {
      const number = Math.floor(at / PAGE);
      const within = at % PAGE;
      const count = Math.min(PAGE - within, end - at);
      if (count === PAGE) this.#pages[number] = undefined;
      else if (this.#pages[number] !== undefined) this.#own(number).fill(0, within, within + count);
      at += count;
    }
  }

  /** Truncates or extends; new bytes read as zero. */
  resize(size: number): void {
    this.dropFrom(size);
    this.#size = size;
  }

  /** Sets the size and keeps the bytes stored by `put` up to it. */
  reveal(size: number): void {
    this.#size = size;
  }

  /** Drops everything from `offset` on, also past the end. Does not change the size. */
  dropFrom(offset: number): void {
    const whole = Math.ceil(offset / PAGE);
    if (offset % PAGE !== 0) this.zero(offset, whole * PAGE - offset);
    if (this.#pages.length > whole) this.#pages.length = whole;
  }

  /** Upper bound of the stored bytes. */
  get storedEnd(): number {
    return this.#pages.length * PAGE;
  }

  /** One sector without copying it, or undefined when all of its page reads zero. */
  sector(number: number): Uint8Array | undefined {
    const offset = number * SECTOR;
    const within = offset % PAGE;
    return this.#pages[Math.floor(offset / PAGE)]?.bytes.subarray(within, within + SECTOR);
  }

  #own(number: number): Uint8Array {
    const page = this.#pages[number];
    if (page !== undefined && page.owner === this.#token) return page.bytes;
    return this.#replace(number, page === undefined ? new Uint8Array(PAGE) : page.bytes.slice());
  }

  #replace(number: number, bytes: Uint8Array): Uint8Array {
    while (this.#pages.length < number) this.#pages.push(undefined);
    this.#pages[number] = { owner: this.#token, bytes };
    return bytes;
  }
}
