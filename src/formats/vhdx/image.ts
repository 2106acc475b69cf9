/** Open VHDX images. See `blocks.ts` and `session.ts` for the order of writes. */
import { type ChangeGuard, imageReadOnly } from '../../blocks/guarded.ts';
import type {
  Image,
  ImageCapabilities,
  ImageChanges,
  ImageInfo,
  Mapping,
  MetadataExtent,
  ParentIdentity,
  ParentLink,
  ParentVerdict,
  Relocation,
  ResizeOptions,
  SealedMetadata,
  WriteSlot,
} from '../../image/contract.ts';
import { type ParentReference, parentReference } from '../../image/parent.ts';
import { plainInfo } from '../../image/plain-info.ts';
import { refuseChanges } from '../../image/refuse-changes.ts';
import type { MaybePromise, OpenMode, OperationOptions, Storage } from '../../storage/contract.ts';
import { detailsOf } from './details.ts';
import { HEADER, HEADER_OFFSETS, IDENTIFIER, MIB, REGION_IDS, REGION_OFFSETS, REGION_TABLE_BYTES } from './layout.ts';
import { OWN_FORMAT } from './locator.ts';
import type { ParentChange } from './relink.ts';
import type { VhdxSession } from './session.ts';
import { type OpenedFile, readState, type VhdxState, type Writing } from './state.ts';

/** Parts of an open image. */
export interface VhdxParts {
  readonly file: OpenedFile;
  readonly state: VhdxState;
  readonly directory: string;
  readonly mode: OpenMode;
  readonly guard: ChangeGuard;
}

/** See the head of this file. */
export class VhdxImage implements Image {
  readonly can: ImageCapabilities;
  readonly #parts: VhdxParts;
  /** Null: the image is only read. */
  readonly #session: VhdxSession | null;
  #state: VhdxState;

  constructor(parts: VhdxParts) {
    this.#parts = parts;
    this.#state = parts.state;
    this.#session = parts.state.writing === null ? null : this.#newSession(parts.state.writing);
    const write = this.#session !== null;
    this.can = {
      write,
      readOnlyReason: parts.mode === 'write' ? parts.state.obstacle : null,
      allocate: write,
      zeroMarker: write,
      discard: write,
      resize: write,
      compact: write && !this.#isFixed,
    };
  }

  get info(): ImageInfo {
    const { file } = this.#parts;
    const { metadata } = this.#state;
    const { blockSize, hasParent, virtualSize, logicalSector } = metadata;
    const variant = hasParent ? 'diff' : this.#isFixed ? 'fixed' : 'dynamic';
    return plainInfo({
      format: OWN_FORMAT,
      virtualSize,
      blockSize,
      version: '1',
      variant: [variant],
      allocation: this.#isFixed ? 'fixed' : 'dynamic',
      sectorSize: logicalSector,
      dirty: file.replayed !== null && this.#parts.mode === 'read',
      differencing: hasParent,
      parent: this.#parent,
      contentId: file.headers.current.dataWriteGuid,
      warnings: warningsOf(file, this.#state),
      config: { block_size: blockSize, logical_sector_size: logicalSector },
      details: detailsOf(file, this.#state),
    });
  }

  /** A differencing image stores sectors, any other whole blocks. */
  get writeUnit(): number {
    const { hasParent, logicalSector, blockSize } = this.#state.metadata;
    return hasParent ? logicalSector : blockSize;
  }

  /** VirtualBox, and QEMU for reading, refuse a file whose log is not empty. */
  get endsWhenIdle(): boolean {
    return this.#session?.isOpen ?? false;
  }

  get dirtyBytes(): number {
    return this.#state.writing?.blocks.dirtyBytes ?? 0;
  }

  get reclaimable(): number {
    return this.#state.writing?.blocks.map.reclaimable ?? 0;
  }

  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    return this.#state.blocks.locate(guestOffset, length);
  }

  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    return this.#written.blocks.prepareWrite(guestOffset, length);
  }

