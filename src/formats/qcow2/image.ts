/**
 * One opened QCOW2 image: the disk as it is now, or for reading one of its snapshots.
 *
 * State: the header as it was parsed, the map of clusters with its caches, and the lists of snapshots and bitmaps. A
 * damaged list of those does not keep anybody from the disk: it becomes a warning. For writing there are also the
 * refcounts, the writer, and the first sector as it is on the medium: all that changes in a header is in it, so that it
 * changes at once.
 */
import { alignDown } from '../../binary/numbers.ts';
import { assert, describeError, ImageError, isImageError } from '../../errors.ts';
import type {
  BitmapInfo,
  FormatOpenOptions,
  Image,
  ImageCapabilities,
  ImageInfo,
  Mapping,
  MetadataExtent,
  SealedMetadata,
  SnapshotStore,
  WriteSlot,
} from '../../image/contract.ts';
import { flushImage } from '../../image/flush.ts';
import type { MetadataPages } from '../../image/metadata-pages.ts';
import { singleRegion } from '../../image/regions.ts';
import type { MaybePromise, ReadTarget, Source, Storage } from '../../storage/contract.ts';
import { isPlainName } from '../../storage/gate.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { type Directory, Qcow2Bitmaps } from './bitmap-store.ts';
import { type Bitmap, bitmapsConsistent, isInUse, readBitmaps } from './bitmaps.ts';
import { ClusterMap, KIND, l2Cache } from './cluster-map.ts';
import { EncodedReader } from './encoded.ts';
import { withExtension } from './extensions.ts';
import { HEADER_START, headerClusterBytes, parseHeader, type Qcow2Header, variantWords } from './header.ts';
import { headerSteps } from './header-switch.ts';
import { AUTOCLEAR, BITMAP_FLAG, BITMAPS, CRYPT, EXTENSION_TYPE, HEADER, INCOMPATIBLE, VERSION_3 } from './layout.ts';
import { metadataOf } from './metadata.ts';
import { openRefcounts, type RefcountStore } from './refcount-store.ts';
import { type HeaderChanges, Qcow2Snapshots } from './snapshot-store.ts';
import { checkSnapshot, findSnapshot, noSnapshot, readSnapshots, type Snapshot, snapshotInfo } from './snapshots.ts';
import { ClusterWriter, isOwn } from './writer.ts';

/** Clusters that one run is gathered from at most: 1 GiB of 64 KiB clusters. */
const RUN_LOOKS = 16_384;
const SECTOR = 512;

/** Opens the image in a storage, which belongs to the image when this resolves. */
export async function openQcow2(storage: Storage, source: Source, options: FormatOpenOptions): Promise<Qcow2Image> {
  const header = await readHeader(storage);
  const warnings = [...header.warnings];
  const snapshots = await lenient(
    readSnapshots(storage, header),
    'snapshots',
    options.snapshot !== undefined,
    warnings,
  );
  const bitmaps = await lenient(readBitmaps(storage, header), 'bitmaps', false, warnings);
  const snapshot = options.snapshot === undefined ? null : chooseSnapshot(storage, header, snapshots, options.snapshot);
  const parts = { storage, header, snapshots, bitmaps, snapshot, warnings, writing: null, obstacle: null };
  if (options.infoOnly === true) return new Qcow2Image({ ...parts, data: null });
  refuseEncrypted(header, storage.label);
  const writing = options.mode === 'write' ? await openForWriting(storage, header, snapshot) : null;
  const obstacle = typeof writing === 'string' ? writing : null;
  const state = typeof writing === 'string' ? null : writing;
  const data = await openData(storage, header, source, { gate: options.gate, mode: state === null ? 'read' : 'write' });
  return new Qcow2Image({ ...parts, data, writing: state, obstacle });
}

/** What writing needs beside what reading does; or words why it may not be. */
async function openForWriting(
  storage: Storage,
  header: Qcow2Header,
  snapshot: Snapshot | null,
): Promise<Writing | string> {
  if (snapshot !== null) return 'a snapshot is only read';
  if ((header.incompatible & INCOMPATIBLE.corrupt) !== 0n) return 'it is marked as corrupt';
  if ((header.incompatible & INCOMPATIBLE.dirty) !== 0n)
    return 'it was not closed cleanly, and its refcounts may be old';
  const counts = await openRefcounts(storage, header);
  if (typeof counts === 'string') return counts;
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  return { counts, sector };
}

