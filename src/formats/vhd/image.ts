/** Open VHD images of blocks: see `blocks.ts` for the order of writes. */
import { isNullGuid, NULL_GUID, normalizeGuid } from '../../binary/guid.ts';
import { SECTOR } from '../../binary/numbers.ts';
import type { ChangeGuard } from '../../blocks/guarded.ts';
import { assert } from '../../errors.ts';
import type {
  Image,
  ImageCapabilities,
  ImageChanges,
  ImageInfo,
  Mapping,
  MetadataExtent,
  ParentLink,
  Relocation,
  ResizeOptions,
  SealedMetadata,
  WriteSlot,
} from '../../image/contract.ts';
import { type ParentReference, parentReference } from '../../image/parent.ts';
import { plainInfo } from '../../image/plain-info.ts';
import type { MaybePromise, OpenMode, OperationOptions, ReadTarget, Storage } from '../../storage/contract.ts';
import type { VhdBlocks } from './blocks.ts';
import { detailsOf } from './details.ts';
import type { FoundFooter } from './footer.ts';
import type { Footers } from './footers.ts';
import type { VhdOnMedium } from './front.ts';
import { putEntries, type VhdLayout } from './header.ts';
import { changedFooter, commonInfo, footerWarnings } from './info.ts';
import { DISK_TYPE, type Footer, HEADER } from './layout.ts';

/** Content of an image of blocks as it was found on the medium. */
export interface DynamicState {
  readonly found: FoundFooter;
  readonly layout: VhdLayout;
  readonly parentNames: readonly string[];
  readonly footers: Footers;
  readonly blocks: VhdBlocks;
  /** The reason why it cannot be written, or null. */
  readonly obstacle: string | null;
}

/** Parts of an image of blocks. */
export interface DynamicParts {
  readonly storage: Storage;
  readonly directory: string;
  readonly guard: ChangeGuard;
  readonly mode: OpenMode;
  readonly state: DynamicState;
  /** Reads everything from the medium again. */
  readonly load: () => Promise<DynamicState>;
}

/** A dynamic or differencing image. */
export class DynamicVhd implements Image {
  readonly can: ImageCapabilities;
  readonly #parts: DynamicParts;
  #state: DynamicState;
  #begun = false;

  constructor(parts: DynamicParts) {
    const { state, mode, storage } = parts;
    this.#parts = parts;
    this.#state = state;
    const write = state.blocks.map.isWritten;
    this.can = {
      write,
      readOnlyReason: mode === 'write' ? state.obstacle : null,
      allocate: write,
      // A block that is absent reads zero while there is no parent, and a base image can get one.
      zeroMarker: false,
      discard: write,
      resize: write && storage.can.resize && storage.can.random,
      compact: write,
    };
  }

  get info(): ImageInfo {
    const { storage } = this.#parts;
    const { found, layout } = this.#state;
    const { blockSize } = layout;
    const footer = this.#footer;
    const header = layout.checksumFits ? [] : [`The checksum of the header of ${storage.label} is wrong.`];
    return plainInfo({
      ...commonInfo(footer, [...footerWarnings(found, storage.label), ...header]),
      variant: [this.#differencing ? 'diff' : 'dynamic'],
      blockSize,
      differencing: this.#differencing,
      parent: this.#parent,
      config: { block_size: blockSize },
      details: detailsOf(footer, layout),
    });
  }

  /** A differencing image stores sectors, any other whole blocks. */
  get writeUnit(): number {
    return this.#differencing ? SECTOR : this.#state.layout.blockSize;
  }

  get dirtyBytes(): number {
    return this.#state.blocks.dirtyBytes;
  }

  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    return this.#state.blocks.locate(guestOffset, length);
  }