  unmap(guestOffset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    return this.#written.blocks.unmap(guestOffset, length, to);
  }

  async beginChanges({ content }: { readonly content: boolean }): Promise<void> {
    const { blocks } = this.#written;
    const session = this.#ownSession;
    blocks.map.checkWritable();
    await this.#parts.guard.run(() => session.begin(content));
  }

  async endChanges(): Promise<void> {
    const session = this.#session;
    if (session === null || !session.isOpen || this.#parts.guard.failed) return;
    await this.#parts.guard.run(() => session.end());
  }

  noteChange(): void {}

  seal(): SealedMetadata {
    const { blocks } = this.#written;
    const session = this.#ownSession;
    return { stage: [], root: [], publish: session.steps(blocks.seal()) };
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#state.writing?.blocks.settle(ok);
    this.#parts.guard.settle(ok);
  }

  movable(options: OperationOptions = {}): AsyncGenerator<number> {
    return this.#written.blocks.map.movable(options);
  }

  relocate(guestOffset: number): Promise<Relocation | null> {
    return this.#written.blocks.relocate(guestOffset);
  }

  /** The log names the new length first: a replay never makes the file longer than it is. */
  async trim(): Promise<void> {
    const { file, guard } = this.#parts;
    const { blocks } = this.#written;
    const session = this.#ownSession;
    const { fileEnd } = blocks.map.trim();
    if (file.storage.size <= fileEnd) return;
    await guard.run(async () => {
      await session.begin(false);
      await session.settle();
      await file.storage.resize(fileEnd);
      await file.storage.flush();
    });
  }

  checkSize(size: number): void {
    this.#written.code.checkNewSize(size, this.#state.metadata, this.#parts.file.storage.label);
  }

  async resize(size: number, how: ResizeOptions): Promise<void> {
    const { code } = this.#checkWritable();
    this.checkSize(size);
    if (!how.shrink) await code.checkShrink(this.#context(), size);
    await this.#restructure(true, () => code.resizeVhdx(this.#context(), size, how));
  }

  async set(changes: ImageChanges): Promise<void> {
    this.#checkWritable();
    refuseChanges(changes, 'VHDX', this.#parts.file.storage.label);
    if (changes.parentUuid === null) await this.relink(null);
  }

  async relink(parent: ParentLink | null): Promise<void> {
    const { code } = this.#checkWritable();
    const context = this.#context();
    const locator = code.locatorFor(context.directory, parent);
    const edits = await code.planParent(context, locator);
    await this.#restructure(false, () => code.storeParent(context, edits, locator !== null));
  }

  async readdress(names: ReadonlyMap<string, string>): Promise<void> {
    const parent = this.#written.code.readdressed(this.#state.locator, names);
    if (parent !== null) await this.relink(parent);
  }

  get nextContentId(): string | undefined {
    return this.#session?.nextDataGuid;
  }

  async expectParent({ current, next }: { readonly current: string; readonly next: string }): Promise<void> {
    const { code } = this.#checkWritable();
    const { locator } = this.#state;
    if (locator === null || locator.linkage.length === 0) return;
    const context = this.#context();
    const edits = await code.planParent(context, code.locatorExpecting(locator, current, next));
    await this.#restructure(false, () => code.storeParent(context, edits, true));
  }

  judgeParent({ contentId = null }: ParentIdentity): ParentVerdict {
    const linkage = this.#state.locator?.linkage ?? [];
    if (linkage.length === 0 || contentId === null) return 'same';
    return linkage.includes(contentId) ? 'same' : 'other';
  }

  async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this.#parts.file;
    const { log } = this.#parts.file.found;
    const part = (fileOffset: number, length: number, what: string): MetadataExtent => {
      return { storage, fileOffset, length, what, guestOffset: null };
    };
    yield part(0, IDENTIFIER.size, 'file identifier');
    for (const at of HEADER_OFFSETS) yield part(at, HEADER.size, 'header');
    for (const at of REGION_OFFSETS) yield part(at, REGION_TABLE_BYTES, 'region table');
    const { regions, bat, metadata } = this.#state;
    const places = regions.all.map(({ id, fileOffset, length }) => part(fileOffset, length, nameOf(id)));
    if (log.length > 0) places.push(part(log.fileOffset, log.length, 'log'));
    if (metadata.hasParent) {
      await bat.scanAll((entry, _index, isBitmap) => {
        if (isBitmap && entry % 8 === 6) places.push(part(Math.floor(entry / 8) * MIB, MIB, 'sector bitmap'));
      });
    }
    yield* places.sort((one, other) => one.fileOffset - other.fileOffset);
  }

  storages(): readonly Storage[] {
    return [this.#parts.file.storage];
  }

  async close(): Promise<void> {
    await this.#parts.file.storage.close();
  }

  get #isFixed(): boolean {
    const { leaveAllocated, hasParent } = this.#state.metadata;
    return leaveAllocated && !hasParent;
  }

  get #parent(): ParentReference | null {
    const { locator } = this.#state;
    if (locator === null) return null;
    const { names, beside, linkage, format } = locator;
    return parentReference({ names, beside, format, contentId: linkage[0] ?? null });
  }

  /** The part that changes the image. Throws `read-only`. */
  get #written(): Writing {
    const { writing } = this.#state;
    if (writing === null) throw imageReadOnly(this.#parts.file.storage.label);
    return writing;
  }

  get #ownSession(): VhdxSession {
    if (this.#session === null) throw imageReadOnly(this.#parts.file.storage.label);
    return this.#session;
  }

  #checkWritable(): Writing {
    this.#written.blocks.map.checkWritable();
    return this.#written;
  }

