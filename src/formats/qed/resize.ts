/**
 * Resizing of a QED disk. Each step is durable before the next.
 *
 * Growing: entries behind the old end, which a cut can have left, are cleared, and so is the rest of the last cluster; then
 * clusters of zeroes hide a longer backing file; then the header gets the size.
 * Shrinking: the header gets the size; then entries behind it are cleared. L2 tables of which nothing is left are given up.
 */
import { alignDown, divCeil, SECTOR } from '../../binary/numbers.ts';
import { scanEntries, U64_LITTLE, writeEntries } from '../../blocks/table.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { ResizeOptions } from '../../image/contract.ts';
import type { Storage } from '../../storage/contract.ts';
import { largestDisk, type QedLayout } from './header.ts';
import { HEADER, L2_ABSENT, L2_ZERO } from './layout.ts';
import type { QedState } from './state.ts';

/** Bytes of zeroes that get places between two flushes. */
const BATCH_BYTES = 1024 * 1024 * 1024;
const WHAT = 'The resize';

/** See the head of this file. Everything is flushed. */
export interface QedResize {
  readonly storage: Storage;
  readonly state: QedState;
  readonly size: number;
  readonly options: ResizeOptions;
  /** Writes the tables that changed in memory, durably. */
  readonly flush: () => Promise<void>;
}

/** Throws `limit` for a disk that the tables cannot cover. */
export function checkDiskSize(
  size: number,
  { clusterSize, header }: Pick<QedLayout, 'clusterSize' | 'header'>,
  path: string,
): void {
  const most = largestDisk(clusterSize, header.tableSize);
  if (size <= most) return;
  throw new ImageError('limit', 'A QED image with these clusters and tables cannot be that large', {
    path,
    found: `${size} bytes`,
    expected: `at most ${most}`,
    hint: 'Convert it into an image with larger clusters.',
  });
}

/** Resizes the image. Cut or cancelled before the header is written, a growing one has its old size and content. */
export async function resizeQed(job: QedResize): Promise<void> {
  const { storage, state, size, options } = job;
  const { virtualSize, sector, backing } = state.layout;
  throwIfAborted(options.signal, WHAT);
  if (size > virtualSize) {
    await clearBehind(job, virtualSize);
    await clearRest(job);
    if (options.fill === 'zero' && backing !== null) await hideParent(job, Math.min(options.fillEnd, size));
    throwIfAborted(options.signal, WHAT);
  }
  if (size !== virtualSize) {
    const changed = sector.slice();
    HEADER.put(changed, 'imageSize', size);
    await storage.write(0, changed);
    await storage.flush();
  }
  if (size <= virtualSize) await clearBehind(job, size);
}

/** Clears the entries behind a size of the disk: those of one L2 table, and those of the L1 table behind it. */
async function clearBehind({ storage, state, options }: QedResize, size: number): Promise<void> {
  const { layout, directory } = state;
  const { clusterSize, tableEntries, l1Entries } = layout;
  const first = divCeil(size, clusterSize);
  const table = Math.floor(first / tableEntries);
  const place = directory.places[table] ?? 0;
  const start = first % tableEntries;
  if (place > 0 && start > 0) {
    const end = await lastInUse(storage, place, tableEntries, options);
    const entries = { storage, fileOffset: place, form: U64_LITTLE };
    if (end > start) await writeEntries(entries, { start, end }, () => L2_ABSENT);
  }
  const firstWhole = start > 0 ? table + 1 : table;
  let end = l1Entries;
  while (end > firstWhole && directory.places[end - 1] === 0) end--;
  const l1 = { storage, fileOffset: layout.l1Offset, form: U64_LITTLE };
  if (end > firstWhole) await writeEntries(l1, { start: firstWhole, end }, () => 0);
  directory.places.fill(0, firstWhole);
  await storage.flush();
}

/** One more than the last entry of a table that is not absent. */
async function lastInUse(
  storage: Storage,
  fileOffset: number,
  count: number,
  { signal }: Pick<ResizeOptions, 'signal'>,
): Promise<number> {
  let end = 0;
  const note = (entry: number, index: number): void => {
    if (entry !== L2_ABSENT) end = index + 1;
  };
  await scanEntries({ storage, fileOffset, count, form: U64_LITTLE }, note, { signal });
  return end;
}

/** Zeroes what the last cluster holds behind the end of the disk. */
async function clearRest({ storage, state }: QedResize): Promise<void> {
  const { virtualSize, clusterSize } = state.layout;
  const inside = virtualSize % clusterSize;
  if (inside === 0) return;
  const index = Math.floor(virtualSize / clusterSize);
  while (state.table.get(index) === undefined) await state.table.load(index);
  const entry = state.table.get(index) ?? L2_ABSENT;
  const length = Math.min(clusterSize, storage.size - entry) - inside;
  if (entry === L2_ABSENT || entry === L2_ZERO || length <= 0) return;
  await storage.zero(entry + inside, length, { punch: false });
  await storage.flush();
}

/** Gives clusters of zeroes to what lies between the old end of the disk and the end of its backing file. */
async function hideParent({ storage, state, options, flush }: QedResize, end: number): Promise<void> {
  const { virtualSize, clusterSize } = state.layout;
  const last = divCeil(end, clusterSize) * clusterSize;
  let waiting = 0;
  for (let at = divCeil(virtualSize, clusterSize) * clusterSize; at < last; ) {
    throwIfAborted(options.signal, WHAT);
    const wanted = Math.min(last - at, alignDown(BATCH_BYTES, clusterSize));
    const slot = await state.map.prepareWrite(at, wanted);
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
async function storeZeroes(storage: Storage, fileOffset: number, length: number): Promise<void> {
  const before = storage.size;
  if (fileOffset + length > before) await storage.write(fileOffset + length - SECTOR, new Uint8Array(SECTOR));
  const known = storage.can.growsZeroed ? Math.max(Math.min(before - fileOffset, length), 0) : length;
  if (known > 0) await storage.zero(fileOffset, known, { punch: storage.can.punch });
}
