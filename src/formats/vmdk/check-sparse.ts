/**
 * Check and repair of a sparse extent without compression.
 *
 * The first copy of directory and tables wins wherever it can be right: the second may name a grain that was discarded.
 * An entry that leads nowhere is taken from the second copy, if that is sound there. A repair writes in this order, each
 * step durable before the next, so that it can be interrupted and repeated:
 *   1. the file is made long enough; tables whose directory entry leads nowhere are written to a new place, and grains
 *      that cannot be read become zeroes where a parent would show through;
 *   2. the first copy of tables and directory;
 *   3. the second copy;
 *   4. the flag of an unclean end is cleared.
 */
import { SparseBitSet } from '../../binary/bits.ts';
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import { writeEntries } from '../../blocks/table.ts';
import { BROKEN_TABLE, type TableDirectory } from '../../blocks/two-level-table.ts';
import { equalBytes } from '../../codec/bytes.ts';
import { ImageError } from '../../errors.ts';
import type { FindingList } from '../../image/finding-list.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { Turns } from '../../storage/turns.ts';
import { readDirectory, SECTOR_ENTRY, standApart } from './extents/directory.ts';
import { markUnclean, type SparseLayout } from './extents/header.ts';
import { EXTENT_FILE_MAX, GTE_ABSENT, GTE_ZERO } from './layout.ts';

/** Code of structures that lie over each other: what writes one of them destroys the other, so nothing is repaired. */
export const OVERLAP = 'overlapping-metadata';

/** An extent to check. */
export interface CheckedExtent {
  readonly storage: Storage;
  readonly layout: SparseLayout;
  /** Bytes that its line gives it, and its place in the disk. */
  readonly length: number;
  readonly start: number;
  /** A parent shows through where nothing is stored. */
  readonly differencing: boolean;
}

/** State of one check. */
interface Survey {
  readonly extent: CheckedExtent;
  readonly findings: FindingList;
  readonly first: TableDirectory;
  readonly copy: TableDirectory | null;
  /** Slots of grains that an entry names. */
  readonly owners: SparseBitSet;
  /** Slots in which grain tables and directories lie. */
  readonly tables: SparseBitSet;
  /** Number of slots that either of them has. */
  taken: number;
  /** File offset where the last sound grain or table ends. */
  end: number;
  /** Null: nothing is changed. */
  readonly changes: Changes | null;
}

/** Writes of a repair. */
interface Changes {
  readonly publish: Map<number, Uint8Array>;
  readonly copies: Map<number, Uint8Array>;
  readonly directory: Map<number, number>;
  readonly copyDirectory: Map<number, number>;
  /** Grains that are copied to another place. */
  readonly moves: { readonly from: number; readonly to: number }[];
  /** The file becomes at least as long. */
  longer: boolean;
  /** First byte of new room. */
  end: number;
}

/** Checks an extent and, with `repair`, mends what can be mended. */
export async function checkSparse(
  extent: CheckedExtent,
  findings: FindingList,
  { repair = false, ...options }: OperationOptions & { readonly repair?: boolean },
): Promise<void> {
  const { storage, layout } = extent;
  const place = { storage, count: layout.tableCount, tableBytes: layout.tableBytes, lowest: layout.form.size };
  const first = await readDirectory({ ...place, fileOffset: layout.directoryOffset }, options);
  const { redundantOffset } = layout;
  const copy =
    redundantOffset === null ? null : await readDirectory({ ...place, fileOffset: redundantOffset }, options);
  const end = alignedEnd(extent);
  const changes: Changes | null = repair
    ? {
        publish: new Map(),
        copies: new Map(),
        directory: new Map(),
        copyDirectory: new Map(),
        moves: [],
        longer: false,
        end,
      }
    : null;
  const survey: Survey = {
    extent,
    findings,
    first,
    copy,
    owners: new SparseBitSet(),
    tables: new SparseBitSet(),
    taken: 0,
    end: layout.overhead,
    changes,
  };
  checkPlaces(survey);
  const turns = new Turns(options.signal, 'The check');
  for (let index = 0; index < layout.tableCount; index++) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    await checkTable(survey, index);
  }
  checkExtent(survey);
  checkRoom(survey);
  if (changes !== null) await write(survey, changes);
}

