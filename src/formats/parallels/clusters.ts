/**
 * The clusters of a Parallels image: a table behind the header names the place of each. Its first sector holds the header, too.
 */
import { alignDown, SECTOR } from '../../binary/numbers.ts';
import { type BlockEntries, BlockMap, scanMap } from '../../blocks/block-map.ts';
import type { ChangeGuard } from '../../blocks/guarded.ts';
import type { SlotAllocator } from '../../blocks/slot-allocator.ts';
import { EntryTable, scanEntries, type TablePlace, U32_LITTLE } from '../../blocks/table.ts';
import { ImageError } from '../../errors.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import type { ParallelsLayout } from './header.ts';
import { ENTRY_FREE, HEADER } from './layout.ts';

/** The largest value of an entry. */
const LAST_ENTRY = 0xffff_ffff;

/** The table that a header describes. */
export function tablePlace(storage: Storage, { entries }: Pick<ParallelsLayout, 'entries'>): TablePlace {
  return { storage, fileOffset: HEADER.size, count: entries, form: U32_LITTLE };
}

/** The meaning of its entries. */
export function entriesOf({ entryUnit, dataStart }: ParallelsLayout): BlockEntries {
  return {
    kindOf: (entry) => (entry === ENTRY_FREE ? 'absent' : 'data'),
    slotOffset: (entry) => entry * entryUnit,
    entryAt: (fileOffset) => fileOffset / entryUnit,
    problem: (entry) => (entry * entryUnit < dataStart ? 'A cluster is said to lie among the metadata' : null),
    zero: null,
    absent: ENTRY_FREE,
  };
}

/** First place of a cluster such that clusters at `other` and from there on lie whole lengths apart. */
export function firstPlace(
  { dataStart, clusterSize }: Pick<ParallelsLayout, 'dataStart' | 'clusterSize'>,
  other: number,
): number {
  return dataStart + ((((other - dataStart) % clusterSize) + clusterSize) % clusterSize);
}

/** Place of the first cluster: as those that there are have it, since classic images begin at any sector. */
export function placeOfFirst(layout: ParallelsLayout, lowest: number | null): number {
  // Entries that count clusters name multiples of one.
  return firstPlace(layout, layout.extended ? 0 : (lowest ?? layout.dataStart));
}

/** The place of a cluster, unless entries cannot name it. Throws `limit`. */
export function nameable(storage: Storage, { entryUnit }: ParallelsLayout, place: number): number {
  if (place / entryUnit <= LAST_ENTRY) return place;
  throw new ImageError('limit', 'The file is as long as its block allocation table can address', {
    path: storage.label,
    hint: 'Compact the image, or convert it into one with the extended signature (on the command line: --variant ext).',
  });
}

/** A file that ends inside its last cluster gets the rest of it, which reads zero. Not durable. */
export async function completeLast(storage: Storage, end: number): Promise<void> {
  const { size } = storage;
  if (size >= end) return;
  await storage.write(end - SECTOR, new Uint8Array(SECTOR));
  const known = alignDown(size, SECTOR);
  if (!storage.can.growsZeroed) await storage.zero(known, end - known, { punch: false });
}

/** Place of the cluster in front of all others; null: there is none. `seen`: called with each entry in use. */
export async function lowestCluster(
  storage: Storage,
  layout: ParallelsLayout,
  options: OperationOptions,
  seen: (index: number) => void = () => {},
): Promise<number | null> {
  let lowest: number | null = null;
  const visit = (entry: number, index: number): void => {
    if (entry === ENTRY_FREE) return;
    seen(index);
    const fileOffset = entry * layout.entryUnit;
    if (fileOffset >= layout.dataStart) lowest = Math.min(lowest ?? fileOffset, fileOffset);
  };
  await scanEntries(tablePlace(storage, layout), visit, { ...options, skipsZero: true });
  return lowest;
}

/** The table before the first write. */
export interface ClusterScan {
  readonly allocator: SlotAllocator;
  /** File offset of the first slot. */
  readonly dataOffset: number;
  /** Entries behind those of the disk name clusters. */
  readonly behind: boolean;
  /** The reason why the image must not be written, or null. */
  readonly obstacle: string | null;
}

/** Reads the whole table before the first write. */
export async function scanClusters(
  storage: Storage,
  layout: ParallelsLayout,
  options: OperationOptions,
): Promise<ClusterScan> {
  let behind = false;
  const lowest = await lowestCluster(storage, layout, options, (index) => {
    behind ||= index >= layout.blockCount;
  });
  const dataOffset = placeOfFirst(layout, lowest);
  const table = new EntryTable(tablePlace(storage, layout));
  const parts = { storage, table, entries: entriesOf(layout), layout: mapLayout(layout, dataOffset) };
  const scan = await scanMap(parts, { ...options, skipsZero: true });
  return { ...scan, dataOffset, behind };
}

function mapLayout({ virtualSize, clusterSize, entryUnit }: ParallelsLayout, dataOffset: number) {
  const slotsEnd = LAST_ENTRY * entryUnit + clusterSize;
  return { virtualSize, blockSize: clusterSize, dataOffset, leadBytes: 0, shortLast: true, slotsEnd };
}

/** The clusters of an image, for reading only where there is no allocator. */
export function openClusters(
  storage: Storage,
  layout: ParallelsLayout,
  guard: ChangeGuard,
  { dataOffset, allocator }: { readonly dataOffset: number; readonly allocator: SlotAllocator | null },
): BlockMap {
  return new BlockMap({
    storage,
    table: new EntryTable(tablePlace(storage, layout)),
    entries: entriesOf(layout),
    layout: mapLayout(layout, dataOffset),
    allocator,
    guard,
    tableOffset: HEADER.size,
  });
}
