/**
 * An open QCOW2 image: the current disk, or one of its snapshots for reading.
 *
 * State: the parsed header, the cluster map with its caches, and the lists of snapshots and bitmaps. A damaged list
 * does not prevent access to the disk: it becomes a warning. For writing there are also the refcounts, the writer, and
 * the first sector as on the medium: every header field that changes is in it, so that changes are atomic.
 */
import { alignDown, alignUp } from '../../binary/numbers.ts';
import type { ChunkReader } from '../../blocks/chunk-reader.ts';
import { ChangeGuard, imageReadOnly } from '../../blocks/guarded.ts';
import { type MetadataPages, PageCache } from '../../blocks/metadata-pages.ts';
import { KIND } from '../../blocks/two-level-map.ts';
import { assert, ImageError } from '../../errors.ts';
import type {
  AmendOptions,
  Image,
  ImageCapabilities,
  ImageInfo,
  ImagePart,
  Mapping,
  MetadataExtent,
  ParentLink,
  ResizeOptions,
  SealedMetadata,
  SnapshotStore,
  WriteSlot,
} from '../../image/contract.ts';
import type { ImageFiles } from '../../image/files.ts';
import { flushImage } from '../../image/flush.ts';
import type { MaybePromise, OperationOptions, ReadTarget, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { type AmendHost, prepareAmend } from './amend/amend.ts';
import type { AmendValues } from './amend/amend-plan.ts';
import { type Directory, Qcow2Bitmaps } from './bitmaps/bitmap-store.ts';
import type { Bitmap } from './bitmaps/bitmaps.ts';
import { ClusterMap, l2Cache } from './clusters/cluster-map.ts';
import { isOwn } from './clusters/entries.ts';
import { metadataOf } from './clusters/metadata.ts';
import { movableClusters, type PackHost, trimFile } from './clusters/pack.ts';
import { openRefcounts, type RefcountStore } from './clusters/refcount-store.ts';
import { checkQcow2Size, type ResizeHost, resizeQcow2 } from './clusters/resize.ts';
import { ClusterWriter } from './clusters/writer.ts';
import { clusterReader } from './compressed/encoded.ts';
import { ClusterEncoder } from './compressed/encoder.ts';
import { storedName } from './create.ts';
import { infoOf, isRawDataFile } from './header/describe.ts';
import { withExtension } from './header/extensions.ts';
import type { Qcow2Header } from './header/header.ts';
import { type HeaderStep, headerSteps } from './header/header-switch.ts';
import {
  AUTOCLEAR,
  BACKING_NAME_MAX,
  BITMAPS,
  DATA_FILE,
  EXTENSION_TYPE,
  HEADER,
  INCOMPATIBLE,
  VERSION_3,
} from './layout.ts';
import { type HeaderChanges, Qcow2Snapshots } from './snapshots/snapshot-store.ts';
import type { Snapshot } from './snapshots/snapshots.ts';

const SECTOR = 512;

/** The state of an image that is written. */
export interface Writing {
  readonly counts: RefcountStore;
  readonly sector: Uint8Array;
}

/** Parts of an image, assembled by `openQcow2`. */
export interface Qcow2Parts {
  readonly files: Pick<ImageFiles, 'directory'>;
  readonly storage: Storage;
  readonly header: Qcow2Header;
  readonly snapshots: readonly Snapshot[];
  readonly bitmaps: readonly Bitmap[];
  readonly snapshot: Snapshot | null;
  readonly warnings: readonly string[];
  /** Null: opened for reading. */
  readonly writing: Writing | null;
  /** Reason why writing was not possible, if requested. */
  readonly obstacle: string | null;
  /** Null: guest data is not needed. */
  readonly data: Storage | null;
}

/** An open QCOW2 image. */
export class Qcow2Image implements Image {
  readonly can: ImageCapabilities;
  readonly snapshots?: SnapshotStore;
  readonly bitmaps?: Qcow2Bitmaps;
  readonly #storage: Storage;
  readonly #guard: ChangeGuard;
  readonly #data: Storage | null;
  readonly #directory: string;
  readonly #cache: PageCache;
  #l2: MetadataPages;
  #writing: Writing | null;
  readonly #snapshot: Snapshot | null;
  readonly #warnings: readonly string[];
  #header: Qcow2Header;
  #snapshots: readonly Snapshot[];
  #bitmaps: readonly Bitmap[];
  #map: ClusterMap;
  #writer: ClusterWriter | null;
  #encoded: ChunkReader;
  #encoder: ClusterEncoder | null = null;
  #virtualSize: number;
  /** End of the file, if it may be truncated; otherwise 0. */
  readonly #fileEnd: number;
  #begun = false;

  constructor(parts: Qcow2Parts) {
    const { storage, header, snapshot, data, writing } = parts;
    this.#header = header;
    this.#directory = parts.files.directory;
    this.#snapshots = parts.snapshots;
    this.#bitmaps = parts.bitmaps;
    this.#snapshot = snapshot;
    this.#warnings = parts.warnings;
    this.#storage = storage;
    this.#guard = new ChangeGuard(storage.label);
    this.#data = data;
    this.#writing = writing;
    this.#virtualSize = this.info.virtualSize;
    const write = writing !== null;
    const raw = isRawDataFile(header);
    this.can = {
      write,
      readOnlyReason: parts.obstacle,
      allocate: write,
      zeroMarker: write && header.version === VERSION_3 && !raw,
      discard: write && !raw,
      resize: write,
      compact: write && data === storage,
    };
    // An image that is written was looked at, and its file grows.
    this.#fileEnd = writing === null ? storage.size : 0;
    this.#cache = writing?.counts.cache ?? new PageCache();
    this.#l2 = l2Cache(storage, header.clusterSize, this.#cache);
    this.#map = this.#mapOf(snapshot ?? header);
    this.#writer = this.#makeWriter();
    this.#encoded = clusterReader(storage, this.#map, header);
    if (writing !== null) {
      this.snapshots = this.#makeSnapshots(writing);
      this.bitmaps = this.#makeBitmaps(writing);
    }
  }

  get info(): ImageInfo {
    return infoOf({
      header: this.#header,
      snapshot: this.#snapshot,
      snapshots: this.#snapshots,
      bitmaps: this.#bitmaps,
      warnings: this.#warnings,
      isRecorded: (bitmap) => this.bitmaps?.isRecorded(bitmap) ?? false,
    });
  }

  map(offset: number, length: number): MaybePromise<Mapping> {
    assert(offset >= 0 && offset < this.#virtualSize && length > 0, 'the mapped range lies inside the disk');
    const map = this.#map;
    if (!map.look(offset)) return map.load(offset).then(() => this.map(offset, length));
    const end = Math.min(offset + length, this.#virtualSize);
    const { kind, position } = map;
    if (kind === KIND.broken) throw map.problem(offset);
    const writer = kind === KIND.data ? this.#writer : null;
    if (writer !== null && map.page !== null && !writer.isJudged(map.page)) {
      return writer.judge(offset).then(() => this.map(offset, length));
    }
    const own = writer !== null && isOwn(map);
    const joins = (): boolean => map.page !== null && writer?.isJudged(map.page) === true && isOwn(map) === own;
    const run = map.runEnd(offset, end, writer === null ? undefined : joins) - offset;
    if (kind === KIND.data)
      return this.#dataRun(position, run, own && !this.#guard.failed && writer?.isDamaged === false);
    if (kind === KIND.encoded) return { kind: 'encoded', length: run };
    return { kind: kind === KIND.zero ? 'zero' : 'absent', length: run };
  }

  readEncoded(offset: number, target: ReadTarget): Promise<void> {
    return this.#encoded.read(offset, target);
  }

  prepareWrite(offset: number, length: number): MaybePromise<WriteSlot> {
    return this.#own().prepare(offset, length);
  }

  get encoder(): ClusterEncoder | null {
    // What lies in a file of its own has its place already.
    if (this.#writing === null || this.#data !== this.#storage) return null;
    this.#encoder ??= new ClusterEncoder({
      header: this.#header,
      storage: this.#storage,
      counts: this.#writing.counts,
      map: () => this.#map,
      writer: () => this.#own(),
    });
    return this.#encoder;
  }

  unmap(offset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    return this.#own().unmap(offset, length, to);
  }

  /** Clears the feature bits that will become untrue. */
  async beginChanges({ content }: { readonly content: boolean }): Promise<void> {
    this.#own();
    const { autoclear, bitmaps, clusterSize } = this.#header;
    // Other programs leave a last cluster that is cut off: whoever writes into it must find all of it.
    const end = alignUp(this.#storage.size, clusterSize);
    if (!this.#begun && this.#data === this.#storage && this.#storage.size < end) {
      await this.#guard.run(() => this.#storage.resize(end));
    }
    this.#begun = true;
    // A list that could not be read cannot be looked after.
    const known = (bitmaps?.count ?? 0) === this.#bitmaps.length;
    const kept = autoclear & (AUTOCLEAR.dataFileRaw | (content && !known ? 0n : AUTOCLEAR.bitmaps));
    if (kept !== autoclear) await this.#changeHeader({ autoclear: kept });
    if (content) await this.bitmaps?.beginChanges();
  }

  noteChange(): void {
    // There is no modification identity.
  }

  noteRange(offset: number, length: number): void {
    this.bitmaps?.noteRange(offset, length);
  }

  async endChanges(): Promise<void> {
    if (!this.#guard.failed) await this.bitmaps?.endChanges();
  }

  get dirtyBytes(): number {
    if (this.#writing === null) return 0;
    return this.#l2.dirtyBytes + this.#map.dirtyBytes + this.#writing.counts.dirtyBytes;
  }

  seal(): SealedMetadata {
    const writer = this.#own();
    const { counts, sector } = this.#written();
    const sealed = counts.seal();
    const tables = writer.sealTables();
    const links = [...tables.others, ...this.#map.sealDirectory()];
    const root = [...sealed.root];
    if (sealed.moved !== null) {
      HEADER.put(sector, 'refcountTableOffset', sealed.moved.offset);
      HEADER.put(sector, 'refcountTableClusters', sealed.moved.clusters);
      this.#header = {
        ...this.#header,
        refcountTableOffset: sealed.moved.offset,
        refcountTableClusters: sealed.moved.clusters,
      };
      root.push({ storage: this.#storage, fileOffset: 0, bytes: sector.slice() });
    }
    return {
      stage: [...sealed.stage, ...tables.fresh],
      root: root.length === 0 ? [] : [root],
      publish: links.length === 0 ? [] : [links],
    };
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#l2.settle();
    this.#map.settleDirectory();
    this.#writing?.counts.settle(ok);
    // Room that compressed clusters had may get other content now.
    this.#encoded.forget();
    this.#guard.settle(ok);
  }

  movable(how: OperationOptions = {}): AsyncGenerator<number> {
    return movableClusters(this.#packHost(), how);
  }

  relocate(guestOffset: number): MaybePromise<WriteSlot | null> {
    return this.#own().relocate(guestOffset);
  }

  async trim(how: OperationOptions = {}): Promise<void> {
    await this.#guard.run(async () => {
      // Counts that were lowered by the flush before.
      await flushImage(this, { skipStorageFlush: false });
      await trimFile(this.#packHost(), how);
    });
  }

  #packHost(): PackHost {
    return {
      header: this.#header,
      map: this.#map,
      writer: this.#own(),
      counts: this.#written().counts,
      flush: () => flushImage(this, { skipStorageFlush: false }),
      cutFile: async (bytes) => {
        if (this.#storage.size > bytes) await this.#storage.resize(bytes);
      },
    };
  }

  async resize(size: number, how: ResizeOptions): Promise<void> {
    this.#own();
    const { counts } = this.#written();
    const image = this;
    const host: ResizeHost = {
      get header() {
        return image.#header;
      },
      storage: this.#storage,
      dataFile: this.#data === this.#storage ? null : this.#data,
      counts,
      map: (offset, length) => this.map(offset, length),
      prepareWrite: (offset, length) => this.prepareWrite(offset, length),
      unmap: (offset, length, to) => this.unmap(offset, length, to),
      hideTail: (bytes, all) => this.#own().hideTail(bytes, all),
      flush: () => flushImage(this, { skipStorageFlush: false }),
      get dirtyBytes() {
        return image.dirtyBytes;
      },
      switchHeader: async (changes) => {
        await this.#changeHeader(changes);
        this.#reload(this.#snapshots);
      },
    };
    checkQcow2Size(host, size);
    await this.#guard.run(async () => {
      await this.bitmaps?.beginResize();
      try {
        await resizeQcow2(host, size, how);
      } finally {
        this.bitmaps?.endResize();
      }
    });
  }

  /** Stores name and format of the backing file. */
  async relink(parent: ParentLink | null): Promise<void> {
    this.#own();
    // A parent that was not opened and has no name: the child keeps the link it has.
    if (parent?.name === '') return;
    const name = parent === null ? null : storedName(this.#directory, parent.name);
    const format = parent === null ? null : new TextEncoder().encode(parent.format);
    const header: Qcow2Header = {
      ...this.#header,
      backingName: name,
      backingFormat: parent?.format ?? null,
      extensions: withExtension(this.#header.extensions, EXTENSION_TYPE.backingFormat, format),
    };
    await this.#switchHeader(header);
  }

  parts(): readonly ImagePart[] {
    const { dataFileName: name, incompatible } = this.#header;
    if (name === null || (incompatible & INCOMPATIBLE.dataFile) === 0n) return [];
    return [{ name, role: DATA_FILE, storage: this.#data === this.#storage ? null : this.#data }];
  }

  async readdress(names: ReadonlyMap<string, string>): Promise<void> {
    this.#own();
    const { backingName, dataFileName, extensions } = this.#header;
    const [backing, data] = [backingName, dataFileName].map((name) => names.get(name ?? '') ?? name);
    const bytes = new TextEncoder().encode(data ?? '');
    const header: Qcow2Header = {
      ...this.#header,
      backingName: backing ?? null,
      dataFileName: data ?? null,
      extensions: data === dataFileName ? extensions : withExtension(extensions, EXTENSION_TYPE.dataFile, bytes),
    };
    refuseLongName(backing ?? '', this.#storage.label);
    await this.#switchHeader(header);
  }

  async amend(values: AmendValues, how: AmendOptions): Promise<void> {
    this.#own();
    const change = await prepareAmend(this.#amendHost(), values, how);
    if (change === null) return;
    await this.beginChanges({ content: false });
    await this.#guard.run(() => change(how));
  }

  metadata(): AsyncIterable<MetadataExtent> {
    return metadataOf(this.#storage, this.#header, this.#snapshots);
  }

  storages(): readonly Storage[] {
    return this.#data === null || this.#data === this.#storage ? [this.#storage] : [this.#data, this.#storage];
  }

  async close(): Promise<void> {
    try {
      if (this.#data !== this.#storage) await this.#data?.close();
    } finally {
      await this.#storage.close();
    }
  }

  /** The last cluster of a file may be truncated: the missing part reads as zero. */
  #dataRun(position: number, length: number, writable: boolean): Mapping {
    assert(this.#data !== null, 'an image that is read has its data');
    const available = Math.max(this.#data.size - position, 0);
    if (available === 0) return { kind: 'zero', length };
    return {
      kind: 'data',
      storage: this.#data,
      fileOffset: position,
      length: Math.min(length, available),
      writable,
    };
  }

  #mapOf({ l1Offset, l1Entries }: Pick<Qcow2Header, 'l1Offset' | 'l1Entries'>): ClusterMap {
    return new ClusterMap({
      header: this.#header,
      storage: this.#storage,
      data: this.#data ?? this.#storage,
      l1Offset,
      l1Entries,
      l2: this.#l2,
      cache: this.#cache,
      fileEnd: this.#fileEnd,
    });
  }

  #makeWriter(): ClusterWriter | null {
    if (this.#writing === null) return null;
    return new ClusterWriter({
      header: this.#header,
      storage: this.#storage,
      // Who opened it without its data writes none.
      data: this.#data ?? this.#storage,
      map: this.#map,
      l2: this.#l2,
      counts: this.#writing.counts,
    });
  }

  #makeSnapshots({ counts }: Writing): SnapshotStore {
    const image = this;
    return new Qcow2Snapshots({
      storage: this.#storage,
      counts,
      get header() {
        return image.#header;
      },
      get snapshots() {
        return image.#snapshots;
      },
      get hasBitmaps() {
        return image.#header.bitmaps !== null;
      },
      flush: () => flushImage(this, { skipStorageFlush: false }),
      changeHeader: (changes) => this.#changeHeader(changes),
      reload: (snapshots) => this.#reload(snapshots),
      fail: () => this.#guard.fail(),
    });
  }

  #makeBitmaps({ counts }: Writing): Qcow2Bitmaps {
    const image = this;
    return new Qcow2Bitmaps({
      storage: this.#storage,
      counts,
      get header() {
        return image.#header;
      },
      get bitmaps() {
        return image.#bitmaps;
      },
      flush: () => flushImage(this, { skipStorageFlush: false }),
      changeDirectory: (directory) => this.#changeDirectory(directory),
      changed: (bitmaps) => {
        this.#bitmaps = bitmaps;
      },
      fail: () => this.#guard.fail(),
    });
  }

  #amendHost(): AmendHost {
    const image = this;
    return {
      storage: this.#storage,
      get counts() {
        return image.#written().counts;
      },
      get header() {
        return image.#header;
      },
      get snapshots() {
        return image.#snapshots;
      },
      flush: () => flushImage(this, { skipStorageFlush: false }),
      checkHeader: async (header) => void (await this.#headerSteps(header)),
      switchHeader: (header) => this.#switchHeader(header),
      changeHeader: (changes) => this.#changeHeader(changes),
      switchRefcounts: async (fields) => {
        await this.#changeHeader(fields);
        const counts = await openRefcounts(this.#storage, this.#header);
        assert(typeof counts !== 'string', 'counts that were just written are sound');
        this.#writing = { ...this.#written(), counts };
      },
    };
  }

  /** Switches the header to another directory of bitmaps, or none. */
  async #changeDirectory(directory: Directory | null): Promise<void> {
    const { extensions, autoclear } = this.#header;
    const bitmaps = directory === null ? null : { ...directory, reserved: 0 };
    const data = bitmaps === null ? null : BITMAPS.encode(bitmaps);
    // Bitmaps that another program did not look after get no better by a change of the list.
    const kept = this.#header.bitmaps === null ? AUTOCLEAR.bitmaps : autoclear & AUTOCLEAR.bitmaps;
    const header: Qcow2Header = {
      ...this.#header,
      bitmaps,
      autoclear: (autoclear & ~AUTOCLEAR.bitmaps) | (bitmaps === null ? 0n : kept),
      extensions: withExtension(extensions, EXTENSION_TYPE.bitmaps, data),
    };
    await this.#switchHeader(header);
  }

  /** Reloads tables changed on the medium behind the caches. Everything must be flushed and unused. */
  #reload(snapshots: readonly Snapshot[]): void {
    const [header, storage] = [this.#header, this.#storage];
    this.#snapshots = snapshots;
    this.#l2.discard();
    this.#map.discard();
    this.#l2 = l2Cache(storage, header.clusterSize, this.#cache);
    this.#map = this.#mapOf(header);
    this.#writer = this.#makeWriter();
    this.#encoded = clusterReader(storage, this.#map, header);
    this.#encoder = null;
    this.#virtualSize = header.virtualSize;
  }

  /** Changes fields of the first sector, durably and atomically. */
  async #changeHeader(changes: HeaderChanges): Promise<void> {
    const { sector } = this.#written();
    for (const [name, value] of Object.entries(changes)) HEADER.put(sector, name as 'autoclear', value as bigint);
    await this.#guard.run(async () => {
      await this.#storage.write(0, sector.slice());
      await this.#storage.flush();
    });
    const header = { ...this.#header, ...changes };
    this.#header = { ...header, virtualSize: alignDown(header.size, SECTOR) };
  }

  /** Switches to a header with other extensions or backing file, durably; a cut leaves one of the two. */
  async #switchHeader(header: Qcow2Header): Promise<void> {
    const { sector } = this.#written();
    const steps = await this.#headerSteps(header);
    await this.#guard.run(async () => {
      for (const { rest, firstSector } of steps) {
        for (const { offset, bytes } of rest) await this.#storage.write(offset, bytes);
        if (rest.length > 0) await this.#storage.flush();
        sector.set(firstSector);
        await this.#storage.write(0, firstSector);
        await this.#storage.flush();
      }
    });
    this.#header = header;
  }

  async #headerSteps(header: Qcow2Header): Promise<HeaderStep[]> {
    const cluster = new Uint8Array(header.clusterSize);
    await readPadded(this.#storage, 0, cluster);
    return headerSteps(cluster, this.#header, header);
  }

  #written(): Writing {
    if (this.#writing === null) throw imageReadOnly(this.#storage.label);
    return this.#writing;
  }

  #own(): ClusterWriter {
    this.#written();
    this.#guard.check();
    assert(this.#writer !== null, 'an image that is written has a writer');
    return this.#writer;
  }
}

function refuseLongName(name: string, path: string): void {
  const { length } = new TextEncoder().encode(name);
  if (length <= BACKING_NAME_MAX) return;
  throw new ImageError('limit', 'The name of the backing file would be too long', {
    path,
    found: `${length} bytes`,
    expected: `at most ${BACKING_NAME_MAX}`,
    hint: 'Put the two files nearer to each other.',
  });
}
