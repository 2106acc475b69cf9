/**
 * Resizing of the disk of an image of two levels. Each step is durable before the next.
 *
 * Growing: entries behind the old end, which a cut can have left, are cleared, and so is the rest of the last cluster; then
 * clusters of zeroes hide a longer parent; then the header gets the size.
 * Shrinking: the header gets the size; then entries behind it are cleared. L2 tables of which nothing is left are given up.
 */
import { alignDown, alignUp, divCeil, SECTOR } from '../binary/numbers.ts';
import { throwIfAborted } from '../errors.ts';
import type { ResizeOptions } from '../image/contract.ts';
import type { Storage } from '../storage/contract.ts';
import { scanEntries, writeEntries } from './table.ts';
import type { TwoLevelShape, TwoLevelState } from './two-level-state.ts';

/** Bytes of zeroes that get places between two flushes. */
const BATCH_BYTES = 1024 * 1024 * 1024;
const WHAT = 'The resize';

/** See the head of this file. Everything is flushed. */
export interface TwoLevelResize {
  readonly storage: Storage;
  readonly state: TwoLevelState<TwoLevelShape>;
  readonly size: number;
  readonly options: ResizeOptions;
  /** Writes the tables that changed in memory, durably. */
  readonly flush: () => Promise<void>;
  /** Stores a size of the disk, durably. */
  readonly putSize: (size: number) => Promise<void>;
}

/** Resizes the image. Cut or cancelled before the header is written, a growing one has its old size and content. */
export async function resizeTwoLevel(job: TwoLevelResize): Promise<void> {
  const { state, size, options, putSize } = job;
  const { virtualSize, differencing } = state.shape;
  throwIfAborted(options.signal, WHAT);
  if (size > virtualSize) {
    await clearBehind(job, virtualSize);
    await clearRest(job);
    if (options.fill === 'zero' && differencing) await hideParent(job, Math.min(options.fillEnd, size));
    throwIfAborted(options.signal, WHAT);
  }
  if (size !== virtualSize) await putSize(size);
  if (size <= virtualSize) await clearBehind(job, size);
}

/** Clears the entries behind a size of the disk: those of one L2 table, and those of the L1 table behind it. */
async function clearBehind({ storage, state, options }: TwoLevelResize, size: number): Promise<void> {
  const { shape, directory } = state;
  const { clusterSize, tableEntries, l1Entries, form, entries } = shape;
  const first = divCeil(size, clusterSize);
  const table = Math.floor(first / tableEntries);
  const place = directory.places[table] ?? 0;
  const start = first % tableEntries;
  if (place > 0 && start > 0) {
    const end = await lastInUse(storage, place, shape, options);
    if (end > start) await writeEntries({ storage, fileOffset: place, form }, { start, end }, () => entries.absent);
  }
  const firstWhole = start > 0 ? table + 1 : table;
  let end = l1Entries;
  while (end > firstWhole && directory.places[end - 1] === 0) end--;
  const l1 = { storage, fileOffset: shape.l1Offset, form: shape.l1Form };
  if (end > firstWhole) await writeEntries(l1, { start: firstWhole, end }, () => 0);
  directory.places.fill(0, firstWhole);
  await storage.flush();
}

/** One more than the last entry of a table that is not absent. */
async function lastInUse(
  storage: Storage,
  fileOffset: number,
  { tableEntries: count, form, entries }: TwoLevelShape,
  { signal }: Pick<ResizeOptions, 'signal'>,
): Promise<number> {
  let end = 0;
  const note = (entry: number, index: number): void => {
    if (entry !== entries.absent) end = index + 1;
  };
  await scanEntries({ storage, fileOffset, count, form }, note, { signal });
  return end;
}

/** Zeroes what the last cluster holds behind the end of the disk. */
async function clearRest({ storage, state }: TwoLevelResize): Promise<void> {
  const { virtualSize, clusterSize, entries } = state.shape;
  const inside = virtualSize % clusterSize;
  if (inside === 0) return;
  const index = Math.floor(virtualSize / clusterSize);
  while (state.table.get(index) === undefined) await state.table.load(index);
  const entry = state.table.get(index) ?? entries.absent;
  if (entries.kindOf(entry) !== 'data') return;
  const length = Math.min(clusterSize, storage.size - entry) - inside;
  if (length <= 0) return;
  await storage.zero(entries.slotOffset(entry) + inside, length, { punch: false });
  await storage.flush();
}

/** Gives clusters of zeroes to what lies between the old end of the disk and the end of its parent. */
async function hideParent({ storage, state, options, flush }: TwoLevelResize, end: number): Promise<void> {
  const { virtualSize, clusterSize } = state.shape;
  const last = alignUp(end, clusterSize);
  let waiting = 0;
  for (let at = alignUp(virtualSize, clusterSize); at < last; ) {
    throwIfAborted(options.signal, WHAT);
    const slot = await state.map.prepareWrite(at, Math.min(last - at, alignDown(BATCH_BYTES, clusterSize)));
    try {
      await storeZeroes(storage, slot.fileOffset, slot.length);
    } catch (error) {
      slot.abort();
      throw error;
    }
    slot.commit();
    at += slot.length;
    waiting += slot.length;
    if (waiting < BATCH_BYTES && at < last) continue;
    await storage.flush();
    await flush();
    waiting = 0;
  }
}

/** Zeroes in a place that may lie behind the end of the file. */
export async function storeZeroes(storage: Storage, fileOffset: number, length: number): Promise<void> {
  const before = storage.size;
  if (fileOffset + length > before) await storage.write(fileOffset + length - SECTOR, new Uint8Array(SECTOR));
  const known = storage.can.growsZeroed ? Math.max(Math.min(before - fileOffset, length), 0) : length;
  if (known > 0) await storage.zero(fileOffset, known, { punch: storage.can.punch });
}
