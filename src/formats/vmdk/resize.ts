/**
 * Resizing an image: which of its extents become longer or shorter, and which come or go.
 *
 * Growing: the last extent gets room, up to the limit of a split image; new extents are made beside it, whole and with
 * durable names; then the descriptor tells the new size. Shrinking: the descriptor first; then the extents that it does
 * not name any more are deleted, and the last one gives up its end. So a cut leaves the old size or the new one, and at
 * most room, or files, that nothing uses.
 */
import { largest, SECTOR } from '../../binary/numbers.ts';
import { assert, type ErrorKind, ImageError, isImageError, throwIfAborted } from '../../errors.ts';
import type { ImagePart, ResizeOptions } from '../../image/contract.ts';
import type { PartFiles } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { EXTENT_TYPES, type ExtentLine, formatExtent, splitName } from './descriptor/extents.ts';
import { KEYS, resizeGeometry } from './descriptor/facts.ts';
import type { DescriptorStore } from './descriptor/store.ts';
import type { DescriptorText } from './descriptor/text.ts';
import type { Extent, GrowHow } from './extents/extent.ts';
import { parseSparse } from './extents/header.ts';
import { FlatExtent, lengthen } from './extents/plain.ts';
import { SparseExtent, type SparseOpen } from './extents/sparse.ts';
import { writeSparse } from './extents/sparse-new.ts';
import { openSparse } from './extents/sparse-open.ts';
import type { VmdkParts } from './image.ts';
import { VMDK_LIMITS } from './limits.ts';
import { baseName, SPLIT_SECTORS } from './plan.ts';

const RESIZING = 'The resize';
/** Role of an extent in messages. */
const ROLE = 'extent';
/** Names tried for a new extent. */
const TRIES = 1000;

/** Extents of the new size. */
interface ResizePlan {
  /** Lines that stay, with their new sizes. */
  readonly lines: readonly ExtentLine[];
  /** The last of them, where its size changes. */
  readonly changes: boolean;
  /** Sectors of extents that are added. */
  readonly added: readonly number[];
}

/** Failures of a resize that leave the files as they were, or as they are going to be. */
const UNCHANGED: readonly ErrorKind[] = [
  'aborted',
  'no-space',
  'limit',
  'unsupported',
  'invalid-argument',
  'exists',
  'denied',
];

/** Receives the image in its new state, in steps. */
export type Adopt = (changed: Pick<VmdkParts, 'lines' | 'extents' | 'parts'>) => void;

/** Throws `limit`, `unsupported` for a size that the image cannot have. Touches nothing. */
export function checkSize(parts: VmdkParts, size: number): void {
  const plan = planResize(parts, size);
  const descriptor = descriptorOf(parts);
  const names = namesFrom(parts);
  const lines = [...plan.lines, ...plan.added.map((sectors) => newLine(parts, sectors, names.next().value))];
  descriptor.checkRoom(textOf(parts, lines, size));
}

/** Resizes an image whose metadata is flushed. `adopt` is called whenever the medium has another state. */
export async function resizeImage(parts: VmdkParts, size: number, how: ResizeOptions, adopt: Adopt): Promise<void> {
  parts.guard.check();
  const plan = planResize(parts, size);
  throwIfAborted(how.signal, RESIZING);
  const change = size > sizeOf(parts.lines) ? growImage : shrinkImage;
  try {
    await change(parts, plan, { ...how, size }, adopt);
  } catch (error) {
    if (!leavesFiles(error)) parts.guard.fail();
    throw error;
  }
}

function leavesFiles(error: unknown): boolean {
  return isImageError(error) && UNCHANGED.includes(error.kind);
}

/** Options with the size of the disk. */
type Job = ResizeOptions & { readonly size: number };

async function growImage(parts: VmdkParts, plan: ResizePlan, job: Job, adopt: Adopt): Promise<void> {
  const descriptor = descriptorOf(parts);
  const last = lastOf(parts.extents);
  const made: MadeExtent[] = [];
  const lines = (): ExtentLine[] => [...plan.lines, ...made.map(({ line }) => line)];
  const before = descriptor.text;
  let mayCount = false;
  try {
    if (plan.changes) await growLast(last, plan, job);
    await addExtents(parts, plan, job, made);
    throwIfAborted(job.signal, RESIZING);
    mayCount = true;
    await descriptor.replace(textOf(parts, lines(), job.size));
  } catch (error) {
    if (!leavesFiles(error)) parts.guard.fail();
    // A descriptor that could not be written may be on the medium all the same, and needs what it names.
    const mayName = descriptor.text !== before || (mayCount && parts.guard.failed);
    if (mayName) for (const { storage } of made) await storage.close();
    else await takeBack(parts, plan, made, adopt).catch(() => {});
    throw error;
  }
  const length = lastOf(plan.lines).sectors * SECTOR;
  const kept = plan.changes ? [...parts.extents.slice(0, -1), await reopened(last, length)] : parts.extents;
  adopt({
    lines: lines(),
    extents: [...kept, ...made.map(({ extent }) => extent)],
    parts: [...parts.parts, ...made.map(({ part }) => part)],
  });
}

