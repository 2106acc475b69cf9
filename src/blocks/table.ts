/**
 * A table of 32-bit or 64-bit entries over metadata pages: block maps, BATs, grain directories, L1 tables. One
 * implementation for all widths: an `EntryForm` describes the stored form of an entry. `scanEntries` and `writeEntries`
 * work on the medium, past all caches.
 */
import { alignDown, alignUp, SECTOR } from '../binary/numbers.ts';
import { skipZeroes } from '../codec/bytes.ts';
import { assert, throwIfAborted } from '../errors.ts';
import type { MetaWrite } from '../image/contract.ts';
import type { OperationOptions, Storage } from '../storage/contract.ts';
import { readPadded } from '../storage/read-padded.ts';
import { Turns } from '../storage/turns.ts';
import { MetadataPages, type PageCache } from './metadata-pages.ts';

/** Bytes read or written at once. */
const PIECE_BYTES = 1024 * 1024;
/** Small steps that such a piece counts as. */
const PIECE_STEPS = 128;
const HIGH = 2 ** 32;

/** The stored form of an entry. */
export interface EntryForm {
  readonly bytes: 4 | 8;
  get(view: DataView, at: number): number;
  put(view: DataView, at: number, value: number): void;
}

export const U32_LITTLE: EntryForm = {
  bytes: 4,
  get: (view, at) => view.getUint32(at, true),
  put: (view, at, value) => view.setUint32(at, value, true),
};

export const U32_BIG: EntryForm = {
  bytes: 4,
  get: (view, at) => view.getUint32(at),
  put: (view, at, value) => view.setUint32(at, value),
};

/** Values above 2^53 are rounded: no file is that long, so callers reject them anyway. */
export const U64_LITTLE: EntryForm = {
  bytes: 8,
  get: (view, at) => view.getUint32(at + 4, true) * HIGH + view.getUint32(at, true),
  put: (view, at, value) => {
    view.setUint32(at + 4, Math.floor(value / HIGH), true);
    view.setUint32(at, value % HIGH, true);
  },
};

/** Like {@link U64_LITTLE}. */
export const U64_BIG: EntryForm = {
  bytes: 8,
  get: (view, at) => view.getUint32(at) * HIGH + view.getUint32(at + 4),
  put: (view, at, value) => {
    view.setUint32(at, Math.floor(value / HIGH));
    view.setUint32(at + 4, value % HIGH);
  },
};

/** Place of a table in a file. */
export interface TablePlace {
  readonly storage: Storage;
  /** First byte of entry 0, a multiple of the width. */
  readonly fileOffset: number;
  /** Number of entries. */
  readonly count: number;
  readonly form: EntryForm;
}

/** Place and pages of a table. */
export interface TableLayout extends TablePlace {
  /** Bytes that are written as a whole: see `MetadataRegion`. */
  readonly unit?: number | undefined;
  readonly pageBytes?: number | undefined;
  readonly cache?: PageCache | undefined;
}

/** Entries that are in memory are read and written without waiting. */
export class EntryTable {
  readonly count: number;
  /** Bytes of an entry. */
  readonly entryBytes: number;
  readonly #place: TablePlace;
  readonly #form: EntryForm;
  readonly #pages: MetadataPages;
  readonly #pageBytes: number;
  /** Bytes between the first unit of the region and entry 0. */
  readonly #lead: number;

