/**
 * State of an open QCOW2 image, shared by everything that reads and changes it: the parsed header, the cluster map with its
 * caches, and the lists of snapshots and bitmaps. For writing there are also the refcounts, the writer, and the first sector
 * as on the medium: every header field that changes is in it, so that changes are atomic.
 */
import type { ChunkReader } from '../../blocks/chunk-reader.ts';
import { ChangeGuard, imageReadOnly } from '../../blocks/guarded.ts';
import { type MetadataPages, PageCache } from '../../blocks/metadata-pages.ts';
import { assert } from '../../errors.ts';
import type { ImageFiles } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';
import type { Bitmap } from './bitmaps/bitmaps.ts';
import { ClusterMap, l2Cache } from './clusters/cluster-map.ts';
import type { RefcountStore } from './clusters/refcount-store.ts';
import type { ClusterWriter } from './clusters/writer.ts';
import { clusterReader } from './compressed/encoded.ts';
import type { ClusterEncoder } from './compressed/encoder.ts';
import type { Qcow2Header } from './header/header.ts';
import type { Snapshot } from './snapshots/snapshots.ts';

/** The state of an image that is written. */
export interface Writing {
  readonly counts: RefcountStore;
  readonly sector: Uint8Array;
  /** Classes and functions that only writing needs. */
  readonly code: WritingCode;
}

/** The module that is loaded for writing. */
export type WritingCode = typeof import('./writing.ts');

/** Parts of an image, assembled by `openQcow2`. */
export interface Qcow2Parts {
  readonly files: Pick<ImageFiles, 'directory'>;
  readonly storage: Storage;
  readonly header: Qcow2Header;
  readonly snapshots: readonly Snapshot[];
  readonly bitmaps: readonly Bitmap[];
  readonly snapshot: Snapshot | null;
  readonly warnings: readonly string[];
  /** Cipher and mode; null: not encrypted. */
  readonly encryption: string | null;
  /** Null: opened for reading. */
  readonly writing: Writing | null;
  /** Reason why writing was not possible, if requested. */
  readonly obstacle: string | null;
  /** Null: guest data is not needed. */
  readonly data: Storage | null;
}

/** State of an open QCOW2 image. */
export class Qcow2State {
  readonly storage: Storage;
  /** Storage of guest data: the image or its external data file; null: not opened. */
  readonly data: Storage | null;
  readonly directory: string;
  readonly snapshot: Snapshot | null;
  readonly warnings: readonly string[];
  readonly encryption: string | null;
  readonly guard: ChangeGuard;
  /** Makes counts and all earlier writes durable. */
  readonly flush: () => Promise<void>;
  header: Qcow2Header;
  snapshots: readonly Snapshot[];
  bitmaps: readonly Bitmap[];
  virtualSize: number;
  map: ClusterMap;
  chunks: ChunkReader;
  /** Null: opened for reading. */
  writer: ClusterWriter | null;
  readonly #cache: PageCache;
  /** End of the file, if it may be truncated; otherwise 0. */
  readonly #fileEnd: number;
  #writing: Writing | null;
  #l2: MetadataPages;
  #encoder: ClusterEncoder | null = null;

  constructor(parts: Qcow2Parts, { virtualSize, flush }: Pick<Qcow2State, 'virtualSize' | 'flush'>) {
    const { storage, header, snapshot, writing } = parts;
    this.storage = storage;
    this.data = parts.data;
    this.directory = parts.files.directory;
    this.snapshot = snapshot;
    this.encryption = parts.encryption;
    this.warnings = parts.warnings;
    this.guard = new ChangeGuard(storage.label);
    this.flush = flush;
    this.header = header;
    this.snapshots = parts.snapshots;
    this.bitmaps = parts.bitmaps;
    this.virtualSize = virtualSize;
    this.#writing = writing;
    // An image that is written was looked at, and its file grows.
    this.#fileEnd = writing === null ? storage.size : 0;
    this.#cache = writing?.counts.cache ?? new PageCache();
    this.#l2 = l2Cache(storage, header.clusterSize, this.#cache);
    this.map = this.#mapOf(snapshot ?? header);
    this.writer = this.#makeWriter();
    this.chunks = clusterReader(storage, this.map, header);
  }

  get isWritten(): boolean {
    return this.#writing !== null;
  }

  /** External data file, if it is open. */
  get dataFile(): Storage | null {
    return this.data === this.storage ? null : this.data;
  }

  /** Refcounts of an image open for writing. Throws `read-only`. */
  get counts(): RefcountStore {
    return this.#written().counts;
  }

  /** Code for writing. Throws `read-only`. */
  get code(): WritingCode {
    return this.#written().code;
  }

  /** The first sector as on the medium. Throws `read-only`. */
  get sector(): Uint8Array {
    return this.#written().sector;
  }

  /** The writer, for a change. Throws `read-only`, and `io` after a failure. */
  own(): ClusterWriter {
    this.#written();
    this.guard.check();
    assert(this.writer !== null, 'an image that is written has a writer');
    return this.writer;
  }

  /** Null: compressed clusters cannot be stored. */
  get encoder(): ClusterEncoder | null {
    // Data in a separate file has its place already.
    if (this.#writing === null || this.data !== this.storage) return null;
    const { code, counts } = this.#writing;
    this.#encoder ??= new code.ClusterEncoder({
      header: this.header,
      storage: this.storage,
      counts,
      map: () => this.map,
      writer: () => this.own(),
    });
    return this.#encoder;
  }

  /** Bytes waiting for a flush. */
  get dirtyBytes(): number {
    if (this.#writing === null) return 0;
    const bytes = this.#l2.dirtyBytes + this.map.dirtyBytes + this.#writing.counts.dirtyBytes;
    return Math.max(bytes, this.#cache.crowding);
  }

  /** A flush ended. */
  settle(ok: boolean): void {
    this.#l2.settle();
    this.map.settleDirectory();
    this.#writing?.counts.settle(ok);
    // Room that compressed clusters had may get other content now.
    this.chunks.forget();
    this.guard.settle(ok);
  }

  /** Reloads tables changed on the medium behind the caches. Everything must be flushed and unused. */
  reload(snapshots: readonly Snapshot[]): void {
    const { header, storage } = this;
    this.snapshots = snapshots;
    this.#l2.discard();
    this.map.discard();
    this.#l2 = l2Cache(storage, header.clusterSize, this.#cache);
    this.map = this.#mapOf(header);
    this.writer = this.#makeWriter();
    this.chunks = clusterReader(storage, this.map, header);
    this.#encoder = null;
    this.virtualSize = header.virtualSize;
  }

  /** Replaces the refcounts by those that the header names now. */
  replaceCounts(counts: RefcountStore): void {
    this.#writing = { ...this.#written(), counts };
  }

  #written(): Writing {
    if (this.#writing === null) throw imageReadOnly(this.storage.label);
    return this.#writing;
  }

  #mapOf({ l1Offset, l1Entries }: Pick<Qcow2Header, 'l1Offset' | 'l1Entries'>): ClusterMap {
    return new ClusterMap({
      header: this.header,
      storage: this.storage,
      data: this.data ?? this.storage,
      l1Offset,
      l1Entries,
      l2: this.#l2,
      cache: this.#cache,
      fileEnd: this.#fileEnd,
    });
  }

  #makeWriter(): ClusterWriter | null {
    if (this.#writing === null) return null;
    const { code, counts } = this.#writing;
    return new code.ClusterWriter({
      header: this.header,
      storage: this.storage,
      // Who opened it without its data writes none.
      data: this.data ?? this.storage,
      map: this.map,
      l2: this.#l2,
      counts,
    });
  }
}
