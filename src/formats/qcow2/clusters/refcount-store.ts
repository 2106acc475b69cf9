/**
 * Refcounts of an image open for writing (section "Host cluster management"), and the allocation of clusters.
 *
 * Counts are changed in memory and written by flushes. A count is raised before anything refers to its cluster, and
 * lowered only after a flush that removed the last reference from the medium: `release` records it, `settle` does it.
 * So the stored count is never less than the number of references, whatever the moment of a power cut; space can only
 * leak.
 *
 * Blocks and the table grow past everything counted: a new block may lie in the range that it counts.
 */
import { SparseBitSet } from '../../../binary/bits.ts';
import { divCeil, SECTOR } from '../../../binary/numbers.ts';
import { RunList } from '../../../binary/runs.ts';
import { type MetadataPage, MetadataPages, PageCache } from '../../../blocks/metadata-pages.ts';
import { dataRuns, isZero } from '../../../codec/bytes.ts';
import { assert, hex, ImageError } from '../../../errors.ts';
import type { MetaWrite } from '../../../image/contract.ts';
import { isPromise, type MaybePromise, type Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import type { Turns } from '../../../storage/turns.ts';
import type { Qcow2Header } from '../header/header.ts';
import { ENTRY_BYTES, REFCOUNT_OFFSET } from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';
import { blocksFor, getRefcount, refcountMax, refcountsPerBlock, setRefcount } from './refcounts.ts';

/** Bytes of a block loaded at once. */
const PAGE = 16 * 1024;
/** Small steps that a page of counts takes. */
const STEPS_PAGE = 64;
const ENTRIES_PER_SECTOR = SECTOR / ENTRY_BYTES;

/** A run of clusters in the file. */
export interface ClusterRun {
  readonly first: number;
  readonly count: number;
}

/** Position of the refcount table. */
export interface TablePlace {
  readonly offset: number;
  readonly clusters: number;
}

/** Counts of consecutive clusters. */
export interface CountPiece {
  readonly first: number;
  readonly length: number;
  /** Count of cluster `first + n`. */
  readonly count: (n: number) => number;
}

/** Writes of one flush for the counts: see `SealedMetadata`. */
export interface SealedCounts {
  readonly stage: readonly MetaWrite[];
  readonly root: readonly MetaWrite[];
  /** New position of the table, which the header must name with `root`; null: not moved. */
  readonly moved: TablePlace | null;
}

/** Reads the refcount table. Returns a reason if the image must not be written with such a table. */
export async function openRefcounts(storage: Storage, header: Qcow2Header): Promise<RefcountStore | string> {
  const { clusterSize, refcountTableClusters, refcountTableOffset } = header;
  const bytes = new Uint8Array(refcountTableClusters * clusterSize);
  await readPadded(storage, refcountTableOffset, bytes);
  const view = new DataView(bytes.buffer);
  const table = new Float64Array(bytes.length / ENTRY_BYTES);
  const seen = new Set<number>();
  for (const run of dataRuns(bytes, SECTOR)) {
    for (let at = run.start; at < run.end; at += ENTRY_BYTES) {
      const block = Number(view.getBigUint64(at) & REFCOUNT_OFFSET);
      if (block === 0) continue;
      if (block % clusterSize !== 0 || block >= storage.size || seen.has(block)) {
        return `refcount table entry ${at / ENTRY_BYTES} points to ${hex(block)}, where no block can be`;
      }
      seen.add(block);
      table[at / ENTRY_BYTES] = block;
    }
  }
  const store = new RefcountStore(storage, header, table);
  const tables = [
    { offset: 0, bytes: clusterSize },
    { offset: refcountTableOffset, bytes: bytes.length },
    { offset: header.l1Offset, bytes: header.l1Entries * ENTRY_BYTES },
  ];
  for (const { offset, bytes: length } of tables) {
    for (let at = offset; at < offset + length; at += clusterSize) {
      const count = store.count(at / clusterSize);
      if ((isPromise(count) ? await count : count) === 0) return `the cluster at ${hex(at)} is in use but not counted`;
    }
  }
  await store.holdTable();
  return store;
}

/** Refcounts of an image open for writing; see the comment at the top of this module. */
export class RefcountStore {
  readonly #storage: Storage;
  readonly #clusterSize: number;
  readonly #order: number;
  readonly #perBlock: number;
  readonly #perPage: number;
  /** Shared with the other tables of the image. */
  readonly cache = new PageCache();
  readonly #pages: MetadataPages;
  /** Offsets of the blocks; 0 for none, when nothing in the range is counted. */
  #table: Float64Array;
  #place: TablePlace;
  #moved = false;
  readonly #dirtySectors = new Set<number>();
  /** Every cluster below is in use. */
  #cursor = 0;
  /** The page that the last search for free clusters needed. */
  #wanted = 0;
  #released = new RunList();
  #sealed = new RunList();
  /** Clusters that held tables when the image was opened and still do: never guest data. */
  readonly tables = new SparseBitSet();

  constructor(storage: Storage, header: Qcow2Header, table: Float64Array) {
    this.#storage = storage;
    this.#clusterSize = header.clusterSize;
    this.#order = header.refcountOrder;
    this.#perBlock = refcountsPerBlock(header.clusterSize, header.refcountOrder);
    const pageBytes = Math.min(header.clusterSize, PAGE);
    this.#perPage = refcountsPerBlock(pageBytes, header.refcountOrder);
    this.#pages = new MetadataPages({
      storage,
      fileOffset: 0,
      length: Number.MAX_SAFE_INTEGER,
      pageBytes,
      cache: this.cache,
    });
    this.#table = table;
    this.#place = { offset: header.refcountTableOffset, clusters: header.refcountTableClusters };
  }

  get dirtyBytes(): number {
    return this.#pages.dirtyBytes + this.#dirtySectors.size * SECTOR + this.#released.memoryBytes;
  }

  /** Maximum number of references to a cluster. */
  get most(): number {
    return refcountMax(this.#order);
  }

  /** References to a cluster; undefined when its block must be loaded first. */
  peek(cluster: number): number | undefined {
    const block = this.#table[Math.floor(cluster / this.#perBlock)] ?? 0;
    if (block === 0) return 0;
    const page = this.#pages.peek(this.#pageOf(block, cluster));
    return page === undefined ? undefined : getRefcount(page.view, cluster % this.#perPage, this.#order);
  }

  /** References to a cluster. */
  count(cluster: number): MaybePromise<number> {
    const known = this.peek(cluster);
    return known ?? this.load(cluster).then(() => this.count(cluster));
  }

  /** Loads the count of a cluster. */
  async load(cluster: number): Promise<void> {
    const block = this.#table[Math.floor(cluster / this.#perBlock)] ?? 0;
    if (block !== 0) await this.#pages.get(this.#pageOf(block, cluster));
  }

  /**
   * Allocates consecutive free clusters, at most `count`: each has one reference from now on, until `keep` or
   * `giveBack`. Undefined: `loadFree` first. Throws `limit` when the file cannot grow further.
   */
  take(count: number): ClusterRun | undefined {
    for (let cluster = this.#cursor; ; ) {
      const block = this.#table[Math.floor(cluster / this.#perBlock)] ?? 0;
      if (block === 0) {
        this.#cover(cluster, 0);
        continue;
      }
      const index = this.#pageOf(block, cluster);
      const page = this.#pages.peek(index);
      if (page === undefined) {
        this.#wanted = index;
        this.#cursor = cluster;
        return undefined;
      }
      const first = cluster % this.#perPage;
      let at = first;
      while (at < this.#perPage && getRefcount(page.view, at, this.#order) !== 0) at++;
      let end = at;
      while (end < this.#perPage && end - at < count && getRefcount(page.view, end, this.#order) === 0) end++;
      cluster += at - first;
      if (end > at) {
        for (let n = at; n < end; n++) setRefcount(page.view, n, this.#order, 1);
        const bits = 2 ** this.#order;
        this.#pages.touch(page, Math.floor((at * bits) / 8), Math.ceil((end * bits) / 8));
        page.pins++;
        this.#cursor = cluster + (end - at);
        return { first: cluster, count: end - at };
      }
    }
  }

  /** Allocates one cluster, as `take` does, and waits for its count where that is necessary. */
  async takeOne(): Promise<ClusterRun> {
    let run = this.take(1);
    while (run === undefined) {
      await this.loadFree();
      run = this.take(1);
    }
    return run;
  }

  /** Loads the page that the last `take` needed. */
  async loadFree(): Promise<void> {
    await this.#pages.get(this.#wanted);
  }

  /**
   * Allocates consecutive clusters for a contiguous table and returns the first: the first free run with room for them
   * and for the blocks that they need. Nothing else may run at the same time. Throws `limit` when the file cannot grow
   * further.
   */
  async takeTogether(count: number): Promise<number> {
    let first = await this.#findTogether(count);
    if (first === null) {
      // The longer table counts itself and a run of that length behind it, so the second search ends well.
      this.#grow(this.#table.length * this.#perBlock, count);
      first = await this.#findTogether(count);
    }
    assert(first !== null, 'a table that has grown for a run has room for it');
    this.#cover(first, count);
    for (let cluster = first; cluster < first + count; cluster++) {
      const found = this.count(cluster);
      assert((isPromise(found) ? await found : found) === 0, 'nothing else takes clusters meanwhile');
      this.#change(cluster, 1);
    }
    return first;
  }

  /** The first free run of that length including its missing blocks; null when the table ends before. */
  async #findTogether(count: number): Promise<number | null> {
    const end = this.#table.length * this.#perBlock;
    let start = this.#cursor;
    // Blocks that the run from `start` on still lacks lie behind it, and may need one more themselves.
    let missing = 0;
    for (let cluster = start; cluster < end; ) {
      const block = this.#table[Math.floor(cluster / this.#perBlock)] ?? 0;
      if (block === 0) {
        missing++;
        cluster = (Math.floor(cluster / this.#perBlock) + 1) * this.#perBlock;
      } else {
        const found = this.#pages.get(this.#pageOf(block, cluster));
        const page = isPromise(found) ? await found : found;
        const first = cluster % this.#perPage;
        const used = this.#firstUsed(page, first, start + count + missing - cluster);
        cluster += used - first;
        if (used < this.#perPage && cluster < start + count + missing) {
          cluster = this.#behindUsed(page, cluster);
          [start, missing] = [cluster, 0];
          continue;
        }
      }
      if (cluster >= start + count + missing) return start;
    }
    return null;
  }

  /**
   * The first counted position of a page from `at` on; `at + most`, or the end of the page, when there is none before.
   */
  #firstUsed(page: MetadataPage, at: number, most: number): number {
    const end = Math.min(this.#perPage, at + most);
    while (at < end && getRefcount(page.view, at, this.#order) === 0) at++;
    return at;
  }

  /** The first cluster after a counted run, as far as the page goes. */
  #behindUsed(page: MetadataPage, cluster: number): number {
    let at = cluster % this.#perPage;
    const start = cluster - at;
    while (at < this.#perPage && getRefcount(page.view, at, this.#order) !== 0) at++;
    return start + at;
  }

  /** Adds a reference to a cluster whose count is in memory. Throws `limit` when the count would overflow. */
  raise(cluster: number): void {
    const count = this.peek(cluster);
    assert(count !== undefined, 'a count is loaded before it is changed');
    if (count >= this.most) {
      throw new ImageError('limit', 'The reference count of a cluster is at its maximum', {
        path: this.#storage.label,
        offset: cluster * this.#clusterSize,
        found: `${count} references`,
        hint: 'Delete snapshots, or convert to an image with wider refcounts (on the command line: --option refcount_bits=64).',
      });
    }
    this.#change(cluster, count + 1);
  }

  /** Drops a reference to a cluster whose count is in memory. The reference must be gone from the medium. */
  lower(cluster: number): void {
    const count = this.peek(cluster);
    assert(count !== undefined, 'a count is loaded before it is changed');
    if (count === 0) return;
    this.#change(cluster, count - 1);
    if (count === 1) this.#cursor = Math.min(this.#cursor, cluster);
  }

  /** Keeps the count of a cluster in memory until it is released or let go. False: `load` it first. */
  hold(cluster: number): boolean {
    const block = this.#table[Math.floor(cluster / this.#perBlock)] ?? 0;
    if (block === 0) return true;
    const page = this.#pages.peek(this.#pageOf(block, cluster));
    if (page === undefined) return false;
    page.pins++;
    return true;
  }

  /** Cancels `hold`: the cluster keeps its reference. */
  letGo(cluster: number): void {
    const page = this.#pageWith(cluster);
    if (page !== undefined && page.pins > 0) page.pins--;
  }

  /** A reference to a held cluster was removed in memory: the count is lowered after the next flush. */
  release(cluster: number): void {
    this.#released.push(cluster);
  }

  /** Confirms allocated clusters. */
  keep({ first }: ClusterRun): void {
    this.letGo(first);
  }

  /** Frees allocated clusters that nothing refers to, not even on the medium. */
  giveBack({ first, count }: ClusterRun): void {
    this.letGo(first);
    for (let cluster = first; cluster < first + count; cluster++) this.#change(cluster, 0);
    this.#cursor = Math.min(this.#cursor, first);
  }

  /** Number of counted clusters, and the end of the last of them. */
  async survey(turns: Turns): Promise<{ readonly used: number; readonly end: number }> {
    let [used, end] = [0, 0];
    for await (const { first, length, count } of this.pieces(turns)) {
      for (let n = 0; n < length; n++) {
        if (count(n) === 0) continue;
        used++;
        end = first + n + 1;
      }
    }
    return { used, end };
  }

  /** True when a cluster from that one on is counted. */
  async countsFrom(cluster: number, turns: Turns): Promise<boolean> {
    for await (const { first, length, count } of this.pieces(turns, cluster)) {
      for (let n = Math.max(cluster - first, 0); n < length; n++) if (count(n) !== 0) return true;
    }
    return false;
  }

  /**
   * All counts by ascending cluster, piece by piece, beginning with the block that counts cluster `from`. Pieces
   * without counts are skipped. A piece is valid until the next one.
   */
  async *pieces(turns: Turns, from = 0): AsyncGenerator<CountPiece> {
    for (let index = Math.floor(from / this.#perBlock); index < this.#table.length; index++) {
      if (this.#table[index] === 0) continue;
      for (let first = index * this.#perBlock; first < (index + 1) * this.#perBlock; first += this.#perPage) {
        const turn = turns.take(STEPS_PAGE);
        if (turn !== undefined) await turn;
        await this.load(first);
        const page = this.#pageWith(first);
        assert(page !== undefined, 'a page that was loaded is there');
        if (isZero(page.bytes)) continue;
        const { view } = page;
        yield { first, length: this.#perPage, count: (n) => getRefcount(view, n, this.#order) };
      }
    }
  }

  /** Keeps the counts of the table's own clusters in memory: a growing table frees them and cannot wait. */
  async holdTable(): Promise<void> {
    const first = this.#place.offset / this.#clusterSize;
    for (let cluster = first; cluster < first + this.#place.clusters; cluster++) {
      while (!this.hold(cluster)) await this.load(cluster);
    }
  }

  /** The clusters of the table and of the blocks. */
  ownClusters(): number[] {
    const first = this.#place.offset / this.#clusterSize;
    const table = Array.from({ length: this.#place.clusters }, (_, n) => first + n);
    const blocks = [...this.#table].filter((block) => block !== 0).map((block) => block / this.#clusterSize);
    return [...table, ...blocks];
  }

  /** Removes blocks at the end of the table that count nothing but themselves. Everything must be flushed. */
  async giveUpBlocks(): Promise<void> {
    for (let index = this.#table.length - 1; index >= 0; index--) {
      const block = this.#table[index] ?? 0;
      if (block === 0) continue;
      const own = block / this.#clusterSize;
      if (Math.floor(own / this.#perBlock) !== index) return;
      for (let cluster = index * this.#perBlock; cluster < (index + 1) * this.#perBlock; cluster++) {
        const count = this.count(cluster);
        if ((isPromise(count) ? await count : count) !== (cluster === own ? 1 : 0)) return;
      }
      this.#table[index] = 0;
      this.#dirtySectors.add(Math.floor(index / ENTRIES_PER_SECTOR));
      this.#cursor = Math.min(this.#cursor, index * this.#perBlock);
    }
  }

  /** Writes for the next flush. */
  seal(): SealedCounts {
    this.#sealed = this.#released;
    this.#released = new RunList();
    const stage = this.#pages.seal();
    if (!this.#moved) {
      const root = [...this.#dirtySectors].sort((a, b) => a - b).map((sector) => this.#tableSector(sector));
      this.#dirtySectors.clear();
      return { stage, root, moved: null };
    }
    this.#moved = false;
    this.#dirtySectors.clear();
    const { offset } = this.#place;
    stage.push({ storage: this.#storage, fileOffset: offset, bytes: this.#encode(0, this.#table.length) });
    return { stage, root: [], moved: this.#place };
  }

  /** Ends a flush. Released clusters have no reference on the medium any more. */
  settle(ok: boolean): void {
    this.#pages.settle();
    if (!ok) return;
    for (const { start, end } of this.#sealed) {
      for (let cluster = start; cluster < end; cluster++) {
        this.letGo(cluster);
        if (this.peek(cluster) !== undefined) this.lower(cluster);
      }
    }
    this.#sealed = new RunList();
  }

  #pageOf(block: number, cluster: number): number {
    const inBlock = Math.floor((cluster % this.#perBlock) / this.#perPage);
    return block / this.#pages.pageBytes + inBlock;
  }

  #pageWith(cluster: number): MetadataPage | undefined {
    const block = this.#table[Math.floor(cluster / this.#perBlock)] ?? 0;
    return block === 0 ? undefined : this.#pages.peek(this.#pageOf(block, cluster));
  }

  #change(cluster: number, count: number): void {
    const page = this.#pageWith(cluster);
    assert(page !== undefined, 'a count is loaded before it is changed');
    if (count === 0) this.tables.delete(cluster);
    this.#set(page, cluster % this.#perPage, count);
  }

  #set(page: MetadataPage, index: number, count: number): void {
    setRefcount(page.view, index, this.#order, count);
    const at = Math.floor((index * 2 ** this.#order) / 8);
    this.#pages.touch(page, at, at + 1);
  }

  /**
   * Adds blocks for `count` clusters from `start` on and for the blocks themselves. None of them may be counted yet. If
   * the table is too short, only extends the table.
   */
  #cover(start: number, count: number): void {
    let missing: number[] = [];
    // Each round asks for more blocks than the one before, and one more counts far more than one.
    for (let blocks = count === 0 ? 1 : 0; ; blocks = missing.length) {
      const last = Math.floor((start + count + blocks - 1) / this.#perBlock);
      if (last >= this.#table.length) {
        this.#grow(start, count);
        return;
      }
      missing = this.#missingBlocks(start, last);
      if (missing.length <= blocks) break;
    }
    for (const [number, index] of missing.entries()) {
      const offset = (start + count + number) * this.#clusterSize;
      this.#table[index] = offset;
      this.#dirtySectors.add(Math.floor(index / ENTRIES_PER_SECTOR));
      const { pageBytes } = this.#pages;
      for (let at = 0; at < this.#clusterSize; at += pageBytes) {
        this.#pages.blank((offset + at) / pageBytes, offset < this.#storage.size);
      }
    }
    for (let number = 0; number < missing.length; number++) this.#change(start + count + number, 1);
  }

  /** Table entries up to `last` without a block, for clusters from `start` on. */
  #missingBlocks(start: number, last: number): number[] {
    const missing: number[] = [];
    for (let index = Math.floor(start / this.#perBlock); index <= last; index++) {
      if (this.#table[index] === 0) missing.push(index);
    }
    return missing;
  }

  /**
   * Extends the table, past everything that the old one can count. It counts its own clusters, `count` more after them,
   * and the blocks of all of these.
   */
  #grow(start: number, count: number): void {
    const perCluster = this.#clusterSize / ENTRY_BYTES;
    const first = Math.max(start, this.#table.length * this.#perBlock);
    let clusters = divCeil(Math.ceil(this.#table.length * 1.5), perCluster);
    // A cluster more of the table counts at least 4096 more clusters, so this ends after a round or two.
    for (;;) {
      const behind = clusters + count + blocksFor(clusters, this.#perBlock) + blocksFor(count, this.#perBlock);
      const needed = divCeil(divCeil(first + behind, this.#perBlock), perCluster);
      if (needed <= clusters) break;
      clusters = needed;
    }
    if (clusters * this.#clusterSize > QCOW2_LIMITS.refcountTableBytes) {
      throw new ImageError('limit', 'The file cannot grow: its refcount table has reached its limit', {
        path: this.#storage.label,
        found: `${clusters * this.#clusterSize} bytes`,
        expected: `at most ${QCOW2_LIMITS.refcountTableBytes} bytes`,
        hint: 'Convert the image to one with larger clusters.',
      });
    }
    const old = this.#place;
    const table = new Float64Array(clusters * perCluster);
    table.set(this.#table);
    this.#table = table;
    this.#place = { offset: first * this.#clusterSize, clusters };
    this.#moved = true;
    this.#cover(first, clusters);
    for (let cluster = first; cluster < first + clusters; cluster++) {
      this.#change(cluster, 1);
      this.hold(cluster);
    }
    // They are held as long as the table lies there.
    const oldFirst = old.offset / this.#clusterSize;
    for (let cluster = oldFirst; cluster < oldFirst + old.clusters; cluster++) this.release(cluster);
  }

  #tableSector(sector: number): MetaWrite {
    const from = sector * ENTRIES_PER_SECTOR;
    const bytes = this.#encode(from, Math.min(from + ENTRIES_PER_SECTOR, this.#table.length));
    return { storage: this.#storage, fileOffset: this.#place.offset + from * ENTRY_BYTES, bytes };
  }

  #encode(from: number, to: number): Uint8Array {
    const bytes = new Uint8Array((to - from) * ENTRY_BYTES);
    const view = new DataView(bytes.buffer);
    for (let index = from; index < to; index++) {
      view.setBigUint64((index - from) * ENTRY_BYTES, BigInt(this.#table[index] ?? 0));
    }
    return bytes;
  }
}
