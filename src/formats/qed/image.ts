/**
 * An open QED image.
 *
 * Order of writes when a cluster gets a place, each step durable before the next:
 *   1. the data, and new L2 tables whole (stage);
 *   2. entries of L2 tables that exist, and of the L1 table (publish).
 * A cut between them leaves clusters that nothing refers to; they are found when the image is opened, and used again. So
 * the mark "need check" asks for nothing that vdkit needs. It is set all the same in images without a backing file, as QEMU
 * does: an image whose writer was cut off is to be checked.
 *
 * Clusters that are zero are not marked in the tables, since VirtualBox takes the mark for a place in the file: without a
 * backing file they are not stored, and over one they are stored as zeroes.
 */
import type { ChangeGuard } from '../../blocks/guarded.ts';
import { canPackTables, packTables } from '../../blocks/pack-tables.ts';
import type { TableRoom } from '../../blocks/two-level-table.ts';
import { assert, throwIfAborted } from '../../errors.ts';
import type {
  Image,
  ImageCapabilities,
  ImageChanges,
  ImageInfo,
  Mapping,
  MetadataExtent,
  ParentLink,
  ResizeOptions,
  SealedMetadata,
  WriteSlot,
} from '../../image/contract.ts';
import { parentReference } from '../../image/parent.ts';
import { plainInfo } from '../../image/plain-info.ts';
import { refuseChanges } from '../../image/refuse-changes.ts';
import type { MaybePromise, OpenMode, OperationOptions, Storage } from '../../storage/contract.ts';
import { readHeader } from './header.ts';
import { FEATURE, HEADER } from './layout.ts';
import { type QedState, readState } from './state.ts';

/** Parts of an open image. */
export interface QedParts {
  readonly storage: Storage;
  readonly directory: string;
  readonly guard: ChangeGuard;
  readonly mode: OpenMode;
  readonly state: QedState;
}

/** See the head of this file. */
export class QedImage implements Image {
  readonly can: ImageCapabilities;
  readonly #parts: QedParts;
  #state: QedState;
  #begun = false;

  constructor(parts: QedParts) {
    const { state, mode } = parts;
    this.#parts = parts;
    this.#state = state;
    const write = state.map.isWritten;
    this.can = {
      write,
      readOnlyReason: mode === 'write' ? state.obstacle : null,
      allocate: write,
      zeroMarker: write && state.layout.backing === null,
      discard: write,
      resize: write,
      compact: write,
    };
  }

  get info(): ImageInfo {
    const { layout } = this.#state;
    const { header, backing, clusterSize } = layout;
    const { label } = this.#parts.storage;
    const dirty = layout.needCheck && !this.#begun;
    const names = backing === null || backing.name === '' ? [] : [backing.name];
    return plainInfo({
      format: 'qed',
      virtualSize: layout.virtualSize,
      blockSize: clusterSize,
      variant: [backing === null ? 'dynamic' : 'diff'],
      dirty,
      differencing: backing !== null,
      parent:
        backing === null
          ? null
          : parentReference({ names, ...(backing.raw ? { format: 'raw' } : { formatDetected: true }) }),
      warnings: dirty ? [`${label} was not closed: it is checked when it is opened for writing.`] : [],
      config: { cluster_size: clusterSize, table_size: header.tableSize },
      details: { 'table clusters': header.tableSize, 'header clusters': header.headerSize },
    });
  }

  get dirtyBytes(): number {
    return this.#state.map.dirtyBytes;
  }

