/**
 * Allocation for guest data: clusters and L2 tables, entries that point at them, and freeing old clusters.
 *
 * Stored COPIED flags are not trusted. When a page of an L2 table is first used, its flags are set from the refcounts;
 * from then on the flag decides whether a cluster may be overwritten in place. Clusters shared with a snapshot are
 * copied: an L2 table as a whole, data by the disk.
 *
 * A new L2 table is *fresh* until a flush has written it: nothing on the medium refers to it, so it is written in the
 * first stage of that flush, and its L1 entry in the last.
 *
 * Hostile tables are checked here, too: guest data must not overwrite tables, nor clusters with more entries than
 * counted references.
 *
 * Long file: slots of all kinds share the entries, counts and tables that they are made from.
 */
import { divCeil } from '../../../binary/numbers.ts';
import type { MetadataPage, MetadataPages } from '../../../blocks/metadata-pages.ts';
import { isZero } from '../../../codec/bytes.ts';
import { assert, hex, ImageError } from '../../../errors.ts';
import type { MetaWrite, WriteSlot } from '../../../image/contract.ts';
import type { MaybePromise, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import type { Qcow2Header } from '../header/header.ts';
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  ENTRY_BYTES,
  EXTENDED_ENTRY_BYTES,
  INCOMPATIBLE,
  SUBCLUSTERS,
  VERSION_3,
  ZERO_LOW,
} from '../layout.ts';
import { type ClusterMap, type L2Entry, offsetOf } from './cluster-map.ts';
import { entryOf, hostClusters, subclusterMask, withData } from './entries.ts';
import type { ClusterRun, RefcountStore } from './refcount-store.ts';

const ALL = 0xffff_ffff;
const NOTHING = { high: 0, low: 0, zeroBits: 0, dataBits: 0 } as const;

/** Parts of a writer. */
export interface WriterParts {
  readonly header: Qcow2Header;
  readonly storage: Storage;
  readonly data: Storage;
  readonly map: ClusterMap;
  readonly l2: MetadataPages;
  readonly counts: RefcountStore;
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

/** Retries after waiting. */
type Again<T> = () => MaybePromise<T>;

/** Allocation of clusters for guest data; see the comment at the top of this module. */
export class ClusterWriter {
  readonly #header: Qcow2Header;
  readonly #storage: Storage;
  readonly #data: Storage;
  readonly #hasDataFile: boolean;
  readonly #map: ClusterMap;
  readonly #l2: MetadataPages;
  readonly #counts: RefcountStore;
  readonly #clusterSize: number;
  readonly #entryBytes: number;
  readonly #judged = new WeakSet<MetadataPage>();
  /** Clusters of L2 tables not yet flushed. */
  readonly #fresh = new Set<number>();
  /** Reason why allocation is forbidden: the counts miss a cluster in use. */
  #damage: string | null = null;

  constructor(parts: WriterParts) {
    this.#header = parts.header;
    this.#storage = parts.storage;
    this.#data = parts.data;
    this.#map = parts.map;
    this.#l2 = parts.l2;
    this.#counts = parts.counts;
    this.#clusterSize = parts.header.clusterSize;
    this.#entryBytes = parts.header.extendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES;
    this.#hasDataFile = (parts.header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
  }

  /** True when the counts are wrong: nothing may be overwritten then. */
  get isDamaged(): boolean {
    return this.#damage !== null;
  }

  /** True when the flags of a page reflect the counts. Otherwise `judge` it first. */
  isJudged(page: MetadataPage): boolean {
    return this.#hasDataFile || this.#judged.has(page);
  }

  /** Sets the COPIED flags of the page for a guest offset. */
  async judge(guestOffset: number): Promise<void> {
    for (;;) {
      await this.#map.load(guestOffset);
      const page = this.#map.pageOf(guestOffset);
      const table = this.#map.tableOf(guestOffset);
      if (page === undefined || table === undefined || this.isJudged(page)) return;
      const missing = this.#judgeNow(page, table);
      if (missing === null) return;
      await this.#counts.load(missing);
    }
  }

