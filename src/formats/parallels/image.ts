/**
 * An open Parallels image.
 *
 * Order of writes, each step durable before the next:
 *   1. the mark of use in the header, before the first change of a session (begin);
 *   2. the data of whole clusters (stage);
 *   3. entries of the table (publish).
 * A cut between them leaves room that nothing names; it is found when the image is opened, and used again. The mark goes at the
 * end of the session, when free room behind the last cluster has been cut off.
 *
 * The first sector holds the header and the first entries. It is written here only: `seal` puts the header into the page of the
 * table, and a change of the header takes the entries from the medium, where they are as of the last flush.
 */
import { SECTOR } from '../../binary/numbers.ts';
import type { BlockMap } from '../../blocks/block-map.ts';
import type { ChangeGuard } from '../../blocks/guarded.ts';
import { assert } from '../../errors.ts';
import type {
  Image,
  ImageCapabilities,
  ImageChanges,
  ImageInfo,
  Mapping,
  MetadataExtent,
  ResizeOptions,
  SealedMetadata,
  WriteSlot,
} from '../../image/contract.ts';
import { plainInfo } from '../../image/plain-info.ts';
import { refuseChanges } from '../../image/refuse-changes.ts';
import type { MaybePromise, OperationOptions, Storage } from '../../storage/contract.ts';
import { completeLast } from './clusters.ts';
import { detailsOf, warningsOf } from './describe.ts';
import type { Extension } from './extension.ts';
import { isOpenMark, type ParallelsLayout, writeHeader } from './header.ts';
import { FLAG_EMPTY, HEADER, type Header, IN_USE } from './layout.ts';

/** An image as it was found on the medium. */
export interface ParallelsState {
  readonly layout: ParallelsLayout;
  readonly extension: Extension | null;
  readonly map: BlockMap;
  /** File offset of the first slot. */
  readonly dataOffset: number;
  /** A resize was cut off: entries behind those of the disk are in use. */
  readonly behind: boolean;
  /** The reason why it must not be written, or null. */
  readonly obstacle: string | null;
}

/** Parts of an open image. */
export interface ParallelsParts {
  readonly storage: Storage;
  readonly guard: ChangeGuard;
  readonly state: ParallelsState;
  /** Reads everything from the medium again. */
  readonly load: () => Promise<ParallelsState>;
}

/** See the head of this file. */
export class ParallelsImage implements Image {
  readonly can: ImageCapabilities;
  readonly #parts: Omit<ParallelsParts, 'state'>;
  #state: ParallelsState;
  /** The header on the medium. */
  #header: Header;
  #begun = false;

  constructor({ state, ...parts }: ParallelsParts) {
    this.#parts = parts;
    this.#state = state;
    this.#header = state.layout.header;
    const write = state.map.isWritten;
    this.can = {
      write,
      readOnlyReason: state.obstacle,
      allocate: write,
      // A cluster that is absent reads zero while there is no parent, and a base image can get one.
      zeroMarker: false,
      discard: write,
      resize: write,
      compact: write,
    };
  }

