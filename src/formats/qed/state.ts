/** The map of a QED image: what the L1 and L2 tables say, and in an image that is written which clusters are in use. */
import { divCeil } from '../../binary/numbers.ts';
import { BlockMap, scanMap } from '../../blocks/block-map.ts';
import type { BlockEntries, BlockMapParts } from '../../blocks/block-reader.ts';
import type { ChangeGuard } from '../../blocks/guarded.ts';
import type { SlotAllocator } from '../../blocks/slot-allocator.ts';
import { U64_LITTLE } from '../../blocks/table.ts';
import { readTableDirectory } from '../../blocks/table-directory.ts';
import { BROKEN_TABLE, type TableDirectory, TwoLevelTable } from '../../blocks/two-level-table.ts';
import type { OpenMode, OperationOptions, Storage } from '../../storage/contract.ts';
import type { QedLayout } from './header.ts';
import { L2_ABSENT, L2_ZERO } from './layout.ts';

/** Content of an image as it was found on the medium. */
export interface QedState {
  readonly layout: QedLayout;
  readonly directory: TableDirectory;
  readonly table: L2Tables;
  readonly map: BlockMap;
  /** The reason why it must not be written, or null. */
  readonly obstacle: string | null;
}

/** Options for reading the state. */
export interface StateOptions extends OperationOptions {
  readonly mode: OpenMode;
  readonly guard: ChangeGuard;
}

/** The L2 tables. A scan shows if any cluster behind the end of the disk is in use. */
export class L2Tables extends TwoLevelTable {
  /** A resize was cut off: the last scan found entries behind those of the disk. */
  behind = false;
  /** Entries that the disk needs. */
  blockCount = Number.POSITIVE_INFINITY;

  override scan(visit: (entry: number, index: number) => void, options: OperationOptions = {}): Promise<void> {
    this.behind = false;
    return super.scan((entry, index) => {
      if (entry !== L2_ABSENT && index >= this.blockCount) this.behind = true;
      visit(entry, index);
    }, options);
  }
}

/** Reads the tables behind a header. */
export async function readState(storage: Storage, layout: QedLayout, how: StateOptions): Promise<QedState> {
  const { tableBytes, headerBytes: lowest, clusterSize: alignment, l1Offset: fileOffset, l1Entries: count } = layout;
  const place = { storage, fileOffset, count, tableBytes, lowest, alignment, form: U64_LITTLE };
  const directory = await readTableDirectory(place, how);
  const table = new L2Tables({
    storage,
    directory,
    form: U64_LITTLE,
    tableBytes,
    count: count * layout.tableEntries,
  });
  table.blockCount = divCeil(layout.virtualSize, layout.clusterSize);
  const parts = { ...partsOf(storage, layout, how.guard), table };
  if (how.mode === 'read') return { layout, directory, table, map: new BlockMap(parts), obstacle: null };
  const scan = await scanMap(parts, how);
  const { allocator } = scan;
  const obstacle = flawOf(directory) ?? scan.obstacle ?? reserveMetadata(allocator, layout, directory);
  const map = new BlockMap({ ...parts, allocator: obstacle === null ? allocator : null });
  return { layout, directory, table, map, obstacle };
}

type FixedParts = Omit<BlockMapParts, 'table'>;

function partsOf(storage: Storage, layout: QedLayout, guard: ChangeGuard): FixedParts {
  const { virtualSize, clusterSize: blockSize, headerBytes: dataOffset, l1Offset: tableOffset } = layout;
  return {
    storage,
    entries: entriesOf(layout),
    layout: { virtualSize, blockSize, dataOffset, leadBytes: 0, shortLast: true },
    allocator: null,
    guard,
    tableOffset,
  };
}

/** Entries of L2 tables are file offsets. */
function entriesOf({ headerBytes, clusterSize }: QedLayout): BlockEntries {
  return {
    kindOf: (entry) => (entry === L2_ABSENT ? 'absent' : entry === L2_ZERO ? 'zero' : 'data'),
    slotOffset: (entry) => entry,
    entryAt: (fileOffset) => fileOffset,
    problem: (entry) =>
      entry < headerBytes || entry % clusterSize !== 0 ? 'An L2 entry points where no cluster can be' : null,
    zero: L2_ZERO,
    absent: L2_ABSENT,
  };
}

function flawOf({ places }: TableDirectory): string | null {
  return places.includes(BROKEN_TABLE) ? 'its L1 table names L2 tables where none can be' : null;
}

/** Keeps clusters away from tables and names. Returns the reason why none may be written, or null. */
function reserveMetadata(
  allocator: SlotAllocator,
  { l1Offset, tableBytes, clusterSize, headerBytes, backing }: QedLayout,
  { places }: TableDirectory,
): string | null {
  const reserve = (fileOffset: number, length: number): boolean => {
    let isFree = true;
    const end = divCeil(fileOffset + length - headerBytes, clusterSize);
    for (let slot = Math.floor((fileOffset - headerBytes) / clusterSize); slot < end; slot++) {
      if (!allocator.reserve(slot)) isFree = false;
    }
    return isFree;
  };
  let isSound = reserve(l1Offset, tableBytes);
  for (const place of places) if (place > 0 && !reserve(place, tableBytes)) isSound = false;
  if (backing !== null && backing.fileOffset + backing.length > headerBytes) {
    const start = Math.max(backing.fileOffset, headerBytes);
    if (!reserve(start, backing.fileOffset + backing.length - start)) isSound = false;
  }
  return isSound ? null : 'two of its tables overlap, or one overlaps a cluster of the disk';
}
