/**
 * An open VDI image.
 *
 * State: the first sector as on the medium (`#sector`) and the block map, with an allocator of slots when the image is
 * open for writing. The header's count and modification UUID change in `seal`, so the sector never runs ahead of a
 * flush.
 *
 * Order of writes when a block gets a place (each step durable before the next):
 *   1. the payload in its slot, and the header with the raised count (stage);
 *   2. the map entry (publish).
 * The count comes before the map: QEMU hands out slot `count` next, so a map ahead of the count would make it
 * overwrite a block. A cut between the steps leaves unreferenced slots; they are found when the image is opened and
 * reused first. Holes at the end are cut off after the header's lowered count is durable.
 */
import { isNullGuid, randomGuid } from '../../binary/guid.ts';
import { SECTOR } from '../../binary/numbers.ts';
import { BlockMap, scanMap } from '../../blocks/block-map.ts';
import { ChangeGuard } from '../../blocks/guarded.ts';
import type { SlotAllocator } from '../../blocks/slot-allocator.ts';
import { EntryTable } from '../../blocks/table.ts';
import { assert } from '../../errors.ts';
import type {
  Image,
  ImageCapabilities,
  ImageChanges,
  ImageInfo,
  Mapping,
  MetadataExtent,
  MetaWrite,
  ParentLink,
  ParentReference,
  ResizeOptions,
  SealedMetadata,
  WriteSlot,
} from '../../image/contract.ts';
import { derivePhysical } from '../../image/geometry.ts';
import { parentLinks, parentReference } from '../../image/parent.ts';
import { singleRegion } from '../../image/regions.ts';
import type { MaybePromise, OpenMode, OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { detailsOf, expandsZeroes } from './describe.ts';
import { layoutObstacle, parseHeader, type VdiHeader } from './header.ts';
import { DEFAULT_ALIGNMENT, HEADER, IMAGE_TYPE } from './layout.ts';
import { mapEntries, mapPlace } from './map-entries.ts';
import { blocksOf } from './shrink.ts';

/** Options for opening. */
export interface VdiOpenMode extends OperationOptions {
  readonly mode: OpenMode;
  /** Skip everything needed only for guest data. */
  readonly infoOnly: boolean;
}

/** Opens the image in a storage, which belongs to the image when this resolves. */
export async function openVdi(storage: Storage, how: VdiOpenMode): Promise<VdiImage> {
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  const header = parseHeader(sector, storage.size, storage.label);
  const guard = new ChangeGuard(storage.label);
  if (how.mode === 'read' || how.infoOnly) {
    return new VdiImage({ storage, sector, header, map: openMap(storage, header, guard), guard, obstacle: null });
  }
  const unaligned = layoutObstacle(header);
  const { map, obstacle } =
    unaligned === null
      ? await openMapForWriting(storage, header, guard, how)
      : { map: openMap(storage, header, guard), obstacle: unaligned };
  return new VdiImage({ storage, sector, header, map, guard, obstacle });
}

/** The block map, for reading only where there is no allocator. */
function openMap(
  storage: Storage,
  header: VdiHeader,
  guard: ChangeGuard,
  how: { readonly table?: EntryTable | undefined; readonly allocator?: SlotAllocator | null | undefined } = {},
): BlockMap {
  return new BlockMap({
    storage,
    table: how.table ?? new EntryTable(mapPlace(storage, header)),
    entries: mapEntries(header),
    layout: { ...header, leadBytes: header.blockExtra },
    allocator: how.allocator ?? null,
    guard,
    tableOffset: header.mapOffset,
    growsZeroed: !expandsZeroes(header),
  });
}

async function openMapForWriting(
  storage: Storage,
  header: VdiHeader,
  guard: ChangeGuard,
  options: OperationOptions = {},
): Promise<{ readonly map: BlockMap; readonly obstacle: string | null }> {
  const table = new EntryTable(mapPlace(storage, header));
  const layout = { ...header, leadBytes: header.blockExtra };
  const { allocator, obstacle } = await scanMap({ storage, table, entries: mapEntries(header), layout }, options);
  return {
    map: openMap(storage, header, guard, { table, allocator: obstacle === null ? allocator : null }),
    obstacle,
  };
}

interface VdiParts {
  readonly storage: Storage;
  readonly sector: Uint8Array;
  readonly header: VdiHeader;
  readonly map: BlockMap;
  readonly guard: ChangeGuard;
  readonly obstacle: string | null;
}

/** An open VDI image. */
export class VdiImage implements Image {
  readonly can: ImageCapabilities;
  readonly linksByUuid = true;
  readonly #storage: Storage;
  readonly #guard: ChangeGuard;
  readonly #sector: Uint8Array;
  #header: VdiHeader;
  #map: BlockMap;
  #contentChanged = false;

  constructor(parts: VdiParts) {
    this.#storage = parts.storage;
    this.#guard = parts.guard;
    this.#sector = parts.sector;
    this.#header = parts.header;
    this.#map = parts.map;
    const write = parts.map.isWritten;
    const fixed = parts.header.type === IMAGE_TYPE.fixed;
    this.can = {
      write,
      readOnlyReason: parts.obstacle,
      allocate: write,
      zeroMarker: write,
      discard: write,
      resize: write && !fixed,
      compact: write && !fixed,
    };
  }

  get info(): ImageInfo {
    const header = this.#header;
    return {
      format: 'vdi',
      variant: [...variantWords(header.type), ...(expandsZeroes(header) ? ['zero-expand'] : [])],
      allocation: header.type === IMAGE_TYPE.fixed ? 'fixed' : 'dynamic',
      type: 'hdd',
      virtualSize: header.virtualSize,
      blockSize: header.blockSize,
      sectorSize: SECTOR,
      version: header.version,
      comment: header.comment === '' ? null : header.comment,
      geometry: { physical: header.physical ?? derivePhysical(header.virtualSize), logical: header.logical },
      regions: singleRegion(header.virtualSize, SECTOR),
      dirty: null,
      differencing: header.differencing,
      uuid: header.uuid,
      modificationUuid: header.old ? header.modificationUuid : modificationUuid(this.#sector),
      ...parentLinks(parentOf(header)),
      warnings: header.warnings,
      config: { AllocationBlockSize: header.blockSize, DataAlignment: alignmentOf(header) },
      details: detailsOf(header, this.#sector),
    };
  }

  get dirtyBytes(): number {
    return this.#map.dirtyBytes;
  }

  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    return this.#map.map(guestOffset, length);
  }

  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    return this.#map.prepareWrite(guestOffset, length);
  }

  get reclaimable(): number {
    // A fixed image keeps its length: its holes wait for the next block.
    return this.#header.type === IMAGE_TYPE.fixed ? 0 : this.#map.reclaimable;
  }

  unmap(guestOffset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    return this.#map.unmap(guestOffset, length, to);
  }

  /** The new modification UUID is durable before any data: children can tell that their parent changed. */
  async beginChanges({ content }: { readonly content: boolean }): Promise<void> {
    this.#map.checkWritable();
    if (!content) return;
    HEADER.put(this.#sector, 'modificationUuid', randomGuid());
    await this.#guard.run(async () => {
      await this.#storage.write(0, this.#sector);
      await this.#storage.flush();
    });
  }

  noteChange(): void {
    this.#contentChanged = true;
  }

  seal(): SealedMetadata {
    const { committedEnd } = this.#map.slots;
    const stage: MetaWrite[] = [];
    const count = Math.min(committedEnd, this.#header.blockCount);
    if (this.#contentChanged || count !== HEADER.get(this.#sector, 'blocksAllocated')) {
      if (this.#contentChanged) HEADER.put(this.#sector, 'modificationUuid', randomGuid());
      HEADER.put(this.#sector, 'blocksAllocated', count);
      stage.push({ storage: this.#storage, fileOffset: 0, bytes: this.#sector.slice() });
      this.#contentChanged = false;
    }
    const map = this.#map.seal();
    return { stage, root: [], publish: map.length === 0 ? [] : [map] };
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#map.settle(ok);
    this.#guard.settle(ok);
  }

  movable(options: OperationOptions = {}): AsyncGenerator<number> {
    return this.#map.movable(options);
  }

  relocate(guestOffset: number): MaybePromise<WriteSlot | null> {
    return this.#map.relocate(guestOffset);
  }

  /**
   * Lowers the header's count and cuts free slots off the end. Nothing else may run at the same time. Not flushed: a
   * cut leaves a count or a file larger than needed, as before.
   */
  async trim(): Promise<void> {
    const { slots, fileEnd } = this.#map.trim();
    if (HEADER.get(this.#sector, 'blocksAllocated') > slots) {
      HEADER.put(this.#sector, 'blocksAllocated', slots);
      await this.#guard.run(() => this.#storage.write(0, this.#sector.slice()));
    }
    if (this.#storage.size > fileEnd) await this.#guard.run(() => this.#storage.resize(fileEnd));
  }

  /** True when the map is longer than the disk, or blocks are in slots past the header's range. */
  get resizePending(): boolean {
    const { virtualSize, blockCount } = this.#header;
    if (!this.can.resize) return false;
    return blockCount > blocksOf(virtualSize, this.#header) || this.#map.committedEnd > blockCount;
  }

  /** Resizes the disk. Nothing else may run at the same time, and everything must be flushed. */
  async resize(size: number, how: ResizeOptions): Promise<void> {
    this.#map.checkWritable();
    const { virtualSize } = this.#header;
    // What a cut left of the resize before.
    if (size > virtualSize && this.resizePending) await this.#resize(virtualSize, how);
    await this.#resize(size, how);
  }

  async #resize(size: number, how: ResizeOptions): Promise<void> {
    const { planResize, runResize } = await import('./resize.ts');
    const plan = await planResize({ storage: this.#storage, header: this.#header }, size, how);
    try {
      await this.#guard.run(() => runResize(this.#storage, this.#sector, plan));
    } finally {
      // Cancelled or done: entries may have changed on the medium, so memory must not go on with what it knew.
      if (!this.#guard.failed) await this.#guard.run(() => this.#reload());
    }
  }

  /** Reloads everything from the medium. Everything must be flushed. */
  async #reload(): Promise<void> {
    const storage = this.#storage;
    await readPadded(storage, 0, this.#sector);
    const header = parseHeader(this.#sector, storage.size, storage.label);
    const { map, obstacle } = await openMapForWriting(storage, header, this.#guard);
    assert(obstacle === null, `a resized image is sound: ${obstacle ?? ''}`);
    this.#header = header;
    this.#map = map;
  }

  async set(changes: ImageChanges): Promise<void> {
    this.#map.checkWritable();
    const { changedSector } = await import('./set.ts');
    const { label, size } = this.#storage;
    const sector = changedSector(this.#sector, this.#header, changes, label);
    // Before it is written: no change may leave an image that cannot be opened.
    const header = parseHeader(sector, size, label);
    await this.#guard.run(async () => {
      await this.#storage.write(0, sector);
      await this.#storage.flush();
    });
    this.#sector.set(sector);
    this.#header = header;
  }

  /** A child of a parent without a UUID keeps its old link: opened alone it must not look like a base. */
  async relink(parent: ParentLink | null): Promise<void> {
    if (parent !== null && parent.uuid === null) return;
    await this.set({ parentUuid: parent?.uuid ?? null, parentModificationUuid: parent?.modificationUuid ?? null });
  }

  /** Header and block map; per block the private bytes before its data. */
  async *metadata({ perUnit }: { readonly perUnit: boolean }): AsyncGenerator<MetadataExtent> {
    const storage = this.#storage;
    const { mapOffset, blockCount, blockExtra } = this.#header;
    const headerEnd = Math.min(SECTOR, mapOffset);
    yield { storage, fileOffset: 0, length: headerEnd, what: 'header', guestOffset: null };
    yield { storage, fileOffset: mapOffset, length: blockCount * 4, what: 'block map', guestOffset: null };
    if (!perUnit || blockExtra === 0) return;
    for await (const { guestOffset, fileOffset } of this.#map.blocks()) {
      yield { storage, fileOffset, length: blockExtra, what: 'block', guestOffset };
    }
  }

  storages(): readonly Storage[] {
    return [this.#storage];
  }

  async close(): Promise<void> {
    await this.#storage.close();
  }
}

function modificationUuid(sector: Uint8Array): string | null {
  const uuid = HEADER.get(sector, 'modificationUuid');
  return isNullGuid(uuid) ? null : uuid;
}

function variantWords(type: number): string[] {
  if (type === IMAGE_TYPE.fixed) return ['fixed'];
  if (type === IMAGE_TYPE.diff) return ['diff'];
  return type === IMAGE_TYPE.undo ? ['undo'] : ['dynamic'];
}

/** Common alignment of block map and data, at most the default. */
function alignmentOf({ mapOffset, dataOffset }: Pick<VdiHeader, 'mapOffset' | 'dataOffset'>): number {
  let alignment = DEFAULT_ALIGNMENT;
  while (alignment > SECTOR && (mapOffset % alignment !== 0 || dataOffset % alignment !== 0)) alignment /= 2;
  return alignment;
}

/** VDI images store no name of their parent. */
function parentOf({ parentUuid: uuid, parentModificationUuid: modificationUuid }: VdiHeader): ParentReference | null {
  return uuid === null && modificationUuid === null ? null : parentReference({ uuid, modificationUuid });
}