/** Structures that lie over each other, and the room that all tables take among the grains. */
function checkPlaces(survey: Survey): void {
  const { extent, first, copy, tables, findings } = survey;
  const { storage, layout } = extent;
  const { overhead, grainBytes, tableBytes, tableCount } = layout;
  const directories = copy === null ? [first] : [first, copy];
  if (!standApart(layout, directories)) {
    const message = `Grain tables, directories or the descriptor of ${storage.label} lie over each other.`;
    findings.add('corruption', OVERLAP, message, { repairable: false });
  }
  const occupy = (place: number, length: number): void => {
    survey.end = Math.max(survey.end, place + length);
    const start = Math.max(0, Math.floor((place - overhead) / grainBytes));
    for (let slot = start; overhead + slot * grainBytes < place + length; slot++) if (tables.add(slot)) survey.taken++;
  };
  for (const { fileOffset, places } of directories) {
    if (fileOffset > 0) occupy(fileOffset, tableCount * 4);
    for (const place of places) {
      if (place <= 0) continue;
      occupy(place, tableBytes);
    }
  }
}

/** Facts of the extent as a whole. */
function checkExtent({ extent, findings, end }: Survey): void {
  const { storage, layout, length } = extent;
  const { label } = storage;
  if (layout.unclean) {
    findings.add('warning', 'unclean', `${label} was not closed after it was written.`, {
      fileOffset: layout.form.uncleanOffset,
    });
  }
  if (layout.used !== null && layout.used.end < end) {
    const message = `${label} counts ${layout.used.end} bytes as used, but ${end} are: others would overwrite the rest.`;
    findings.add('corruption', 'used-too-low', message, { fileOffset: layout.used.fieldOffset });
  }
  if (layout.capacity >= length) return;
  findings.add('corruption', 'extent-too-small', `${label} has room for ${layout.capacity} of ${length} bytes.`, {
    repairable: false,
  });
}

/** Room that nothing uses. What a damaged entry owns is not known. */
function checkRoom({ extent, findings, taken, end }: Survey): void {
  if (findings.list.some(({ severity }) => severity === 'corruption')) return;
  const { storage, layout } = extent;
  const { overhead, grainBytes } = layout;
  const slots = Math.ceil((end - overhead) / grainBytes);
  const where = { repairable: false };
  if (slots > taken) {
    const message = `${slots - taken} of ${slots} grains of ${storage.label} are in no table; the command compact frees them.`;
    findings.add('leak', 'unused-grains', message, where);
  }
  const rest = storage.size - (overhead + slots * grainBytes);
  if (rest < grainBytes) return;
  const message = `The last ${rest} bytes of ${storage.label} are in no table; the command compact cuts them off.`;
  findings.add('leak', 'file-too-long', message, { ...where, fileOffset: storage.size - rest });
}

async function checkTable(survey: Survey, index: number): Promise<void> {
  const { extent, first, copy, findings, changes } = survey;
  const { storage, layout } = extent;
  const at = first.places[index] ?? 0;
  const other = copy === null ? null : (copy.places[index] ?? 0);
  const where = { fileOffset: first.fileOffset + index * 4 };
  if (at === BROKEN_TABLE && (other === null || other <= 0)) {
    findings.add('corruption', 'table-lost', `Grain table ${index} of ${storage.label} lies nowhere in the file.`, {
      ...where,
      repairable: false,
    });
    return;
  }
  if (at === BROKEN_TABLE || other === BROKEN_TABLE) {
    const which = at === BROKEN_TABLE ? 'first' : 'second';
    const message = `The ${which} directory of ${storage.label} does not lead to grain table ${index}; the other does.`;
    findings.add('corruption', 'broken-directory', message, where);
  } else if (other !== null && (at === 0) !== (other === 0)) {
    const message = `The directories of ${storage.label} differ about grain table ${index}.`;
    // A cut leaves the second one behind.
    findings.add(layout.unclean && at > 0 ? 'warning' : 'corruption', 'directories-differ', message, where);
  }
  const from = at > 0 ? at : at === 0 ? 0 : (other ?? 0);
  if (from === 0) {
    if (other !== null && other !== 0) changes?.copyDirectory.set(index, 0);
    return;
  }
  const table = new Uint8Array(layout.tableBytes);
  await readPadded(storage, from, table);
  const second = at > 0 && other !== null && other > 0 ? new Uint8Array(layout.tableBytes) : null;
  if (second !== null) await readPadded(storage, other ?? 0, second);
  const differ = second !== null && !equalBytes(second, table);
  const changed = checkEntries(survey, { index, table, second, fileOffset: from });
  if (differ) {
    const severity = layout.unclean ? 'warning' : 'corruption';
    const message = `The copies of grain table ${index} of ${storage.label} differ; the first one counts.`;
    findings.add(severity, 'copies-differ', message, { fileOffset: from });
  }
  if (changes !== null) planTable(survey, changes, { index, table, changed: changed || differ, at, other });
}

