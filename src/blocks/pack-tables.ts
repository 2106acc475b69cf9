/**
 * Moving the tables of a two-level map into holes. Where tables get room when they are needed they stand among the blocks,
 * and one near the end would keep the file from being cut off there.
 *
 * A table is written to its new place, durable, before its entry of the directory names that, and its old place is free
 * when the entry is durable. Both places hold the same, so that a cut between leaves the image as it was.
 */
import { throwIfAborted } from '../errors.ts';
import type { OperationOptions, Storage } from '../storage/contract.ts';
import { copyBytes } from '../storage/copy-bytes.ts';
import type { SlotAllocator, SlotRun } from './slot-allocator.ts';
import { writeEntries } from './table.ts';
import type { TableDirectory } from './two-level-table.ts';

/** Tables that are moved between two flushes. */
const AT_ONCE = 64;

/** Sizes of a map whose tables stand among its blocks. */
export interface TableSlots {
  /** File offset of the first slot. */
  readonly dataOffset: number;
  readonly slotBytes: number;
  readonly tableBytes: number;
}

/** An image whose tables may move. Everything must be flushed, and nothing else may run. */
export interface PackedTables {
  readonly storage: Storage;
  readonly layout: TableSlots;
  readonly directory: TableDirectory;
  readonly slots: SlotAllocator;
}

interface Move {
  readonly index: number;
  readonly from: SlotRun;
  readonly to: SlotRun;
}

/** True if there are holes that a table fits into. */
export function canPackTables({ layout, slots }: Pick<PackedTables, 'layout' | 'slots'>): boolean {
  const { tableBytes, slotBytes } = layout;
  // A larger slot may hold several tables.
  return slotBytes <= tableBytes && slots.fillable >= tableBytes / slotBytes;
}

/** Moves tables, the last one first, into the lowest holes before them. Cancelled, those moved so far have their new places. */
export async function packTables(extent: PackedTables, { signal }: OperationOptions): Promise<void> {
  const { layout, directory, slots } = extent;
  const count = layout.tableBytes / layout.slotBytes;
  let [batch, from] = [[] as Move[], 0];
  for (const { index, slot } of tablesInSlots(layout, directory)) {
    const to = slots.takeHoles(count, from, slot);
    // Nothing before this table is long enough, for those before it neither.
    if (to === null) break;
    from = to.first + count;
    batch.push({ index, from: { first: slot, count, recycled: true }, to });
    if (batch.length < AT_ONCE) continue;
    await moveTables(extent, batch);
    batch = [];
    throwIfAborted(signal, 'Compacting');
  }
  if (batch.length > 0) await moveTables(extent, batch);
}

/** Tables that fill whole slots, the last one in the file first. */
function tablesInSlots({ dataOffset, slotBytes }: TableSlots, { places }: TableDirectory) {
  const tables: { readonly index: number; readonly slot: number }[] = [];
  for (const [index, place] of places.entries()) {
    const slot = (place - dataOffset) / slotBytes;
    if (slot >= 0 && Number.isInteger(slot)) tables.push({ index, slot });
  }
  return tables.sort((one, other) => other.slot - one.slot);
}

async function moveTables({ storage, layout, directory, slots }: PackedTables, moves: readonly Move[]): Promise<void> {
  const { dataOffset, slotBytes, tableBytes } = layout;
  const placeOf = ({ first }: SlotRun): number => dataOffset + first * slotBytes;
  for (const { from, to } of moves) {
    await copyBytes(storage, placeOf(from), placeOf(to), tableBytes);
  }
  await storage.flush();
  for (const { index, to } of moves) {
    await writeEntries({ storage, ...directory }, { start: index, end: index + 1 }, () => placeOf(to));
  }
  await storage.flush();
  for (const { index, from, to } of moves) {
    directory.places[index] = placeOf(to);
    slots.giveBack(from);
  }
}
