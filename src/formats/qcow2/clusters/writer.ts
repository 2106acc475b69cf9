/**
 * Allocation for guest data: clusters, entries that point at them, and freeing old clusters. Clusters shared with a
 * snapshot are copied by the disk. The tables that hold the entries are those of l2-tables.ts.
 */
import { divCeil } from '../../../binary/numbers.ts';
import type { MetadataPage } from '../../../blocks/metadata-pages.ts';
import { assert } from '../../../errors.ts';
import type { WriteSlot } from '../../../image/contract.ts';
import type { MaybePromise, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import type { Qcow2Header } from '../header/header.ts';
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  ENTRY_BYTES,
  INCOMPATIBLE,
  SUBCLUSTERS,
  VERSION_3,
  ZERO_LOW,
} from '../layout.ts';
import { type ClusterMap, type L2Entry, offsetOf } from './cluster-map.ts';
import { entryOf, subclusterMask, withData } from './entries.ts';
import { type Again, L2Tables, type TableParts } from './l2-tables.ts';
import type { ClusterRun, RefcountStore } from './refcount-store.ts';

const ALL = 0xffff_ffff;
const NOTHING = { high: 0, low: 0, zeroBits: 0, dataBits: 0 } as const;

/** Parts of a writer. */
export interface WriterParts extends TableParts {
  readonly data: Storage;
}

/** L2 entries that will refer to compressed clusters. */
export interface TakenEntries {
  /** Number of the requested entries taken, at least one. */
  readonly count: number;
  /** Stores the first entries and frees their old clusters. The others are unchanged. */
  commit(entries: readonly { readonly high: number; readonly low: number }[]): void;
  /** Leaves all entries unchanged. */
  abort(): void;
}

/** Allocation of clusters for guest data; see the comment at the top of this module. */
export class ClusterWriter {
  readonly tables: L2Tables;
  readonly #header: Qcow2Header;
  readonly #storage: Storage;
  readonly #data: Storage;
  readonly #hasDataFile: boolean;
  readonly #map: ClusterMap;
  readonly #counts: RefcountStore;
  readonly #clusterSize: number;

  constructor(parts: WriterParts) {
    this.tables = new L2Tables(parts);
    this.#header = parts.header;
    this.#storage = parts.storage;
    this.#data = parts.data;
    this.#map = parts.map;
    this.#counts = parts.counts;
    this.#clusterSize = parts.header.clusterSize;
    this.#hasDataFile = (parts.header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
  }

