/**
 * The filters of one disk, as its read and write paths use them. Two lists as in vd.h: what is written passes one in the
 * order in which filters were added, what is read passes the other the opposite way, so that several of them undo each
 * other in the right order.
 */
import { SECTOR } from '../../binary/numbers.ts';
import { equalBytes, isZero } from '../../codec/bytes.ts';
import { assert, ImageError } from '../../errors.ts';
import type { FilterInstance } from '../../image/filter.ts';
import { isPromise, type MaybePromise } from '../../storage/contract.ts';

/** A filter of a disk. */
export interface AttachedFilter {
  readonly name: string;
  /** For information only: as long as it is there nothing can be read or written. */
  readonly info: boolean;
  readonly instance: FilterInstance;
}

/** See the head of this file. Changed only while no request runs. */
export class FilterStack {
  #writing: readonly AttachedFilter[] = [];
  #reading: readonly AttachedFilter[] = [];
  /** What stands in the images is in part in the form of these filters: see prepare.ts. */
  halfConverted = false;

  /** In the order in which they were added. */
  get writing(): readonly AttachedFilter[] {
    return this.#writing;
  }

  get reading(): readonly AttachedFilter[] {
    return this.#reading;
  }

  /** There is one for either direction. */
  get active(): boolean {
    return this.#writing.length > 0 || this.#reading.length > 0;
  }

  /** What is written does not reach the medium as it is. */
  get encodes(): boolean {
    return this.#writing.length > 0;
  }

  /** What stands on the medium is not what is read. */
  get decodes(): boolean {
    return this.#reading.length > 0;
  }

  /** What is written is what is read: the same filters in both directions. */
  get symmetric(): boolean {
    const [writing, reading] = [this.#writing, this.#reading];
    return writing.length === reading.length && writing.every((filter, index) => filter === reading[index]);
  }

  /** Replaces both lists. Returns the filters that are in none any more. */
  set(lists: {
    readonly writing: readonly AttachedFilter[];
    readonly reading: readonly AttachedFilter[];
  }): AttachedFilter[] {
    const before = new Set([...this.#writing, ...this.#reading]);
    this.#writing = lists.writing;
    this.#reading = lists.reading;
    for (const filter of [...lists.writing, ...lists.reading]) before.delete(filter);
    return [...before];
  }

  /** What is stored for `bytes`, which may be changed. Whole sectors. */
  encode(offset: number, bytes: Uint8Array): MaybePromise<Uint8Array> {
    return pass(this.#writing, 'encode', offset, bytes);
  }

  /** What is read where `bytes`, which may be changed, are stored. Whole sectors. */
  decode(offset: number, bytes: Uint8Array): MaybePromise<Uint8Array> {
    return pass([...this.#reading].reverse(), 'decode', offset, bytes);
  }

  /** What is stored for zeroes. */
  zeroes(offset: number, length: number): MaybePromise<Uint8Array> {
    return this.encode(offset, new Uint8Array(length));
  }

  /** Whether bytes as they are stored stand for zeroes. With different filters in the two directions nothing does. */
  standForZeroes(offset: number, bytes: Uint8Array): MaybePromise<boolean> {
    if (!this.active) return isZero(bytes);
    if (!this.symmetric) return false;
    const zeroes = this.zeroes(offset, bytes.length);
    return isPromise(zeroes) ? zeroes.then((stored) => equalBytes(stored, bytes)) : equalBytes(zeroes, bytes);
  }

  /** Refuses data while a filter is there for information only, and of images that are converted in part. */
  check(path: string): void {
    if (this.halfConverted) {
      throw new ImageError('busy', 'A conversion of the content by filters was interrupted', {
        path,
        hint: 'Add the same filters, and run filters.prepare to its end.',
      });
    }
    const info = [...this.#writing, ...this.#reading].find((filter) => filter.info);
    if (info === undefined) return;
    throw new ImageError('unsupported', `Filter ${info.name} was added for information only`, {
      path,
      hint: 'Remove it, and add it without info.',
    });
  }

  /** Refuses what moves data about, while what is written is not what is read. */
  checkSymmetric(path: string, operation: string): void {
    if (this.symmetric) return;
    throw new ImageError('unsupported', `${operation} needs the same filters in both directions`, {
      path,
      hint: 'Remove the filters that are there for one direction only.',
    });
  }

  /** No request runs any more. */
  async close(): Promise<void> {
    for (const { instance } of this.set({ writing: [], reading: [] })) await instance.close();
  }
}

/** Hands bytes from filter to filter. Without a promise as long as none of them needs one. */
function pass(
  filters: readonly AttachedFilter[],
  way: 'encode' | 'decode',
  offset: number,
  bytes: Uint8Array,
): MaybePromise<Uint8Array> {
  assert(offset % SECTOR === 0 && bytes.length % SECTOR === 0, 'filters work on whole sectors');
  let passed = bytes;
  for (const [index, filter] of filters.entries()) {
    const answer = filter.instance[way](offset, passed);
    if (isPromise(answer)) {
      return answer.then((next) => pass(filters.slice(index + 1), way, offset, checked(filter, next, bytes.length)));
    }
    passed = checked(filter, answer, bytes.length);
  }
  return passed;
}

/** A filter that changes the length would shift everything behind it. */
function checked({ name }: AttachedFilter, bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length === length) return bytes;
  throw new ImageError('unsupported', `Filter ${name} changed the number of bytes`, {
    found: bytes.length,
    expected: length,
  });
}
