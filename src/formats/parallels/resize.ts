/**
 * Resizing of a Parallels image. Each step is durable before the next, and leaves an image of the old size:
 *   1. clusters in the way of a longer table get copies behind the last cluster, then their entries name those;
 *   2. entries behind the old end are cleared, whatever stood there, and so is the rest of the last cluster;
 *   3. what hides a longer parent: clusters of zeroes, since the format has no mark for them;
 *   4. the header gets the number of entries, the place of the data and the size, in its one sector.
 * Shrinking: the header gets the size first; then the entries behind it are cleared.
 */
import { divCeil, SECTOR } from '../../binary/numbers.ts';
import { scanEntries, U32_LITTLE, writeEntries } from '../../blocks/table.ts';
import { storeZeroes } from '../../blocks/two-level-resize.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { ResizeOptions } from '../../image/contract.ts';
import type { Storage } from '../../storage/contract.ts';
import { copyBytes } from '../../storage/copy-bytes.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { entriesOf, firstPlace, nameable, tablePlace } from './clusters.ts';
import { type ParallelsLayout, tableEndOf, writeHeader } from './header.ts';
import { ENTRY_BYTES, ENTRY_FREE, HEADER, type Header } from './layout.ts';
import { PARALLELS_LIMITS } from './limits.ts';
import { sizeFields } from './size.ts';

/** Clusters that are copied before their entries change. */
const BATCH = 64;
const WHAT = 'The resize';

/** See the head of this file. Everything is flushed. */
export interface ParallelsResize {
  readonly storage: Storage;
  readonly layout: ParallelsLayout;
  /** File offset of the first slot. */
  readonly dataOffset: number;
  readonly size: number;
  readonly options: ResizeOptions;
}

/** Resizes the image. Cut or cancelled before the last step, a growing one has its old size and content. */
export async function resizeParallels(job: ParallelsResize): Promise<void> {
  throwIfAborted(job.options.signal, WHAT);
  await (job.size > job.layout.virtualSize ? grow(job) : shrink(job));
}

async function grow(job: ParallelsResize): Promise<void> {
  const { layout, size, options } = job;
  const entries = Math.max(divCeil(size, layout.clusterSize), layout.blockCount);
  const dataOffset = Math.max(
    job.dataOffset,
    firstPlace({ ...layout, dataStart: tableEndOf(entries) }, job.dataOffset),
  );
  await clearFront(job, dataOffset);
  await clearEntries(job, layout.blockCount, entries);
  await clearRest(job);
  if (options.fill === 'zero') await hideParent(job, dataOffset, Math.min(options.fillEnd, size));
  throwIfAborted(options.signal, WHAT);
  await putHeader(job, { entries, dataOffset: dataOffset / SECTOR, ...sizeFields(size) });
}

async function putHeader({ storage, layout }: ParallelsResize, changes: Partial<Header>): Promise<void> {
  await writeHeader(storage, { ...layout.header, ...changes });
  await storage.flush();
}

/** The table, as far as it may reach: entries behind those that the header counts can be written before it counts them. */
function tableOf({ storage }: ParallelsResize) {
  return tablePlace(storage, { entries: PARALLELS_LIMITS.entries });
}

/** Moves clusters in front of a place behind the last one. */
async function clearFront(job: ParallelsResize, place: number): Promise<void> {
  const { storage, layout, options, dataOffset } = job;
  const { clusterSize, entryUnit } = layout;
  if (place === dataOffset) return;
  const movers: { readonly index: number; readonly from: number }[] = [];
  let end = place;
  const note = (entry: number, index: number): void => {
    if (entry === ENTRY_FREE) return;
    const from = entry * entryUnit;
    if (from < place) movers.push({ index, from });
    end = Math.max(end, from + clusterSize);
  };
  await scanEntries(tablePlace(storage, layout), note, { ...options, skipsZero: true });
  for (let done = 0; done < movers.length; done += BATCH) {
    const batch = movers.slice(done, done + BATCH);
    for (const [at, { from }] of batch.entries()) {
      throwIfAborted(options.signal, WHAT);
      await copyBytes(storage, from, nameable(storage, layout, end + at * clusterSize), clusterSize);
    }
    await storage.flush();
    for (const [at, { index }] of batch.entries()) {
      const to = entriesOf(layout).entryAt(end + at * clusterSize);
      await writeEntries(tableOf(job), { start: index, end: index + 1 }, () => to);
    }
    await storage.flush();
    end += batch.length * clusterSize;
    const moved = (done + batch.length) * clusterSize;
    options.onProgress?.({ operation: 'resize', done: moved, total: movers.length * clusterSize });
  }
}

