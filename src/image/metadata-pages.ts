/**
 * Metadata of an image in memory, by pages: loaded when needed, changed in memory, written back by the flush.
 *
 * A page holds the *live* bytes. `seal` copies the sectors that changed since the last seal (the *frozen* bytes that a
 * flush writes), so commits that come during a flush never reach the medium before their turn. Pages that are dirty,
 * pinned or part of a running flush stay; others are dropped, oldest first, when the cache is over its bound. So
 * memory follows use, not the size of the image.
 *
 * Dirty state is kept per 512-byte sector of the *file*, which is what a medium writes whole.
 */
import { SECTOR } from '../binary/numbers.ts';
import { assert } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { MaybePromise, Storage } from '../storage/contract.ts';
import { readPadded } from '../storage/read-padded.ts';
import type { MetaWrite } from './contract.ts';

/** Bytes of a page: large enough to load a table in few reads, small enough to drop. */
export const METADATA_PAGE = 64 * 1024;
/** What a page in memory takes beside its bytes. */
const PAGE_OVERHEAD = 512;

/** One resident page. */
export interface MetadataPage {
  readonly index: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** One byte a sector: 1 = changed since the last seal. */
  readonly dirty: Uint8Array;
  dirtySectors: number;
  /** Users that need the page to stay: slots not yet committed. */
  pins: number;
  /** Flushes that still write a copy of it. */
  flushing: number;
  lastUse: number;
}

/** Where the pages lie. */
export interface MetadataRegion {
  readonly storage: Storage;
  /** First byte, a multiple of 512. */
  readonly offset: number;
  readonly length: number;
  /** Bytes of a page, a multiple of 512. Default {@link METADATA_PAGE}. Small where tables lie scattered. */
  readonly pageBytes?: number;
  /** Bound for clean pages. */
  readonly cacheBytes?: number;
}

/** The pages of one region of one storage. */
export class MetadataPages {
  readonly pageBytes: number;
  readonly #region: MetadataRegion;
  readonly #maxPages: number;
  readonly #pages = new Map<number, MetadataPage>();
  readonly #loading = new Map<number, Promise<MetadataPage>>();
  readonly #dirtyPages = new Set<MetadataPage>();
  #flushing: MetadataPage[] = [];
  #dirtySectors = 0;
  #clock = 0;

  constructor(region: MetadataRegion) {
    assert(region.offset % SECTOR === 0, 'metadata begins at a sector');
    this.#region = region;
    this.pageBytes = region.pageBytes ?? METADATA_PAGE;
    assert(this.pageBytes % SECTOR === 0, 'pages are whole sectors');
    const cost = this.pageBytes === METADATA_PAGE ? METADATA_PAGE : this.pageBytes + PAGE_OVERHEAD;
    this.#maxPages = Math.max(Math.floor((region.cacheBytes ?? LIMITS.tableCacheBytes) / cost), 2);
  }

  /** Bytes that the next flush must write. */
  get dirtyBytes(): number {
    return this.#dirtySectors * SECTOR;
  }

  /** The page, when it is in memory. */
  peek(index: number): MetadataPage | undefined {
    const page = this.#pages.get(index);
    if (page !== undefined) page.lastUse = ++this.#clock;
    return page;
  }

  /** The page, loaded when it must be. Callers of one page share one read. */
  get(index: number): MaybePromise<MetadataPage> {
    return this.peek(index) ?? this.#loading.get(index) ?? this.#load(index);
  }

