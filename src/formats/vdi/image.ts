/**
 * One opened VDI image.
 *
 * State: the first sector as it is on the medium (`#sector`), the block map by pages, and the slot allocator, which
 * exists only when the image is open for writing. The header's count and modification UUID change in `seal`, so the
 * sector never runs ahead of a flush. The order of writes is described in allocate.ts.
 */
import { isNullGuid, randomGuid } from '../../binary/guid.ts';
import { divCeil, SECTOR } from '../../binary/numbers.ts';
import { ChangeGuard, imageReadOnly } from '../../blocks/guarded.ts';
import { EntryTable } from '../../blocks/table.ts';
import { assert, ImageError } from '../../errors.ts';
import type {
  Image,
  ImageCapabilities,
  ImageChanges,
  ImageInfo,
  Mapping,
  MetadataExtent,
  MetaWrite,
  ParentLink,
  ResizeOptions,
  SealedMetadata,
  WriteSlot,
} from '../../image/contract.ts';
import { derivePhysical } from '../../image/geometry.ts';
import { singleRegion } from '../../image/regions.ts';
import type { MaybePromise, OpenMode, OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { Turns } from '../../storage/turns.ts';
import { type SlotAllocator, type SlotRun, scanMap } from './allocate.ts';
import { layoutObstacle, parseHeader, type VdiHeader } from './header.ts';
import {
  DEFAULT_ALIGNMENT,
  ENTRY_FREE,
  ENTRY_ZERO,
  FLAG_ZERO_EXPAND,
  FLAG_ZERO_EXPAND_CREATION,
  HEADER,
  IMAGE_TYPE,
} from './layout.ts';
import { mapPlace } from './map-entries.ts';
import { planResize, runResize } from './resize.ts';
import { changedSector } from './set.ts';
import { blocksOf } from './shrink.ts';

/** How to open. */
export interface VdiOpenMode extends OperationOptions {
  readonly mode: OpenMode;
  /** Leave out what only reading or writing data needs. */
  readonly infoOnly: boolean;
}

/** Opens the image in a storage. The storage belongs to the image when this resolves. */
export async function openVdi(storage: Storage, how: VdiOpenMode): Promise<VdiImage> {
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  const header = parseHeader(sector, storage.size, storage.label);
  const table = new EntryTable(mapPlace(storage, header));
  if (how.mode === 'read' || how.infoOnly)
    return new VdiImage({ storage, sector, header, table, allocator: null, obstacle: null });
  const unaligned = layoutObstacle(header);
  if (unaligned !== null) return new VdiImage({ storage, sector, header, table, allocator: null, obstacle: unaligned });
  const slotBytes = header.blockSize + header.blockExtra;
  const scan = await scanMap(table, divCeil(Math.max(storage.size - header.dataOffset, 0), slotBytes), how);
  const allocator = scan.obstacle === null ? scan.allocator : null;
  return new VdiImage({ storage, sector, header, table, allocator, obstacle: scan.obstacle });
}

interface VdiParts {
  readonly storage: Storage;
  readonly sector: Uint8Array;
  readonly header: VdiHeader;
  readonly table: EntryTable;
  readonly allocator: SlotAllocator | null;
  readonly obstacle: string | null;
}

/** See the head of this file. */
export class VdiImage implements Image {
  readonly can: ImageCapabilities;
  readonly #storage: Storage;
  readonly #guard: ChangeGuard;
  readonly #sector: Uint8Array;
  #header: VdiHeader;
  #table: EntryTable;
  #allocator: SlotAllocator | null;
  readonly #slotBytes: number;
  readonly #zeroExpand: boolean;
  #contentChanged = false;

  constructor(parts: VdiParts) {
    this.#storage = parts.storage;
    this.#guard = new ChangeGuard(parts.storage.label);
    this.#sector = parts.sector;
    this.#header = parts.header;
    this.#table = parts.table;
    this.#allocator = parts.allocator;
    this.#slotBytes = parts.header.blockSize + parts.header.blockExtra;
    this.#zeroExpand = (parts.header.flags & (FLAG_ZERO_EXPAND | FLAG_ZERO_EXPAND_CREATION)) !== 0;
    const write = parts.allocator !== null;
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
      variant: [...variantWords(header.type), ...(this.#zeroExpand ? ['zero-expand'] : [])],
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
      parentUuid: header.parentUuid,
      parentModificationUuid: header.parentModificationUuid,
      parentName: null,
      parentFormat: null,
      warnings: header.warnings,
      config: { AllocationBlockSize: header.blockSize, DataAlignment: alignmentOf(header) },
    };
  }

  get dirtyBytes(): number {
    return this.#table.dirtyBytes;
  }

  map(offset: number, length: number): MaybePromise<Mapping> {
    const { blockSize, virtualSize } = this.#header;
    assert(offset >= 0 && offset < virtualSize && length > 0, 'the mapped range lies inside the disk');
    const index = Math.floor(offset / blockSize);
    const entry = this.#table.get(index);
    if (entry === undefined) return this.#table.load(index).then(() => this.map(offset, length));
    const end = Math.min(offset + length, virtualSize);
    if (entry >= ENTRY_ZERO) return this.#emptyRun(entry, index, offset, end);
    return this.#dataRun(entry, index, offset, end);
  }

  prepareWrite(offset: number, length: number): MaybePromise<WriteSlot> {
    const first = Math.floor(offset / this.#header.blockSize);
    if (this.#table.get(first) === undefined) {
      return this.#table.load(first).then(() => this.prepareWrite(offset, length));
    }
    const wanted = divCeil(offset + length, this.#header.blockSize) - first;
    // Private bytes before each payload keep blocks apart in the file.
    const contiguous = this.#header.blockExtra === 0 ? Math.min(wanted, this.#table.pageRest(first)) : 1;
    const run = this.#writableAllocator().take(contiguous);
    return this.#slot(first, run);
  }

  get reclaimable(): number {
    // A fixed image keeps its length: its holes wait for the next block.
    if (this.#header.type === IMAGE_TYPE.fixed) return 0;
    return (this.#allocator?.holes ?? 0) * this.#slotBytes;
  }

  /** A block that holds data gives its slot up; it is used again when the map without it is durable. */
  unmap(offset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    const { blockSize, virtualSize } = this.#header;
    assert(offset % blockSize === 0, 'whole units are unmapped');
    const allocator = this.#writableAllocator();
    const last = divCeil(Math.min(offset + length, virtualSize), blockSize);
    for (let index = offset / blockSize; index < last; index++) {
      const entry = this.#table.get(index);
      if (entry === undefined) {
        const at = index * blockSize;
        return this.#table.load(index).then(() => this.unmap(at, offset + length - at, to));
      }
      const marker = to === 'zero' ? ENTRY_ZERO : ENTRY_FREE;
      if (entry < ENTRY_ZERO) allocator.pin(entry);
      if (entry !== marker) this.#table.set(index, marker);
    }
    return undefined;
  }

  /** The new modification UUID is on the medium before any data: a child can tell that its parent changed. */
  async beginChanges({ content }: { readonly content: boolean }): Promise<void> {
    this.#writableAllocator();
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
    const allocator = this.#writableAllocator();
    const stage: MetaWrite[] = [];
    const count = Math.min(allocator.committedEnd, this.#header.blockCount);
    if (this.#contentChanged || count !== HEADER.get(this.#sector, 'blocksAllocated')) {
      if (this.#contentChanged) HEADER.put(this.#sector, 'modificationUuid', randomGuid());
      HEADER.put(this.#sector, 'blocksAllocated', count);
      stage.push({ storage: this.#storage, fileOffset: 0, bytes: this.#sector.slice() });
      this.#contentChanged = false;
    }
    allocator.seal();
    const map = this.#table.seal();
    return { stage, root: [], publish: map.length === 0 ? [] : [map] };
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#table.settle();
    if (ok) this.#allocator?.settle();
    this.#guard.settle(ok);
  }

  /** Blocks whose slots lie where a packed image has none. */
  async *movable({ signal }: OperationOptions = {}): AsyncGenerator<number> {
    const turns = new Turns(signal, 'Compacting');
    const packed = this.#writableAllocator().used;
    const { blockSize, virtualSize } = this.#header;
    // Entries behind those of the disk keep their slots: what they hold cannot be reached.
    for (let index = 0; index * blockSize < virtualSize; index++) {
      const turn = turns.take();
      if (turn !== undefined) await turn;
      let entry = this.#table.get(index);
      if (entry === undefined) {
        await this.#table.load(index);
        entry = this.#table.get(index) ?? ENTRY_FREE;
      }
      if (entry < ENTRY_ZERO && entry >= packed) yield index * blockSize;
    }
  }

  /** The lowest hole, for a block that `movable` named. Its old slot is pinned when the new one is committed. */
  relocate(guestOffset: number): MaybePromise<WriteSlot | null> {
    const index = Math.floor(guestOffset / this.#header.blockSize);
    const entry = this.#table.get(index);
    if (entry === undefined) return this.#table.load(index).then(() => this.relocate(guestOffset));
    const allocator = this.#writableAllocator();
    if (entry >= ENTRY_ZERO || allocator.holes === 0) return null;
    const slot = this.#slot(index, allocator.take(1));
    return {
      ...slot,
      commit: () => {
        slot.commit();
        allocator.pin(entry);
      },
    };
  }

  /**
   * Lowers the header's count and cuts free slots off the end. Nothing else may run meanwhile. Not flushed: a cut leaves
   * a count or a file that is larger than needed, as both were before.
   */
  async trim(): Promise<void> {
    const allocator = this.#writableAllocator();
    const slots = allocator.trim();
    const end = this.#header.dataOffset + slots * this.#slotBytes;
    if (HEADER.get(this.#sector, 'blocksAllocated') > slots) {
      HEADER.put(this.#sector, 'blocksAllocated', slots);
      await this.#guard.run(() => this.#storage.write(0, this.#sector.slice()));
    }
    if (this.#storage.size > end) await this.#guard.run(() => this.#storage.resize(end));
  }

  /** The map is longer than the disk, or blocks stand where the header cannot count them. */
  get resizePending(): boolean {
    const { virtualSize, blockCount } = this.#header;
    if (this.#allocator === null || !this.can.resize) return false;
    return blockCount > blocksOf(virtualSize, this.#header) || this.#allocator.committedEnd > blockCount;
  }

  /** Changes the size of the disk; see resize.ts. Nothing else may run meanwhile, and everything is flushed. */
  async resize(size: number, how: ResizeOptions): Promise<void> {
    this.#writableAllocator();
    const { virtualSize } = this.#header;
    // What a cut left of the resize before.
    if (size > virtualSize && this.resizePending) await this.#resize(virtualSize, how);
    await this.#resize(size, how);
  }

  async #resize(size: number, how: ResizeOptions): Promise<void> {
    const plan = await planResize({ storage: this.#storage, header: this.#header, table: this.#table }, size, how);
    try {
      await this.#guard.run(() => runResize(this.#storage, this.#sector, plan));
    } finally {
      // Cancelled or done: entries may have changed on the medium, so memory must not go on with what it knew.
      if (!this.#guard.failed) await this.#guard.run(() => this.#reload());
    }
  }

  /** Takes over what the medium says. Everything must be flushed. */
  async #reload(): Promise<void> {
    const storage = this.#storage;
    await readPadded(storage, 0, this.#sector);
    const header = parseHeader(this.#sector, storage.size, storage.label);
    const table = new EntryTable(mapPlace(storage, header));
    const scan = await scanMap(table, divCeil(Math.max(storage.size - header.dataOffset, 0), this.#slotBytes));
    assert(scan.obstacle === null, `a resized image is sound: ${scan.obstacle ?? ''}`);
    this.#header = header;
    this.#table = table;
    this.#allocator = scan.allocator;
  }

  async set(changes: ImageChanges): Promise<void> {
    this.#writableAllocator();
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

  /** A child of a parent without a UUID keeps the link it has: opened alone it must not pass for a base. */
  async relink(parent: ParentLink | null): Promise<void> {
    if (parent !== null && parent.uuid === null) return;
    await this.set({ parentUuid: parent?.uuid ?? null, parentModificationUuid: parent?.modificationUuid ?? null });
  }

  /** Header and block map; per block the private bytes before its payload. */
  async *metadata({ perUnit }: { readonly perUnit: boolean }): AsyncGenerator<MetadataExtent> {
    const storage = this.#storage;
    const { mapOffset, blockCount, blockSize, blockExtra, dataOffset } = this.#header;
    const headerEnd = Math.min(SECTOR, mapOffset);
    yield { storage, fileOffset: 0, length: headerEnd, what: 'header', guestOffset: null };
    yield { storage, fileOffset: mapOffset, length: blockCount * 4, what: 'block map', guestOffset: null };
    if (!perUnit || blockExtra === 0) return;
    const owners: { slot: number; index: number }[] = [];
    await this.#table.scan((entry, index) => {
      if (entry < ENTRY_ZERO) owners.push({ slot: entry, index });
    });
    owners.sort((a, b) => a.slot - b.slot);
    for (const { slot, index } of owners) {
      const offset = dataOffset + slot * this.#slotBytes;
      yield { storage, fileOffset: offset, length: blockExtra, what: 'block', guestOffset: index * blockSize };
    }
  }

  storages(): readonly Storage[] {
    return [this.#storage];
  }

  async close(): Promise<void> {
    await this.#storage.close();
  }

  #writableAllocator(): SlotAllocator {
    this.#guard.check();
    if (this.#allocator === null) throw imageReadOnly(this.#storage.label);
    return this.#allocator;
  }

  #emptyRun(entry: number, index: number, offset: number, end: number): Mapping {
    let next = index + 1;
    let runEnd = next * this.#header.blockSize;
    while (runEnd < end && this.#table.get(next) === entry) {
      next++;
      runEnd += this.#header.blockSize;
    }
    return { kind: entry === ENTRY_ZERO ? 'zero' : 'absent', length: Math.min(runEnd, end) - offset };
  }

  #dataRun(entry: number, index: number, offset: number, end: number): Mapping {
    const { blockSize, blockExtra, dataOffset } = this.#header;
    let next = index + 1;
    let slot = entry + 1;
    let runEnd = next * blockSize;
    // Private bytes before each payload keep blocks apart in the file.
    while (blockExtra === 0 && runEnd < end && this.#table.get(next) === slot && slot < ENTRY_ZERO) {
      next++;
      slot++;
      runEnd += blockSize;
    }
    const position = dataOffset + entry * this.#slotBytes + blockExtra + (offset - index * blockSize);
    const available = Math.max(this.#storage.size - position, 0);
    const length = Math.min(runEnd, end) - offset;
    if (available === 0) throw this.#cutOff(entry, index, position);
    return {
      kind: 'data',
      storage: this.#storage,
      fileOffset: position,
      length: Math.min(length, available),
      writable: this.#allocator !== null && !this.#guard.failed,
    };
  }

  #cutOff(entry: number, index: number, position: number): ImageError {
    return new ImageError('corrupt', 'The block map points beyond the end of the file: the image was cut off', {
      status: 'VERR_VD_READ_OUT_OF_RANGE',
      path: this.#storage.label,
      offset: this.#header.mapOffset + index * 4,
      guestOffset: index * this.#header.blockSize,
      field: `block map entry ${index}`,
      found: `block ${entry} at ${position}`,
      expected: `less than the file size ${this.#storage.size}`,
      hint: 'Copy the image again from where it came from; blocks before the end can still be read.',
    });
  }

  #slot(first: number, run: SlotRun): WriteSlot {
    const { blockSize, blockExtra, dataOffset } = this.#header;
    const allocator = this.#writableAllocator();
    const start = dataOffset + run.first * this.#slotBytes;
    this.#table.pin(first);
    let open = true;
    const finish = (): void => {
      assert(open, 'a slot ends once');
      open = false;
      this.#table.unpin(first);
    };
    return {
      storage: this.#storage,
      fileOffset: start + blockExtra,
      length: run.count * blockSize,
      guestOffset: first * blockSize,
      readsZero: !run.recycled && start >= this.#storage.size && this.#storage.can.growsZeroed && !this.#zeroExpand,
      commit: () => {
        for (let n = 0; n < run.count; n++) this.#table.set(first + n, run.first + n);
        allocator.committed(run);
        finish();
      },
      abort: () => {
        allocator.giveBack(run);
        finish();
      },
    };
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

/** What both the block map and the data are aligned to, at most the default. */
function alignmentOf({ mapOffset, dataOffset }: Pick<VdiHeader, 'mapOffset' | 'dataOffset'>): number {
  let alignment = DEFAULT_ALIGNMENT;
  while (alignment > SECTOR && (mapOffset % alignment !== 0 || dataOffset % alignment !== 0)) alignment /= 2;
  return alignment;
}
