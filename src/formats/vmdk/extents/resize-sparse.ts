/**
 * Resizing a sparse extent in its file.
 *
 * Growing, each step durable before the next:
 *   1. the flag of a session;
 *   2. entries behind the old end are cleared in the first copy of the tables, then in the second, and so is the rest
 *      of the last grain: none of it is known to be zero;
 *   3. new tables, and both directories where theirs has no room for them, behind all that is in use;
 *   4. entries that hide a parent, in tables that exist;
 *   5. new entries of directories that have room: the header does not count them;
 *   6. capacity and directories switch in the one sector of the header.
 * Until 6 the old tables count. The line in the descriptor follows, so a cut before it leaves room that is not used.
 *
 * Shrinking comes after the line: entries behind the new end are cleared as in 2, then the header gets its capacity.
 * Tables that are not needed any more are room for grains, where they lie among them.
 */
import { alignDown, alignUp, divCeil, SECTOR } from '../../../binary/numbers.ts';
import { writeEntries } from '../../../blocks/table.ts';
import type { TableDirectory } from '../../../blocks/two-level-table.ts';
import { ImageError, throwIfAborted } from '../../../errors.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { Turns } from '../../../storage/turns.ts';
import { EXTENT_FILE_MAX, GTE_ABSENT, GTE_ZERO } from '../layout.ts';
import { VMDK_LIMITS } from '../limits.ts';
import { SECTOR_ENTRY } from './directory.ts';
import { type GrowHow, isGivenBack } from './extent.ts';
import { markUnclean, type SparseLayout, type SparseSize } from './header.ts';

const RESIZING = 'The resize';
const PIECE = 1024 * 1024;

/** A sparse extent before it is resized. Everything is flushed. */
export interface SparseFile {
  readonly storage: Storage;
  readonly layout: SparseLayout;
  readonly directory: TableDirectory;
  readonly copy: TableDirectory | null;
  /** Bytes of the disk that it holds. */
  readonly length: number;
  /** First byte behind all tables and grains, where a grain can begin. */
  readonly end: number;
}

/** Places of what is new. */
interface Growth {
  readonly capacity: number;
  /** Tables of the larger extent. */
  readonly tables: number;
  /** Entries that the directories have room for. */
  readonly entries: number;
  /** The first of the tables that all get a place, and those before that do. */
  readonly allFrom: number;
  readonly missing: readonly number[];
  /** The directories move. */
  readonly moves: boolean;
  /** Grains that are marked as zero, or get zeroes. */
  readonly zeroes: { readonly first: number; readonly end: number };
  readonly zeroesAt: number;
  readonly first: NewTables;
  readonly copy: NewTables | null;
  /** First byte behind the new room. */
  readonly end: number;
}

interface NewTables {
  readonly directoryAt: number;
  readonly tablesAt: number;
  readonly old: TableDirectory;
}

/** Throws `limit` for a length that the tables or the places of an extent cannot have. */
export function checkGrowth(file: SparseFile, length: number): void {
  planGrowth(file, length, { zeroUntil: 0 });
}

/** Makes an extent longer: see the head of this file. A failure leaves it as it was. */
export async function growSparse(file: SparseFile, length: number, how: GrowHow): Promise<void> {
  const growth = planGrowth(file, length, how);
  const { storage } = file;
  throwIfAborted(how.signal, RESIZING);
  const before = storage.size;
  await markUnclean(storage, file.layout.form, 1);
  await storage.flush();
  try {
    await clearBehind(file, file.length);
    await makeRoom(file, growth, how);
    throwIfAborted(how.signal, RESIZING);
  } catch (error) {
    await giveBack(file, Math.max(before, file.end), error);
    throw error;
  }
  await hideParent(file, growth);
  await enterTables(file, growth);
  const { capacity, moves, entries, first, copy } = growth;
  const directories = moves ? { first: first.directoryAt, copy: copy?.directoryAt ?? null, entries } : undefined;
  await switchHeader(file, { capacity, directories });
}

/** Gives up what lies behind a new end, which the line has already. */
export async function shrinkSparse(file: SparseFile, length: number, options: OperationOptions): Promise<void> {
  const { storage, layout } = file;
  throwIfAborted(options.signal, RESIZING);
  await markUnclean(storage, layout.form, 1);
  await storage.flush();
  await clearBehind(file, length, options);
  await switchHeader(file, { capacity: Math.min(layout.capacity, capacityFor(length, layout)) });
}

