/**
 * An open QCOW2 image: the current disk, or one of its snapshots for reading. A damaged list of snapshots or bitmaps does
 * not prevent access to the disk: it becomes a warning.
 *
 * The image delegates by duty: mapping (clusters/mapping.ts), allocation (clusters/writer.ts), flushes (clusters/seal.ts),
 * header changes (header/header-writer.ts), and the long operations, each of which sees the image through its host
 * (hosts.ts). All of them share one `Qcow2State`.
 */
import { alignUp } from '../../binary/numbers.ts';
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
import { flushImage } from '../../image/flush.ts';
import type { MaybePromise, OperationOptions, ReadTarget, Storage } from '../../storage/contract.ts';
import type { AmendValues } from './amend/amend-plan.ts';
import type { Qcow2Bitmaps } from './bitmaps/bitmap-store.ts';
import { mapRange } from './clusters/mapping.ts';
import { metadataOf } from './clusters/metadata.ts';
import { sealTables } from './clusters/seal.ts';
import type { ClusterEncoder } from './compressed/encoder.ts';
import { type Described, infoOf, isRawDataFile } from './header/describe.ts';
import { HeaderWriter } from './header/header-writer.ts';
import { AUTOCLEAR, DATA_FILE, INCOMPATIBLE, VERSION_3 } from './layout.ts';
import { type Qcow2Parts, Qcow2State } from './state.ts';

/** An open QCOW2 image. */
export class Qcow2Image implements Image {
  readonly can: ImageCapabilities;
  readonly snapshots?: SnapshotStore;
  readonly bitmaps?: Qcow2Bitmaps;
  readonly #state: Qcow2State;
  readonly #headers: HeaderWriter;
  #begun = false;

