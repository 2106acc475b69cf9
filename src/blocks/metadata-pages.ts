/**
 * Metadata of an image in memory, by pages: loaded when needed, changed in memory, written back by the flush.
 *
 * A page holds the *live* bytes. `seal` copies the units that changed since the last seal (the *frozen* bytes that a
 * flush writes), so commits made during a flush never reach the medium early. Pages that are dirty, pinned or part of a
 * running flush stay; others are dropped, oldest first, when the cache is over its bound. So memory follows use, not
 * the size of the image.
 *
 * Dirty state is kept per unit of the *file*: 512-byte sectors, which a medium writes whole, or the larger unit that
 * the format prescribes for its metadata (4096 in VHDX). Several regions of one image may share one `PageCache`, so
 * that the bound holds for all of them together.
 */
import { SECTOR } from '../binary/numbers.ts';
import { assert } from '../errors.ts';
import type { MetaWrite } from '../image/contract.ts';
import { LIMITS } from '../limits.ts';
import type { MaybePromise, Storage } from '../storage/contract.ts';
import { readPadded } from '../storage/read-padded.ts';

/** Bytes of a page: large enough to load a table in few reads, small enough to drop. */
export const METADATA_PAGE = 64 * 1024;
/** Memory overhead of a page. */
const PAGE_OVERHEAD = 512;
/** Pages kept regardless of the bound. */
const MIN_PAGES = 2;

/** One resident page. */
export interface MetadataPage {
  readonly owner: MetadataPages;
  readonly index: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** One byte a unit: 1 = changed since the last seal. */
  readonly dirty: Uint8Array;
  dirtyUnits: number;
  /** Number of users that need the page in memory: slots not yet committed. */
  pins: number;
  /** Number of running flushes that write a copy of it. */
  flushing: number;
  lastUse: number;
}

/** Position and form of the pages of a region. */
export interface MetadataRegion {
  readonly storage: Storage;
  /** First byte, a multiple of the unit. */
  readonly fileOffset: number;
  readonly length: number;
  /** Bytes that are written as a whole: 512 (the default) or 4096. */
  readonly unit?: number | undefined;
  /** Bytes of a page, a multiple of the unit. Default {@link METADATA_PAGE}. Small where tables lie scattered. */
  readonly pageBytes?: number | undefined;
  /** Cache that the pages share with other regions of the image. Default: one for this region alone. */
  readonly cache?: PageCache | undefined;
  /** No user keeps a page while it waits for something, so the buffer of a dropped page may serve another one. */
  readonly reusesBuffers?: boolean | undefined;
}

/** Bound on the clean pages of an image, across all of its regions. */
export class PageCache {
  readonly #bytes: number;
  readonly #pages = new Set<MetadataPage>();
  #cost = 0;
  #dirtyCost = 0;
  #clock = 0;
  /** Buffers of dropped pages: as garbage they would pile up far beyond the bound before they are collected. */
  #spare: Uint8Array[] = [];

  constructor(bytes: number = LIMITS.tableCacheBytes) {
    this.#bytes = bytes;
  }

  /** Marks a page as the most recently used. */
  use(page: MetadataPage): void {
    page.lastUse = ++this.#clock;
  }

  /** Counts a page loaded into memory. */
  add(page: MetadataPage): void {
    this.#pages.add(page);
    this.#cost += costOf(page);
    this.use(page);
  }