/** Clears entries, and what pads their last sector. */
async function clearEntries(job: ParallelsResize, start: number, end: number): Promise<void> {
  const { storage, options } = job;
  const padded = (tableEndOf(end) - HEADER.size) / ENTRY_BYTES;
  if (padded > start)
    await writeEntries(tableOf(job), { start, end: padded, signal: options.signal }, () => ENTRY_FREE);
  await storage.flush();
}

/** Zeroes what the last cluster holds behind the end of the disk. */
async function clearRest({ storage, layout }: ParallelsResize): Promise<void> {
  const { virtualSize, clusterSize, blockCount, entryUnit } = layout;
  const inside = virtualSize % clusterSize;
  if (inside === 0) return;
  const bytes = new Uint8Array(ENTRY_BYTES);
  await readPadded(storage, HEADER.size + (blockCount - 1) * ENTRY_BYTES, bytes);
  const entry = U32_LITTLE.get(new DataView(bytes.buffer), 0);
  if (entry === ENTRY_FREE) return;
  await storage.zero(entry * entryUnit + inside, clusterSize - inside, { punch: false });
  await storage.flush();
}

/** Stores zeroes between the last cluster of the old disk and the end of its parent. The disk did so inside that cluster. */
async function hideParent(job: ParallelsResize, dataOffset: number, until: number): Promise<void> {
  const { storage, layout, options } = job;
  const { clusterSize, blockCount } = layout;
  const { entryAt } = entriesOf(layout);
  const behind = Math.max(storage.size - dataOffset, 0);
  let place = dataOffset + divCeil(behind, clusterSize) * clusterSize;
  for (let index = blockCount; index * clusterSize < until; index += BATCH) {
    throwIfAborted(options.signal, WHAT);
    const count = Math.min(BATCH, divCeil(until, clusterSize) - index);
    nameable(storage, layout, place + (count - 1) * clusterSize);
    await storeZeroes(storage, place, count * clusterSize);
    await storage.flush();
    const first = place;
    const entryOf = (at: number): number => entryAt(first + (at - index) * clusterSize);
    await writeEntries(tableOf(job), { start: index, end: index + count }, entryOf);
    place += count * clusterSize;
  }
  await storage.flush();
}

async function shrink(job: ParallelsResize): Promise<void> {
  const { storage, layout, size, options } = job;
  const count = divCeil(size, layout.clusterSize);
  let [lost, behind] = [0, 0];
  const note = (entry: number, index: number): void => {
    if (entry === ENTRY_FREE || index < count) return;
    behind = index + 1;
    if (index < layout.blockCount) lost++;
  };
  await scanEntries(tablePlace(storage, layout), note, { ...options, skipsZero: true });
  if (lost > 0 && !options.shrink) {
    throw new ImageError('unsupported', 'Clusters beyond the new end of the disk contain data', {
      status: 'VERR_VD_SHRINK_NOT_SUPPORTED',
      path: storage.label,
      found: `${lost} clusters`,
      hint: 'To discard this data, shrink explicitly (on the command line: --shrink).',
    });
  }
  if (size < layout.virtualSize) await putHeader(job, sizeFields(size));
  if (behind > count) await clearEntries(job, count, behind);
  if (layout.entries > count) await putHeader(job, { ...sizeFields(size), entries: count });
}
