/** Check of a seSparse extent, which is only read: nothing that is found can be repaired here. */
import { SparseBitSet } from '../../binary/bits.ts';
import { scanEntries } from '../../blocks/table.ts';
import { BROKEN_TABLE } from '../../blocks/two-level-table.ts';
import type { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { OVERLAP } from './check-sparse.ts';
import {
  type Area,
  ENTRY,
  entryForm,
  GRAIN_BYTES,
  readSeSparse,
  readTables,
  type SeSparseLayout,
  TABLE_ENTRIES,
} from './extents/sesparse.ts';

/** An extent to check. */
export interface CheckedSeSparse {
  readonly storage: Storage;
  /** Bytes that its line gives it, and its place in the disk. */
  readonly length: number;
  readonly start: number;
}

/** Place of a finding. */
type Where = Partial<Pick<Finding, 'fileOffset' | 'guestOffset'>>;

/** Checks an extent: its areas, its directory, and every entry of its tables. */
export async function checkSeSparse(
  extent: CheckedSeSparse,
  findings: FindingList,
  options: OperationOptions = {},
): Promise<void> {
  const { storage, length } = extent;
  const { label } = storage;
  const layout = await readSeSparse(storage);
  const add = (code: string, message: string, where: Where = {}): void => {
    findings.add('corruption', code, message, { ...where, repairable: false });
  };
  // Its tables may be older than its data.
  if (layout.openJournal !== null) return add('journal', `${layout.openJournal.message}: ${label}.`);
  checkAreas(layout, storage, add);
  await checkTables(extent, layout, add, options);
  if (layout.capacity >= length) return;
  add('extent-too-small', `${label} has room for ${layout.capacity} of ${length} bytes.`);
}

type Add = (code: string, message: string, where?: Where) => void;

function checkAreas({ areas, grains }: SeSparseLayout, { label, size }: Storage, add: Add): void {
  const used = areas.filter(({ start, end }) => end > start).sort((one, other) => one.start - other.start);
  let before: Area | null = null;
  for (const area of used) {
    if (before !== null && area.start < before.end) {
      const message = `The ${before.name} and the ${area.name} of ${label} lie over each other.`;
      add(OVERLAP, message, { fileOffset: area.start });
    }
    if (area !== grains && area.end > size) {
      add('area-beyond-file', `The ${area.name} of ${label} reaches beyond the end of the file.`, {
        fileOffset: area.start,
      });
    }
    if (before === null || area.end > before.end) before = area;
  }
}

async function checkTables(
  { storage, length, start }: CheckedSeSparse,
  layout: SeSparseLayout,
  add: Add,
  options: OperationOptions,
): Promise<void> {
  const { places, fileOffset } = await readTables(storage, layout, options);
  const form = entryForm(layout);
  const [owners, seen] = [new SparseBitSet(), new Set<number>()];
  for (const [index, place] of places.entries()) {
    if (place === 0) continue;
    const guestOffset = start + index * TABLE_ENTRIES * GRAIN_BYTES;
    const where = { fileOffset: fileOffset + index * form.bytes, guestOffset };
    if (place === BROKEN_TABLE) {
      add('table-lost', `Grain table ${index} of ${storage.label} lies nowhere in the file.`, where);
    } else if (seen.has(place)) {
      add('shared-table', `Grain table ${index} of ${storage.label} lies where another one does.`, where);
    } else {
      seen.add(place);
      const table = { storage, fileOffset: place, count: TABLE_ENTRIES, form };
      await scanEntries(
        table,
        (entry, n) => {
          const offset = (index * TABLE_ENTRIES + n) * GRAIN_BYTES;
          const problem = offset < layout.capacity ? problemOf(entry, { layout, owners, size: storage.size }) : null;
          if (problem === null) return;
          const [code, what] = problem;
          const grain = index * TABLE_ENTRIES + n;
          add(code, `Grain ${grain} of ${storage.label} ${what}.`, {
            fileOffset: place + n * form.bytes,
            guestOffset: offset < length ? start + offset : null,
          });
        },
        options,
      );
    }
  }
}

/** State that entries are checked against. */
interface EntryCheck {
  readonly layout: SeSparseLayout;
  readonly owners: SparseBitSet;
  readonly size: number;
}

/** A code and what is wrong with an entry; null: nothing. */
function problemOf(entry: number, { layout, owners, size }: EntryCheck): readonly [string, string] | null {
  if (entry === ENTRY.absent || entry === ENTRY.zero) return null;
  if (entry === ENTRY.wrong) return ['unknown-entry', 'has an entry of no known type'];
  if (entry === ENTRY.outside) return ['grain-outside-area', 'is said to lie outside the area for grains'];
  if (entry >= size) return ['grain-beyond-file', 'is said to lie beyond the end of the file'];
  if (!owners.add((entry - layout.grains.start) / GRAIN_BYTES)) return ['shared-grain', 'lies where another one does'];
  return entry + GRAIN_BYTES > size ? ['grain-cut-off', 'is cut off by the end of the file'] : null;
}
