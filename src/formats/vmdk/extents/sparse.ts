/**
 * A hosted sparse extent: grains of one size, named by grain tables, which a grain directory names. Most have both twice.
 * Changes are made in sparse-written.ts.
 */
import { SECTOR } from '../../../binary/numbers.ts';
import { type BlockEntries, type BlockMapParts, BlockReader } from '../../../blocks/block-reader.ts';
import type { ChangeGuard } from '../../../blocks/guarded.ts';
import type { PageCache } from '../../../blocks/metadata-pages.ts';
import type { SlotAllocator } from '../../../blocks/slot-allocator.ts';
import { type TableDirectory, TwoLevelTable } from '../../../blocks/two-level-table.ts';
import type { Mapping, MetadataExtent } from '../../../image/contract.ts';
import type { MaybePromise, OpenMode, OperationOptions, Storage } from '../../../storage/contract.ts';
import { GTE_ABSENT, GTE_ZERO } from '../layout.ts';
import { readDirectory, SECTOR_ENTRY, soundest } from './directory.ts';
import { Extent } from './extent.ts';
import type { SparseLayout } from './header.ts';

/** Options for opening a sparse extent. */
export interface SparseOpen extends OperationOptions {
  readonly mode: OpenMode;
  /** Bytes of the disk that its line gives it. */
  readonly length: number;
  /** Its line permits writing. */
  readonly permitted: boolean;
  /** Bound of the tables in memory, of all extents of the image. */
  readonly cache?: PageCache | undefined;
  /** Of the image: a failure in one file ends the writing of all. */
  readonly guard: ChangeGuard;
}

/** Parts of a sparse extent that is open. */
export interface SparseParts {
  readonly storage: Storage;
  readonly layout: SparseLayout;
  /** The one that readers follow. */
  readonly directory: TableDirectory;
  readonly copy: TableDirectory | null;
  /** Tables of `directory` that come from the second copy. */
  readonly replaced: number;
  readonly length: number;
  readonly cache: PageCache | undefined;
  readonly guard: ChangeGuard;
}

/** Reads the directories of an extent. */
export async function readSparse(storage: Storage, layout: SparseLayout, how: SparseOpen): Promise<SparseParts> {
  const { tableCount: count, tableBytes, redundantOffset } = layout;
  const place = { storage, count, tableBytes, lowest: layout.form.size };
  const first = await readDirectory({ ...place, fileOffset: layout.directoryOffset }, how);
  const copy = redundantOffset === null ? null : await readDirectory({ ...place, fileOffset: redundantOffset }, how);
  const { length, cache, guard } = how;
  return { storage, layout, ...soundest(first, copy), copy, length, cache, guard };
}

/** Parts of a map whose tables a directory names. */
export interface MapParts extends BlockMapParts {
  readonly table: TwoLevelTable;
}

/** Parts of the map of an extent. */
export function mapParts(
  { storage, layout, directory, copy, length, cache, guard }: SparseParts,
  allocator: SlotAllocator | null,
): MapParts {
  const { tableEntries, tableBytes, tableCount: tables, grainBytes, overhead, capacity } = layout;
  const count = tables * tableEntries;
  const form = SECTOR_ENTRY;
  return {
    storage,
    table: new TwoLevelTable({ storage, directory, copy: copy ?? undefined, form, tableBytes, count, cache }),
    entries: grainEntries(layout),
    layout: {
      virtualSize: Math.min(length, capacity, count * grainBytes),
      blockSize: grainBytes,
      dataOffset: overhead,
      leadBytes: 0,
      shortLast: true,
    },
    allocator,
    guard,
    tableOffset: layout.directoryOffset ?? 0,
  };
}

/** Entries of grain tables, as byte offsets. */
export function grainEntries({ zeroGrains, overhead }: Pick<SparseLayout, 'zeroGrains' | 'overhead'>): BlockEntries {
  const zero = GTE_ZERO * SECTOR;
  return {
    kindOf: (entry) => (entry === GTE_ABSENT ? 'absent' : zeroGrains && entry === zero ? 'zero' : 'data'),
    slotOffset: (entry) => entry,
    entryAt: (fileOffset) => fileOffset,
    problem: (entry) => (entry < overhead ? 'A grain is said to lie among the metadata' : null),
    zero: zeroGrains ? zero : null,
    absent: GTE_ABSENT,
  };
}

/** A sparse extent that is read. */
export class SparseExtent extends Extent {
  readonly storage: Storage;
  readonly layout: SparseLayout;
  protected readonly parts: SparseParts;
  protected readonly mapParts: MapParts;
  readonly #obstacle: string | null;
  readonly #reader: BlockReader;

  /** `obstacle`: why it is not written although it was opened for that. `allocator`: of one that is. */
  constructor(parts: SparseParts, obstacle: string | null = null, allocator: SlotAllocator | null = null) {
    super(parts.length);
    const { storage, layout } = parts;
    this.storage = storage;
    this.layout = layout;
    this.#obstacle = obstacle;
    this.parts = parts;
    this.mapParts = mapParts(parts, allocator);
    this.#reader = new BlockReader(this.mapParts);
  }

  override get unit(): number {
    return this.layout.grainBytes;
  }

  override get obstacle(): string | null {
    return this.#obstacle;
  }

  override get marksZero(): boolean {
    return this.layout.zeroGrains;
  }

  override get unclean(): boolean {
    return this.layout.unclean;
  }

  override get warnings(): readonly string[] {
    const { label } = this.storage;
    const { replaced } = this.parts;
    return [
      ...(replaced === 0 ? [] : [`${label}: ${replaced} grain tables are read from their second copy.`]),
      ...(this.layout.capacity < this.length ? [`${label} has room for less than its extent; the rest is empty.`] : []),
    ];
  }

  map(offset: number, length: number): MaybePromise<Mapping> {
    const { capacity } = this.layout;
    if (offset >= capacity) return { kind: 'absent', length };
    return this.#reader.map(offset, Math.min(length, capacity - offset));
  }

  override async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this;
    const { overhead, form, tableBytes, tableCount } = this.layout;
    yield { storage, fileOffset: 0, length: Math.min(form.size, overhead), what: 'header', guestOffset: null };
    if (overhead > form.size) {
      const place = { fileOffset: form.size, length: overhead - form.size };
      yield { storage, ...place, what: 'descriptor, directories and tables', guestOffset: null };
    }
    const { directory, copy } = this.parts;
    for (const { places, fileOffset: start } of copy === null ? [directory] : [directory, copy]) {
      const length = tableCount * 4;
      if (start + length > overhead) {
        yield { storage, fileOffset: start, length, what: 'grain directory', guestOffset: null };
      }
      for (const fileOffset of places) {
        if (fileOffset + tableBytes <= overhead || fileOffset <= 0) continue;
        yield { storage, fileOffset, length: tableBytes, what: 'grain table', guestOffset: null };
      }
    }
  }
}
