/**
 * From guest offsets to what the L1 and L2 tables say of them, for the active tables or those of a snapshot.
 *
 * `look` is a cursor: it answers in the fields of the map and allocates nothing, since a map of a large disk asks for
 * millions of clusters. It never waits: false means that a table must be loaded first. Tables are kept in pieces within
 * a bound, so memory follows use. L2 tables are cached by their place in the file (`l2`), whatever L1 leads to them, so
 * that maps of several snapshots may share the cache.
 *
 * What a table says is hostile: a wrong entry makes the kind `broken` for the clusters it answers for, and no others.
 *
 * The file may end inside its last cluster, or of an image with subclusters inside its last subcluster: what is missing
 * of that one reads zero. Whatever begins at the end of the file or behind it was cut off.
 */
import { divCeil } from '../../../binary/numbers.ts';
import { type MetadataPage, MetadataPages, type PageCache } from '../../../blocks/metadata-pages.ts';
import { type EntryForm, EntryTable } from '../../../blocks/table.ts';
import { hex, ImageError } from '../../../errors.ts';
import type { MetaWrite } from '../../../image/contract.ts';
import type { Storage } from '../../../storage/contract.ts';
import type { Qcow2Header } from '../header/header.ts';
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  compressedOffsetBits,
  ENTRY_BYTES,
  EXTENDED_ENTRY_BYTES,
  INCOMPATIBLE,
  OFFSET_HIGH,
  OFFSET_LOW,
  SUBCLUSTERS,
  VERSION_3,
  ZERO_LOW,
} from '../layout.ts';

/** What `look` finds. */
export const KIND = { absent: 0, zero: 1, data: 2, encoded: 3, broken: 4 } as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

const HIGH = 2 ** 32;
const SECTOR = 512;
/** Bytes of a table that are loaded at once: 16 KiB of an L2 table answer for 128 MiB of 64 KiB clusters. */
const L2_PAGE = 16 * 1024;

/** Entries of an L1 table: where the L2 table lies, 0 = there is none. One that is put is nobody else's. */
const L1_ENTRY: EntryForm = {
  bytes: ENTRY_BYTES,
  get: (view, at) => offsetOf(view.getUint32(at), view.getUint32(at + 4)),
  put: (view, at, table) => {
    view.setUint32(at, (Math.floor(table / HIGH) | (table === 0 ? 0 : COPIED_HIGH)) >>> 0);
    view.setUint32(at + 4, table % HIGH);
  },
};

/** An L2 entry: its two halves, and the two words of its bitmap where there are subclusters. */
export interface L2Entry {
  readonly high: number;
  readonly low: number;
  readonly zeroBits: number;
  readonly dataBits: number;
}

/** What a map is made from. */
export interface ClusterMapParts {
  readonly header: Qcow2Header;
  readonly storage: Storage;
  /** Where guest data lies: the image itself, or its external data file. */
  readonly data: Storage;
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly l2: MetadataPages;
  /** Shared by all tables of the image. */
  readonly cache: PageCache;
  /** Where the file ends, when it may have been cut off; else 0. */
  readonly fileEnd: number;
}

/** The cache of L2 tables of one image, addressed by offsets in the file. */
export function l2Cache(storage: Storage, clusterSize: number, cache: PageCache): MetadataPages {
  const pageBytes = Math.min(clusterSize, L2_PAGE);
  return new MetadataPages({ storage, fileOffset: 0, length: Number.MAX_SAFE_INTEGER, pageBytes, cache });
}

/** See the head of this file. */
export class ClusterMap {
  /** Answer of the last `look` that was not false: what the guest finds from there on … */
  kind: Kind = KIND.absent;
  /** … up to this guest offset, which may lie behind the end of the disk. */
  until = 0;
  /** Of `data`: where the byte lies in the data storage. Of `encoded`: where the compressed bytes begin. */
  position = 0;
  /** Of `encoded`: bytes of the file that hold the compressed ones, and often some of others behind them. */
  encodedBytes = 0;
  /** The L2 entry, where there is one: its two halves and the two words of its bitmap. */
  high = 0;
  low = 0;
  zeroBits = 0;
  dataBits = 0;
  /** The page that the entry is in; null where there is no L2 table. */
  page: MetadataPage | null = null;