  /**
   * A page of zeroes for room that is used anew, whatever was known of it. `written`: it must reach the medium as it is;
   * otherwise the medium reads zero there already, and only its end is written, so that the file has it. It stays until
   * the flush after it.
   */
  blank(index: number, written: boolean): MetadataPage {
    const old = this.#pages.get(index);
    if (old !== undefined) {
      assert(old.pins === 0 && old.flushing === 0, 'room that is used anew has no user left');
      this.#dirtySectors -= old.dirtySectors;
      this.#dirtyPages.delete(old);
    }
    const page = this.#keep(
      index,
      new Uint8Array(Math.min(this.pageBytes, this.#region.length - index * this.pageBytes)),
    );
    const { length } = page.bytes;
    this.touch(page, written ? 0 : length - SECTOR, length);
    this.#trim(page);
    return page;
  }

  /** Notes that bytes `[start, end)` of a page changed. */
  touch(page: MetadataPage, start: number, end: number): void {
    for (let sector = Math.floor(start / SECTOR); sector * SECTOR < end; sector++) {
      if (page.dirty[sector] === 1) continue;
      page.dirty[sector] = 1;
      page.dirtySectors++;
      this.#dirtySectors++;
    }
    this.#dirtyPages.add(page);
  }

  /** Copies everything that changed since the last seal and counts it as clean. One flush at a time. */
  seal(): MetaWrite[] {
    assert(this.#flushing.length === 0, 'one flush at a time');
    const writes: MetaWrite[] = [];
    for (const page of [...this.#dirtyPages].sort((a, b) => a.index - b.index)) {
      for (const [first, last] of dirtyRuns(page.dirty)) {
        const start = first * SECTOR;
        const end = Math.min(last * SECTOR, this.#region.length - page.index * this.pageBytes);
        writes.push({
          storage: this.#region.storage,
          fileOffset: this.#region.offset + page.index * this.pageBytes + start,
          bytes: page.bytes.slice(start, end),
        });
      }
      page.dirty.fill(0);
      this.#dirtySectors -= page.dirtySectors;
      page.dirtySectors = 0;
      page.flushing++;
      this.#flushing.push(page);
    }
    this.#dirtyPages.clear();
    return writes;
  }

  /** The flush that took the last seal ended. */
  settle(): void {
    for (const page of this.#flushing) page.flushing--;
    this.#flushing = [];
    this.#trim();
  }

  #load(index: number): Promise<MetadataPage> {
    const loading = this.#read(index).finally(() => this.#loading.delete(index));
    this.#loading.set(index, loading);
    return loading;
  }

  async #read(index: number): Promise<MetadataPage> {
    const start = index * this.pageBytes;
    assert(start < this.#region.length, 'page inside the region');
    const bytes = new Uint8Array(Math.min(this.pageBytes, this.#region.length - start));
    await readPadded(this.#region.storage, this.#region.offset + start, bytes);
    // Made anew while it was read: what the medium has is old.
    const made = this.#pages.get(index);
    if (made !== undefined) return made;
    const page = this.#keep(index, bytes);
    this.#trim(page);
    return page;
  }

  #keep(index: number, bytes: Uint8Array): MetadataPage {
    const page: MetadataPage = {
      index,
      bytes,
      view: new DataView(bytes.buffer),
      dirty: new Uint8Array(this.pageBytes / SECTOR),
      dirtySectors: 0,
      pins: 0,
      flushing: 0,
      lastUse: ++this.#clock,
    };
    this.#pages.set(index, page);
    return page;
  }

  /** Drops the oldest pages that nobody needs. A quarter at a time, so that the search is paid rarely. */
  #trim(keep?: MetadataPage): void {
    if (this.#pages.size <= this.#maxPages) return;
    const idle = [...this.#pages.values()].filter(
      (page) => page !== keep && page.dirtySectors === 0 && page.pins === 0 && page.flushing === 0,
    );
    idle.sort((a, b) => a.lastUse - b.lastUse);
    const goal = Math.floor(this.#maxPages * 0.75);
    for (const page of idle.slice(0, this.#pages.size - goal)) this.#pages.delete(page.index);
  }
}

/** Maximal runs `[first, last)` of dirty sectors. */
function* dirtyRuns(dirty: Uint8Array): Generator<[number, number]> {
  let first = dirty.indexOf(1);
  while (first !== -1) {
    const end = dirty.indexOf(0, first);
    const last = end === -1 ? dirty.length : end;
    yield [first, last];
    first = dirty.indexOf(1, last);
  }
}