  get info(): ImageInfo {
    const { layout, extension } = this.#state;
    const { virtualSize, clusterSize, extended, header } = layout;
    const dirty = isOpenMark(header.inUse) && !this.#begun;
    return plainInfo({
      format: 'parallels',
      virtualSize,
      blockSize: clusterSize,
      variant: extended ? ['dynamic', 'ext'] : ['dynamic'],
      dirty,
      warnings: this.#begun ? [] : warningsOf(layout, extension, this.#parts.storage.label),
      config: { cluster_size: clusterSize },
      details: detailsOf(layout, extension),
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

  /** Zero is asked for only where there is no parent, and there a cluster that is absent reads so. */
  unmap(guestOffset: number, length: number): MaybePromise<void> {
    return this.#state.map.unmap(guestOffset, length, 'absent');
  }

  /**
   * Marks the image as open. A format extension is dropped, since its bitmap would no longer tell what has changed. A classic
   * image that leaves open where its data begins gets the place where it does: QEMU takes it for another one.
   */
  async beginChanges(): Promise<void> {
    const { guard } = this.#parts;
    this.#state.map.checkWritable();
    if (this.#begun) return;
    const { header } = this.#state.layout;
    await guard.run(async () => {
      await completeLast(this.#parts.storage, this.#state.map.trim().fileEnd);
      await this.#putHeader({
        ...header,
        inUse: IN_USE.open,
        dataOffset: header.dataOffset === 0 ? this.#state.dataOffset / SECTOR : header.dataOffset,
        flags: header.flags & ~FLAG_EMPTY,
        extensionOffset: 0n,
      });
    });
    this.#state = { ...this.#state, extension: null };
    this.#begun = true;
  }

  async endChanges(): Promise<void> {
    const { guard } = this.#parts;
    if (!this.#begun || guard.failed) return;
    await this.trim();
    await guard.run(() => this.#putHeader({ ...this.#header, inUse: IN_USE.closed }));
    this.#begun = false;
  }

  noteChange(): void {}

  seal(): SealedMetadata {
    const publish = this.#state.map.seal();
    const first = publish.find(({ fileOffset }) => fileOffset === 0);
    first?.bytes.set(HEADER.encode(this.#header));
    return { stage: [], root: [], publish: publish.length === 0 ? [] : [publish] };
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

  /** Cuts free room off the end. Not flushed: a cut leaves a file that is longer than needed, as before. */
  async trim(): Promise<void> {
    const { storage, guard } = this.#parts;
    const { fileEnd } = this.#state.map.trim();
    if (storage.size > fileEnd && storage.can.resize) await guard.run(() => storage.resize(fileEnd));
  }

  async set(changes: ImageChanges): Promise<void> {
    this.#state.map.checkWritable();
    refuseChanges(changes, 'Parallels', this.#parts.storage.label);
  }

  get resizePending(): boolean {
    return this.can.resize && this.#state.behind;
  }

  async checkSize(size: number): Promise<void> {
    const { checkDiskSize } = await import('./size.ts');
    checkDiskSize(size, this.#state.layout, this.#parts.storage.label);
  }

  async resize(size: number, options: ResizeOptions): Promise<void> {
    await this.checkSize(size);
    const { resizeParallels } = await import('./resize.ts');
    await this.#restructure(() => {
      const { storage } = this.#parts;
      const { layout, dataOffset } = this.#state;
      return resizeParallels({ storage, layout: { ...layout, header: this.#header }, dataOffset, size, options });
    });
  }

  async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this.#parts;
    const { layout, extension } = this.#state;
    const part = (fileOffset: number, length: number, what: string): MetadataExtent => {
      return { storage, fileOffset, length, what, guestOffset: null };
    };
    yield part(0, HEADER.size, 'header');
    yield part(HEADER.size, layout.entries * 4, 'block allocation table');
    const places = extension?.damage === null ? extension.places.toSorted((one, other) => one - other) : [];
    for (const place of places) yield part(place, layout.clusterSize, 'format extension');
  }

  storages(): readonly Storage[] {
    return [this.#parts.storage];
  }

  async close(): Promise<void> {
    await this.#parts.storage.close();
  }

  /** Stores a header, durably. */
  async #putHeader(header: Header): Promise<void> {
    const { storage } = this.#parts;
    await writeHeader(storage, header);
    this.#header = header;
    await storage.flush();
  }

  /** Changes the image on the medium, behind everything that is in memory. Everything must be flushed. */
  async #restructure(change: () => Promise<void>): Promise<void> {
    const { guard, load } = this.#parts;
    this.#state.map.checkWritable();
    await this.beginChanges();
    try {
      await guard.run(change);
    } finally {
      // Cancelled or done: places may have changed on the medium, so memory must not go on with what it had.
      if (!guard.failed) await guard.run(async () => this.#reload(await load()));
    }
  }

  #reload(state: ParallelsState): void {
    assert(state.obstacle === null, `a changed image is sound: ${state.obstacle ?? ''}`);
    this.#state = state;
    this.#header = state.layout.header;
  }
}
