/**
 * From guest offsets to what the L1 and L2 tables say of them, for the active tables or those of a snapshot: a two-level
 * map whose entries are those of QCOW2.
 *
 * The file may end inside its last cluster, or of an image with subclusters inside its last subcluster: what is missing
 * of that one reads zero. Whatever begins at the end of the file or behind it was cut off.
 */
import { divCeil } from '../../../binary/numbers.ts';
import { type MetadataPage, MetadataPages, type PageCache } from '../../../blocks/metadata-pages.ts';
import { wordRunEnd } from '../../../blocks/sector-bitmap.ts';
import { type EntryForm, EntryTable } from '../../../blocks/table.ts';
import { KIND, TwoLevelMap } from '../../../blocks/two-level-map.ts';
import { hex } from '../../../errors.ts';
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

const HIGH = 2 ** 32;
const SECTOR = 512;
/** Bytes of a table loaded at once: 16 KiB of an L2 table cover 128 MiB in 64 KiB clusters. */
const L2_PAGE = 16 * 1024;

/** An L1 entry: offset of the L2 table, 0 for none. A stored entry refers to an unshared table. */
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

/** Parts of a map. */
export interface ClusterMapParts {
  readonly header: Qcow2Header;
  readonly storage: Storage;
  /** Storage of guest data: the image itself, or its external data file. */
  readonly data: Storage;
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly l2: MetadataPages;
  /** Shared by all tables of the image. */
  readonly cache: PageCache;
  /** End of the file, if it may be truncated; otherwise 0. */
  readonly fileEnd: number;
}

/** The cache of L2 tables of one image, addressed by offsets in the file. */
export function l2Cache(storage: Storage, clusterSize: number, cache: PageCache): MetadataPages {
  const pageBytes = Math.min(clusterSize, L2_PAGE);
  return new MetadataPages({ storage, fileOffset: 0, length: Number.MAX_SAFE_INTEGER, pageBytes, cache });
}

/** Cluster map of one L1 table; see `look`. */
export class ClusterMap extends TwoLevelMap {
  /** The L2 entry, if any: its two halves and the two words of its bitmap. */
  high = 0;
  low = 0;
  zeroBits = 0;
  dataBits = 0;

  readonly #header: Qcow2Header;
  readonly #storage: Storage;
  readonly #data: Storage;
  readonly #hasDataFile: boolean;
  readonly #clusterSize: number;
  readonly #offsetBits: number;

  constructor({ header, storage, data, l1Offset, l1Entries, l2, cache, fileEnd }: ClusterMapParts) {
    const count = Math.max(l1Entries, 1);
    super({
      storage,
      directory: new EntryTable({ storage, fileOffset: l1Offset, count, form: L1_ENTRY, cache }),
      directoryEntries: l1Entries,
      directoryOffset: l1Offset,
      tables: l2,
      tableAlignment: header.clusterSize,
      clusterSize: header.clusterSize,
      entryBytes: header.extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES,
      tableEntries: header.l2Entries,
      fileEnd,
      names: { directory: 'L1', table: 'L2' },
    });
    this.#header = header;
    this.#storage = storage;
    this.#data = data;
    this.#hasDataFile = (header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
    this.#clusterSize = header.clusterSize;
    this.#offsetBits = compressedOffsetBits(header.clusterBits) - 32;
  }