/** Deletes new extents, and gives up the room of the last one, which no line counts. */
async function takeBack(
  parts: VmdkParts,
  { changes }: ResizePlan,
  made: readonly MadeExtent[],
  adopt: Adopt,
): Promise<void> {
  const store = parts.files?.parts;
  for (const { storage } of made) await store?.remove(storage);
  if (made.length > 0) await store?.sync();
  if (!changes) return;
  const { length } = lastOf(parts.extents);
  const asItIs = async (last: Extent): Promise<Extent> => {
    const now = await reopened(last, length);
    adopt({ ...parts, extents: [...parts.extents.slice(0, -1), now] });
    return now;
  };
  const last = await asItIs(lastOf(parts.extents));
  if (parts.guard.failed) return;
  await last.shrink?.(length, {});
  await asItIs(last);
}

async function growLast(last: Extent, { lines }: ResizePlan, job: Job): Promise<void> {
  await last.end(true);
  const length = lastOf(lines).sectors * SECTOR;
  assert(last.grow !== undefined, 'an extent that resizes can grow');
  await last.grow(length, { ...growHow(job, sizeOf(lines) - length), onProgress: job.onProgress });
}

/** The range that must hide a parent, in an extent that begins at `start`. */
function growHow({ fill, fillEnd, signal }: ResizeOptions, start: number): GrowHow {
  return { zeroUntil: fill === 'zero' ? Math.max(0, fillEnd - start) : 0, signal };
}

async function shrinkImage(parts: VmdkParts, plan: ResizePlan, job: Job, adopt: Adopt): Promise<void> {
  const { lines } = plan;
  const kept = parts.extents.slice(0, lines.length);
  const dropped = parts.extents.slice(lines.length);
  const last = lastOf(kept);
  await last.end(true);
  if (job.size !== sizeOf(parts.lines))
    await storeSize(parts, lines, job.size, () => deleteFiles(parts, kept, dropped));
  const length = lastOf(lines).sectors * SECTOR;
  const shorter = await reopened(last, length);
  const extents = [...kept.slice(0, -1), shorter];
  const names = new Set(lines.map(({ file }) => file));
  adopt({ lines, extents, parts: parts.parts.filter(({ name }) => names.has(name)) });
  await deleteFiles(parts, kept, dropped);
  const { storage } = shorter;
  // What other extents have in the same file stays.
  if (!shorter.resizes || shorter.shrink === undefined || isShared(storage, kept)) return;
  await shorter.shrink(length, job);
  adopt({
    lines,
    extents: [...kept.slice(0, -1), await reopened(shorter, length)],
    parts: parts.parts.filter(({ name }) => names.has(name)),
  });
}

/** Stores a smaller size. `whenStored` runs if the new size counts in spite of a failure. */
async function storeSize(
  parts: VmdkParts,
  lines: readonly ExtentLine[],
  size: number,
  whenStored: () => Promise<void>,
): Promise<void> {
  const descriptor = descriptorOf(parts);
  const text = textOf(parts, lines, size);
  try {
    await descriptor.replace(text);
  } catch (error) {
    if (descriptor.text === text) await whenStored().catch(() => {});
    throw error;
  }
}

/** Deletes the files of extents that are gone. Those that were opened for reading stay. */
async function deleteFiles(
  { files, storage: main }: VmdkParts,
  kept: readonly Extent[],
  dropped: readonly Extent[],
): Promise<void> {
  const needed = new Set<Storage | null>([null, main, ...kept.map(({ storage }) => storage)]);
  const gone = new Set(dropped.flatMap(({ storage }) => (storage === null || needed.has(storage) ? [] : [storage])));
  if (gone.size === 0) return;
  for (const storage of gone) if ((await files?.parts?.remove(storage)) !== true) await storage.close();
  await files?.parts?.sync();
}