  /** Stops counting a page. */
  delete(page: MetadataPage): void {
    if (this.#pages.delete(page)) this.#cost -= costOf(page);
  }

  /** Counts a page that the next flush must write. It stays in memory whole, however little of it changed. */
  dirtied(page: MetadataPage): void {
    this.#dirtyCost += costOf(page);
  }

  /** A flush took over the changes of the page, or it was dropped. */
  cleaned(page: MetadataPage): void {
    this.#dirtyCost -= costOf(page);
  }

  /** Bytes of pages that wait for a flush beyond half the bound: then it is time for one. */
  get crowding(): number {
    return Math.max(this.#dirtyCost - this.#bytes / 2, 0);
  }

  /** Drops the oldest unused pages, a quarter at a time, so that the search is rare. */
  trim(keep?: MetadataPage): void {
    if (this.#cost <= this.#bytes || this.#pages.size <= MIN_PAGES) return;
    const idle = [...this.#pages].filter(
      (page) => page !== keep && page.dirtyUnits === 0 && page.pins === 0 && page.flushing === 0,
    );
    idle.sort((a, b) => a.lastUse - b.lastUse);
    const goal = this.#bytes * 0.75;
    this.#spare = [];
    for (const page of idle) {
      if (this.#cost <= goal) break;
      this.delete(page);
      if (page.owner.drop(page)) this.#spare.push(page.bytes);
    }
  }

  /** A buffer with any content: that of a dropped page, if one is of this length. */
  buffer(length: number): Uint8Array {
    const spare = this.#spare.pop();
    return spare?.length === length ? spare : new Uint8Array(length);
  }
}

/** The pages of one region of one storage. */
export class MetadataPages {
  readonly pageBytes: number;
  readonly #region: MetadataRegion;
  readonly #unit: number;
  readonly #cache: PageCache;
  readonly #pages = new Map<number, MetadataPage>();
  readonly #loading = new Map<number, Promise<MetadataPage>>();
  readonly #dirtyPages = new Set<MetadataPage>();
  #flushing: MetadataPage[] = [];
  #dirtyUnits = 0;

  constructor(region: MetadataRegion) {
    this.#region = region;
    this.#unit = region.unit ?? SECTOR;
    this.pageBytes = region.pageBytes ?? METADATA_PAGE;
    this.#cache = region.cache ?? new PageCache();
    assert(region.fileOffset % this.#unit === 0, 'metadata begins at a unit');
    assert(this.pageBytes % this.#unit === 0, 'pages are whole units');
  }

  /** Bytes that the next flush must write. */
  get dirtyBytes(): number {
    return this.#dirtyUnits * this.#unit;
  }

  /** The page, when it is in memory. */
  peek(index: number): MetadataPage | undefined {
    const page = this.#pages.get(index);
    if (page !== undefined) this.#cache.use(page);
    return page;
  }

  /** The page, loaded if necessary. Concurrent callers share one read. */
  get(index: number): MaybePromise<MetadataPage> {
    return this.peek(index) ?? this.#loading.get(index) ?? this.#load(index);
  }

  /**
   * A page of zeroes for reused space, whatever its old content. `written`: it must be written in full; otherwise the
   * medium already reads as zero there, and only its end is written to extend the file. It stays in memory until the
   * following flush.
   */
  blank(index: number, written: boolean): MetadataPage {
    const old = this.#pages.get(index);
    if (old !== undefined) {
      assert(old.pins === 0 && old.flushing === 0, 'reused room has no user left');
      this.#dirtyUnits -= old.dirtyUnits;
      if (this.#dirtyPages.delete(old)) this.#cache.cleaned(old);
      this.#cache.delete(old);
    }
    const page = this.#keep(
      index,
      new Uint8Array(Math.min(this.pageBytes, this.#region.length - index * this.pageBytes)),
    );
    const { length } = page.bytes;
    this.touch(page, written ? 0 : length - this.#unit, length);
    this.#cache.trim(page);
    return page;
  }

  /** Marks bytes `[start, end)` of a page as changed. */
  touch(page: MetadataPage, start: number, end: number): void {
    for (let unit = Math.floor(start / this.#unit); unit * this.#unit < end; unit++) {
      if (page.dirty[unit] === 1) continue;
      page.dirty[unit] = 1;
      page.dirtyUnits++;
      this.#dirtyUnits++;
    }
    if (this.#dirtyPages.has(page)) return;
    this.#dirtyPages.add(page);
    this.#cache.dirtied(page);
  }

  /** Copies everything changed since the last seal and marks it clean. One flush at a time. */
  seal(): MetaWrite[] {
    assert(this.#flushing.length === 0, 'one flush at a time');
    const writes: MetaWrite[] = [];
    for (const page of [...this.#dirtyPages].sort((a, b) => a.index - b.index)) {
      for (const [first, last] of dirtyRuns(page.dirty)) {
        const start = first * this.#unit;
        const end = Math.min(last * this.#unit, this.#region.length - page.index * this.pageBytes);
        writes.push({
          storage: this.#region.storage,
          fileOffset: this.#region.fileOffset + page.index * this.pageBytes + start,
          bytes: page.bytes.slice(start, end),
        });
      }
      page.dirty.fill(0);
      this.#dirtyUnits -= page.dirtyUnits;
      page.dirtyUnits = 0;
      this.#cache.cleaned(page);
      page.flushing++;
      this.#flushing.push(page);
    }
    this.#dirtyPages.clear();
    return writes;
  }

  /** Ends the flush of the last seal. */
  settle(): void {
    for (const page of this.#flushing) page.flushing--;
    this.#flushing = [];
    this.#cache.trim();
  }

  /** Frees the memory of all pages, which must no longer be used. */
  discard(): void {
    for (const page of this.#pages.values()) this.#cache.delete(page);
    for (const page of this.#dirtyPages) this.#cache.cleaned(page);
    this.#pages.clear();
    this.#dirtyPages.clear();
  }

  /** Drops a page that the cache has stopped counting. True if its buffer may be used again. */
  drop(page: MetadataPage): boolean {
    this.#pages.delete(page.index);
    return this.#region.reusesBuffers === true;
  }

  #load(index: number): Promise<MetadataPage> {
    const loading = this.#read(index).finally(() => this.#loading.delete(index));
    this.#loading.set(index, loading);
    return loading;
  }

  async #read(index: number): Promise<MetadataPage> {
    const start = index * this.pageBytes;
    assert(start < this.#region.length, 'page inside the region');
    const length = Math.min(this.pageBytes, this.#region.length - start);
    const bytes = this.#region.reusesBuffers === true ? this.#cache.buffer(length) : new Uint8Array(length);
    await readPadded(this.#region.storage, this.#region.fileOffset + start, bytes);
    // Replaced by a blank page during the read: the bytes of the medium are stale.
    const made = this.#pages.get(index);
    if (made !== undefined) return made;
    const page = this.#keep(index, bytes);
    this.#cache.trim(page);
    return page;
  }

  #keep(index: number, bytes: Uint8Array): MetadataPage {
    const page: MetadataPage = {
      owner: this,
      index,
      bytes,
      view: new DataView(bytes.buffer),
      dirty: new Uint8Array(this.pageBytes / this.#unit),
      dirtyUnits: 0,
      pins: 0,
      flushing: 0,
      lastUse: 0,
    };
    this.#pages.set(index, page);
    this.#cache.add(page);
    return page;
  }
}

/** Memory cost of a page. */
function costOf({ bytes }: MetadataPage): number {
  return bytes.length === METADATA_PAGE ? METADATA_PAGE : bytes.length + PAGE_OVERHEAD;
}

/** Maximal runs `[first, last)` of dirty units. */
function* dirtyRuns(dirty: Uint8Array): Generator<[number, number]> {
  let first = dirty.indexOf(1);
  while (first !== -1) {
    const end = dirty.indexOf(0, first);
    const last = end === -1 ? dirty.length : end;
    yield [first, last];
    first = dirty.indexOf(1, last);
  }
}