  get reclaimable(): number {
    return this.#state.map.reclaimable;
  }

  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    return this.#state.map.map(guestOffset, length);
  }

  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    return this.#state.map.prepareWrite(guestOffset, length);
  }

  unmap(guestOffset: number, length: number): MaybePromise<void> {
    return this.#state.map.unmap(guestOffset, length, 'absent');
  }

  async beginChanges(): Promise<void> {
    this.#state.map.checkWritable();
    if (this.#begun) return;
    const { layout } = this.#state;
    const needed = layout.backing === null ? FEATURE.needCheck : 0n;
    await this.#parts.guard.run(() => this.#putFeatures(layout.header.features | needed));
    this.#begun = true;
  }

  async endChanges(): Promise<void> {
    const { guard } = this.#parts;
    if (!this.#begun || guard.failed) return;
    await guard.run(() => this.#putFeatures(HEADER.get(this.#state.layout.sector, 'features') & ~FEATURE.needCheck));
    this.#begun = false;
  }

  noteChange(): void {}

  seal(): SealedMetadata {
    const { map, table } = this.#state;
    map.slots.seal();
    const { stage, publish } = table.sealTables(() => this.#tableRoom());
    return { stage, root: [], publish: publish.length === 0 ? [] : [publish] };
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#state.map.settle(ok);
    this.#parts.guard.settle(ok);
  }

  movable(options: OperationOptions = {}): AsyncGenerator<number> {
    return this.#state.map.movable(options);
  }

  relocate(guestOffset: number): MaybePromise<WriteSlot | null> {
    return this.#state.map.relocate(guestOffset);
  }

  /** Moves L2 tables into holes and cuts free clusters off the end. */
  async trim(options: OperationOptions = {}): Promise<void> {
    throwIfAborted(options.signal, 'Compacting');
    const { storage, guard } = this.#parts;
    const { map, directory, layout } = this.#state;
    const { headerBytes: dataOffset, clusterSize: slotBytes, tableBytes } = layout;
    const slots = { dataOffset, slotBytes, tableBytes };
    if (canPackTables({ layout: slots, slots: map.slots })) {
      await guard.run(() => packTables({ storage, layout: slots, directory, slots: map.slots }, options));
    }
    const { fileEnd } = map.trim();
    if (storage.size > fileEnd) await guard.run(() => storage.resize(fileEnd));
  }

  async set(changes: ImageChanges): Promise<void> {
    this.#state.map.checkWritable();
    refuseChanges(changes, 'QED', this.#parts.storage.label);
    if (changes.parentUuid === null) await this.relink(null);
  }

  /** A cut left entries behind those of the disk. */
  get resizePending(): boolean {
    return this.can.resize && this.#state.table.behind;
  }

  async checkSize(size: number): Promise<void> {
    const { checkDiskSize } = await import('./resize.ts');
    checkDiskSize(size, this.#state.layout, this.#parts.storage.label);
  }

  async resize(size: number, options: ResizeOptions): Promise<void> {
    const { storage } = this.#parts;
    await this.checkSize(size);
    const { resizeQed } = await import('./resize.ts');
    await this.#restructure(() =>
      resizeQed({ storage, state: this.#state, size, options, flush: () => this.#flush() }),
    );
  }

  async relink(parent: ParentLink | null): Promise<void> {
    const { storage, directory } = this.#parts;
    const { storeParent } = await import('./relink.ts');
    await this.#restructure(() => storeParent({ storage, directory, layout: this.#state.layout }, parent));
  }

  async readdress(names: ReadonlyMap<string, string>): Promise<void> {
    const { backing } = this.#state.layout;
    const name = names.get(backing?.name ?? '');
    if (backing === null || name === undefined) return;
    const format = backing.raw ? 'raw' : '';
    await this.relink({ name, format, uuid: null, modificationUuid: null });
  }

  async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this.#parts;
    const { layout, directory } = this.#state;
    const { headerBytes, l1Offset, tableBytes } = layout;
    const part = (fileOffset: number, length: number, what: string): MetadataExtent => {
      return { storage, fileOffset, length, what, guestOffset: null };
    };
    const parts = [part(0, headerBytes, 'header'), part(l1Offset, tableBytes, 'L1 table')];
    for (const place of directory.places) if (place > 0) parts.push(part(place, tableBytes, 'L2 table'));
    yield* parts.sort((one, other) => one.fileOffset - other.fileOffset);
  }

  storages(): readonly Storage[] {
    return [this.#parts.storage];
  }

  async close(): Promise<void> {
    await this.#parts.storage.close();
  }

  /** Unknown features that a writer must clear are cleared with the first change. */
  async #putFeatures(features: bigint): Promise<void> {
    const { storage } = this.#parts;
    const { sector } = this.#state.layout;
    if (HEADER.get(sector, 'features') === features && HEADER.get(sector, 'autoclear') === 0n) return;
    HEADER.put(sector, 'features', features);
    HEADER.put(sector, 'autoclear', 0n);
    await storage.write(0, sector.slice());
    await storage.flush();
  }

  #tableRoom(): TableRoom {
    const { storage } = this.#parts;
    const { map, layout } = this.#state;
    const { headerBytes, clusterSize, tableBytes } = layout;
    const run = map.slots.takeAtEnd(tableBytes / clusterSize);
    map.slots.committed(run);
    const table = headerBytes + run.first * clusterSize;
    return { table, copy: 0, fresh: storage.can.growsZeroed && table >= storage.size };
  }

  /** A flush inside a change of the structure. */
  async #flush(): Promise<void> {
    const { storage } = this.#parts;
    const sealed = this.seal();
    for (const writes of [sealed.stage, ...sealed.publish]) {
      for (const { fileOffset, bytes } of writes) await storage.write(fileOffset, bytes);
      await storage.flush();
    }
    this.settle(sealed, true);
  }

  /** Changes the image on the medium, behind everything that is in memory. Everything must be flushed. */
  async #restructure(change: () => Promise<void>): Promise<void> {
    const { storage, guard } = this.#parts;
    this.#state.map.checkWritable();
    await this.beginChanges();
    try {
      await guard.run(change);
    } finally {
      // Cancelled or done: places may have changed on the medium, so memory must not go on with what it had.
      if (!guard.failed) await guard.run(() => this.#reload(storage));
    }
  }

  async #reload(storage: Storage): Promise<void> {
    const { guard } = this.#parts;
    const state = await readState(storage, await readHeader(storage), { mode: 'write', guard });
    assert(state.obstacle === null, `a changed image is sound: ${state.obstacle ?? ''}`);
    this.#state.table.discard();
    this.#state = state;
  }
}