  constructor(layout: TableLayout) {
    const { storage, fileOffset, count, form, unit = SECTOR } = layout;
    assert(fileOffset % form.bytes === 0, 'no entry of a table lies in two pages');
    const start = alignDown(fileOffset, unit);
    this.count = count;
    this.entryBytes = form.bytes;
    this.#place = layout;
    this.#form = form;
    this.#lead = fileOffset - start;
    this.#pages = new MetadataPages({
      storage,
      fileOffset: start,
      length: alignUp(this.#lead + count * form.bytes, unit),
      unit,
      pageBytes: layout.pageBytes,
      cache: layout.cache,
      reusesBuffers: true,
    });
    this.#pageBytes = this.#pages.pageBytes;
  }

  get dirtyBytes(): number {
    return this.#pages.dirtyBytes;
  }

  /** The entry; undefined if its page must be loaded first. */
  get(index: number): number | undefined {
    const at = this.#lead + index * this.#form.bytes;
    const page = this.#pages.peek(Math.floor(at / this.#pageBytes));
    return page === undefined ? undefined : this.#form.get(page.view, at % this.#pageBytes);
  }

  /** Loads the page of an entry. */
  async load(index: number): Promise<void> {
    await this.#pages.get(this.#pageOf(index));
  }

  /** Number of entries from `index` on that share its page. */
  pageRest(index: number): number {
    const at = this.#lead + index * this.#form.bytes;
    return Math.min((this.#pageBytes - (at % this.#pageBytes)) / this.#form.bytes, this.count - index);
  }

  /**
   * End of the entries from `index` on that are equal to it, as far as a quick look tells: runs of stored zeroes, in the
   * page of the entry if it is loaded. Disks are empty for the most part. Tables at or behind `_end` need no look.
   */
  sameUntil(index: number, _end?: number): number {
    const at = this.#lead + index * this.#form.bytes;
    const page = this.#pages.peek(Math.floor(at / this.#pageBytes));
    if (page === undefined) return index + 1;
    const inPage = at % this.#pageBytes;
    const zeroes = skipZeroes(page.bytes, inPage, this.#form.bytes) - inPage;
    return Math.min(index + Math.max(zeroes / this.#form.bytes, 1), this.count);
  }

  /** Keeps a loaded page in memory until `unpin`. */
  pin(index: number): void {
    const page = this.#pages.peek(this.#pageOf(index));
    assert(page !== undefined, 'a pinned page is in memory');
    page.pins++;
  }

  unpin(index: number): void {
    const page = this.#pages.peek(this.#pageOf(index));
    assert(page !== undefined && page.pins > 0, 'the page is pinned');
    page.pins--;
  }

  /** Changes an entry whose page is loaded. */
  set(index: number, value: number): void {
    const at = this.#lead + index * this.#form.bytes;
    const page = this.#pages.peek(Math.floor(at / this.#pageBytes));
    assert(page !== undefined, 'a changed page is in memory');
    const inPage = at % this.#pageBytes;
    this.#form.put(page.view, inPage, value);
    this.#pages.touch(page, inPage, inPage + this.#form.bytes);
  }

  seal(): MetaWrite[] {
    return this.#pages.seal();
  }

  settle(): void {
    this.#pages.settle();
  }

  /** Frees the memory of the table, which must no longer be used. */
  discard(): void {
    this.#pages.discard();
  }

  /** Visits every entry on the medium: see {@link scanEntries}. */
  scan(visit: (value: number, index: number) => void, options: ScanOptions = {}): Promise<void> {
    return scanEntries(this.#place, visit, options);
  }

  #pageOf(index: number): number {
    return Math.floor((this.#lead + index * this.#form.bytes) / this.#pageBytes);
  }
}

/** Options for a scan. */
export interface ScanOptions extends OperationOptions {
  /** Entries that are stored as zeroes are passed over: a table of a huge disk has hardly any others. Default false. */
  readonly skipsZero?: boolean | undefined;
}

/** Calls `visit` for every entry on the medium, reading in large pieces without caching. Can be cancelled. */
export async function scanEntries(
  { storage, fileOffset, count, form }: TablePlace,
  visit: (value: number, index: number) => void,
  { signal, skipsZero = false }: ScanOptions = {},
): Promise<void> {
  const turns = new Turns(signal, 'Reading the image');
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, count * form.bytes));
  const view = new DataView(buffer.buffer);
  for (let index = 0; index < count; ) {
    const turn = turns.take(PIECE_STEPS);
    if (turn !== undefined) await turn;
    const entries = Math.min(buffer.length / form.bytes, count - index);
    await readPadded(storage, fileOffset + index * form.bytes, buffer.subarray(0, entries * form.bytes));
    for (let n = 0; n < entries; n++) {
      const value = form.get(view, n * form.bytes);
      // What the form leaves out of the value is visited, too.
      const next = skipsZero && value === 0 ? skipZeroes(buffer, n * form.bytes, form.bytes) / form.bytes : n;
      if (next === n) visit(value, index + n);
      else n = next - 1;
    }
    index += entries;
  }
}

/** Writes entries `[start, end)` to the medium, in whole sectors that preserve neighbouring bytes. */
export async function writeEntries(
  { storage, fileOffset, form }: Pick<TablePlace, 'storage' | 'fileOffset' | 'form'>,
  { start, end, signal }: OperationOptions & { readonly start: number; readonly end: number },
  value: (index: number) => number | Promise<number>,
): Promise<void> {
  const perPiece = PIECE_BYTES / form.bytes;
  for (let index = start; index < end; ) {
    throwIfAborted(signal, 'Changing the image');
    const stop = Math.min(end, alignDown(index, perPiece) + perPiece);
    const first = alignDown(fileOffset + index * form.bytes, SECTOR);
    const bytes = new Uint8Array(alignUp(fileOffset + stop * form.bytes, SECTOR) - first);
    await readPadded(storage, first, bytes);
    const view = new DataView(bytes.buffer);
    for (let n = index; n < stop; n++) {
      const entry = value(n);
      form.put(view, fileOffset + n * form.bytes - first, typeof entry === 'number' ? entry : await entry);
    }
    await storage.write(first, bytes);
    index = stop;
  }
}
