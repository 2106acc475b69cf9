/**
 * The grain directories of a sparse extent in memory: places of the grain tables, each checked against the file.
 *
 * Both copies are read where there are two. An entry of the first that leads nowhere is replaced by that of the second:
 * the first one wins wherever it can be right, since the other may name a grain that was discarded.
 */
import { SECTOR } from '../../../binary/numbers.ts';
import type { EntryForm } from '../../../blocks/table.ts';
import { type DirectoryPlace, readTableDirectory } from '../../../blocks/table-directory.ts';
import { BROKEN_TABLE, type TableDirectory } from '../../../blocks/two-level-table.ts';
import type { OperationOptions } from '../../../storage/contract.ts';
import type { SparseLayout } from './header.ts';

/** Sector numbers of 32 bits, as byte offsets. */
export const SECTOR_ENTRY: EntryForm = {
  bytes: 4,
  get: (view, at) => view.getUint32(at, true) * SECTOR,
  put: (view, at, fileOffset) => view.setUint32(at, fileOffset / SECTOR, true),
};

/** A directory as the file has it. Its entries are sector numbers of 32 bits where no other form is given. */
export function readDirectory(
  place: Omit<DirectoryPlace, 'form'> & { readonly form?: EntryForm | undefined },
  options?: OperationOptions,
): Promise<TableDirectory> {
  return readTableDirectory({ ...place, form: place.form ?? SECTOR_ENTRY }, options);
}

/** The entries that readers follow. `replaced`: how many come from the second copy. */
export function soundest(
  first: TableDirectory,
  second: TableDirectory | null,
): { readonly directory: TableDirectory; readonly replaced: number } {
  if (second === null || !first.places.includes(BROKEN_TABLE)) return { directory: first, replaced: 0 };
  let replaced = 0;
  const places = first.places.map((place, index) => {
    const other = second.places[index] ?? BROKEN_TABLE;
    if (place !== BROKEN_TABLE || other === BROKEN_TABLE) return place;
    replaced++;
    return other;
  });
  return { directory: { ...first, places }, replaced };
}

/**
 * True if no table lies over another one, a directory, the header or the descriptor: writing one would destroy the
 * other.
 */
export function standApart(
  { tableBytes, tableCount, descriptor, overhead, form }: SparseLayout,
  directories: readonly TableDirectory[],
): boolean {
  const others: (readonly [start: number, end: number])[] = [[0, form.size]];
  if (descriptor !== null) others.push([descriptor.fileOffset, descriptor.fileOffset + descriptor.length]);
  if (others.some(([, end]) => end > overhead)) return false;
  // Directories may lie among the grains, as tables do.
  for (const { fileOffset } of directories) others.push([fileOffset, fileOffset + tableCount * 4]);
  others.sort(([one], [other]) => one - other);
  if (others.some(([start], index) => start < (others[index - 1]?.[1] ?? 0))) return false;
  const tables = new Float64Array(directories.reduce((sum, { places }) => sum + places.length, 0));
  let at = 0;
  for (const { places } of directories) {
    tables.set(places, at);
    at += places.length;
  }
  tables.sort();
  return tables.every((table, index) => {
    if (table <= 0) return true;
    const before = tables[index - 1] ?? 0;
    const isFree = before <= 0 || table >= before + tableBytes;
    return isFree && others.every(([start, end]) => table >= end || table + tableBytes <= start);
  });
}