  /** The entry of a guest offset in its page. */
  entryIn(page: MetadataPage, guestOffset: number): L2Entry {
    const at = this.entryAt(guestOffset);
    const [high, low] = [page.view.getUint32(at), page.view.getUint32(at + 4)];
    if (!this.#header.extendedL2) return { high, low, zeroBits: 0, dataBits: 0 };
    return { high, low, zeroBits: page.view.getUint32(at + 8), dataBits: page.view.getUint32(at + 12) };
  }

  /** Stores an entry whose page is in memory; bitmap words only with subclusters. */
  setEntry(page: MetadataPage, guestOffset: number, entry: L2Entry): void {
    const at = this.entryAt(guestOffset);
    page.view.setUint32(at, entry.high >>> 0);
    page.view.setUint32(at + 4, entry.low >>> 0);
    if (this.#header.extendedL2) {
      page.view.setUint32(at + 8, entry.zeroBits >>> 0);
      page.view.setUint32(at + 12, entry.dataBits >>> 0);
    }
    this.touch(page, at);
  }

  /** Stores the entries of neighbours without subclusters that are consecutive in the file and unshared. */
  setRun(page: MetadataPage, guestOffset: number, count: number, offset: number): void {
    const at = this.entryAt(guestOffset);
    for (let n = 0; n < count; n++) {
      const host = offset + n * this.#clusterSize;
      page.view.setUint32(at + n * ENTRY_BYTES, (Math.floor(host / HIGH) | COPIED_HIGH) >>> 0);
      page.view.setUint32(at + n * ENTRY_BYTES + 4, host % HIGH);
    }
    this.touch(page, at, count);
  }

  protected override decode(view: DataView, at: number, cluster: number, guestOffset: number): true {
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
      if (this.#header.version === VERSION_3) return this.found(KIND.zero, until);
      return this.broken('An L2 entry has the zero flag, which version 2 does not define', until);
    }
    if (!placed) return this.found(KIND.absent, until);
    return this.#placed(host, cluster * this.#clusterSize, guestOffset, until);
  }

  /** One subcluster and the following ones of the same kind. */
  #subcluster(host: number, placed: boolean, cluster: number, guestOffset: number): true {
    const start = cluster * this.#clusterSize;
    const size = this.#clusterSize / SUBCLUSTERS;
    const index = Math.floor((guestOffset - start) / size);
    const zero = (this.zeroBits >>> index) & 1;
    const data = (this.dataBits >>> index) & 1;
    const end = Math.min(wordRunEnd(this.zeroBits, index), wordRunEnd(this.dataBits, index));
    const until = start + end * size;
    if (zero === 1 && data === 1) return this.broken('A subcluster is marked as both data and zero', until);
    if (zero === 1) return this.found(KIND.zero, until);
    if (data === 0) return this.found(KIND.absent, until);
    if (!placed) return this.broken('A subcluster is marked as data, but its cluster is not allocated', until);
    if (host % this.#clusterSize !== 0 || (this.#hasDataFile && host !== start)) {
      return this.#placed(host, start, guestOffset, until);
    }
    // Those that the file has, wholly or in part; the one asked for is judged by itself.
    const inFile = Math.max(divCeil(this.#data.size - host, size), index + 1);
    return this.#placed(host + index * size, start + index * size, guestOffset, Math.min(until, start + inFile * size));
  }

  /** Guest data from `start` on, in a cluster or subcluster of the file at `host`. */
  #placed(host: number, start: number, guestOffset: number, until: number): true {
    const unit = this.#header.extendedL2 ? this.#clusterSize / SUBCLUSTERS : this.#clusterSize;
    if (host % unit !== 0) {
      return this.broken(`An L2 entry points to ${hex(host)}, where no cluster begins`, until);
    }
    if (this.#hasDataFile && host !== start) {
      return this.broken(`An L2 entry points to ${hex(host)} in the data file instead of its guest offset`, until);
    }
    if (host >= this.#data.size) return this.cutOff('Guest data', host, this.#data.size, until);
    this.position = host + (guestOffset - start);
    return this.found(KIND.data, until);
  }

  /** Section "Compressed Clusters Descriptor": a byte offset, and the number of additional sectors. */
  #encoded(until: number): true {
    if (this.#hasDataFile) return this.broken('An image with an external data file has a compressed cluster', until);
    const width = 2 ** this.#offsetBits;
    const position = (this.high % width) * HIGH + this.low;
    const sectors = (this.high >>> this.#offsetBits) & (2 ** (this.#header.clusterBits - 8) - 1);
    if (position >= this.#storage.size) {
      return this.cutOff('A compressed cluster', position, this.#storage.size, until);
    }
    this.position = position;
    this.encodedBytes = (sectors + 1) * SECTOR - (position % SECTOR);
    return this.found(KIND.encoded, until);
  }
}

/** Bits 9 to 55 of an entry. Exact: values below 2^56 that end in nine zeroes. */
export function offsetOf(high: number, low: number): number {
  return (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
}