  /** Allocates space for an unallocated range: see `Image.prepareWrite`. */
  prepare(offset: number, length: number): MaybePromise<WriteSlot> {
    const again = (): MaybePromise<WriteSlot> => this.prepare(offset, length);
    const page = this.tables.entryPage(offset, again);
    if (page instanceof Promise) return page;
    if (this.#hasDataFile) return this.#dataFileSlot(page, offset, length);
    if (this.#header.extendedL2) return this.#extendedSlot(page, offset, length, again);
    return this.#slot(page, offset, length, again);
  }

  /** Entries for clusters in ascending order, as many as share a page with the first of them. */
  takeEntries(guestOffsets: readonly number[]): MaybePromise<TakenEntries> {
    const [first] = guestOffsets;
    assert(first !== undefined, 'somebody asks for something');
    const again = (): MaybePromise<TakenEntries> => this.takeEntries(guestOffsets);
    const page = this.tables.entryPage(first, again);
    if (page instanceof Promise) return page;
    const pageOf = (offset: number): number => Math.floor(offset / this.#clusterSize / this.#map.entriesPerPage);
    const end = guestOffsets.findIndex((offset) => pageOf(offset) !== pageOf(first));
    const offsets = end === -1 ? guestOffsets : guestOffsets.slice(0, end);
    const olds: number[][] = [];
    for (const offset of offsets) {
      const { high, low } = this.#entryIn(page, offset);
      const clusters = this.tables.hostClusters(high, low);
      const missing = this.#holdAll(clusters);
      if (missing !== null) {
        for (const cluster of olds.flat()) this.#counts.letGo(cluster);
        return this.#counts.load(missing).then(again);
      }
      olds.push(clusters);
    }
    page.pins++;
    return {
      count: offsets.length,
      commit: (entries) => {
        for (const [n, offset] of offsets.entries()) {
          const entry = entries[n];
          for (const cluster of olds[n] ?? []) {
            if (entry === undefined) this.#counts.letGo(cluster);
            else this.#counts.release(cluster);
          }
          if (entry !== undefined) this.#map.setEntry(page, offset, { ...entry, zeroBits: 0, dataBits: 0 });
        }
        page.pins--;
      },
      abort: () => {
        for (const cluster of olds.flat()) this.#counts.letGo(cluster);
        page.pins--;
      },
    };
  }

  /** Makes whole clusters read as zero, or as the backing file. Continues by itself where it must wait. */
  unmap(offset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    const end = offset + length;
    // Version 2 cannot say zero; there, only images without a backing file are unmapped.
    const zero = to === 'zero' && this.#header.version === VERSION_3;
    for (let at = offset; at < end; ) {
      const from = at;
      const again = (): MaybePromise<void> => this.unmap(from, end - from, to);
      const table = this.#map.tableOf(at);
      if (table === undefined) return this.#map.load(at).then(again);
      if (table === 0 && !zero) {
        at = (Math.floor(at / this.#map.tableBytes) + 1) * this.#map.tableBytes;
        continue;
      }
      const page = this.tables.entryPage(at, again);
      if (page instanceof Promise) return page;
      const done = this.#unmapOne(page, at, zero);
      if (done !== null) return this.#counts.load(done).then(again);
      at += this.#clusterSize;
    }
    return undefined;
  }

  /** Returns a cluster whose count must be loaded first; null: done. */
  #unmapOne(page: MetadataPage, guestOffset: number, zero: boolean): number | null {
    const old = this.#entryIn(page, guestOffset);
    const olds = this.tables.hostClusters(old.high, old.low);
    const missing = this.#holdAll(olds);
    if (missing !== null) return missing;
    for (const cluster of olds) this.#counts.release(cluster);
    const zeroEntry = this.#header.extendedL2 ? { ...NOTHING, zeroBits: ALL } : { ...NOTHING, low: ZERO_LOW };
    this.#map.setEntry(page, guestOffset, zero ? zeroEntry : NOTHING);
    return null;
  }

  /**
   * Space nearer the start of the file for an unshared cluster: see `Image.relocate`. The old cluster is freed when the
   * new one is committed.
   */
  relocate(guestOffset: number): MaybePromise<WriteSlot | null> {
    const again = (): MaybePromise<WriteSlot | null> => this.relocate(guestOffset);
    const page = this.tables.entryPage(guestOffset, again);
    if (page instanceof Promise) return page;
    const old = this.#entryIn(page, guestOffset);
    const [host] = this.tables.hostClusters(old.high, old.low);
    if (host === undefined || (old.high & COPIED_HIGH) === 0 || (old.high & COMPRESSED_HIGH) !== 0) return null;
    if (!this.#counts.hold(host)) return this.#counts.load(host).then(again);
    const run = this.#counts.take(1);
    if (run === undefined || run.first >= host) {
      this.#counts.letGo(host);
      if (run === undefined) return this.#counts.loadFree().then(again);
      this.#counts.giveBack(run);
      return null;
    }
    return this.#newClusters(page, { guestOffset, run, held: [host] }, () =>
      this.#map.setEntry(page, guestOffset, { ...old, ...entryOf(run.first * this.#clusterSize) }),
    );
  }

  /** Marks subclusters of the last cluster past the end of the disk as zero: those with data, or `all`. */
  hideTail(size: number, all: boolean): MaybePromise<void> {
    const inside = size % this.#clusterSize;
    const start = size - inside;
    if (!this.#header.extendedL2 || inside === 0 || this.#map.tableOf(start) === 0) return undefined;
    const page = this.tables.entryPage(start, () => this.hideTail(size, all));
    if (page instanceof Promise) return page;
    const old = this.#entryIn(page, start);
    const unit = this.#clusterSize / SUBCLUSTERS;
    const mask = subclusterMask(divCeil(inside, unit) * unit, this.#clusterSize, unit);
    const hidden = all ? (mask & ~old.zeroBits) >>> 0 : (old.dataBits & mask) >>> 0;
    if ((old.high & COMPRESSED_HIGH) !== 0 || hidden === 0) return undefined;
    const dataBits = (old.dataBits & ~mask) >>> 0;
    this.#map.setEntry(page, start, { ...old, dataBits, zeroBits: (old.zeroBits | mask) >>> 0 });
    return undefined;
  }

  /** For an image without subclusters: as many consecutive clusters as available. */
  #slot(page: MetadataPage, offset: number, length: number, again: Again<WriteSlot>): MaybePromise<WriteSlot> {
    const size = this.#clusterSize;
    const first = Math.floor(offset / size) * size;
    const rest = this.#map.entriesPerPage - ((first / size) % this.#map.entriesPerPage);
    const wanted = Math.min(divCeil(offset + length - first, size), rest);
    const reused = this.#preallocated(page, first);
    if (reused !== null) return this.#reuse(page, first, reused);
    /** Old references of the clusters, mostly none, with their index. */
    const olds: number[] = [];
    const owners: number[] = [];
    const at = ((first / size) % this.#map.entriesPerPage) * ENTRY_BYTES;
    for (let n = 0; n < wanted; n++) {
      const [high, low] = [page.view.getUint32(at + n * ENTRY_BYTES), page.view.getUint32(at + n * ENTRY_BYTES + 4)];
      if (high === 0 && low === 0) continue;
      const clusters = this.tables.hostClusters(high, low);
      const missing = this.#holdAll(clusters);
      if (missing !== null) {
        for (const cluster of olds) this.#counts.letGo(cluster);
        return this.#counts.load(missing).then(again);
      }
      for (const cluster of clusters) {
        olds.push(cluster);
        owners.push(n);
      }
    }
    const run = this.#counts.take(wanted);
    const taken = run?.count ?? 0;
    const kept = owners.findIndex((owner) => owner >= taken);
    for (const cluster of kept === -1 ? [] : olds.splice(kept)) this.#counts.letGo(cluster);
    if (run === undefined) return this.#counts.loadFree().then(again);
    return this.#newClusters(page, { guestOffset: first, run, held: olds }, () =>
      this.#map.setRun(page, first, run.count, run.first * size),
    );
  }

  /** New clusters; `mark` points the entries at them. */
  #newClusters(
    page: MetadataPage,
    {
      guestOffset,
      run,
      held,
    }: { readonly guestOffset: number; readonly run: ClusterRun; readonly held: readonly number[] },
    mark: () => void,
  ): WriteSlot {
    const size = this.#clusterSize;
    const offset = run.first * size;
    page.pins++;
    return {
      storage: this.#storage,
      fileOffset: offset,
      length: run.count * size,
      guestOffset,
      readsZero: offset >= this.#storage.size && this.#storage.can.growsZeroed,
      commit: () => {
        mark();
        for (const cluster of held) this.#counts.release(cluster);
        this.#counts.keep(run);
        page.pins--;
      },
      abort: () => {
        for (const cluster of held) this.#counts.letGo(cluster);
        this.#counts.giveBack(run);
        page.pins--;
      },
    };
  }

  /** A cluster with the zero flag and space that may be written; null: none. */
  #preallocated(page: MetadataPage, guestOffset: number): number | null {
    const { high, low } = this.#entryIn(page, guestOffset);
    const reusable = (high & COPIED_HIGH) !== 0 && (high & COMPRESSED_HIGH) === 0 && (low & ZERO_LOW) !== 0;
    const host = offsetOf(high, low);
    return reusable && host !== 0 && host % this.#clusterSize === 0 ? host : null;
  }

  #reuse(page: MetadataPage, guestOffset: number, host: number): WriteSlot {
    page.pins++;
    return {
      storage: this.#storage,
      fileOffset: host,
      length: this.#clusterSize,
      guestOffset,
      readsZero: false,
      commit: () => {
        this.#map.setEntry(page, guestOffset, { ...entryOf(host), zeroBits: 0, dataBits: 0 });
        page.pins--;
      },
      abort: () => {
        page.pins--;
      },
    };
  }

  /** An external data file has a fixed place for everything. */
  #dataFileSlot(page: MetadataPage, offset: number, length: number): WriteSlot {
    const size = this.#clusterSize;
    const unit = this.#header.extendedL2 ? size / SUBCLUSTERS : size;
    const cluster = Math.floor(offset / size) * size;
    const rest = this.#map.entriesPerPage - ((cluster / size) % this.#map.entriesPerPage);
    const end = this.#header.extendedL2
      ? Math.min(divCeil(offset + length, unit) * unit, cluster + size)
      : Math.min(divCeil(offset + length, size) * size, cluster + rest * size);
    const start = Math.floor(offset / unit) * unit;
    page.pins++;
    return {
      storage: this.#data,
      fileOffset: start,
      // The file is as long as the disk: others may take it for a raw disk.
      length: Math.min(end, Math.max(this.#header.virtualSize, offset + length)) - start,
      guestOffset: start,
      readsZero: start >= this.#data.size && this.#data.can.growsZeroed,
      commit: () => {
        for (let at = cluster; at < end; at += size) {
          const { zeroBits, dataBits } = this.#entryIn(page, at);
          const mask = this.#header.extendedL2 ? subclusterMask(start - at, end - at, unit) : 0;
          this.#map.setEntry(page, at, { ...entryOf(at), zeroBits: zeroBits & ~mask, dataBits: dataBits | mask });
        }
        page.pins--;
      },
      abort: () => {
        page.pins--;
      },
    };
  }

  /** Subclusters of one cluster: in its place, or in a new one. */
  #extendedSlot(page: MetadataPage, offset: number, length: number, again: Again<WriteSlot>): MaybePromise<WriteSlot> {
    const size = this.#clusterSize;
    const cluster = Math.floor(offset / size) * size;
    const old = this.#entryIn(page, cluster);
    const unit = size / SUBCLUSTERS;
    const start = Math.floor((offset - cluster) / unit) * unit;
    const end = Math.min(divCeil(offset + length - cluster, unit) * unit, size);
    const mask = subclusterMask(start, end, unit);
    const host = offsetOf(old.high, old.low);
    const compressed = (old.high & COMPRESSED_HIGH) !== 0;
    const part = (place: number, readsZero: boolean, commit: () => void, abort: () => void): WriteSlot => ({
      storage: this.#storage,
      fileOffset: place + start,
      length: end - start,
      guestOffset: cluster + start,
      readsZero,
      commit,
      abort,
    });
    if (!compressed && host !== 0 && (old.high & COPIED_HIGH) !== 0) {
      page.pins++;
      return part(
        host,
        false,
        () => {
          const now = this.#entryIn(page, cluster);
          this.#map.setEntry(page, cluster, withData(now, mask));
          page.pins--;
        },
        () => {
          page.pins--;
        },
      );
    }
    const olds = this.tables.hostClusters(old.high, old.low);
    const missing = this.#holdAll(olds);
    if (missing !== null) return this.#counts.load(missing).then(again);
    const run = this.#counts.take(1);
    if (run === undefined) {
      for (const one of olds) this.#counts.letGo(one);
      return this.#counts.loadFree().then(again);
    }
    const place = run.first * size;
    const held = { guestOffset: cluster, run, held: olds };
    // Compressed ones are decoded and stored whole.
    const mark = (bits: { readonly zeroBits: number; readonly dataBits: number }) => (): void =>
      this.#map.setEntry(page, cluster, { ...entryOf(place), ...bits });
    if (compressed) return this.#newClusters(page, held, mark({ zeroBits: 0, dataBits: ALL }));
    const { zeroBits, dataBits } = withData(old, mask);
    const whole = this.#newClusters(page, held, mark({ zeroBits, dataBits }));
    if (host === 0) return part(place, whole.readsZero, whole.commit, whole.abort);
    // What a snapshot holds too is copied as it is, so that subclusters of all kinds stay what they are.
    return this.#copyCluster(host, place).then(
      () => part(place, false, whole.commit, whole.abort),
      (error: unknown) => {
        whole.abort();
        throw error;
      },
    );
  }

  async #copyCluster(from: number, to: number): Promise<void> {
    const bytes = new Uint8Array(this.#clusterSize);
    await readPadded(this.#storage, from, bytes);
    await this.#storage.write(to, bytes);
  }

  #entryIn(page: MetadataPage, guestOffset: number): L2Entry {
    return this.#map.entryIn(page, guestOffset);
  }

  /** Holds the counts of all clusters; or of none, returning the one to load first. */
  #holdAll(clusters: readonly number[]): number | null {
    for (const [number, cluster] of clusters.entries()) {
      if (this.#counts.hold(cluster)) continue;
      for (const held of clusters.slice(0, number)) this.#counts.letGo(held);
      return cluster;
    }
    return null;
  }
}