  readonly #header: Qcow2Header;
  readonly #storage: Storage;
  readonly #data: Storage;
  readonly #hasDataFile: boolean;
  readonly #l1: EntryTable;
  readonly #l1Offset: number;
  readonly #l1Entries: number;
  readonly #l2: MetadataPages;
  readonly #clusterSize: number;
  readonly #entryBytes: number;
  /** Guest bytes of one L2 table. */
  readonly #tableBytes: number;
  readonly #offsetBits: number;
  readonly #fileEnd: number;
  #reason = '';
  /** Where something lies that the file does not have, when that is the reason. */
  #missing: { readonly host: number; readonly fileSize: number } | null = null;
  #place = 0;

  constructor(parts: ClusterMapParts) {
    const { header, storage, l1Offset } = parts;
    this.#header = header;
    this.#storage = storage;
    this.#data = parts.data;
    this.#hasDataFile = (header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
    this.#fileEnd = parts.fileEnd;
    const { l1Entries, cache } = parts;
    this.#l1 = new EntryTable({
      storage,
      fileOffset: l1Offset,
      count: Math.max(l1Entries, 1),
      form: L1_ENTRY,
      cache,
    });
    this.#l1Offset = l1Offset;
    this.#l1Entries = parts.l1Entries;
    this.#l2 = parts.l2;
    this.#clusterSize = header.clusterSize;
    this.#entryBytes = header.extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES;
    this.#tableBytes = header.clusterSize * header.l2Entries;
    this.#offsetBits = compressedOffsetBits(header.clusterBits) - 32;
  }

  /** Finds what stands at the guest offset. False: `load` it first. */
  look(guestOffset: number): boolean {
    const l1Index = Math.floor(guestOffset / this.#tableBytes);
    this.page = null;
    this.high = 0;
    this.low = 0;
    if (l1Index >= this.#l1Entries) return this.#found(KIND.absent, Number.MAX_SAFE_INTEGER);
    const table = this.#l1.get(l1Index);
    if (table === undefined) return false;
    if (table === 0) return this.#found(KIND.absent, (l1Index + 1) * this.#tableBytes);
    if (table % this.#clusterSize !== 0) return this.#noTable(table, l1Index);
    const cluster = Math.floor(guestOffset / this.#clusterSize);
    const entryAt = this.#entryAt(table, guestOffset);
    this.#place = entryAt;
    if (table < this.#fileEnd && entryAt + this.#entryBytes > this.#fileEnd) {
      return this.#broken('The file ends inside an L2 table', (cluster + 1) * this.#clusterSize);
    }
    const page = this.#l2.peek(Math.floor(entryAt / this.#l2.pageBytes));
    if (page === undefined) {
      // A new table is in memory before it is in the file.
      if (table >= this.#storage.size) return this.#noTable(table, l1Index);
      return false;
    }
    this.page = page;
    return this.#decode(page.view, entryAt % this.#l2.pageBytes, cluster, guestOffset);
  }

  /** Brings the tables that answer for the guest offset into memory. */
  async load(guestOffset: number): Promise<void> {
    const l1Index = Math.floor(guestOffset / this.#tableBytes);
    let table = this.#l1.get(l1Index);
    while (table === undefined) {
      await this.#l1.load(l1Index);
      table = this.#l1.get(l1Index);
    }
    if (table === 0 || table >= this.#storage.size) return;
    const entryAt = this.#entryAt(table, guestOffset);
    await this.#l2.get(Math.floor(entryAt / this.#l2.pageBytes));
  }

  /** Guest bytes that one L2 table answers for. */
  get tableBytes(): number {
    return this.#tableBytes;
  }

  /** Where the L2 table of a guest offset lies, 0 = there is none; undefined: `load` first. Not checked. */
  tableOf(guestOffset: number): number | undefined {
    return this.#l1.get(Math.floor(guestOffset / this.#tableBytes));
  }

  /** Makes the L1 table lead to an L2 table that nothing else leads to. The L1 entry is in memory. */
  setTable(guestOffset: number, table: number): void {
    this.#l1.set(Math.floor(guestOffset / this.#tableBytes), table);
  }

  /** Entries of an L2 table that are in one page. */
  get entriesPerPage(): number {
    return this.#l2.pageBytes / this.#entryBytes;
  }

  /** The page that holds the entry of a guest offset, when it is in memory and there is one. */
  pageOf(guestOffset: number): MetadataPage | undefined {
    const table = this.tableOf(guestOffset);
    if (table === undefined || table === 0) return undefined;
    return this.#l2.peek(Math.floor(this.#entryAt(table, guestOffset) / this.#l2.pageBytes));
  }

  /** The entry of a guest offset in the page that holds it. */
  entryIn(page: MetadataPage, guestOffset: number): L2Entry {
    const at = (Math.floor(guestOffset / this.#clusterSize) % this.entriesPerPage) * this.#entryBytes;
    const [high, low] = [page.view.getUint32(at), page.view.getUint32(at + 4)];
    if (!this.#header.extendedL2) return { high, low, zeroBits: 0, dataBits: 0 };
    return { high, low, zeroBits: page.view.getUint32(at + 8), dataBits: page.view.getUint32(at + 12) };
  }

  /** Stores an entry whose page is in memory; the bitmap words only where there are subclusters. */
  setEntry(page: MetadataPage, guestOffset: number, entry: L2Entry): void {
    const inPage = Math.floor(guestOffset / this.#clusterSize) % this.entriesPerPage;
    const at = inPage * this.#entryBytes;
    page.view.setUint32(at, entry.high >>> 0);
    page.view.setUint32(at + 4, entry.low >>> 0);
    if (this.#header.extendedL2) {
      page.view.setUint32(at + 8, entry.zeroBits >>> 0);
      page.view.setUint32(at + 12, entry.dataBits >>> 0);
    }
    this.#l2.touch(page, at, at + this.#entryBytes);
  }

  /** The same of neighbours without subclusters, which lie behind each other in the file and are nobody else's. */
  setRun(page: MetadataPage, guestOffset: number, count: number, offset: number): void {
    const at = (Math.floor(guestOffset / this.#clusterSize) % this.entriesPerPage) * ENTRY_BYTES;
    for (let n = 0; n < count; n++) {
      const host = offset + n * this.#clusterSize;
      page.view.setUint32(at + n * ENTRY_BYTES, (Math.floor(host / HIGH) | COPIED_HIGH) >>> 0);
      page.view.setUint32(at + n * ENTRY_BYTES + 4, host % HIGH);
    }
    this.#l2.touch(page, at, at + count * ENTRY_BYTES);
  }

  /** What L1 pages the next flush must write. */
  sealL1(): MetaWrite[] {
    return this.#l1.seal();
  }

  /** That flush ended. */
  settleL1(): void {
    this.#l1.settle();
  }

  get dirtyBytes(): number {
    return this.#l1.dirtyBytes;
  }

  /** Gives the memory of the L1 table back. The map is not used any more. */
  discard(): void {
    this.#l1.discard();
  }

  #entryAt(table: number, guestOffset: number): number {
    const cluster = Math.floor(guestOffset / this.#clusterSize);
    return table + (cluster % this.#header.l2Entries) * this.#entryBytes;
  }

  /** The error that belongs to the last answer, which was `broken`. */
  problem(guestOffset: number): ImageError {
    const where = { path: this.#storage.label, offset: this.#place, guestOffset };
    if (this.#missing === null) {
      return new ImageError('corrupt', this.#reason, {
        ...where,
        status: 'VERR_VD_IMAGE_CORRUPTED',
        hint: 'Everything that other entries answer for can still be read.',
      });
    }
    const { host, fileSize } = this.#missing;
    return new ImageError('corrupt', this.#reason, {
      ...where,
      status: 'VERR_VD_READ_OUT_OF_RANGE',
      found: `guest bytes ${guestOffset} to ${this.until - 1} at ${hex(host)}`,
      expected: `less than the size of the file, ${hex(fileSize)}`,
      hint: 'Copy the image again from where it came from; everything before the end can still be read.',
    });
  }

  #noTable(table: number, l1Index: number): true {
    this.#place = this.#l1Offset + l1Index * ENTRY_BYTES;
    const until = (l1Index + 1) * this.#tableBytes;
    return this.#broken(`An L1 entry points to ${hex(table)}, where no L2 table can be`, until);
  }

  #found(kind: Kind, until: number): true {
    this.kind = kind;
    this.until = until;
    return true;
  }

  #decode(view: DataView, at: number, cluster: number, guestOffset: number): true {
    this.high = view.getUint32(at);
    this.low = view.getUint32(at + 4);
    const until = (cluster + 1) * this.#clusterSize;
    if ((this.high & COMPRESSED_HIGH) !== 0) return this.#encoded(until);
    const host = offsetOf(this.high, this.low);
    // Guest cluster 0 of an external data file is at its offset 0.
    const placed = host !== 0 || (this.#hasDataFile && (this.high & COPIED_HIGH) !== 0);
    if (this.#header.extendedL2) {
      this.zeroBits = view.getUint32(at + 8);
      this.dataBits = view.getUint32(at + 12);
      return this.#subcluster(host, placed, cluster, guestOffset);
    }
    if ((this.low & ZERO_LOW) !== 0) {
      if (this.#header.version === VERSION_3) return this.#found(KIND.zero, until);
      return this.#broken('An L2 entry has the zero flag, which version 2 does not know', until);
    }
    if (!placed) return this.#found(KIND.absent, until);
    return this.#placed(host, cluster * this.#clusterSize, guestOffset, until);
  }

  /** One subcluster and those behind it that are alike. */
  #subcluster(host: number, placed: boolean, cluster: number, guestOffset: number): true {
    const start = cluster * this.#clusterSize;
    const size = this.#clusterSize / SUBCLUSTERS;
    const index = Math.floor((guestOffset - start) / size);
    const zero = (this.zeroBits >>> index) & 1;
    const data = (this.dataBits >>> index) & 1;
    let end = index + 1;
    while (end < SUBCLUSTERS && ((this.zeroBits >>> end) & 1) === zero && ((this.dataBits >>> end) & 1) === data) end++;
    const until = start + end * size;
    if (zero === 1 && data === 1) return this.#broken('A subcluster is marked both as data and as zero', until);
    if (zero === 1) return this.#found(KIND.zero, until);
    if (data === 0) return this.#found(KIND.absent, until);
    if (!placed) return this.#broken('A subcluster is marked as data, but its cluster has no place', until);
    if (host % this.#clusterSize !== 0 || (this.#hasDataFile && host !== start)) {
      return this.#placed(host, start, guestOffset, until);
    }
    // Those that the file has, wholly or in part; the one asked for is judged by itself.
    const inFile = Math.max(divCeil(this.#data.size - host, size), index + 1);
    return this.#placed(host + index * size, start + index * size, guestOffset, Math.min(until, start + inFile * size));
  }

  /** Guest data from `start` on, in a cluster or subcluster of the file that begins at `host`. */
  #placed(host: number, start: number, guestOffset: number, until: number): true {
    const unit = this.#header.extendedL2 ? this.#clusterSize / SUBCLUSTERS : this.#clusterSize;
    if (host % unit !== 0) {
      return this.#broken(`An L2 entry points to ${hex(host)}, where no cluster begins`, until);
    }
    if (this.#hasDataFile && host !== start) {
      return this.#broken(`An L2 entry points to ${hex(host)} in the data file, not to its own offset`, until);
    }
    if (host >= this.#data.size) return this.#cutOff('Guest data', host, this.#data.size, until);
    this.position = host + (guestOffset - start);
    return this.#found(KIND.data, until);
  }

  /** Section "Compressed Clusters Descriptor": an offset to the byte, and the sectors behind the first one. */
  #encoded(until: number): true {
    if (this.#hasDataFile) return this.#broken('An image with an external data file has a compressed cluster', until);
    const width = 2 ** this.#offsetBits;
    const position = (this.high % width) * HIGH + this.low;
    const sectors = (this.high >>> this.#offsetBits) & (2 ** (this.#header.clusterBits - 8) - 1);
    if (position >= this.#storage.size) {
      return this.#cutOff('A compressed cluster', position, this.#storage.size, until);
    }
    this.position = position;
    this.encodedBytes = (sectors + 1) * SECTOR - (position % SECTOR);
    return this.#found(KIND.encoded, until);
  }

  #broken(reason: string, until: number): true {
    this.#reason = reason;
    this.#missing = null;
    return this.#found(KIND.broken, until);
  }

  #cutOff(what: string, host: number, fileSize: number, until: number): true {
    this.#broken(`${what} lies beyond the end of the file: the image was cut off`, until);
    this.#missing = { host, fileSize };
    return true;
  }
}

/** Bits 9 to 55 of an entry. Exact: they are less than 2^56 but end in nine zeroes. */
export function offsetOf(high: number, low: number): number {
  return (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
}