function planGrowth(file: SparseFile, length: number, { zeroUntil }: GrowHow): Growth {
  const { layout, directory, copy } = file;
  const { grainBytes, tableEntries, tableBytes, tableCount, zeroGrains, form } = layout;
  if (layout.capacity < file.length) throw tooSmall(file);
  const capacity = Math.max(capacityFor(length, layout), layout.capacity);
  const tables = divCeil(capacity, grainBytes * tableEntries);
  const first = divCeil(file.length, grainBytes);
  const zeroes = { first, end: Math.max(first, divCeil(Math.min(zeroUntil, length), grainBytes)) };
  // Where tables get their places with the extent, all new ones do.
  const allFrom = form.tablesAhead ? Math.min(tableCount, tables) : tables;
  const missing = missingTables(directory, allFrom, { from: first / tableEntries, end: zeroes.end / tableEntries });
  const added = missing.length + tables - allFrom;
  const room = alignUp(tables * 4, SECTOR);
  // The header of a hosted extent does not count entries, so they may fill the last sector.
  const moves = form.tablesAhead ? room > alignUp(tableCount * 4, SECTOR) : tables > tableCount;
  const zeroesAt = file.end;
  let end = zeroesAt + (zeroGrains ? 0 : (zeroes.end - zeroes.first) * grainBytes);
  const place = (old: TableDirectory): NewTables => {
    const directoryAt = moves ? end : old.fileOffset;
    if (moves) end += room;
    const tablesAt = end;
    end += added * tableBytes;
    return { directoryAt, tablesAt, old };
  };
  // The second copy first, as new extents have it.
  const second = copy === null ? null : place(copy);
  const own = place(directory);
  checkLimits(file, { capacity, tables, end, moves });
  const entries = room / 4;
  return { capacity, tables, entries, allFrom, missing, moves, zeroes, zeroesAt, copy: second, first: own, end };
}

/** Tables of a range that have no place yet. Others make tables when they need them. */
function missingTables(
  { places }: TableDirectory,
  count: number,
  range: { readonly from: number; readonly end: number },
): number[] {
  const missing: number[] = [];
  for (let table = Math.floor(range.from); table < Math.min(range.end, count); table++) {
    if ((places[table] ?? 0) === 0) missing.push(table);
  }
  return missing;
}

function checkLimits(
  { storage, layout }: SparseFile,
  { capacity, tables, end, moves }: Pick<Growth, 'capacity' | 'tables' | 'end' | 'moves'>,
): void {
  const { tablesAhead, sectorsMax } = layout.form;
  // Grains that the directory left its place to are counted from the header on.
  const mayMove = tablesAhead || layout.overhead % layout.grainBytes === 0;
  if ((moves && !mayMove) || capacity > sectorsMax * SECTOR) throw directoryFull(storage.label, layout);
  // A header may count sectors, and has 32 bits for that.
  if (tables <= VMDK_LIMITS.tables && end < EXTENT_FILE_MAX) return;
  throw new ImageError('limit', 'The disk size exceeds the limit for this extent', {
    path: storage.label,
    found: `${tables} grain tables, grains of ${layout.grainBytes} bytes`,
    expected: `at most ${VMDK_LIMITS.tables}, in a file of at most ${EXTENT_FILE_MAX} bytes`,
    hint: 'Convert the image to one with larger grains, or of variant split.',
  });
}

function directoryFull(path: string, { tableCount, tableEntries, grainBytes }: SparseLayout): ImageError {
  return new ImageError('limit', 'The disk size exceeds the limit for this extent', {
    path,
    field: 'grain directory',
    found: `${tableCount} tables`,
    expected: `a disk of at most ${tableCount * tableEntries * grainBytes} bytes`,
    hint: 'Convert the image into a new one.',
  });
}

/** Clears what lies behind an end: entries of both copies, one after the other, and the rest of the last grain. */
async function clearBehind(file: SparseFile, from: number, { signal }: OperationOptions = {}): Promise<void> {
  await clearTail(file, from);
  for (const directory of [file.directory, file.copy]) {
    if (directory === null) continue;
    await clearEntries(file, directory, from, signal);
    await file.storage.flush();
  }
}

