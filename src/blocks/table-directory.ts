/** The directory of a two-level map in memory: places of the tables, each checked against the file. */
import type { OperationOptions, Storage } from '../storage/contract.ts';
import { type EntryForm, scanEntries } from './table.ts';
import { BROKEN_TABLE, type TableDirectory } from './two-level-table.ts';

/** Place and size of a directory. */
export interface DirectoryPlace {
  readonly storage: Storage;
  /** Null or 0: the file has none. */
  readonly fileOffset: number | null;
  readonly count: number;
  readonly tableBytes: number;
  /** No table can begin before this. */
  readonly lowest: number;
  /** Tables begin at multiples of this, in bytes. Default 1. */
  readonly alignment?: number | undefined;
  /** Stored form of the entries, as byte offsets; 0: there is no table. */
  readonly form: EntryForm;
}

/** A directory as the file has it. Entries that lead where no table can be are `BROKEN_TABLE`. */
export async function readTableDirectory(place: DirectoryPlace, options?: OperationOptions): Promise<TableDirectory> {
  const { storage, count, tableBytes, lowest, form, alignment = 1 } = place;
  const places = new Float64Array(count);
  const fileOffset = place.fileOffset ?? 0;
  if (fileOffset === 0) return { fileOffset, form, places: places.fill(BROKEN_TABLE) };
  await scanEntries(
    { storage, fileOffset, count, form },
    (table, index) => {
      const possible = table >= lowest && table + tableBytes <= storage.size && table % alignment === 0;
      places[index] = table === 0 || possible ? table : BROKEN_TABLE;
    },
    options,
  );
  return { fileOffset, form, places };
}
