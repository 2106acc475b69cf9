/**
 * Images of two levels without reference counts: an L1 table names L2 tables, whose entries name the clusters of the disk.
 * Read and checked here; in an image that is written, with the room that is in use.
 */
import { SparseBitSet } from '../binary/bits.ts';
import { alignUp, divCeil, SECTOR } from '../binary/numbers.ts';
import type { OpenMode, OperationOptions, Storage } from '../storage/contract.ts';
import { readPadded } from '../storage/read-padded.ts';
import { BlockMap } from './block-map.ts';
import type { BlockEntries } from './block-reader.ts';
import type { ChangeGuard } from './guarded.ts';
import type { EntryForm } from './table.ts';
import { readTableDirectory } from './table-directory.ts';
import { BROKEN_TABLE, type TableDirectory, TwoLevelTable } from './two-level-table.ts';
import { UnitRoom } from './unit-room.ts';

/** A stretch of the file. */
export interface FilePlace {
  readonly fileOffset: number;
  readonly length: number;
}

/** Sizes and places of an image, in bytes unless they are counts, from its checked header. */
export interface TwoLevelShape {
  readonly virtualSize: number;
  readonly clusterSize: number;
  readonly l1Offset: number;
  /** Entries of the L1 table that are read. */
  readonly l1Entries: number;
  /** Stored form of its entries, as file offsets. */
  readonly l1Form: EntryForm;
  /** Bytes of an L2 table, and those that a new one takes. */
  readonly tableBytes: number;
  readonly tableRoom: number;
  readonly tableEntries: number;
  readonly form: EntryForm;
  readonly entries: BlockEntries;
  /** Tables and clusters begin at multiples of this: at most a cluster. */
  readonly unit: number;
  /** The header ends here: nothing else lies in front of it. */
  readonly lowest: number;
  /** Other things in the file: the L1 table, names. */
  readonly reserved: readonly FilePlace[];
  /** Room that stays free, but for what lies there already. */
  readonly padding?: readonly FilePlace[] | undefined;
  /** The reason why the header rules out writing. Absent: there is none. */
  readonly flaw?: string | null | undefined;
  /** A parent shows through where nothing is stored. */
  readonly differencing: boolean;
  /** Place of a cluster in compressed form; null: the entry is of another kind. Absent: the format has none. */
  encodedAt?(entry: number): FilePlace | null;
}

/** An image as it was found on the medium. */
export interface TwoLevelState<Shape extends TwoLevelShape> {
  readonly shape: Shape;
  readonly directory: TableDirectory;
  readonly table: TwoLevelTable;
  readonly map: BlockMap<UnitRoom>;
  /** A resize was cut off: entries behind those of the disk are in use. */
  readonly behind: boolean;
  /** The reason why it must not be written, or null. */
  readonly obstacle: string | null;
}

/** Options for reading an image. */
export interface StateOptions extends OperationOptions {
  readonly mode: OpenMode;
  readonly guard: ChangeGuard;
}

/** Reads the tables behind a header. */
export async function readTwoLevel<Shape extends TwoLevelShape>(
  storage: Storage,
  shape: Shape,
  { mode, guard, signal }: StateOptions,
): Promise<TwoLevelState<Shape>> {
  const { l1Offset, l1Entries, l1Form, tableBytes, lowest, unit, form } = shape;
  const place = { storage, fileOffset: l1Offset, count: l1Entries, tableBytes, lowest, alignment: unit, form: l1Form };
  const found = await readTableDirectory(place, { signal });
  const directory = { ...found, edges: await edgesOf(storage, shape) };
  const count = l1Entries * shape.tableEntries;
  const table = new TwoLevelTable({ storage, directory, form, tableBytes, count });
  const scan = mode === 'write' ? await scanTables(storage, { shape, directory, table }, { signal }) : null;
  const { virtualSize, clusterSize: blockSize, entries } = shape;
  const map = new BlockMap<UnitRoom>({
    storage,
    table,
    entries,
    layout: { virtualSize, blockSize, dataOffset: 0, leadBytes: 0, shortLast: true },
    allocator: scan?.obstacle === null ? scan.room : null,
    guard,
    tableOffset: l1Offset,
  });
  return { shape, directory, table, map, behind: scan?.behind ?? false, obstacle: scan?.obstacle ?? null };
}