/** The state of an image that is written. */
interface Writing {
  readonly counts: RefcountStore;
  readonly sector: Uint8Array;
}

/** Reads and checks the header cluster. */
export async function readHeader(storage: Storage): Promise<Qcow2Header> {
  const start = new Uint8Array(HEADER_START);
  await readPadded(storage, 0, start);
  const cluster = new Uint8Array(headerClusterBytes(start, storage.label));
  await readPadded(storage, 0, cluster);
  return parseHeader(cluster, storage.size, storage.label);
}

/** A list that may be damaged without harm to the disk. */
async function lenient<T>(reading: Promise<T[]>, what: string, needed: boolean, warnings: string[]): Promise<T[]> {
  try {
    return await reading;
  } catch (error) {
    const harmless = isImageError(error) && error.kind !== 'io' && error.kind !== 'aborted';
    if (needed || !harmless) throw error;
    warnings.push(`The list of ${what} cannot be read: ${describeError(error)}.`);
    return [];
  }
}

function chooseSnapshot(
  storage: Storage,
  header: Qcow2Header,
  snapshots: readonly Snapshot[],
  wanted: string,
): Snapshot {
  const snapshot = findSnapshot(snapshots, wanted);
  if (snapshot === null) throw noSnapshot(snapshots, wanted, storage.label);
  checkSnapshot(snapshot, header, storage);
  return snapshot;
}

function refuseEncrypted(header: Qcow2Header, path: string): void {
  if (header.cryptMethod === CRYPT.none) return;
  const how = header.cryptMethod === CRYPT.luks ? 'with LUKS' : 'in the old way of QEMU (AES)';
  throw new ImageError('unsupported', `The image is encrypted ${how}, which vdkit cannot read`, {
    path,
    hint: 'Decrypt it with qemu-img convert, or look at what it says of itself (info).',
  });
}

/** Where guest data lies. A data file is opened through the gate, and only read as long as images are. */
async function openData(
  storage: Storage,
  header: Qcow2Header,
  source: Source,
  { gate, mode }: Pick<FormatOpenOptions, 'gate' | 'mode'>,
): Promise<Storage> {
  if ((header.incompatible & INCOMPATIBLE.dataFile) === 0n) return storage;
  const { dataFileName: name } = header;
  if (name === null) {
    throw new ImageError('not-found', 'The data is in another file, which the image does not name', {
      path: storage.label,
      field: 'external data file',
    });
  }
  const { provider } = source;
  const wanted = isPlainName(name) ? provider.resolve(name, source.name) : name;
  return gate.open({ name: wanted, role: 'external data file' }, source, mode);
}

interface Qcow2Parts {
  readonly storage: Storage;
  readonly header: Qcow2Header;
  readonly snapshots: readonly Snapshot[];
  readonly bitmaps: readonly Bitmap[];
  readonly snapshot: Snapshot | null;
  readonly warnings: readonly string[];
  /** Null: only read. */
  readonly writing: Writing | null;
  /** Why not, when writing was asked for. */
  readonly obstacle: string | null;
  /** Null: only what headers say is wanted. */
  readonly data: Storage | null;
}

/** See the head of this file. */
export class Qcow2Image implements Image {
  readonly can: ImageCapabilities;
  readonly snapshots?: SnapshotStore;
  readonly bitmaps?: Qcow2Bitmaps;
  readonly #storage: Storage;
  readonly #data: Storage | null;
  #l2: MetadataPages;
  readonly #writing: Writing | null;
  readonly #snapshot: Snapshot | null;
  readonly #warnings: readonly string[];
  #header: Qcow2Header;
  #snapshots: readonly Snapshot[];
  #bitmaps: readonly Bitmap[];
  #map: ClusterMap;
  #writer: ClusterWriter | null;
  #encoded: EncodedReader;
  #virtualSize: number;
  #failed = false;

