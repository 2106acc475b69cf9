/**
 * An open image of two levels without reference counts: what QED and QCOW have in common.
 *
 * Order of writes when a cluster gets a place, each step durable before the next:
 *   1. the data, and new L2 tables (stage);
 *   2. entries of L2 tables that exist, and of the L1 table (publish).
 * A cut between them leaves room that nothing refers to; it is found when the image is opened, and used again.
 */
import { assert, throwIfAborted } from '../errors.ts';
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
} from '../image/contract.ts';
import { storedName } from '../image/parent.ts';
import { refuseChanges } from '../image/refuse-changes.ts';
import type { MaybePromise, OpenMode, OperationOptions, Storage } from '../storage/contract.ts';
import type { ChangeGuard } from './guarded.ts';
import { canPackTables, packTables } from './pack-tables.ts';
import type { TwoLevelShape, TwoLevelState } from './two-level-state.ts';
import type { TableRoom } from './two-level-table.ts';

/** Parts of an open image. */
export interface TwoLevelImageParts<Shape extends TwoLevelShape> {
  readonly storage: Storage;
  readonly directory: string;
  readonly guard: ChangeGuard;
  readonly mode: OpenMode;
  readonly state: TwoLevelState<Shape>;
}

/** See the head of this file. */
export abstract class TwoLevelImage<Shape extends TwoLevelShape> implements Image {
  readonly can: ImageCapabilities;
  protected readonly own: Omit<TwoLevelImageParts<Shape>, 'state'>;
  protected state: TwoLevelState<Shape>;

  constructor({ state, ...own }: TwoLevelImageParts<Shape>) {
    this.own = own;
    this.state = state;
    const write = state.map.isWritten;
    this.can = {
      write,
      readOnlyReason: own.mode === 'write' ? state.obstacle : null,
      allocate: write,
      // A cluster that is absent reads zero while there is no parent, and a base image can get one.
      zeroMarker: false,
      discard: write,
      resize: write,
      compact: write,
    };
  }

  abstract get info(): ImageInfo;
  /** Begins a session, durably. */
  abstract beginChanges(how: { readonly content: boolean }): Promise<void>;
  abstract endChanges(): Promise<void>;
  /** Name of the format in errors. */
  protected abstract readonly title: string;
  /** Reads everything from the medium again. */
  protected abstract load(): Promise<TwoLevelState<Shape>>;
  /** Stores a link to a parent, with its name as it is, durably. */
  protected abstract storeParent(parent: ParentLink | null): Promise<void>;
  /** Resizes the image on the medium. */
  protected abstract resizeNow(size: number, options: ResizeOptions): Promise<void>;
  abstract checkSize(size: number): MaybePromise<void>;
  abstract readdress(names: ReadonlyMap<string, string>): Promise<void>;

  get dirtyBytes(): number {
    return this.state.map.dirtyBytes;
  }

  get reclaimable(): number {
    return this.state.map.reclaimable;
  }

  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    return this.state.map.map(guestOffset, length);
  }

  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    return this.state.map.prepareWrite(guestOffset, length);
  }

  /** Zero is asked for only where there is no parent, and there a cluster that is absent reads so. */
  unmap(guestOffset: number, length: number): MaybePromise<void> {
    return this.state.map.unmap(guestOffset, length, 'absent');
  }

  noteChange(): void {}

  seal(): SealedMetadata {
    const { map, table } = this.state;
    map.slots.seal();
    const { stage, publish } = table.sealTables(() => this.#tableRoom());
    return { stage, root: [], publish: publish.length === 0 ? [] : [publish] };
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.state.map.settle(ok);
    this.own.guard.settle(ok);
  }

  movable(options: OperationOptions = {}): AsyncGenerator<number> {
    return this.state.map.movable(options);
  }

  relocate(guestOffset: number): MaybePromise<WriteSlot | null> {
    return this.state.map.relocate(guestOffset);
  }

  /** Moves L2 tables into holes and cuts free room off the end. */
  async trim(options: OperationOptions = {}): Promise<void> {
    throwIfAborted(options.signal, 'Compacting');
    const { storage, guard } = this.own;
    const { map, directory, shape } = this.state;
    const { units: slots } = map.slots;
    const layout = { dataOffset: 0, slotBytes: shape.unit, tableBytes: shape.tableBytes };
    if (canPackTables({ layout, slots })) {
      await guard.run(() => packTables({ storage, layout, directory, slots }, options));
    }
    map.trim();
    const { fileEnd } = map.slots;
    if (storage.size > fileEnd) await guard.run(() => storage.resize(fileEnd));
  }

  async set(changes: ImageChanges): Promise<void> {
    this.state.map.checkWritable();
    refuseChanges(changes, this.title, this.own.storage.label);
    if (changes.parentUuid === null) await this.relink(null);
  }

  get resizePending(): boolean {
    return this.can.resize && this.state.behind;
  }

  async resize(size: number, options: ResizeOptions): Promise<void> {
    await this.checkSize(size);
    await this.restructure(() => this.resizeNow(size, options));
  }

  async relink(parent: ParentLink | null): Promise<void> {
    const { directory } = this.own;
    // An empty name: the parent was not opened.
    const name = parent === null || parent.name === '' ? '' : storedName(directory, parent.name);
    await this.restructure(() => this.storeParent(parent === null ? null : { ...parent, name }));
  }

  async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this.own;
    const { shape, directory } = this.state;
    const part = (fileOffset: number, length: number, what: string): MetadataExtent => {
      return { storage, fileOffset, length, what, guestOffset: null };
    };
    const parts = [part(0, shape.lowest, 'header')];
    parts.push(part(shape.l1Offset, shape.l1Entries * shape.l1Form.bytes, 'L1 table'));
    for (const place of directory.places) if (place > 0) parts.push(part(place, shape.tableBytes, 'L2 table'));
    yield* parts.sort((one, other) => one.fileOffset - other.fileOffset);
  }

  storages(): readonly Storage[] {
    return [this.own.storage];
  }

  async close(): Promise<void> {
    await this.own.storage.close();
  }

  /** A flush inside a change of the structure. */
  protected async flushTables(): Promise<void> {
    const { storage } = this.own;
    const sealed = this.seal();
    for (const writes of [sealed.stage, ...sealed.publish]) {
      for (const { fileOffset, bytes } of writes) await storage.write(fileOffset, bytes);
      await storage.flush();
    }
    this.settle(sealed, true);
  }

  /** Changes the image on the medium, behind everything that is in memory. Everything must be flushed. */
  protected async restructure(change: () => Promise<void>): Promise<void> {
    const { guard } = this.own;
    this.state.map.checkWritable();
    await this.beginChanges({ content: false });
    try {
      await guard.run(change);
    } finally {
      // Cancelled or done: places may have changed on the medium, so memory must not go on with what it had.
      if (!guard.failed) await guard.run(() => this.reload());
    }
  }

  /** Takes up what is on the medium. */
  protected async reload(): Promise<void> {
    const state = await this.load();
    assert(state.obstacle === null, `a changed image is sound: ${state.obstacle ?? ''}`);
    this.state.table.discard();
    this.state = state;
  }

  #tableRoom(): TableRoom {
    const { storage } = this.own;
    const { map, shape } = this.state;
    const { fileOffset: table } = map.slots.takeAtEnd(shape.tableRoom);
    return { table, copy: 0, fresh: storage.can.growsZeroed && table >= storage.size };
  }
}