/** The extent with another length, as the medium has it now. */
async function reopened(extent: Extent, length: number): Promise<Extent> {
  if (extent.withLength === undefined) return extent;
  return extent.withLength(length);
}

/** A new extent, open. */
interface MadeExtent {
  readonly storage: Storage;
  readonly line: ExtentLine;
  readonly extent: Extent;
  readonly part: ImagePart;
}

/** Makes new extents, whole and with durable names. */
async function addExtents(parts: VmdkParts, plan: ResizePlan, job: Job, made: MadeExtent[]): Promise<void> {
  const store = parts.files?.parts;
  if (plan.added.length === 0) return;
  if (store === undefined) throw cannotAdd(parts);
  const names = namesFrom(parts);
  let start = sizeOf(plan.lines);
  for (const sectors of plan.added) {
    throwIfAborted(job.signal, RESIZING);
    const { name, storage } = await makeFile(store, names, lastOf(parts.extents).storage ?? parts.storage);
    const line = newLine(parts, sectors, name);
    const part = { name, role: ROLE, storage, follows: true };
    try {
      made.push({ storage, line, part, extent: await newExtent(parts, storage, line, growHow(job, start), job) });
    } catch (error) {
      await store.remove(storage);
      throw error;
    }
    start += sectors * SECTOR;
  }
  await store.sync();
}

/** Makes a file by the first name that is free. */
async function makeFile(
  store: PartFiles,
  names: Iterator<string, never>,
  like: Storage,
): Promise<{ readonly name: string; readonly storage: Storage }> {
  let name = '';
  for (let n = 0; n < TRIES; n++) {
    name = names.next().value;
    const storage = await store.make(name, like);
    if (storage !== null) return { name, storage };
  }
  throw new ImageError('exists', 'There is no free name for a new extent of the image', {
    path: name,
    hint: 'Move the files away that no image needs.',
  });
}

async function newExtent(
  parts: VmdkParts,
  storage: Storage,
  line: ExtentLine,
  how: GrowHow,
  { onProgress }: ResizeOptions,
): Promise<Extent> {
  const length = line.sectors * SECTOR;
  const last = lastOf(parts.extents);
  const { signal } = how;
  if (!(last instanceof SparseExtent)) {
    await lengthen(storage, 0, length, { like: last.storage ?? undefined, signal, onProgress });
    await storage.flush();
    return new FlatExtent(storage, { length, fileOffset: 0, writable: true, guard: parts.guard });
  }
  const { grainBytes, zeroGrains } = last.layout;
  const plan = { grainSectors: grainBytes / SECTOR, zeroGrains };
  await writeSparse(storage, line, { plan, embedded: false });
  await storage.flush();
  const extent = await openNew(storage, 0, { ...how, guard: parts.guard });
  assert(extent.grow !== undefined && extent.withLength !== undefined, 'a new extent is written');
  if (how.zeroUntil > 0) await extent.grow(length, how);
  return extent.withLength(length);
}

async function openNew(
  storage: Storage,
  length: number,
  { signal, guard }: Pick<SparseOpen, 'signal' | 'guard'>,
): Promise<Extent> {
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  const layout = parseSparse(sector, storage.size, storage.label);
  return openSparse(storage, layout, { mode: 'write', permitted: true, length, signal, guard });
}

function planResize(parts: VmdkParts, size: number): ResizePlan {
  if (descriptorOf(parts).text.extents.length === 0) throw cannotAdd(parts);
  const old = sizeOf(parts.lines);
  return size > old ? planGrowth(parts, (size - old) / SECTOR) : planCut(parts, size / SECTOR);
}

/** Places of the sectors that the disk gets. Throws `unsupported`, `limit`. */
function planGrowth(parts: VmdkParts, wanted: number): ResizePlan {
  const { lines, extents, descriptor } = parts;
  const [line, last] = [lastOf(lines), lastOf(extents)];
  const isSplit = /^(two|2)gbmaxextent(sparse|flat)$/i.test(descriptor?.text.value(KEYS.createType) ?? '');
  // Of other programs, extents of a split image are longer.
  const limit = largest(
    lines.slice(0, -1).map(({ sectors }) => sectors),
    SPLIT_SECTORS,
  );
  const room = isSplit ? Math.max(0, limit - line.sectors) : wanted;
  const longer = last.resizes && !isShared(last.storage, extents) ? Math.min(room, wanted) : 0;
  const added: number[] = [];
  for (let rest = wanted - longer; rest > 0; rest -= SPLIT_SECTORS) added.push(Math.min(rest, SPLIT_SECTORS));
  if (added.length > 0 && (!isSplit || parts.files?.parts === undefined)) throw cannotAdd(parts);
  if (lines.length + added.length > VMDK_LIMITS.extents) throw tooMany(parts, lines.length + added.length);
  const grown = { ...line, sectors: line.sectors + longer };
  last.checkLength?.(grown.sectors * SECTOR);
  return { lines: [...lines.slice(0, -1), grown], changes: longer > 0, added };
}