async function clearEntries(
  { storage, layout }: SparseFile,
  { places }: TableDirectory,
  from: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { grainBytes, tableEntries, tableBytes, tableCount } = layout;
  const first = divCeil(from, grainBytes);
  const turns = new Turns(signal, RESIZING);
  const table = new Uint8Array(tableBytes);
  for (let index = Math.floor(first / tableEntries); index < tableCount; index++) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    const place = places[index] ?? 0;
    if (place <= 0) continue;
    await readPadded(storage, place, table);
    const start = Math.max(first - index * tableEntries, 0) * 4;
    if (table.subarray(start).every((byte) => byte === 0)) continue;
    table.fill(0, start);
    const sector = alignDown(start, SECTOR);
    await storage.write(place + sector, table.slice(sector));
  }
}

async function clearTail({ storage, layout, directory }: SparseFile, end: number): Promise<void> {
  const { grainBytes, tableEntries, zeroGrains, overhead } = layout;
  const inside = end % grainBytes;
  if (inside === 0) return;
  const grain = Math.floor(end / grainBytes);
  const table = directory.places[Math.floor(grain / tableEntries)] ?? 0;
  if (table <= 0) return;
  const bytes = new Uint8Array(4);
  await readPadded(storage, table + (grain % tableEntries) * 4, bytes);
  const entry = new DataView(bytes.buffer).getUint32(0, true);
  if (entry === GTE_ABSENT || (zeroGrains && entry === GTE_ZERO) || entry * SECTOR < overhead) return;
  const [start, stop] = [entry * SECTOR + inside, entry * SECTOR + grainBytes];
  const length = Math.min(stop, storage.size) - start;
  if (length > 0) await storage.zero(start, length, { punch: false });
  // A last grain that the file held only as far as the disk went becomes whole.
  if (storage.size < stop) await storage.resize(stop);
}

/** New tables and directories in room that reads zero, and grains of zeroes. */
async function makeRoom(file: SparseFile, growth: Growth, { signal }: OperationOptions): Promise<void> {
  const { storage, end } = file;
  if (growth.end === end) return;
  const stale = Math.min(storage.size, growth.end) - end;
  if (stale > 0) await storage.zero(end, stale, { punch: true });
  if (storage.can.growsZeroed) {
    if (storage.size < growth.end) await storage.resize(growth.end);
  } else {
    await writeZeroes(storage, Math.max(storage.size, end), growth.end, signal);
  }
  for (const tables of [growth.copy, growth.first]) {
    if (tables === null) continue;
    await writeTables(file, growth, tables, signal);
    if (growth.moves) await writeDirectory(file, growth, tables, { start: 0, signal });
  }
  // Other programs put grains behind what the header counts.
  const { used } = file.layout;
  if (used !== null) await storage.write(0, used.sectorWith(growth.end));
  await storage.flush();
}

/** Writes zeroes to a range of a file. */
export async function writeZeroes(storage: Storage, start: number, end: number, signal?: AbortSignal): Promise<void> {
  const zeroes = new Uint8Array(Math.min(Math.max(end - start, 0), PIECE));
  for (let at = start; at < end; at += zeroes.length) {
    throwIfAborted(signal, RESIZING);
    await storage.write(at, zeroes.subarray(0, Math.min(zeroes.length, end - at)));
  }
}

/** Entries of new tables that are not zero. */
async function writeTables(
  { storage, layout }: SparseFile,
  growth: Growth,
  { tablesAt }: NewTables,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { tableEntries, tableBytes } = layout;
  const ordinal = ordinals(growth);
  await forEachTable(growth, tableEntries, async (index, range) => {
    const n = ordinal(index);
    if (n === null) return;
    const place = { storage, fileOffset: tablesAt + n * tableBytes, form: SECTOR_ENTRY };
    const base = index * tableEntries;
    await writeEntries(place, { ...range, signal }, (entry) => zeroEntry(layout, growth, base + entry));
  });
}

/** Calls `write` for each table with grains that must read zero, and the range of their entries in it. */
async function forEachTable(
  { zeroes, tables }: Growth,
  tableEntries: number,
  write: (index: number, range: { readonly start: number; readonly end: number }) => Promise<void>,
): Promise<void> {
  const { first, end } = zeroes;
  if (first >= end) return;
  for (let index = Math.floor(first / tableEntries); index < Math.min(end / tableEntries, tables); index++) {
    const base = index * tableEntries;
    await write(index, { start: Math.max(first - base, 0), end: Math.min(end - base, tableEntries) });
  }
}