  /** The sectors of a block that a dynamic image never wrote. */
  async readEncoded(_guestOffset: number, target: ReadTarget): Promise<void> {
    for (const buffer of Array.isArray(target) ? target : [target]) buffer.fill(0);
  }

  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    return this.#state.blocks.prepareWrite(guestOffset, length);
  }

  unmap(guestOffset: number, length: number): MaybePromise<void> {
    return this.#state.blocks.unmap(guestOffset, length);
  }

  /** Both footers must be there before the first block is written over the one at the end. */
  async beginChanges(): Promise<void> {
    const { guard, storage } = this.#parts;
    const { found, footers, blocks, layout } = this.#state;
    blocks.map.checkWritable();
    if (this.#begun) return;
    await guard.run(async () => {
      if (found.copy !== 'sound') await footers.repairCopy();
      // Blocks may go where those entries were counted.
      if (layout.header.entries !== layout.entries) await putEntries(storage, layout, layout.entries);
      const place = blocks.footerPlace();
      if (found.end !== 'sound' || place !== footers.fileOffset) await blocks.moveFooter(place);
    });
    this.#begun = true;
  }

  async endChanges(): Promise<void> {
    if (!this.#begun) return;
    await this.#state.blocks.pack();
  }

  noteChange(): void {}

  seal(): SealedMetadata {
    const { stage, publish } = this.#state.blocks.seal();
    return { stage, root: [], publish: publish.length === 0 ? [] : [publish] };
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#state.blocks.settle(ok);
    this.#parts.guard.settle(ok);
  }

  get reclaimable(): number {
    return this.#state.blocks.map.reclaimable;
  }

  movable(options: OperationOptions = {}): AsyncGenerator<number> {
    return this.#state.blocks.map.movable(options);
  }

  relocate(guestOffset: number): Promise<Relocation | null> {
    return this.#state.blocks.relocate(guestOffset);
  }

  trim(): Promise<void> {
    return this.#state.blocks.pack();
  }

  async set(changes: ImageChanges): Promise<void> {
    const { storage, guard } = this.#parts;
    this.#state.blocks.map.checkWritable();
    const { parentUuid, ...others } = changes;
    const footer = changedFooter(this.#footer, others, storage.label);
    await this.beginChanges();
    await guard.run(() => this.#state.footers.replace(footer, this.#state.blocks.footerPlace()));
    if (parentUuid !== undefined) await this.#store(null, parentUuid === null ? null : normalizeGuid(parentUuid));
  }

  /** A cut left entries behind those of the disk. */
  get resizePending(): boolean {
    const { entries, blockCount } = this.#state.layout;
    return this.can.resize && entries > blockCount;
  }

  async checkSize(size: number): Promise<void> {
    const { checkBlocksSize } = await import('./resize.ts');
    checkBlocksSize(size, this.#state.layout.blockSize, this.#parts.storage.label);
  }

  async resize(size: number, options: ResizeOptions): Promise<void> {
    await this.checkSize(size);
    const { resizeBlocks } = await import('./resize.ts');
    await this.#restructure((image) => resizeBlocks({ ...image, differencing: this.#differencing, size, options }));
  }

  async relink(parent: ParentLink | null): Promise<void> {
    this.#state.blocks.map.checkWritable();
    await this.beginChanges();
    await this.#store(parent, parent?.uuid ?? null);
  }

  async readdress(names: ReadonlyMap<string, string>): Promise<void> {
    this.#state.blocks.map.checkWritable();
    const known = this.#state.parentNames.find((name) => names.has(name));
    const name = names.get(known ?? '');
    if (name === undefined) return;
    const { parentUuid } = this.#state.layout.header;
    await this.beginChanges();
    await this.#store({ name, format: 'vhd', uuid: parentUuid, modificationUuid: null }, parentUuid);
  }

  async *metadata({ perUnit }: { readonly perUnit: boolean }): AsyncGenerator<MetadataExtent> {
    const { storage } = this.#parts;
    const { headerOffset, tableOffset, entries, locators, bitmapBytes } = this.#state.layout;
    yield { storage, fileOffset: 0, length: SECTOR, what: 'footer copy', guestOffset: null };
    yield { storage, fileOffset: headerOffset, length: HEADER.size, what: 'header', guestOffset: null };
    yield { storage, fileOffset: tableOffset, length: entries * 4, what: 'block allocation table', guestOffset: null };
    for (const { fileOffset, length } of locators) {
      yield { storage, fileOffset, length, what: 'parent locator', guestOffset: null };
    }
    if (perUnit) {
      for await (const { guestOffset, fileOffset } of this.#state.blocks.map.blocks()) {
        yield { storage, fileOffset, length: bitmapBytes, what: 'sector bitmap', guestOffset };
      }
    }
    const at = this.#state.footers.fileOffset;
    if (at !== null) yield { storage, fileOffset: at, length: storage.size - at, what: 'footer', guestOffset: null };
  }

  storages(): readonly Storage[] {
    return [this.#parts.storage];
  }

  async close(): Promise<void> {
    await this.#parts.storage.close();
  }

  get #footer(): Footer {
    // After a change that failed, memory goes on with the size and type that it has tables for.
    const { currentSize, type } = this.#state.found.footer;
    return { ...this.#state.footers.footer, currentSize, type };
  }

  get #differencing(): boolean {
    return this.#footer.type === DISK_TYPE.differencing;
  }

  get #parent(): ParentReference | null {
    if (!this.#differencing) return null;
    const { parentUuid } = this.#state.layout.header;
    // Every VHD has a UUID, so a parent without one has another format, and there is no place for its name.
    const links = isNullGuid(parentUuid) ? {} : { uuid: parentUuid, format: 'vhd' };
    return parentReference({ names: this.#state.parentNames, ...links });
  }

  async #store(parent: ParentLink | null, uuid: string | null): Promise<void> {
    const { directory } = this.#parts;
    const { storeParent } = await import('./relink.ts');
    await this.#restructure((image) => storeParent({ ...image, directory, parent, uuid: uuid ?? NULL_GUID }));
  }

  /** Changes the image on the medium, behind everything that is in memory. Everything must be flushed. */
  async #restructure(change: (image: VhdOnMedium) => Promise<void>): Promise<void> {
    const { storage, guard, load } = this.#parts;
    this.#state.blocks.map.checkWritable();
    await this.beginChanges();
    await this.#state.blocks.pack();
    const { layout, footers, blocks } = this.#state;
    try {
      await guard.run(() => change({ storage, layout, footers, dataOffset: blocks.firstBlock }));
    } finally {
      // Cancelled or done: places may have changed on the medium, so memory must not go on with what it knew.
      if (!guard.failed) await guard.run(async () => this.#reload(await load()));
    }
  }

  async #reload(state: DynamicState): Promise<void> {
    assert(state.obstacle === null, `a changed image is sound: ${state.obstacle ?? ''}`);
    this.#state = state;
    await state.blocks.pack();
  }
}
