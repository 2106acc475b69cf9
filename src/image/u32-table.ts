/** A table of 32-bit entries over metadata pages: block maps, BATs, grain tables. */
import { alignDown, alignUp, SECTOR } from '../binary/numbers.ts';
import { assert } from '../errors.ts';
import type { OperationOptions, Storage } from '../storage/contract.ts';
import { readPadded } from '../storage/read-padded.ts';
import { Turns } from '../storage/turns.ts';
import type { MetaWrite } from './contract.ts';
import { METADATA_PAGE, MetadataPages } from './metadata-pages.ts';

const ENTRY = 4;
/** Bytes that a scan reads at once. */
const SCAN_BYTES = 1024 * 1024;
/** They take as long as so many small steps. */
const SCAN_STEPS = 128;

/** Where the table lies and how its entries are stored. */
export interface U32TableLayout {
  readonly storage: Storage;
  /** Byte offset of entry 0, a multiple of 4. */
  readonly offset: number;
  /** Number of entries. */
  readonly count: number;
  readonly littleEndian: boolean;
  readonly cacheBytes?: number;
}

/** Entries that are in memory are read and written without waiting. */
export class U32Table {
  readonly count: number;
  readonly #layout: U32TableLayout;
  readonly #pages: MetadataPages;
  /** Bytes between the first sector of the region and entry 0. */
  readonly #lead: number;

  constructor(layout: U32TableLayout) {
    assert(layout.offset % ENTRY === 0, 'no entry of a table lies in two pages');
    const start = alignDown(layout.offset, SECTOR);
    this.count = layout.count;
    this.#layout = layout;
    this.#lead = layout.offset - start;
    this.#pages = new MetadataPages({
      storage: layout.storage,
      offset: start,
      length: alignUp(this.#lead + layout.count * ENTRY, SECTOR),
      ...(layout.cacheBytes === undefined ? {} : { cacheBytes: layout.cacheBytes }),
    });
  }

  get dirtyBytes(): number {
    return this.#pages.dirtyBytes;
  }

  /** The entry, or undefined when its page must be loaded first. */
  get(index: number): number | undefined {
    const at = this.#lead + index * ENTRY;
    const page = this.#pages.peek(Math.floor(at / METADATA_PAGE));
    return page?.view.getUint32(at % METADATA_PAGE, this.#layout.littleEndian);
  }

  /** Brings the entry's page into memory. */
  async load(index: number): Promise<void> {
    await this.#pages.get(this.#pageOf(index));
  }

  /** Number of entries from `index` on that share its page. */
  pageRest(index: number): number {
    const at = this.#lead + index * ENTRY;
    return Math.min((METADATA_PAGE - (at % METADATA_PAGE)) / ENTRY, this.count - index);
  }

  /** Keeps the entry's page, which is in memory, until `unpin`. */
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

  /** Changes an entry whose page is in memory. */
  set(index: number, value: number): void {
    const at = this.#lead + index * ENTRY;
    const page = this.#pages.peek(Math.floor(at / METADATA_PAGE));
    assert(page !== undefined, 'a changed page is in memory');
    page.view.setUint32(at % METADATA_PAGE, value, this.#layout.littleEndian);
    this.#pages.touch(page, at % METADATA_PAGE, (at % METADATA_PAGE) + ENTRY);
  }

  seal(): MetaWrite[] {
    return this.#pages.seal();
  }

  settle(): void {
    this.#pages.settle();
  }

  /** Calls `visit` for every entry on the medium, reading in large pieces and keeping none. May be cancelled. */
  async scan(visit: (value: number, index: number) => void, { signal }: OperationOptions = {}): Promise<void> {
    const turns = new Turns(signal, 'Reading the block map');
    const buffer = new Uint8Array(Math.min(SCAN_BYTES, this.count * ENTRY));
    const view = new DataView(buffer.buffer);
    for (let index = 0; index < this.count; ) {
      const turn = turns.take(SCAN_STEPS);
      if (turn !== undefined) await turn;
      const entries = Math.min(buffer.length / ENTRY, this.count - index);
      await readPadded(this.#layout.storage, this.#layout.offset + index * ENTRY, buffer.subarray(0, entries * ENTRY));
      for (let n = 0; n < entries; n++) visit(view.getUint32(n * ENTRY, this.#layout.littleEndian), index + n);
      index += entries;
    }
  }

  #pageOf(index: number): number {
    return Math.floor((this.#lead + index * ENTRY) / METADATA_PAGE);
  }
}