/** Numbers of the tables that get a place, in the order of their places; null for others. */
function ordinals({ missing, allFrom }: Growth): (table: number) => number | null {
  const filled = new Map(missing.map((table, n) => [table, n] as const));
  return (table) => (table >= allFrom ? missing.length + table - allFrom : (filled.get(table) ?? null));
}

/** Entry of a grain that reads zero, as a byte offset. */
function zeroEntry({ zeroGrains, grainBytes }: SparseLayout, { zeroes, zeroesAt }: Growth, grain: number): number {
  return zeroGrains ? GTE_ZERO * SECTOR : zeroesAt + (grain - zeroes.first) * grainBytes;
}

/** Entries of tables that exist, so that no parent shows through in what is new. */
async function hideParent({ storage, layout, directory, copy }: SparseFile, growth: Growth): Promise<void> {
  const { tableEntries } = layout;
  const isOld = growth.zeroes.first < Math.min(growth.zeroes.end, layout.tableCount * tableEntries);
  for (const { places } of [directory, ...(copy === null ? [] : [copy])]) {
    if (!isOld) return;
    await forEachTable(growth, tableEntries, async (index, range) => {
      const fileOffset = places[index] ?? 0;
      if (fileOffset <= 0) return;
      const base = index * tableEntries;
      await writeEntries({ storage, fileOffset, form: SECTOR_ENTRY }, range, (entry) =>
        zeroEntry(layout, growth, base + entry),
      );
    });
    await storage.flush();
  }
}

/** New entries of directories that stay where they are. */
async function enterTables({ storage, layout }: SparseFile, growth: Growth): Promise<void> {
  const start = growth.missing[0] ?? growth.allFrom;
  if (growth.moves || start >= growth.tables) return;
  for (const tables of [growth.first, growth.copy]) {
    if (tables === null) continue;
    await writeDirectory({ storage, layout }, growth, tables, { start });
    await storage.flush();
  }
}

async function writeDirectory(
  { storage, layout }: Pick<SparseFile, 'storage' | 'layout'>,
  growth: Growth,
  { directoryAt, tablesAt, old }: NewTables,
  range: OperationOptions & { readonly start: number },
): Promise<void> {
  const ordinal = ordinals(growth);
  const place = { storage, fileOffset: directoryAt, form: SECTOR_ENTRY };
  await writeEntries(place, { ...range, end: growth.tables }, (table) => {
    const n = ordinal(table);
    return n === null ? Math.max(old.places[table] ?? 0, 0) : tablesAt + n * layout.tableBytes;
  });
}

/** The capacity that the header of an extent has: hosted ones count whole grains. */
function capacityFor(length: number, { form, grainBytes }: SparseLayout): number {
  return form.type === 'SPARSE' ? alignUp(length, grainBytes) : length;
}

/** Stores the size, durably; then the session ends. */
async function switchHeader({ storage, layout: { form } }: SparseFile, size: SparseSize): Promise<void> {
  const header = new Uint8Array(form.size);
  await readPadded(storage, 0, header);
  form.putSize(header, size);
  await storage.write(0, header.slice(0, SECTOR));
  await storage.flush();
  await markUnclean(storage, form, 0);
  await storage.flush();
}

/** A cancelled growth, or one that filled the medium, leaves the extent as it was. */
async function giveBack({ storage, layout }: SparseFile, end: number, error: unknown): Promise<void> {
  if (!isGivenBack(error)) return;
  try {
    if (storage.size > end) await storage.resize(end);
    await markUnclean(storage, layout.form, 0);
    await storage.flush();
  } catch {
    // Then the file stays longer than it needs to be; why the resize ended matters more.
  }
}

/** Entries behind the capacity read as empty: growing would show the grains that they name. */
function tooSmall({ storage, layout, length }: SparseFile): ImageError {
  return new ImageError('unsupported', 'The extent has room for less than its part of the disk: it cannot grow', {
    path: storage.label,
    field: 'capacity',
    found: layout.capacity,
    expected: `at least ${length}`,
    hint: 'Convert the image into a new one.',
  });
}