/** A table as it is to be. */
interface PlannedTable {
  readonly index: number;
  readonly table: Uint8Array;
  readonly changed: boolean;
  readonly at: number;
  readonly other: number | null;
}

function planTable({ extent }: Survey, changes: Changes, { index, table, changed, at, other }: PlannedTable): void {
  const { tableBytes, grainBytes } = extent.layout;
  const room = (): number => {
    const place = changes.end;
    changes.end += alignUp(tableBytes, grainBytes);
    return place;
  };
  if (at > 0 && changed) changes.publish.set(at, table);
  if (at === BROKEN_TABLE) {
    const place = room();
    changes.publish.set(place, table);
    changes.directory.set(index, place);
  }
  if (other === null) return;
  if (other > 0 && (changed || at === BROKEN_TABLE)) changes.copies.set(other, table);
  if (other > 0) return;
  const place = room();
  changes.copies.set(place, table);
  changes.copyDirectory.set(index, place);
}

/** Checks the entries of a table and, for a repair, changes those that cannot stay. True: some were changed. */
function checkEntries(survey: Survey, { index: tableIndex, table, second, fileOffset }: TableContent): boolean {
  const { extent, findings, changes } = survey;
  const { layout, storage } = extent;
  const view = new DataView(table.buffer);
  const other = second === null ? null : new DataView(second.buffer);
  let changed = false;
  for (let n = 0; n < layout.tableEntries; n++) {
    const grain = tableIndex * layout.tableEntries + n;
    const offset = grain * layout.grainBytes;
    if (offset >= layout.capacity) break;
    const problem = claim(survey, view.getUint32(n * 4, true), offset);
    if (problem === null) continue;
    const [code, what] = problem;
    const saved = other === null ? 0 : other.getUint32(n * 4, true);
    const sound = saved !== 0 && saved !== view.getUint32(n * 4, true) && claim(survey, saved, offset) === null;
    const repairable = code !== 'misaligned-grain';
    const guestOffset = offset < extent.length ? extent.start + offset : null;
    const saving = sound ? ' The second copy has its place.' : '';
    findings.add('corruption', code, `Grain ${grain} of ${storage.label} ${what}.${saving}`, {
      fileOffset: fileOffset + n * 4,
      guestOffset,
      repairable,
    });
    if (changes === null || !repairable) continue;
    if (code === 'grain-cut-off' && !sound) {
      changes.longer = true;
      continue;
    }
    view.setUint32(n * 4, sound ? saved : instead(survey, changes, code, view.getUint32(n * 4, true)), true);
    changed = true;
  }
  return changed;
}

interface TableContent {
  readonly index: number;
  readonly table: Uint8Array;
  readonly second: Uint8Array | null;
  readonly fileOffset: number;
}

