/**
 * One opened QCOW2 image: the disk as it is now, or for reading one of its snapshots.
 *
 * State: the header as it was parsed, the map of clusters with its caches, and the lists of snapshots and bitmaps. A
 * damaged list of those does not keep anybody from the disk: it becomes a warning. For writing there are also the
 * refcounts, the writer, and the first sector as it is on the medium: all that changes in a header is in it, so that it
 * changes at once.
 */
import { assert, describeError, ImageError, isImageError, printable } from '../../errors.ts';
import type {
  BitmapInfo,
  FormatOpenOptions,
  Image,
  ImageCapabilities,
  ImageInfo,
  Mapping,
  MetadataExtent,
  SealedMetadata,
  SnapshotInfo,
  WriteSlot,
} from '../../image/contract.ts';
import type { MetadataPages } from '../../image/metadata-pages.ts';
import { singleRegion } from '../../image/regions.ts';
import type { MaybePromise, ReadTarget, Source, Storage } from '../../storage/contract.ts';
import { isPlainName } from '../../storage/gate.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { type Bitmap, bitmapsConsistent, isInUse, readBitmaps } from './bitmaps.ts';
import { ClusterMap, KIND, l2Cache } from './cluster-map.ts';
import { EncodedReader } from './encoded.ts';
import { ClusterEncoder } from './encoder.ts';
import { HEADER_START, headerClusterBytes, parseHeader, type Qcow2Header, variantWords } from './header.ts';
import { AUTOCLEAR, BITMAP_FLAG, CRYPT, HEADER, INCOMPATIBLE, VERSION_3 } from './layout.ts';
import { metadataOf } from './metadata.ts';
import { openRefcounts, type RefcountStore } from './refcount-store.ts';
import { checkSnapshot, findSnapshot, readSnapshots, type Snapshot } from './snapshots.ts';
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
  if (snapshot === null) {
    const some = snapshots.slice(0, 10).map(({ id, name }) => `${printable(name)} (${printable(id)})`);
    throw new ImageError('not-found', `The image has no snapshot "${printable(wanted)}"`, {
      path: storage.label,
      status: 'VERR_NOT_FOUND',
      hint: some.length === 0 ? 'It has none at all.' : `It has: ${some.join(', ')}.`,
    });
  }
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
  readonly #storage: Storage;
  readonly #data: Storage | null;
  readonly #l2: MetadataPages;
  readonly #writing: Writing | null;
  readonly #snapshot: Snapshot | null;
  readonly #warnings: readonly string[];
  #header: Qcow2Header;
  #snapshots: readonly Snapshot[];
  #bitmaps: readonly Bitmap[];
  #map: ClusterMap;
  #writer: ClusterWriter | null;
  readonly #encoded: EncodedReader;
  #encoder: ClusterEncoder | null = null;
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
  }

  get info(): ImageInfo {
    return infoOf({
      header: this.#header,
      snapshot: this.#snapshot,
      snapshots: this.#snapshots,
      bitmaps: this.#bitmaps,
      warnings: this.#warnings,
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

  /** Clears the feature bits that say something which will not be true any more. */
  async beginChanges({ content }: { readonly content: boolean }): Promise<void> {
    this.#own();
    const { autoclear } = this.#header;
    const kept = autoclear & (AUTOCLEAR.dataFileRaw | (content ? 0n : AUTOCLEAR.bitmaps));
    if (kept === autoclear) return;
    await this.#changeHeader({ autoclear: kept });
  }

  noteChange(): void {
    // There is no modification identity.
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

  /** Changes fields of the first sector, durably and at once. */
  async #changeHeader(changes: Partial<Pick<Qcow2Header, 'autoclear'>>): Promise<void> {
    const { sector } = this.#written();
    for (const [name, value] of Object.entries(changes)) HEADER.put(sector, name as 'autoclear', value);
    this.#header = { ...this.#header, ...changes };
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

type Described = Pick<Qcow2Parts, 'header' | 'snapshot' | 'snapshots' | 'bitmaps' | 'warnings'>;

function infoOf({ header, snapshot, snapshots, bitmaps, warnings }: Described): ImageInfo {
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
    bitmaps: bitmaps.map((bitmap) => bitmapInfo(bitmap, bitmapsConsistent(header))),
  };
}

function snapshotInfo(snapshot: Snapshot): SnapshotInfo {
  const { id, name, diskSize, vmStateSize, seconds, nanoseconds } = snapshot;
  const createdMs = seconds * 1000 + Math.floor(nanoseconds / 1_000_000);
  return { id, name, virtualSize: diskSize - (diskSize % 512), vmStateSize, createdMs };
}

function bitmapInfo(bitmap: Bitmap, consistent: boolean): BitmapInfo {
  return {
    name: bitmap.name,
    granularity: 2 ** bitmap.granularityBits,
    enabled: (bitmap.flags & BITMAP_FLAG.auto) !== 0,
    inconsistent: !consistent || isInUse(bitmap),
  };
}
