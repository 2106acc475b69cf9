/**
 * One opened QCOW2 image, for reading: the disk as it is now, or one of its snapshots.
 *
 * State: the header as it was parsed, the map of clusters with its caches, and the lists of snapshots and bitmaps. A
 * damaged list of those does not keep anybody from the disk: it becomes a warning.
 */
import { assert, describeError, ImageError, isImageError, printable } from '../../errors.ts';
import type {
  BitmapInfo,
  FormatOpenOptions,
  Image,
  ImageCapabilities,
  ImageInfo,
  Mapping,
  SealedMetadata,
  SnapshotInfo,
} from '../../image/contract.ts';
import { singleRegion } from '../../image/regions.ts';
import type { MaybePromise, ReadTarget, Source, Storage } from '../../storage/contract.ts';
import { isPlainName } from '../../storage/gate.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { type Bitmap, bitmapsConsistent, isInUse, readBitmaps } from './bitmaps.ts';
import { ClusterMap, KIND, l2Cache } from './cluster-map.ts';
import { EncodedReader } from './encoded.ts';
import { HEADER_START, headerClusterBytes, parseHeader, type Qcow2Header, variantWords } from './header.ts';
import { BITMAP_FLAG, CRYPT, INCOMPATIBLE, VERSION_3 } from './layout.ts';
import { checkSnapshot, findSnapshot, readSnapshots, type Snapshot } from './snapshots.ts';

/** Clusters that one run is gathered from at most: 1 GiB of 64 KiB clusters. */
const RUN_LOOKS = 16_384;

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
  const parts = { storage, header, snapshots, bitmaps, snapshot, warnings, mode: options.mode };
  if (options.infoOnly === true) return new Qcow2Image({ ...parts, data: null });
  refuseEncrypted(header, storage.label);
  const data = await openData(storage, header, source, options);
  return new Qcow2Image({ ...parts, data });
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
  { gate }: FormatOpenOptions,
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
  return gate.open({ name: wanted, role: 'external data file' }, source, 'read');
}

interface Qcow2Parts {
  readonly storage: Storage;
  readonly header: Qcow2Header;
  readonly snapshots: readonly Snapshot[];
  readonly bitmaps: readonly Bitmap[];
  readonly snapshot: Snapshot | null;
  readonly warnings: readonly string[];
  readonly mode: FormatOpenOptions['mode'];
  /** Null: only what headers say is wanted. */
  readonly data: Storage | null;
}

/** See the head of this file. */
export class Qcow2Image implements Image {
  readonly can: ImageCapabilities;
  readonly info: ImageInfo;
  readonly #storage: Storage;
  readonly #data: Storage | null;
  readonly #map: ClusterMap;
  readonly #encoded: EncodedReader;
  readonly #virtualSize: number;

  constructor(parts: Qcow2Parts) {
    const { storage, header, snapshot, data } = parts;
    this.#storage = storage;
    this.#data = data;
    this.info = infoOf(parts);
    this.#virtualSize = this.info.virtualSize;
    this.can = {
      write: false,
      readOnlyReason: parts.mode === 'write' ? 'QCOW2 images are only read by this version of vdkit' : null,
      allocate: false,
      zeroMarker: false,
      discard: false,
      resize: false,
      compact: false,
    };
    const { l1Offset, l1Entries } = snapshot ?? header;
    const l2 = l2Cache(storage, header.clusterSize);
    this.#map = new ClusterMap({ header, storage, data: data ?? storage, l1Offset, l1Entries, l2 });
    this.#encoded = new EncodedReader(storage, this.#map, header);
  }

  map(offset: number, length: number): MaybePromise<Mapping> {
    const map = this.#map;
    if (!map.look(offset)) return map.load(offset).then(() => this.map(offset, length));
    const end = Math.min(offset + length, this.#virtualSize);
    const { kind, position } = map;
    if (kind === KIND.broken) throw map.problem(offset);
    let { until } = map;
    // Neighbours of one kind come as one run; data only where they are neighbours in the file, too. Bounded, since a
    // table that all L1 entries lead to may answer for petabytes.
    for (let looks = 1; looks < RUN_LOOKS && until < end && map.look(until) && map.kind === kind; looks++) {
      if (kind === KIND.data && map.position !== position + (until - offset)) break;
      until = map.until;
    }
    const run = Math.min(until, end) - offset;
    if (kind === KIND.data) return this.#dataRun(position, run);
    if (kind === KIND.encoded) return { kind: 'encoded', length: run };
    return { kind: kind === KIND.zero ? 'zero' : 'absent', length: run };
  }

  readEncoded(offset: number, target: ReadTarget): Promise<void> {
    return this.#encoded.read(offset, target);
  }

  async beginChanges(): Promise<void> {
    throw this.#readOnly();
  }

  noteChange(): void {
    throw this.#readOnly();
  }

  get dirtyBytes(): number {
    return 0;
  }

  seal(): SealedMetadata {
    return { stage: [], root: [], publish: [] };
  }

  settle(): void {}

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
  #dataRun(position: number, length: number): Mapping {
    assert(this.#data !== null, 'an image that is read has its data');
    const available = Math.max(this.#data.size - position, 0);
    if (available === 0) return { kind: 'zero', length };
    return {
      kind: 'data',
      storage: this.#data,
      offset: position,
      length: Math.min(length, available),
      writable: false,
    };
  }

  #readOnly(): ImageError {
    return new ImageError('read-only', 'The image is open for reading only', { path: this.#storage.label });
  }
}

function infoOf({ header, snapshot, snapshots, bitmaps, warnings }: Qcow2Parts): ImageInfo {
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