/** Takes the place that an entry names for its grain; otherwise a code and what is wrong. */
function claim(survey: Survey, entry: number, offset: number): readonly [string, string] | null {
  const { extent, owners, tables } = survey;
  const { layout, storage, length } = extent;
  const { overhead, grainBytes, zeroGrains } = layout;
  if (entry === GTE_ABSENT || (zeroGrains && entry === GTE_ZERO)) return null;
  const place = entry * SECTOR;
  if (place < overhead) return ['grain-in-metadata', 'is said to lie among the metadata'];
  if (place >= storage.size) return ['grain-beyond-file', 'is said to lie beyond the end of the file'];
  if ((place - overhead) % grainBytes !== 0)
    return ['misaligned-grain', 'does not lie at a multiple of the grain size'];
  const visible = Math.min(grainBytes, Math.max(length - offset, 0));
  const slot = (place - overhead) / grainBytes;
  if (tables.has(slot)) return ['grain-in-metadata', 'is said to lie where a grain table does'];
  if (!owners.add(slot)) return ['shared-grain', 'lies where another one does'];
  survey.taken++;
  survey.end = Math.max(survey.end, place + grainBytes);
  // The other programs pad it too, but what was there is gone.
  return place + visible > storage.size ? ['grain-cut-off', 'is cut off by the end of the file'] : null;
}

/**
 * New entry of a grain: a copy where two share a place, since either may be right. One whose content is lost reads as
 * zero, and no parent shows through.
 */
function instead({ extent }: Survey, changes: Changes, code: string, entry: number): number {
  const { layout, differencing } = extent;
  if (code === 'shared-grain') {
    const to = changes.end;
    changes.end += layout.grainBytes;
    changes.moves.push({ from: entry * SECTOR, to });
    return to / SECTOR;
  }
  if (!differencing) return GTE_ABSENT;
  if (layout.zeroGrains) return GTE_ZERO;
  const place = changes.end;
  changes.end += layout.grainBytes;
  return place / SECTOR;
}

async function write({ extent, first, copy, end: usedEnd }: Survey, changes: Changes): Promise<void> {
  const { storage, layout } = extent;
  const { publish, copies, directory, copyDirectory, moves, end } = changes;
  if (end > Math.max(EXTENT_FILE_MAX, alignedEnd(extent))) throw noRoom(storage.label);
  await raiseCount(extent, end > alignedEnd(extent) ? end : usedEnd);
  if (changes.longer || publish.size + copies.size + directory.size + copyDirectory.size > 0) {
    if (end > storage.size) await storage.resize(end);
    for (const { from, to } of moves) {
      const grain = new Uint8Array(layout.grainBytes);
      await readPadded(storage, from, grain);
      await storage.write(to, grain);
    }
    const added = new Set([...directory.values(), ...copyDirectory.values()]);
    for (const [place, table] of [...publish, ...copies]) if (added.has(place)) await storage.write(place, table);
    await storage.flush();
    for (const [place, table] of publish) if (!added.has(place)) await storage.write(place, table);
    await writeDirectory(storage, first, directory);
    await storage.flush();
    for (const [place, table] of copies) if (!added.has(place)) await storage.write(place, table);
    if (copy !== null) await writeDirectory(storage, copy, copyDirectory);
    await storage.flush();
  }
  if (!layout.unclean) return;
  await markUnclean(storage, layout.form, 0);
  await storage.flush();
}

function noRoom(path: string): ImageError {
  return new ImageError('no-space', 'The extent has no room for what a repair would add', {
    path,
    expected: `a file of at most ${EXTENT_FILE_MAX} bytes`,
    hint: 'Convert the image into one of another variant or format.',
  });
}

/** Makes the header count all that is in use, or will be: durable before an entry names it. */
async function raiseCount({ storage, layout: { used } }: CheckedExtent, end: number): Promise<void> {
  if (used === null || used.end >= end) return;
  await storage.write(0, used.sectorWith(end));
  await storage.flush();
}

/** End of the file, at a multiple of the grain size behind the metadata. */
function alignedEnd({ storage, layout: { overhead, grainBytes } }: CheckedExtent): number {
  return alignUp(Math.max(storage.size, overhead) - overhead, grainBytes) + overhead;
}

async function writeDirectory(
  storage: Storage,
  { fileOffset }: TableDirectory,
  places: ReadonlyMap<number, number>,
): Promise<void> {
  for (const [index, place] of places) {
    await writeEntries({ storage, fileOffset, form: SECTOR_ENTRY }, { start: index, end: index + 1 }, () => place);
  }
}