  #newSession({ code }: Writing): VhdxSession {
    const { storage, headers, found } = this.#parts.file;
    return new code.VhdxSession({
      storage,
      headers,
      log: found.log,
      fileEnd: () => this.#written.blocks.map.slots.fileEnd,
      takeLog: () => this.#written.blocks.map.slots.takeMib(1).fileOffset,
    });
  }

  #context(): ParentChange {
    const { file, directory } = this.#parts;
    const { blocks } = this.#written;
    const session = this.#ownSession;
    return { storage: file.storage, directory, state: this.#state, blocks, session };
  }

  /**
   * Runs a change of the structure, and reads it again. What is free afterwards is found by the scan. Outside of a session
   * the log is empty afterwards: an image below the last one is only opened for this.
   */
  async #restructure(content: boolean, change: () => Promise<void>): Promise<void> {
    const { file, guard } = this.#parts;
    const session = this.#ownSession;
    const isAlone = !session.isOpen;
    await guard.run(async () => {
      await session.begin(content);
      await change();
      this.#state = await readState(file.storage, session.log, { write: true, guard });
      await session.settle();
      if (isAlone) await session.end();
    });
  }
}

function nameOf(id: string): string {
  if (id === REGION_IDS.bat) return 'block allocation table';
  return id === REGION_IDS.metadata ? 'metadata' : 'other region';
}

function warningsOf({ found, storage, replayed }: OpenedFile, { regions, metadata, locator }: VhdxState): string[] {
  const warnings: string[] = [];
  if (found.states.some((state) => state === 'missing' || state === 'wrong checksum')) {
    warnings.push(`One of the two headers of ${storage.label} is damaged: the other one is used.`);
  }
  if (regions.states.some((state) => state !== 'sound')) {
    warnings.push(`One of the two region tables of ${storage.label} is damaged: the other one is used.`);
  }
  if (replayed !== null) warnings.push(`${storage.label} was not closed: its log was replayed.`);
  if (metadata.hasParent && locator === null) warnings.push(`${storage.label} does not name its parent.`);
  return warnings;
}
