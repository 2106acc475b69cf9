/**
 * The filters of one disk, as its read and write paths use them. Two lists as in vd.h: writes pass one in order of
 * addition, reads pass the other in reverse, so that several filters are undone in the right order.
 */
import { SECTOR } from '../../binary/numbers.ts';
import { equalBytes, isZero } from '../../codec/bytes.ts';
import { assert, ImageError } from '../../errors.ts';
import type { FilterInstance } from '../../image/filter.ts';
import { isPromise, type MaybePromise } from '../../storage/contract.ts';

/** A filter of a disk. */
export interface AttachedFilter {
  readonly name: string;
  /** For information only: while it is present no data can be read or written. */
  readonly info: boolean;
  readonly instance: FilterInstance;
}

/** The filters of a disk. Changed only while no request runs. */
export class FilterStack {
  #writing: readonly AttachedFilter[] = [];
  #reading: readonly AttachedFilter[] = [];
  /** True when the images are converted in part for these filters. */
  halfConverted = false;

  /** In order of addition. */
  get writing(): readonly AttachedFilter[] {
    return this.#writing;
  }

  get reading(): readonly AttachedFilter[] {
    return this.#reading;
  }

  /** True when there is a filter in either direction. */
  get active(): boolean {
    return this.#writing.length > 0 || this.#reading.length > 0;
  }

  /** True when writes are transformed. */
  get encodes(): boolean {
    return this.#writing.length > 0;
  }

  /** True when reads are transformed. */
  get decodes(): boolean {
    return this.#reading.length > 0;
  }

  /** True when both directions have the same filters, so that data reads as written. */
  get symmetric(): boolean {
    const [writing, reading] = [this.#writing, this.#reading];
    return writing.length === reading.length && writing.every((filter, index) => filter === reading[index]);
  }

  /** Replaces both lists. Returns the filters that are in neither any more. */
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

  /** The stored form of `bytes`, which may be changed. Whole sectors. */
  encode(offset: number, bytes: Uint8Array): MaybePromise<Uint8Array> {
    return pass(this.#writing, 'encode', offset, bytes);
  }

  /** The guest's form of stored `bytes`, which may be changed. Whole sectors. */
  decode(offset: number, bytes: Uint8Array): MaybePromise<Uint8Array> {
    return pass([...this.#reading].reverse(), 'decode', offset, bytes);
  }

  /** The stored form of zeroes. */
  zeroes(offset: number, length: number): MaybePromise<Uint8Array> {
    return this.encode(offset, new Uint8Array(length));
  }

  /** True when stored bytes decode to zeroes. Never with different filters in the two directions. */
  standForZeroes(offset: number, bytes: Uint8Array): MaybePromise<boolean> {
    if (!this.active) return isZero(bytes);
    if (!this.symmetric) return false;
    const zeroes = this.zeroes(offset, bytes.length);
    return isPromise(zeroes) ? zeroes.then((stored) => equalBytes(stored, bytes)) : equalBytes(zeroes, bytes);
  }

  /** Throws for data while a filter is for information only, or images are converted in part. */
  check(path: string): void {
    if (this.halfConverted) {
      throw new ImageError('busy', 'A conversion of the disk by filters was interrupted', {
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

  /** Throws for operations that move data, unless the filters are symmetric. */
  checkSymmetric(path: string, operation: string): void {
    if (this.symmetric) return;
    throw new ImageError('unsupported', `${operation} needs the same filters in both directions`, {
      path,
      hint: 'Remove the filters that apply to one direction only.',
    });
  }

  /** Called when no request runs any more. */
  async close(): Promise<void> {
    for (const { instance } of this.set({ writing: [], reading: [] })) await instance.close();
  }
}

/** Passes bytes from filter to filter, without a promise unless one of them needs it. */
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

/** Rejects a filter that changes the length: it would shift all following data. */
function checked({ name }: AttachedFilter, bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length === length) return bytes;
  throw new ImageError('unsupported', `Filter ${name} changed the number of bytes`, {
    found: bytes.length,
    expected: length,
  });
}