  /** Returns a cluster whose count must be loaded first; null: done. */
  #judgeNow(page: MetadataPage, table: number): number | null {
    const own = this.#counts.peek(table / this.#clusterSize);
    if (own === undefined) return table / this.#clusterSize;
    if (own === 0) this.#damage ??= `the L2 table at ${hex(table)} is in use but not counted`;
    const flags: { at: number; copied: boolean }[] = [];
    const references = new Map<number, number>();
    for (let at = 0; at < page.bytes.length; at += this.#entryBytes) {
      const high = page.view.getUint32(at);
      const hosts = this.#hostClusters(high, page.view.getUint32(at + 4));
      for (const cluster of hosts) {
        const count = this.#counts.peek(cluster);
        if (count === undefined) return cluster;
        this.#refuseAlias(cluster, count, references);
      }
      const [cluster] = hosts;
      if (cluster === undefined || (high & COMPRESSED_HIGH) !== 0) continue;
      const copied = own === 1 && this.#counts.peek(cluster) === 1;
      if (((high & COPIED_HIGH) !== 0) !== copied) flags.push({ at, copied });
    }
    for (const { at, copied } of flags) {
      const high = page.view.getUint32(at);
      page.view.setUint32(at, copied ? (high | COPIED_HIGH) >>> 0 : high & ~COPIED_HIGH & 0x7fff_ffff);
      this.#l2.touch(page, at, at + this.#entryBytes);
    }
    this.#judged.add(page);
    return null;
  }