  constructor(parts: Qcow2Parts) {
    const { storage, header, snapshot, data, writing } = parts;
    this.#header = header;
    this.#snapshots = parts.snapshots;
    this.#bitmaps = parts.bitmaps;
    this.#snapshot = snapshot;
    this.#warnings = parts.warnings;
    this.#storage = storage;
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
      resize: false,
      compact: false,
    };
    const { l1Offset, l1Entries } = snapshot ?? header;
    this.#l2 = l2Cache(storage, header.clusterSize);
    this.#map = new ClusterMap({ header, storage, data: data ?? storage, l1Offset, l1Entries, l2: this.#l2 });
    this.#writer = this.#makeWriter();
    this.#encoded = new EncodedReader(storage, this.#map, header);
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
    let { until } = map;
    // Neighbours of one kind come as one run; data only where they are neighbours in the file, too. Bounded, since a
    // table that all L1 entries lead to may answer for petabytes.
    for (let looks = 1; looks < RUN_LOOKS && until < end && map.look(until) && map.kind === kind; looks++) {
      if (kind === KIND.data && map.position !== position + (until - offset)) break;
      if (writer !== null && (map.page === null || !writer.isJudged(map.page) || isOwn(map) !== own)) break;
      until = map.until;
    }
    const run = Math.min(until, end) - offset;
    if (kind === KIND.data) return this.#dataRun(position, run, own && !this.#failed);
    if (kind === KIND.encoded) return { kind: 'encoded', length: run };
    return { kind: kind === KIND.zero ? 'zero' : 'absent', length: run };
  }

  readEncoded(offset: number, target: ReadTarget): Promise<void> {
    return this.#encoded.read(offset, target);
  }

  prepareWrite(offset: number, length: number): MaybePromise<WriteSlot> {
    return this.#own().prepare(offset, length);
  }

  unmap(offset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    return this.#own().unmap(offset, length, to);
  }

  /** Clears the feature bits that say something which will not be true any more. */
  async beginChanges({ content }: { readonly content: boolean }): Promise<void> {
    this.#own();
    const { autoclear, bitmaps } = this.#header;
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
    if (!this.#failed) await this.bitmaps?.endChanges();
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
    const links = [...tables.others, ...this.#map.sealL1()];
    const root = [...sealed.root];
    if (sealed.moved !== null) {
      HEADER.put(sector, 'refcountTableOffset', sealed.moved.offset);
      HEADER.put(sector, 'refcountTableClusters', sealed.moved.clusters);
      this.#header = {
        ...this.#header,
        refcountTableOffset: sealed.moved.offset,
        refcountTableClusters: sealed.moved.clusters,
      };
      root.push({ storage: this.#storage, offset: 0, bytes: sector.slice() });
    }
    return {
      stage: [...sealed.stage, ...tables.fresh],
      root: root.length === 0 ? [] : [root],
      publish: links.length === 0 ? [] : [links],
    };
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#l2.settle();
    this.#map.settleL1();
    this.#writing?.counts.settle(ok);
    // Room that compressed clusters had may get other content now.
    this.#encoded.forget();
    if (!ok) this.#failed = true;
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

  /** The last cluster of a file may be cut off, or not there at all: what is missing reads zero. */
  #dataRun(position: number, length: number, writable: boolean): Mapping {
    assert(this.#data !== null, 'an image that is read has its data');
    const available = Math.max(this.#data.size - position, 0);
    if (writable) return { kind: 'data', storage: this.#data, offset: position, length, writable };
    if (available === 0) return { kind: 'zero', length };
    return {
      kind: 'data',
      storage: this.#data,
      offset: position,
      length: Math.min(length, available),
      writable,
    };
  }

  #makeWriter(): ClusterWriter | null {
    if (this.#writing === null || this.#data === null) return null;
    return new ClusterWriter({
      header: this.#header,
      storage: this.#storage,
      data: this.#data,
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
      fail: () => {
        this.#failed = true;
      },
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
      fail: () => {
        this.#failed = true;
      },
    });
  }

  /** Names another directory of bitmaps, or none, in the header. */
  async #changeDirectory(directory: Directory | null): Promise<void> {
    const { clusterSize, extensions, autoclear } = this.#header;
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
    const cluster = new Uint8Array(clusterSize);
    await readPadded(this.#storage, 0, cluster);
    for (const { rest, firstSector } of headerSteps(cluster, this.#header, header)) {
      for (const { offset, bytes } of rest) await this.#storage.write(offset, bytes);
      if (rest.length > 0) await this.#storage.flush();
      this.#written().sector.set(firstSector);
      await this.#storage.write(0, firstSector);
      await this.#storage.flush();
    }
    this.#header = header;
  }

  /** The tables on the medium were changed past the caches. Everything is flushed, and nothing is in use. */
  #reload(snapshots: readonly Snapshot[]): void {
    const { l1Offset, l1Entries, clusterSize } = this.#header;
    const [header, storage, data] = [this.#header, this.#storage, this.#data ?? this.#storage];
    this.#snapshots = snapshots;
    this.#l2 = l2Cache(storage, clusterSize);
    this.#map = new ClusterMap({ header, storage, data, l1Offset, l1Entries, l2: this.#l2 });
    this.#writer = this.#makeWriter();
    this.#encoded = new EncodedReader(storage, this.#map, header);
    this.#virtualSize = header.virtualSize;
  }

  /** Changes fields of the first sector, durably and at once. */
  async #changeHeader(changes: HeaderChanges): Promise<void> {
    const { sector } = this.#written();
    for (const [name, value] of Object.entries(changes)) HEADER.put(sector, name as 'autoclear', value as bigint);
    const header = { ...this.#header, ...changes };
    this.#header = { ...header, virtualSize: alignDown(header.size, SECTOR) };
    try {
      await this.#storage.write(0, sector.slice());
      await this.#storage.flush();
    } catch (error) {
      this.#failed = true;
      throw error;
    }
  }

  #written(): Writing {
    if (this.#writing !== null) return this.#writing;
    throw new ImageError('read-only', 'The image is open for reading only', { path: this.#storage.label });
  }

  #own(): ClusterWriter {
    this.#written();
    if (this.#failed || this.#writer === null) {
      throw new ImageError('io', 'An earlier write to this image failed, so it takes no more', {
        path: this.#storage.label,
        hint: 'Close it and open it again: what was flushed is safe.',
      });
    }
    return this.#writer;
  }
}

function isRawDataFile({ incompatible, autoclear }: Qcow2Header): boolean {
  return (incompatible & INCOMPATIBLE.dataFile) !== 0n && (autoclear & AUTOCLEAR.dataFileRaw) !== 0n;
}

type Described = Pick<Qcow2Parts, 'header' | 'snapshot' | 'snapshots' | 'bitmaps' | 'warnings'> & {
  /** This session records it, so that it is in use and all right. */
  readonly isRecorded: (bitmap: Bitmap) => boolean;
};

function infoOf({ header, snapshot, snapshots, bitmaps, warnings, isRecorded }: Described): ImageInfo {
  const { clusterSize } = header;
  const size = snapshot?.diskSize ?? header.size;
  const virtualSize = size - (size % 512);
  return {
    format: 'qcow2',
    variant: variantWords(header),
    type: 'hdd',
    virtualSize,
    blockSize: clusterSize,
    sectorSize: 512,
    version: String(header.version),
    comment: null,
    geometry: { physical: null, logical: null },
    regions: singleRegion(virtualSize, 512),
    uuid: null,
    modificationUuid: null,
    parentUuid: null,
    parentModificationUuid: null,
    parentName: header.backingName,
    parentFormat: header.backingFormat,
    dirty: header.version === VERSION_3 ? (header.incompatible & INCOMPATIBLE.dirty) !== 0n : null,
    differencing: header.backingName !== null,
    warnings,
    snapshots: snapshots.map(snapshotInfo),
    bitmaps: bitmaps.map((bitmap) =>
      bitmapInfo(bitmap, bitmapsConsistent(header) && (!isInUse(bitmap) || isRecorded(bitmap))),
    ),
  };
}

function bitmapInfo(bitmap: Bitmap, consistent: boolean): BitmapInfo {
  return {
    name: bitmap.name,
    granularity: 2 ** bitmap.granularityBits,
    enabled: (bitmap.flags & BITMAP_FLAG.auto) !== 0,
    inconsistent: !consistent,
  };
}
