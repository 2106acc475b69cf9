/**
 * Check and repair of a Parallels image that is not open elsewhere.
 *
 * A check compares the table with itself, with the size of the file and with the format extension. A repair proceeds in this
 * order, each step durable before the next, so that it can be interrupted and repeated:
 *   1. the mark of use, without a format extension that is damaged or would no longer be true;
 *   2. the whole of a last cluster that was cut off;
 *   3. copies behind the last cluster: for the second owner of a cluster, and for one that lies at a wrong distance from the
 *      others; then the entries that name them;
 *   4. entries that lead nowhere. In a base they become absent; in a differencing image they get clusters of zeroes, since the
 *      parent would show through;
 *   5. the end of the file, and the mark of an image that was closed.
 */
import { SparseBitSet } from '../../binary/bits.ts';
import { largest } from '../../binary/numbers.ts';
import { EntryTable, scanEntries } from '../../blocks/table.ts';
import { storeZeroes } from '../../blocks/two-level-resize.ts';
import { hex } from '../../errors.ts';
import type { FormatCheckOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import { allDone } from '../../storage/all-done.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { copyBytes } from '../../storage/copy-bytes.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { Turns } from '../../storage/turns.ts';
import { completeLast, entriesOf, lowestCluster, nameable, placeOfFirst, tablePlace } from './clusters.ts';
import type { Extension } from './extension.ts';
import { isOpenMark, type ParallelsLayout, readHeader, writeHeader } from './header.ts';
import { ENTRY_FREE, HEADER, type Header, IN_USE } from './layout.ts';

/** Clusters that are copied before their entries change. */
const BATCH = 64;

/** Options for the check of one image. */
export interface ParallelsCheckOptions extends OperationOptions {
  /** A parent shows through where nothing is stored. */
  readonly differencing?: boolean | undefined;
}

/** Result of a check, and the changes needed for a repair. */
interface Survey {
  readonly layout: ParallelsLayout;
  readonly list: FindingList;
  readonly extension: Extension | null;
  /** The extension is damaged or outdated. */
  readonly drops: boolean;
  /** Place of the first slot. */
  readonly dataOffset: number;
  /** Entries that name no cluster. */
  readonly lost: SparseBitSet;
  /** Entries whose clusters need another place: they share it, or lie at a wrong distance from the others. */
  readonly moved: SparseBitSet;
  /** End of the clusters in use, and of the format extension. */
  readonly end: number;
  readonly extensionEnd: number;
  /** The file may be cut off: a device, or a partition, is as long as it is. */
  readonly cuts: boolean;
}

/** Check and repair of a file of a bundle. */
const ONE = { facts: readHeader, check: checkParallels, repair: repairParallels };

/** Finds damage in an image. */
export async function check(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  if (files.main === null) return (await import('./bundle/check.ts')).checkBundle(files, options, 'read', ONE);
  return checkParallels(mainFile(files), options);
}

/** Repairs what `check` finds and can be repaired. Returns the findings; a clean image is not changed. */
export async function repair(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  if (files.main === null) return (await import('./bundle/check.ts')).checkBundle(files, options, 'write', ONE);
  return repairParallels(mainFile(files), options);
}

/** Finds damage in one file. Throws where it is not a readable image. */
export async function checkParallels(storage: Storage, options: OperationOptions): Promise<readonly Finding[]> {
  return findingsOf(await survey(storage, options));
}

/** Repairs one file. */
export async function repairParallels(storage: Storage, options: ParallelsCheckOptions): Promise<readonly Finding[]> {
  const seen = await survey(storage, options);
  const findings = findingsOf(seen);
  if (!findings.some(({ repairable }) => repairable)) return findings;
  const { layout, lost, moved } = seen;
  const changesEntries = lost.size > 0 || moved.size > 0;
  const drops = seen.drops || changesEntries;
  const header: Header = { ...layout.header, ...(drops ? { extensionOffset: 0n } : {}), inUse: IN_USE.open };
  await putHeader(storage, header);
  let end = drops ? seen.end : Math.max(seen.end, seen.extensionEnd);
  await completeLast(storage, seen.end);
  await storage.flush();
  if (changesEntries) end = await mendEntries(storage, seen, end, options);
  if (storage.size > end && seen.cuts) await storage.resize(end);
  await storage.flush();
  await putHeader(storage, { ...header, inUse: IN_USE.closed });
  return findings;
}

async function putHeader(storage: Storage, header: Header): Promise<void> {
  await writeHeader(storage, header);
  await storage.flush();
}

/** An image whose extension forbids changes cannot be repaired, unless it is the extension that is damaged. */
function findingsOf({ list: { list }, extension }: Survey): readonly Finding[] {
  if (extension === null || extension.obstacle === null || extension.damage !== null) return list;
  return list.map((finding) => ({ ...finding, repairable: false }));
}

async function survey(storage: Storage, options: OperationOptions): Promise<Survey> {
  const layout = await readHeader(storage, options);
  const list = new FindingList();
  checkMark(layout.header, list);
  const extension =
    layout.header.extensionOffset === 0n
      ? null
      : await (await import('./extension.ts')).readExtension(storage, layout, options);
  const dataOffset = placeOfFirst(layout, await lowestCluster(storage, layout, options));
  const found = await surveyClusters(storage, { layout, dataOffset, list }, options);
  const drops = extension !== null && checkExtension(layout, extension, found.slots, dataOffset, list);
  const { lost, moved, end } = found;
  const extensionEnd = drops ? 0 : largest(extension?.places ?? [], -layout.clusterSize) + layout.clusterSize;
  const usedEnd = Math.max(end, extensionEnd);
  const cuts = !['device', 'other'].includes((await storage.identity()).kind);
  if (storage.size > usedEnd && cuts) {
    const message = `The file is ${storage.size - usedEnd} bytes longer than what is in use.`;
    list.add('leak', 'file-too-long', message, { fileOffset: usedEnd });
  }
  return { layout, list, extension, drops, dataOffset, lost, moved, end, extensionEnd, cuts };
}

function checkMark({ inUse }: Header, list: FindingList): void {
  const where = { fileOffset: HEADER.fields.inUse.offset };
  if (isOpenMark(inUse)) {
    list.add('warning', 'not-closed', 'The image was not closed by the program that wrote it.', where);
  } else if (inUse !== IN_USE.closed && inUse !== IN_USE.unaware) {
    list.add('warning', 'unknown-mark', `The mark of use has the unknown value ${hex(inUse)}.`, where);
  }
}

/** True: the extension is to be dropped. */
function checkExtension(
  { header, clusterSize }: ParallelsLayout,
  { damage, outdated, places }: Extension,
  slots: SparseBitSet,
  dataOffset: number,
  list: FindingList,
): boolean {
  const where = { fileOffset: HEADER.fields.extensionOffset.offset };
  if (outdated) {
    const message = 'The format extension is outdated: a program without it has written to the image.';
    list.add('warning', 'extension-outdated', message, where);
    return true;
  }
  const shared = places.find((place) => {
    const slot = Math.floor((place - dataOffset) / clusterSize);
    return slots.has(slot) || ((place - dataOffset) % clusterSize !== 0 && slots.has(slot + 1));
  });
  const problem = damage ?? (shared === undefined ? null : `a cluster of the disk lies over it at ${hex(shared)}`);
  if (problem === null) return false;
  const message = `The format extension at sector ${header.extensionOffset} is damaged: ${problem}.`;
  list.add('corruption', 'extension-damaged', message, where);
  return true;
}

interface ClusterSurvey {
  readonly lost: SparseBitSet;
  readonly moved: SparseBitSet;
  /** Slots in use, those that a cluster at a wrong distance touches among them. */
  readonly slots: SparseBitSet;
  readonly end: number;
}

async function surveyClusters(
  storage: Storage,
  { layout, dataOffset, list }: Pick<Survey, 'layout' | 'dataOffset' | 'list'>,
  options: OperationOptions,
): Promise<ClusterSurvey> {
  const { clusterSize, entryUnit, dataStart, virtualSize } = layout;
  const [lost, moved, slots] = [new SparseBitSet(), new SparseBitSet(), new SparseBitSet()];
  let end = dataStart;
  const add = (severity: 'corruption' | 'warning', code: string, index: number, what: string): void => {
    const guestOffset = index * clusterSize;
    const where = { fileOffset: HEADER.size + index * 4, guestOffset: guestOffset < virtualSize ? guestOffset : null };
    list.add(severity, code, () => `Cluster ${index} ${what}.`, where);
  };
  const visit = (entry: number, index: number): void => {
    const place = entry * entryUnit;
    if (place < dataStart) {
      lost.add(index);
      add('corruption', 'cluster-in-metadata', index, 'is said to lie among the metadata');
      return;
    }
    if (place >= storage.size) {
      lost.add(index);
      add('corruption', 'cluster-beyond-end', index, 'is said to lie beyond the end of the file');
      return;
    }
    end = Math.max(end, place + clusterSize);
    const missing = place + visible(layout, index) - storage.size;
    if (missing > 0) {
      add('corruption', 'cluster-cut-off', index, `is cut off by the end of the file: ${missing} bytes read as zero`);
    }
    const slot = Math.floor((place - dataOffset) / clusterSize);
    const isAligned = (place - dataOffset) % clusterSize === 0;
    const isOwn = isAligned ? slots.add(slot) : [slots.add(slot), slots.add(slot + 1)].every((added) => added);
    if (isOwn && isAligned) return;
    moved.add(index);
    if (!isOwn) add('corruption', 'cluster-shared', index, 'lies over another one');
    else add('warning', 'cluster-misaligned', index, 'lies at another distance from the first cluster than others do');
  };
  await scanEntries(tablePlace(storage, layout), (entry, index) => entry !== ENTRY_FREE && visit(entry, index), {
    ...options,
    skipsZero: true,
  });
  return { lost, moved, slots, end };
}

/** Bytes of a cluster that belong to the disk. */
function visible({ clusterSize, virtualSize }: ParallelsLayout, index: number): number {
  return Math.min(clusterSize, Math.max(virtualSize - index * clusterSize, 0));
}

interface Change {
  readonly index: number;
  /** Place of the cluster that is copied; null: it is lost. */
  readonly from: number | null;
}

/** Gives other places to entries that cannot keep theirs. Returns the new end of the file. */
async function mendEntries(
  storage: Storage,
  { layout, lost, moved, dataOffset }: Survey,
  end: number,
  options: ParallelsCheckOptions,
): Promise<number> {
  const { clusterSize, entryUnit, entries } = layout;
  const { entryAt } = entriesOf(layout);
  const table = new EntryTable(tablePlace(storage, layout));
  const turns = new Turns(options.signal, 'The repair');
  let place = dataOffset + Math.ceil((end - dataOffset) / clusterSize) * clusterSize;
  let used = end;
  let batch: Change[] = [];
  const finish = async (): Promise<void> => {
    const values: [index: number, entry: number][] = [];
    for (const { index, from } of batch) {
      const isStored = from !== null || (options.differencing === true && index < layout.blockCount);
      values.push([index, isStored ? entryAt(nameable(storage, layout, place)) : ENTRY_FREE]);
      if (from !== null) await copyBytes(storage, from, place, clusterSize);
      else if (isStored) await storeZeroes(storage, place, clusterSize);
      if (!isStored) continue;
      place += clusterSize;
      used = place;
    }
    await storage.flush();
    for (const [index, entry] of values) {
      if (table.get(index) === undefined) await table.load(index);
      table.set(index, entry);
    }
    await allDone(await sealed(storage, table));
    await storage.flush();
    batch = [];
  };
  for (let index = 0; index < entries; index++) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    const isMoved = moved.has(index);
    if (!isMoved && !lost.has(index)) continue;
    if (table.get(index) === undefined) await table.load(index);
    batch.push({ index, from: isMoved ? (table.get(index) ?? 0) * entryUnit : null });
    if (batch.length >= (isMoved ? BATCH : BATCH * 1024)) await finish();
  }
  if (batch.length > 0) await finish();
  return used;
}

/** Writes what changed in the table. The first sector belongs to the header, which is on the medium. */
async function sealed(storage: Storage, table: EntryTable): Promise<Promise<void>[]> {
  const header = new Uint8Array(HEADER.size);
  await readPadded(storage, 0, header);
  const writes = table.seal().map(({ fileOffset, bytes }) => {
    if (fileOffset === 0) bytes.set(header);
    return storage.write(fileOffset, bytes);
  });
  table.settle();
  return writes;
}
