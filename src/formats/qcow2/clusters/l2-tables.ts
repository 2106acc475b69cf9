/**
 * The L2 tables of an image open for writing.
 *
 * Stored COPIED flags are not trusted. When a page of an L2 table is first used, its flags are set from the refcounts;
 * from then on the flag decides whether a cluster may be overwritten in place. A table shared with a snapshot is copied as
 * a whole before its first change.
 *
 * A new L2 table is *fresh* until a flush has written it: nothing on the medium refers to it, so it is written in the
 * first stage of that flush, and its L1 entry in the last.
 *
 * Hostile tables are checked here, too: guest data must not overwrite tables, nor clusters with more entries than
 * counted references.
 */
import type { MetadataPage, MetadataPages } from '../../../blocks/metadata-pages.ts';
import { isZero } from '../../../codec/bytes.ts';
import { hex, ImageError } from '../../../errors.ts';
import type { MetaWrite } from '../../../image/contract.ts';
import type { MaybePromise, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import type { Qcow2Header } from '../header/header.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, ENTRY_BYTES, EXTENDED_ENTRY_BYTES, INCOMPATIBLE } from '../layout.ts';
import type { ClusterMap } from './cluster-map.ts';
import { hostClusters } from './entries.ts';
import type { ClusterRun, RefcountStore } from './refcount-store.ts';

/** Parts of the tables. */
export interface TableParts {
  readonly header: Qcow2Header;
  readonly storage: Storage;
  readonly map: ClusterMap;
  readonly l2: MetadataPages;
  readonly counts: RefcountStore;
}

/** Retries after waiting. */
export type Again<T> = () => MaybePromise<T>;

/** L2 tables open for writing; see the comment at the top of this module. */
export class L2Tables {
  readonly #header: Qcow2Header;
  readonly #storage: Storage;
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

  constructor(parts: TableParts) {
    this.#header = parts.header;
    this.#storage = parts.storage;
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
      const hosts = this.hostClusters(high, page.view.getUint32(at + 4));
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

  /** The page with the entry of a guest offset, in an unshared table. A promise: the result of `again`. */
  entryPage<T>(guestOffset: number, again: Again<T>): MetadataPage | Promise<T> {
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
    const run = await this.#counts.takeOne();
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

  /**
   * Moves an unshared L2 table nearer the start of the file, if there is space. Nothing else may run at the same time.
   */
  async move(guestOffset: number, table: number): Promise<void> {
    const old = table / this.#clusterSize;
    const count = await this.#counts.count(old);
    if (count !== 1) return;
    while (!this.#counts.hold(old)) await this.#counts.load(old);
    const run = await this.#counts.takeOne();
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
  async drop(guestOffset: number, table: number): Promise<boolean> {
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

  /** L2 tables for a flush: fresh ones, which are still unreferenced, and others. */
  seal(): { readonly fresh: MetaWrite[]; readonly others: MetaWrite[] } {
    const writes = this.#l2.seal();
    const isFresh = ({ fileOffset: offset }: MetaWrite): boolean =>
      this.#fresh.has(Math.floor(offset / this.#clusterSize));
    const fresh = writes.filter(isFresh);
    const others = writes.filter((write) => !isFresh(write));
    this.#fresh.clear();
    return { fresh, others };
  }

  hostClusters(high: number, low: number): number[] {
    return this.#hasDataFile ? [] : hostClusters(this.#header, high, low);
  }

  #refuseDamaged(): void {
    if (this.#damage === null) return;
    throw new ImageError('corrupt', `The image cannot be changed: ${this.#damage}`, {
      path: this.#storage.label,
      hint: 'Check and repair it (checkImage; on the command line: check --repair).',
    });
  }
}