/** Extents of a smaller disk. Throws `unsupported`. */
function planCut({ lines, extents, storage }: VmdkParts, wanted: number): ResizePlan {
  let start = 0;
  const kept: ExtentLine[] = [];
  for (const line of lines) {
    if (start >= wanted) break;
    kept.push({ ...line, sectors: Math.min(line.sectors, wanted - start) });
    start += line.sectors;
  }
  const changes = start > wanted;
  if (changes && extents[kept.length - 1]?.withLength === undefined) {
    throw new ImageError('unsupported', 'The extent at the new end of the disk cannot become shorter', {
      path: storage.label,
      field: 'extent type',
      found: lastOf(kept).type,
      hint: 'Convert the image into a new one.',
    });
  }
  return { lines: kept, changes, added: [] };
}

/** True when several extents lie in one file. */
function isShared(storage: Storage | null, extents: readonly Extent[]): boolean {
  return extents.filter((extent) => extent.storage === storage).length > 1;
}

function newLine({ lines, extents }: VmdkParts, sectors: number, file: string): ExtentLine {
  const isSparse = lastOf(extents) instanceof SparseExtent;
  const type = isSparse ? 'SPARSE' : (lines.find((line) => EXTENT_TYPES[line.type] === 'flat')?.type ?? 'FLAT');
  return { access: 'RW', sectors, type, file, offset: 0, rest: [] };
}

/** Names of new extents, as VMware counts them, after that of the last one. */
function* namesFrom({
  lines,
  extents,
  storage,
}: Pick<VmdkParts, 'lines' | 'extents' | 'storage'>): Generator<string, never> {
  const named = splitName(lines.at(-1)?.file ?? '');
  const stem = named?.stem ?? baseName(storage.label);
  const letter = extents.at(-1) instanceof SparseExtent ? 's' : 'f';
  for (let number = (named?.number ?? lines.length) + 1; ; number++) {
    yield `${stem}-${letter}${String(number).padStart(3, '0')}.vmdk`;
  }
}

/** The descriptor of another size: lines that do not change stay as they are. */
function textOf(parts: VmdkParts, lines: readonly ExtentLine[], size: number): DescriptorText {
  const descriptor = descriptorOf(parts);
  const text = descriptor.draft();
  const old = text.extents;
  const stays = (line: ExtentLine, index: number): boolean => line.sectors === parts.lines[index]?.sectors;
  text.setExtents(
    lines.map((line, index) => (stays(line, index) ? (old[index]?.text ?? formatExtent(line)) : formatExtent(line))),
    descriptor.path,
  );
  resizeGeometry(text, size, descriptor.path);
  return text;
}

function descriptorOf({ descriptor, storage }: VmdkParts): DescriptorStore {
  if (descriptor !== null) return descriptor;
  throw new ImageError('unsupported', 'The file has no descriptor: it is one extent of an image', {
    path: storage.label,
    hint: 'Resize the image whose descriptor names it, or convert the file into a new image.',
  });
}

function sizeOf(lines: readonly ExtentLine[]): number {
  return lines.reduce((sum, { sectors }) => sum + sectors, 0) * SECTOR;
}

function lastOf<T>(list: readonly T[]): T {
  const last = list.at(-1);
  assert(last !== undefined, 'an image has extents');
  return last;
}

function cannotAdd({ storage, lines }: VmdkParts): ImageError {
  return new ImageError('unsupported', 'The last extent of the image cannot become longer, and none can be added', {
    path: storage.label,
    field: 'extent type',
    found: `${lastOf(lines).access} ${lastOf(lines).type}`,
    hint: 'Convert the image into a new one.',
  });
}

function tooMany({ storage }: VmdkParts, found: number): ImageError {
  return new ImageError('limit', 'The image would have too many extents', {
    path: storage.label,
    found,
    expected: `at most ${VMDK_LIMITS.extents}`,
    hint: 'Convert it to a variant that is not split.',
  });
}