  constructor(parts: Qcow2Parts) {
    const { virtualSize } = infoOf({ ...parts, isRecorded: () => false });
    const flush = (): Promise<void> => flushImage(this, { skipStorageFlush: false });
    this.#state = new Qcow2State(parts, { virtualSize, flush });
    this.#headers = new HeaderWriter(this.#state);
    this.can = capabilitiesOf(parts);
    if (parts.writing !== null) {
      const { code } = parts.writing;
      this.snapshots = new code.Qcow2Snapshots(code.snapshotHost(this.#state, this.#headers));
      this.bitmaps = new code.Qcow2Bitmaps(code.bitmapHost(this.#state, this.#headers));
    }
  }

  get info(): ImageInfo {
    const { header, snapshot, snapshots, bitmaps, warnings, encryption } = this.#state;
    const isRecorded: Described['isRecorded'] = (bitmap) => this.bitmaps?.isRecorded(bitmap) ?? false;
    return infoOf({ header, snapshot, snapshots, bitmaps, warnings, encryption, isRecorded });
  }

  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    return mapRange(this.#state, guestOffset, length);
  }

  readEncoded(guestOffset: number, target: ReadTarget): Promise<void> {
    return this.#state.chunks.read(guestOffset, target);
  }

  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    return this.#state.own().prepare(guestOffset, length);
  }

  get encoder(): ClusterEncoder | null {
    return this.#state.encoder;
  }

  unmap(guestOffset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    return this.#state.own().unmap(guestOffset, length, to);
  }

  /** Clears the feature bits that will become untrue. */
  async beginChanges({ content }: { readonly content: boolean }): Promise<void> {
    this.#state.own();
    const { storage, data, guard, header } = this.#state;
    const { autoclear, bitmaps, clusterSize } = header;
    // Other programs leave a last cluster that is cut off: a write into it must find all of it.
    const end = alignUp(storage.size, clusterSize);
    if (!this.#begun && data === storage && storage.size < end) await guard.run(() => storage.resize(end));
    this.#begun = true;
    // A list that could not be read cannot be looked after.
    const known = (bitmaps?.count ?? 0) === this.#state.bitmaps.length;
    const kept = autoclear & (AUTOCLEAR.dataFileRaw | (content && !known ? 0n : AUTOCLEAR.bitmaps));
    if (kept !== autoclear) await this.#headers.change({ autoclear: kept });
    if (content) await this.bitmaps?.beginChanges();
  }

  noteChange(): void {
    // There is no modification identity.
  }

  noteRange(guestOffset: number, length: number): void {
    this.bitmaps?.noteRange(guestOffset, length);
  }

  async endChanges(): Promise<void> {
    if (!this.#state.guard.failed) await this.bitmaps?.endChanges();
  }

  get dirtyBytes(): number {
    return this.#state.dirtyBytes;
  }

  seal(): SealedMetadata {
    return sealTables(this.#state);
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#state.settle(ok);
  }

  idle(how: OperationOptions = {}): AsyncGenerator<number> {
    const { idleClusters, packHost } = this.#state.code;
    return idleClusters(packHost(this.#state), how);
  }

  movable(how: OperationOptions = {}): AsyncGenerator<number> {
    const { movableClusters, packHost } = this.#state.code;
    return movableClusters(packHost(this.#state), how);
  }

  relocate(guestOffset: number): MaybePromise<WriteSlot | null> {
    return this.#state.own().relocate(guestOffset);
  }

  async trim(how: OperationOptions = {}): Promise<void> {
    const { guard, flush, code } = this.#state;
    await guard.run(async () => {
      // Counts that were lowered by the flush before.
      await flush();
      await code.trimFile(code.packHost(this.#state), how);
    });
  }

  async resize(size: number, how: ResizeOptions): Promise<void> {
    this.#state.own();
    const { code } = this.#state;
    const host = code.resizeHost(this.#state, this.#headers);
    code.checkQcow2Size(host, size);
    await this.#state.guard.run(async () => {
      await this.bitmaps?.beginResize();
      try {
        await code.resizeQcow2(host, size, how);
      } finally {
        this.bitmaps?.endResize();
      }
    });
  }

  /** Stores name and format of the backing file. */
  async relink(parent: ParentLink | null): Promise<void> {
    this.#state.own();
    // A parent that was not opened and has no name: the child keeps the link it has.
    if (parent?.name === '') return;
    await this.#headers.switchTo(this.#state.code.withParent(this.#state.header, parent, this.#state.directory));
  }

  async readdress(names: ReadonlyMap<string, string>): Promise<void> {
    this.#state.own();
    await this.#headers.switchTo(this.#state.code.withNames(this.#state.header, names, this.#state.storage.label));
  }

  async amend(values: AmendValues, how: AmendOptions): Promise<void> {
    this.#state.own();
    const { prepareAmend } = await import('./amend/amend.ts');
    const change = await prepareAmend(this.#state.code.amendHost(this.#state, this.#headers), values, how);
    if (change === null) return;
    await this.beginChanges({ content: false });
    await this.#state.guard.run(() => change(how));
  }

  parts(): readonly ImagePart[] {
    const { dataFileName: name, incompatible } = this.#state.header;
    if (name === null || (incompatible & INCOMPATIBLE.dataFile) === 0n) return [];
    return [{ name, role: DATA_FILE, storage: this.#state.dataFile }];
  }

  metadata(): AsyncIterable<MetadataExtent> {
    const { storage, header, snapshots } = this.#state;
    return metadataOf(storage, header, snapshots);
  }

  storages(): readonly Storage[] {
    const { storage, dataFile } = this.#state;
    return dataFile === null ? [storage] : [dataFile, storage];
  }

  async close(): Promise<void> {
    const { storage, dataFile } = this.#state;
    try {
      await dataFile?.close();
    } finally {
      await storage.close();
    }
  }
}

function capabilitiesOf({ header, storage, data, writing, obstacle }: Qcow2Parts): ImageCapabilities {
  const write = writing !== null;
  const raw = isRawDataFile(header);
  return {
    write,
    readOnlyReason: obstacle,
    allocate: write,
    zeroMarker: write && header.version === VERSION_3 && !raw,
    discard: write && !raw,
    resize: write,
    compact: write && data === storage,
  };
}