  /** Records violations: more entries than the count, or entries that refer to tables. */
  #refuseAlias(cluster: number, count: number, references: Map<number, number>): void {
    const found = (references.get(cluster) ?? 0) + 1;
    references.set(cluster, found);
    const place = hex(cluster * this.#clusterSize);
    if (found > count) this.#damage ??= `the cluster at ${place} is in use ${found} times and counted ${count} times`;
    if (this.#counts.tables.has(cluster)) this.#damage ??= `guest data leads to the table at ${place}`;
  }

  /** Allocates space for an unallocated range: see `Image.prepareWrite`. */
  prepare(offset: number, length: number): MaybePromise<WriteSlot> {
    const again = (): MaybePromise<WriteSlot> => this.prepare(offset, length);
    const page = this.#entryPage(offset, again);
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
    const page = this.#entryPage(first, again);
    if (page instanceof Promise) return page;
    const pageOf = (offset: number): number => Math.floor(offset / this.#clusterSize / this.#map.entriesPerPage);
    const end = guestOffsets.findIndex((offset) => pageOf(offset) !== pageOf(first));
    const offsets = end === -1 ? guestOffsets : guestOffsets.slice(0, end);
    const olds: number[][] = [];
    for (const offset of offsets) {
      const { high, low } = this.#entryIn(page, offset);
      const clusters = this.#hostClusters(high, low);
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
      const page = this.#entryPage(at, again);
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
    const olds = this.#hostClusters(old.high, old.low);
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
    const page = this.#entryPage(guestOffset, again);
    if (page instanceof Promise) return page;
    const old = this.#entryIn(page, guestOffset);
    const [host] = this.#hostClusters(old.high, old.low);
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

  /**
   * Moves an unshared L2 table nearer the start of the file, if there is space. Nothing else may run at the same time.
   */
  async moveTable(guestOffset: number, table: number): Promise<void> {
    const old = table / this.#clusterSize;
    const count = await this.#counts.count(old);
    if (count !== 1) return;
    while (!this.#counts.hold(old)) await this.#counts.load(old);
    let run = this.#counts.take(1);
    while (run === undefined) {
      await this.#counts.loadFree();
      run = this.#counts.take(1);
    }
    if (run.first >= old) {
      this.#counts.letGo(old);
      this.#counts.giveBack(run);
      return;
    }
    const bytes = new Uint8Array(this.#clusterSize);
    await readPadded(this.#storage, table, bytes);
    this.#adopt(guestOffset, run, bytes);
    this.#counts.release(old);
  }

  /** Frees an unshared L2 table without entries, as on the medium. Nothing else may run at the same time. */
  async dropTable(guestOffset: number, table: number): Promise<boolean> {
    const old = table / this.#clusterSize;
    if ((await this.#counts.count(old)) !== 1) return false;
    const bytes = new Uint8Array(this.#clusterSize);
    await readPadded(this.#storage, table, bytes);
    if (!isZero(bytes)) return false;
    while (!this.#counts.hold(old)) await this.#counts.load(old);
    this.#map.setTable(guestOffset, 0);
    this.#counts.release(old);
    return true;
  }

  /** Marks subclusters of the last cluster past the end of the disk as zero: those with data, or `all`. */
  hideTail(size: number, all: boolean): MaybePromise<void> {
    const inside = size % this.#clusterSize;
    const start = size - inside;
    if (!this.#header.extendedL2 || inside === 0 || this.#map.tableOf(start) === 0) return undefined;
    const page = this.#entryPage(start, () => this.hideTail(size, all));
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

  /** L2 tables for a flush: fresh ones, which are still unreferenced, and others. */
  sealTables(): { readonly fresh: MetaWrite[]; readonly others: MetaWrite[] } {
    const writes = this.#l2.seal();
    const isFresh = ({ fileOffset: offset }: MetaWrite): boolean =>
      this.#fresh.has(Math.floor(offset / this.#clusterSize));
    const fresh = writes.filter(isFresh);
    const others = writes.filter((write) => !isFresh(write));
    this.#fresh.clear();
    return { fresh, others };
  }

  /** The page with the entry of a guest offset, in an unshared table. A promise: the result of `again`. */
  #entryPage<T>(guestOffset: number, again: Again<T>): MetadataPage | Promise<T> {
    this.#refuseDamaged();
    const table = this.#map.tableOf(guestOffset);
    if (table === undefined) return this.#map.load(guestOffset).then(again);
    if (table === 0) {
      const run = this.#counts.take(1);
      if (run === undefined) return this.#counts.loadFree().then(again);
      this.#newTable(guestOffset, run);
    } else {
      const cluster = table / this.#clusterSize;
      // A new table is in memory before it is in the file.
      const reachable = table < this.#storage.size || this.#map.pageOf(guestOffset) !== undefined;
      if (!Number.isInteger(cluster) || !reachable) {
        throw new ImageError('corrupt', 'An L1 entry points where no L2 table can be', {
          path: this.#storage.label,
          guestOffset,
          found: hex(table),
          hint: 'Check and repair the image.',
        });
      }
      if (!this.#fresh.has(cluster)) {
        const count = this.#counts.peek(cluster);
        if (count === undefined) return this.#counts.load(cluster).then(again);
        if (count > 1) return this.#copyTable(guestOffset, table).then(again);
      }
    }
    const page = this.#map.pageOf(guestOffset);
    if (page === undefined) return this.#map.load(guestOffset).then(again);
    if (!this.isJudged(page)) return this.judge(guestOffset).then(again);
    return page;
  }

  /** Allocates an empty table for a range without one. */
  #newTable(guestOffset: number, run: ClusterRun): void {
    const offset = run.first * this.#clusterSize;
    // Room behind the end of the file reads zero by itself.
    const written = offset < this.#storage.size;
    const { pageBytes } = this.#l2;
    for (let at = 0; at < this.#clusterSize; at += pageBytes) {
      this.#judged.add(this.#l2.blank((offset + at) / pageBytes, written));
    }
    this.#fresh.add(run.first);
    this.#counts.keep(run);
    this.#map.setTable(guestOffset, offset);
  }

  /** Copies a table shared with a snapshot; all its entries are shared then. */
  async #copyTable(guestOffset: number, table: number): Promise<void> {
    const bytes = new Uint8Array(this.#clusterSize);
    // It is not changed while it is shared, so the medium has what counts.
    await readPadded(this.#storage, table, bytes);
    const old = table / this.#clusterSize;
    while (!this.#counts.hold(old)) await this.#counts.load(old);
    let run = this.#counts.take(1);
    while (run === undefined) {
      await this.#counts.loadFree();
      run = this.#counts.take(1);
    }
    if (this.#map.tableOf(guestOffset) !== table) {
      // Another request was faster.
      this.#counts.letGo(old);
      this.#counts.giveBack(run);
      return;
    }
    this.#adopt(guestOffset, run, bytes);
    this.#counts.release(old);
  }

  /** A new table with existing content. */
  #adopt(guestOffset: number, run: ClusterRun, bytes: Uint8Array): void {
    const offset = run.first * this.#clusterSize;
    const { pageBytes } = this.#l2;
    for (let at = 0; at < this.#clusterSize; at += pageBytes) {
      const page = this.#l2.blank((offset + at) / pageBytes, true);
      page.bytes.set(bytes.subarray(at, at + pageBytes));
    }
    this.#fresh.add(run.first);
    this.#counts.keep(run);
    this.#map.setTable(guestOffset, offset);
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
      const clusters = this.#hostClusters(high, low);
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
    const olds = this.#hostClusters(old.high, old.low);
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

  #hostClusters(high: number, low: number): number[] {
    return this.#hasDataFile ? [] : hostClusters(this.#header, high, low);
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

  #refuseDamaged(): void {
    if (this.#damage === null) return;
    throw new ImageError('corrupt', `The image cannot be changed: ${this.#damage}`, {
      path: this.#storage.label,
      hint: 'Check and repair it (checkImage; on the command line: check --repair).',
    });
  }
}