/** Bytes that share sectors with the L1 table: its sectors are written whole. */
async function edgesOf(
  storage: Storage,
  { l1Offset, l1Entries, l1Form }: TwoLevelShape,
): Promise<{ readonly lead: Uint8Array; readonly tail: Uint8Array }> {
  const end = l1Offset + l1Entries * l1Form.bytes;
  const lead = new Uint8Array(l1Offset % SECTOR);
  const tail = new Uint8Array(alignUp(end, SECTOR) - end);
  if (lead.length > 0) await readPadded(storage, l1Offset - lead.length, lead);
  if (tail.length > 0) await readPadded(storage, end, tail);
  return { lead, tail };
}

interface Scan {
  readonly room: UnitRoom;
  readonly behind: boolean;
  readonly obstacle: string | null;
}

type Tables = Pick<TwoLevelState<TwoLevelShape>, 'shape' | 'directory' | 'table'>;

/** Reads all tables before the first write: which units are in use, and whether writing is safe. */
async function scanTables(storage: Storage, tables: Tables, options: OperationOptions): Promise<Scan> {
  const { shape, directory, table } = tables;
  const { clusterSize, virtualSize, unit, entries, lowest, tableBytes, l1Offset, l1Form } = shape;
  const used = new UnitSet(unit);
  const streams = new SparseBitSet();
  let obstacle = shape.flaw ?? null;
  if (directory.places.includes(BROKEN_TABLE)) obstacle ??= 'its L1 table names L2 tables where none can be';
  if (l1Offset % l1Form.bytes !== 0) obstacle ??= 'entries of its L1 table lie in two sectors';
  const tangled = (): void => {
    obstacle ??= 'two of its tables overlap, or one overlaps a cluster of the disk';
  };
  used.take({ fileOffset: 0, length: lowest });
  for (const place of shape.reserved) if (!used.take(place)) tangled();
  for (const fileOffset of directory.places) {
    if (fileOffset > 0 && !used.take({ fileOffset, length: tableBytes })) tangled();
  }
  let behind = false;
  const blockCount = divCeil(virtualSize, clusterSize);
  await table.scan((entry, index) => {
    if (entry === entries.absent) return;
    if (index >= blockCount) behind = true;
    const stream = shape.encodedAt?.(entry) ?? null;
    if (stream !== null) {
      used.share(stream, streams);
      return;
    }
    if (obstacle !== null || entries.kindOf(entry) !== 'data') return;
    const fileOffset = entries.slotOffset(entry);
    if (fileOffset >= storage.size) obstacle = `L2 entry ${index} points beyond the end of the file`;
    else if (fileOffset < lowest || fileOffset % unit !== 0)
      obstacle = `L2 entry ${index} points where no cluster can be`;
    else if (!used.take({ fileOffset, length: clusterSize })) {
      obstacle = `L2 entry ${index} points at a cluster that something else uses too`;
    }
  }, options);
  if (used.overlapped) tangled();
  for (const place of shape.padding ?? []) used.take(place);
  const room = new UnitRoom(used.all, used.end, { unitBytes: unit, blockBytes: clusterSize });
  return { room, behind, obstacle };
}

/** Units of a file in use. */
class UnitSet {
  readonly all = new SparseBitSet();
  end = 0;
  /** A compressed cluster lies where something of another kind does. */
  overlapped = false;
  readonly #unit: number;

  constructor(unit: number) {
    this.#unit = unit;
  }

  /** False: a unit is in use already. */
  take({ fileOffset, length }: FilePlace): boolean {
    let isFree = true;
    const end = this.#endOf(fileOffset + length);
    for (let unit = Math.floor(fileOffset / this.#unit); unit < end; unit++) if (!this.all.add(unit)) isFree = false;
    return isFree;
  }

  /** Takes the units of a compressed cluster, which others may share. */
  share({ fileOffset, length }: FilePlace, streams: SparseBitSet): void {
    const end = this.#endOf(fileOffset + length);
    for (let unit = Math.floor(fileOffset / this.#unit); unit < end; unit++) {
      if (!this.all.add(unit) && !streams.has(unit)) this.overlapped = true;
      streams.add(unit);
    }
  }

  #endOf(fileEnd: number): number {
    const end = divCeil(fileEnd, this.#unit);
    this.end = Math.max(this.end, end);
    return end;
  }
}
