/**
 * seSparse extents of ESX (`*-sesparse.vmdk`): sparse extents whose entries have 64 bits. They are only read. VMware does
 * not document them; a writer would have to keep a journal, a bitmap of free grains and a map from grains back to the
 * disk, none of which is known.
 *
 * A directory entry names a grain table by its number; a table entry has a type, and for stored grains their number, whose
 * low 12 bits stand above the others.
 */
import { divCeil, SECTOR } from '../../../binary/numbers.ts';
import { BlockReader } from '../../../blocks/block-reader.ts';
import { ChangeGuard } from '../../../blocks/guarded.ts';
import type { PageCache } from '../../../blocks/metadata-pages.ts';
import type { EntryForm } from '../../../blocks/table.ts';
import { BROKEN_TABLE, type TableDirectory, TwoLevelTable } from '../../../blocks/two-level-table.ts';
import { ImageError, withContext } from '../../../errors.ts';
import type { Mapping, MetadataExtent } from '../../../image/contract.ts';
import { LIMITS } from '../../../limits.ts';
import type { MaybePromise, OpenMode, OperationOptions, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import {
  SESPARSE,
  SESPARSE_GRAIN_SECTORS,
  SESPARSE_HEADER,
  SESPARSE_TABLE_SECTORS,
  SESPARSE_VERSION,
  SESPARSE_VOLATILE,
  SESPARSE_VOLATILE_HEADER,
} from '../layout.ts';
import { VMDK_LIMITS } from '../limits.ts';
import { readDirectory } from './directory.ts';
import { Extent } from './extent.ts';
import { fault } from './header.ts';

export const GRAIN_BYTES = SESPARSE_GRAIN_SECTORS * SECTOR;
export const TABLE_BYTES = SESPARSE_TABLE_SECTORS * SECTOR;
const ENTRY_BYTES = 8;
export const TABLE_ENTRIES = TABLE_BYTES / ENTRY_BYTES;
/** Guest bytes of a grain table. */
const COVER = TABLE_ENTRIES * GRAIN_BYTES;
/** The upper half of a directory entry that names a table. */
const TABLE_MARK = 0x1000_0000;

/** Entries of grain tables as numbers: file offsets of grains, and these. */
export const ENTRY = { absent: 0, zero: 1, wrong: -1, outside: -2 } as const;

/** A part of the file, in bytes. */
export interface Area {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

/** Checked content of the header. */
export interface SeSparseLayout {
  /** Bytes of the extent; its line in the descriptor may claim fewer. */
  readonly capacity: number;
  readonly tableCount: number;
  readonly directory: Area;
  readonly tables: Area;
  readonly grains: Area;
  /** All areas that the header names, and the header itself. */
  readonly areas: readonly Area[];
  /** Its journal holds changes. Null: it does not. */
  readonly openJournal: ImageError | null;
}

/** Reads and checks both headers. Throws `invalid-format`, `unsupported`, `corrupt`, `limit`. */
export async function readSeSparse(storage: Storage): Promise<SeSparseLayout> {
  try {
    const sector = new Uint8Array(SESPARSE_HEADER.size);
    await readPadded(storage, 0, sector);
    const layout = checkHeader(sector, storage.size);
    const { start } = layout.areas.find(({ name }) => name === VOLATILE) ?? { start: 0 };
    await readPadded(storage, start, sector);
    return { ...layout, openJournal: openJournal(sector) };
  } catch (error) {
    throw withContext(error, { path: storage.label });
  }
}

const VOLATILE = 'volatile header';

function checkHeader(sector: Uint8Array, fileSize: number): Omit<SeSparseLayout, 'openJournal'> {
  const header = SESPARSE_HEADER.decode(sector);
  if (header.magic !== BigInt(SESPARSE)) {
    const found = `0x${header.magic.toString(16)}`;
    throw fault('invalid-format', 'This is not a seSparse extent', 'magic', found, `0x${SESPARSE.toString(16)}`);
  }
  checkConstants(header);
  const capacity = bytesOf('capacity', header.capacity);
  const tableCount = divCeil(capacity, COVER);
  if (tableCount > VMDK_LIMITS.tables) {
    const expected = `at most ${VMDK_LIMITS.tables} tables`;
    throw fault('limit', 'The extent has too many grain tables', 'capacity', header.capacity, expected);
  }
  const areas = areasOf(header);
  const [directory, tables, grains] = [areaOf(areas, 'directory'), areaOf(areas, 'tables'), areaOf(areas, 'grains')];
  checkInside(areaOf(areas, VOLATILE), SESPARSE_VOLATILE_HEADER.size, fileSize);
  checkInside(directory, tableCount * ENTRY_BYTES, fileSize);
  return { capacity, tableCount, directory, tables, grains, areas };
}

/** Facts that are the same in every known file: with others the rest may mean something else. */
function checkConstants(header: ReturnType<typeof SESPARSE_HEADER.decode>): void {
  const { version, flags, grainSize, tableSize, reserved1, reserved2, reserved3, reserved4, rest } = header;
  const same = (field: string, found: bigint | number, expected: bigint | number): void => {
    if (found === expected) return;
    const message = 'The layout of the seSparse extent is not known';
    throw fault('unsupported', message, field, found.toString(), expected.toString());
  };
  same('version', version, SESPARSE_VERSION);
  same('flags', flags, 0n);
  same('grainSize', grainSize, SESPARSE_GRAIN_SECTORS);
  same('grainTableSize', tableSize, SESPARSE_TABLE_SECTORS);
  for (const reserved of [reserved1, reserved2, reserved3, reserved4]) same('reserved fields', reserved, 0n);
  same('padding', rest.find((byte) => byte !== 0) ?? 0, 0);
}

function areasOf(header: ReturnType<typeof SESPARSE_HEADER.decode>): readonly Area[] {
  const area = (name: string, offset: number, size: number): Area => {
    const start = bytesOf(name, offset);
    return { name, start, end: start + bytesOf(name, size) };
  };
  return [
    { name: 'header', start: 0, end: SESPARSE_HEADER.size },
    area(VOLATILE, header.volatileOffset, header.volatileSize),
    area('journal header', header.journalHeaderOffset, header.journalHeaderSize),
    area('journal', header.journalOffset, header.journalSize),
    area('directory', header.directoryOffset, header.directorySize),
    area('tables', header.tablesOffset, header.tablesSize),
    area('free bitmap', header.freeBitmapOffset, header.freeBitmapSize),
    area('backmap', header.backmapOffset, header.backmapSize),
    area('grains', header.grainsOffset, header.grainsSize),
  ];
}

function areaOf(areas: readonly Area[], name: string): Area {
  const found = areas.find((area) => area.name === name);
  if (found === undefined) throw new Error(`internal: there is no area ${name}`);
  return found;
}

/** An area that is read must lie behind the header, be as long as what is read of it, and lie in the file. */
function checkInside({ name, start, end }: Area, needed: number, fileSize: number): void {
  if (start >= SESPARSE_HEADER.size && end - start >= needed && start + needed <= fileSize) return;
  const expected = `${needed} bytes behind the header and inside the file`;
  throw fault(
    'corrupt',
    `The ${name} of the extent cannot be where its header says`,
    name,
    `${start} to ${end}`,
    expected,
  );
}

/** Changes in the journal are newer than the tables, and their form is not known. Throws `corrupt`. */
function openJournal(sector: Uint8Array): ImageError | null {
  const { magic, replayJournal } = SESPARSE_VOLATILE_HEADER.decode(sector);
  if (magic !== BigInt(SESPARSE_VOLATILE)) {
    const found = `0x${magic.toString(16)}`;
    const expected = `0x${SESPARSE_VOLATILE.toString(16)}`;
    throw fault('corrupt', 'The volatile header of the seSparse extent is damaged', 'magic', found, expected);
  }
  if (replayJournal === 0n) return null;
  return new ImageError(
    'unsupported',
    'The journal of the seSparse extent holds changes that its tables do not have yet',
    {
      field: 'replayJournal',
      found: replayJournal.toString(),
      expected: '0',
      hint: 'Let ESX open and close the disk, or clone it there (vmkfstools -i).',
    },
  );
}

function bytesOf(field: string, sectors: number): number {
  if (sectors <= LIMITS.virtualSize / SECTOR) return sectors * SECTOR;
  const expected = `at most ${Math.floor(LIMITS.virtualSize / SECTOR)} sectors`;
  throw fault('limit', 'A place or a size lies beyond what can be addressed', field, sectors, expected);
}

/** Directory entries, as file offsets of tables. Those that name none that can be are broken. */
export function directoryForm({ tables }: Pick<SeSparseLayout, 'tables'>): EntryForm {
  return {
    bytes: ENTRY_BYTES,
    get: (view, at) => {
      const [low, high] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
      if (low === 0 && high === 0) return 0;
      const place = tables.start + low * TABLE_BYTES;
      return high === TABLE_MARK && place + TABLE_BYTES <= tables.end ? place : BROKEN_TABLE;
    },
    put: readOnly,
  };
}

/** Entries of grain tables, as file offsets of grains or one of `ENTRY`. */
export function entryForm({ grains }: Pick<SeSparseLayout, 'grains'>): EntryForm {
  return {
    bytes: ENTRY_BYTES,
    get: (view, at) => {
      const [low, high] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
      const type = high >>> 28;
      if (type === 0) return low === 0 && high === 0 ? ENTRY.absent : ENTRY.wrong;
      // Unmapped and zero: both hide what a parent holds.
      if (type === 1 || type === 2) return ENTRY.zero;
      if (type !== 3) return ENTRY.wrong;
      const grain = ((high >>> 16) & 0xfff) + ((high & 0xffff) * 2 ** 32 + low) * 4096;
      const place = grains.start + grain * GRAIN_BYTES;
      return place + GRAIN_BYTES <= grains.end ? place : ENTRY.outside;
    },
    put: readOnly,
  };
}

function readOnly(): never {
  throw new Error('internal: seSparse extents are only read');
}

/** Reads the directory of tables. */
export async function readTables(
  storage: Storage,
  layout: SeSparseLayout,
  options?: OperationOptions,
): Promise<TableDirectory> {
  const place = { storage, fileOffset: layout.directory.start, count: layout.tableCount, tableBytes: TABLE_BYTES };
  return readDirectory({ ...place, lowest: SESPARSE_HEADER.size, form: directoryForm(layout) }, options);
}

/** Options for opening such an extent. */
export interface SeSparseOpen extends OperationOptions {
  readonly mode: OpenMode;
  /** Bytes of the disk that its line gives it. */
  readonly length: number;
  readonly cache?: PageCache | undefined;
}

/** Opens an extent, for reading whatever the mode. */
export async function openSeSparse(storage: Storage, how: SeSparseOpen): Promise<SeSparseExtent> {
  const layout = await readSeSparse(storage);
  if (layout.openJournal !== null) throw withContext(layout.openJournal, { path: storage.label });
  return new SeSparseExtent(storage, layout, await readTables(storage, layout, how), how);
}

const PROBLEMS: Readonly<Record<number, string>> = {
  [ENTRY.wrong]: 'The entry of a grain has no known type',
  [ENTRY.outside]: 'A grain is said to lie outside the area for grains',
};

/** See the head of this file. */
export class SeSparseExtent extends Extent {
  readonly storage: Storage;
  readonly layout: SeSparseLayout;
  readonly #directory: TableDirectory;
  readonly #map: BlockReader;
  readonly #mode: OpenMode;

  constructor(storage: Storage, layout: SeSparseLayout, directory: TableDirectory, how: SeSparseOpen) {
    super(how.length);
    this.storage = storage;
    this.layout = layout;
    this.#directory = directory;
    this.#mode = how.mode;
    const { tableCount, grains, directory: place } = layout;
    const count = Math.max(tableCount, 1) * TABLE_ENTRIES;
    const form = entryForm(layout);
    this.#map = new BlockReader({
      storage,
      table: new TwoLevelTable({ storage, directory, form, tableBytes: TABLE_BYTES, count, cache: how.cache }),
      entries: {
        kindOf: (entry) => (entry === ENTRY.absent ? 'absent' : entry === ENTRY.zero ? 'zero' : 'data'),
        slotOffset: (entry) => entry,
        entryAt: (fileOffset) => fileOffset,
        problem: (entry) => PROBLEMS[entry] ?? null,
        zero: ENTRY.zero,
        absent: ENTRY.absent,
      },
      layout: {
        virtualSize: Math.min(how.length, count * GRAIN_BYTES),
        blockSize: GRAIN_BYTES,
        dataOffset: grains.start,
        leadBytes: 0,
        shortLast: true,
      },
      allocator: null,
      guard: new ChangeGuard(storage.label),
      tableOffset: place.start,
    });
  }

  override get unit(): number {
    return GRAIN_BYTES;
  }

  override get obstacle(): string | null {
    return this.#mode === 'write' ? 'seSparse extents of ESX are only read' : null;
  }

  override get warnings(): readonly string[] {
    if (this.layout.capacity >= this.length) return [];
    return [`${this.storage.label} has room for less than its extent; the rest is empty.`];
  }

  map(offset: number, length: number): MaybePromise<Mapping> {
    const { capacity } = this.layout;
    if (offset >= capacity) return { kind: 'absent', length };
    return this.#map.map(offset, Math.min(length, capacity - offset));
  }

  override async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this;
    const { areas, tables, grains } = this.layout;
    for (const area of areas) {
      const length = Math.min(area.end, storage.size) - area.start;
      if (area === tables || area === grains || length <= 0) continue;
      yield { storage, fileOffset: area.start, length, what: area.name, guestOffset: null };
    }
    for (const fileOffset of this.#directory.places) {
      if (fileOffset > 0) yield { storage, fileOffset, length: TABLE_BYTES, what: 'grain table', guestOffset: null };
    }
  }
}
