/**
 * One opened VDI image.
 *
 * State: the first sector as it is on the medium (`#sector`), the block map by pages, and the slot allocator, which
 * exists only when the image is open for writing. The header's count and modification UUID change in `seal`, so the
 * sector never runs ahead of a flush. The order of writes is described in allocate.ts.
 */
import { randomGuid } from '../../binary/guid.ts';
import { divCeil, SECTOR } from '../../binary/numbers.ts';
import { assert, ImageError } from '../../errors.ts';
import type {
  Image,
  ImageCapabilities,
  ImageInfo,
  Mapping,
  MetaWrite,
  SealedMetadata,
  WriteSlot,
} from '../../image/contract.ts';
import { derivePhysical } from '../../image/geometry.ts';
import { singleRegion } from '../../image/regions.ts';
import { U32Table } from '../../image/u32-table.ts';
import type { MaybePromise, OpenMode, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { scanMap, type SlotAllocator, type SlotRun } from './allocate.ts';
import { layoutObstacle, parseHeader, type VdiHeader } from './header.ts';
import { ENTRY_FREE, ENTRY_ZERO, FLAG_ZERO_EXPAND, FLAG_ZERO_EXPAND_CREATION, HEADER, IMAGE_TYPE } from './layout.ts';

/** How to open. */
export interface VdiOpenMode {
  readonly mode: OpenMode;
  /** Leave out what only reading or writing data needs. */
  readonly infoOnly: boolean;
}

/** Opens the image in a storage. The storage belongs to the image when this resolves. */
export async function openVdi(storage: Storage, how: VdiOpenMode): Promise<VdiImage> {
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  const header = parseHeader(sector, storage.size, storage.label);
  const table = new U32Table({
    storage,
    offset: header.mapOffset,
    count: header.blockCount,
    littleEndian: true,
  });
  if (how.mode === 'read' || how.infoOnly) return new VdiImage({ storage, sector, header, table, allocator: null, obstacle: null });
  const unaligned = layoutObstacle(header);
  if (unaligned !== null) return new VdiImage({ storage, sector, header, table, allocator: null, obstacle: unaligned });
  const slotBytes = header.blockSize + header.blockExtra;
  const scan = await scanMap(table, divCeil(Math.max(storage.size - header.dataOffset, 0), slotBytes));
  const allocator = scan.obstacle === null ? scan.allocator : null;
  return new VdiImage({ storage, sector, header, table, allocator, obstacle: scan.obstacle });
}

interface VdiParts {
  readonly storage: Storage;
  readonly sector: Uint8Array;
  readonly header: VdiHeader;
  readonly table: U32Table;
  readonly allocator: SlotAllocator | null;
  readonly obstacle: string | null;
}

/** See the head of this file. */
export class VdiImage implements Image {
  readonly can: ImageCapabilities;
  readonly #storage: Storage;
  readonly #sector: Uint8Array;
  readonly #header: VdiHeader;
  readonly #table: U32Table;
  readonly #allocator: SlotAllocator | null;
  readonly #slotBytes: number;
  readonly #zeroExpand: boolean;
  #contentChanged = false;
  #failed = false;

  constructor(parts: VdiParts) {
    this.#storage = parts.storage;
    this.#sector = parts.sector;
    this.#header = parts.header;
    this.#table = parts.table;
    this.#allocator = parts.allocator;
    this.#slotBytes = parts.header.blockSize + parts.header.blockExtra;
    this.#zeroExpand = (parts.header.flags & (FLAG_ZERO_EXPAND | FLAG_ZERO_EXPAND_CREATION)) !== 0;
    const write = parts.allocator !== null;
    this.can = { write, readOnlyReason: parts.obstacle, allocate: write, zeroMarker: write };
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
      differencing: header.parentUuid !== null,
      uuid: header.uuid,
      modificationUuid: header.old ? header.modificationUuid : HEADER.get(this.#sector, 'modificationUuid'),
      parentUuid: header.parentUuid,
      parentModificationUuid: header.parentModificationUuid,
      parentName: null,
      parentFormat: null,
      warnings: header.warnings,
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

  /** Only FREE and ZERO entries change: a block that holds data keeps its slot. */
  unmap(offset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    const { blockSize, virtualSize } = this.#header;
    this.#writableAllocator();
    const last = divCeil(Math.min(offset + length, virtualSize), blockSize);
    for (let index = offset / blockSize; index < last; index++) {
      const entry = this.#table.get(index);
      if (entry === undefined) {
        const at = index * blockSize;
        return this.#table.load(index).then(() => this.unmap(at, offset + length - at, to));
      }
      assert(entry >= ENTRY_ZERO, 'only blocks without data are unmapped');
      const marker = to === 'zero' ? ENTRY_ZERO : ENTRY_FREE;
      if (entry !== marker) this.#table.set(index, marker);
    }
    return undefined;
  }

  /** The new modification UUID is on the medium before any data: a child can tell that its parent changed. */
  async beginChanges(): Promise<void> {
    this.#writableAllocator();
    HEADER.put(this.#sector, 'modificationUuid', randomGuid());
    try {
      await this.#storage.write(0, this.#sector);
      await this.#storage.flush();
    } catch (error) {
      this.#failed = true;
      throw error;
    }
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
      stage.push({ storage: this.#storage, offset: 0, bytes: this.#sector.slice() });
      this.#contentChanged = false;
    }
    const map = this.#table.seal();
    return { stage, root: [], publish: map.length === 0 ? [] : [map] };
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#table.settle();
    if (!ok) this.#failed = true;
  }

  storages(): readonly Storage[] {
    return [this.#storage];
  }

  async close(): Promise<void> {
    await this.#storage.close();
  }

  #writableAllocator(): SlotAllocator {
    if (this.#failed) {
      throw new ImageError('io', 'An earlier write to this image failed, so it takes no more', {
        path: this.#storage.label,
        hint: 'Close it and open it again: what was flushed is safe.',
      });
    }
    if (this.#allocator === null) {
      throw new ImageError('read-only', 'The image is open for reading only', { path: this.#storage.label });
    }
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
      offset: position,
      length: Math.min(length, available),
      writable: this.#allocator !== null && !this.#failed,
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
      offset: start + blockExtra,
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

function variantWords(type: number): string[] {
  if (type === IMAGE_TYPE.fixed) return ['fixed'];
  if (type === IMAGE_TYPE.diff) return ['diff'];
  return type === IMAGE_TYPE.undo ? ['undo'] : ['dynamic'];
}
