/** Opening of VMDK images: a descriptor, alone or inside a sparse extent, and the extents that it names. */
import { SECTOR } from '../../binary/numbers.ts';
import { ChangeGuard } from '../../blocks/guarded.ts';
import { PageCache } from '../../blocks/metadata-pages.ts';
import { ImageError, withContext } from '../../errors.ts';
import type { FormatOpenOptions, ImagePart } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { LIMITS } from '../../limits.ts';
import { someAtATime } from '../../storage/all-done.ts';
import type { OpenMode, Storage } from '../../storage/contract.ts';
import { EXTENT_TYPES, type ExtentLine, parseExtent } from './descriptor/extents.ts';
import { isRawDevice, KEYS } from './descriptor/facts.ts';
import { DescriptorStore } from './descriptor/store.ts';
import type { Extent } from './extents/extent.ts';
import { parseSparse, type SparseLayout } from './extents/header.ts';
import { ClosedExtent, FlatExtent, UnseenExtent, ZeroExtent } from './extents/plain.ts';
import type { SparseOpen } from './extents/sparse.ts';
import { openSparse } from './extents/sparse-open.ts';
import { VmdkImage } from './image.ts';
import { COWD, COWD_HEADER, KDMV, SESPARSE } from './layout.ts';
import { VMDK_LIMITS } from './limits.ts';
import { looksLikeDescriptor } from './probe.ts';

/** Role of an extent in messages. */
const ROLE = 'extent';
/** Extents that are opened together: most of the time the system is waited for. */
const OPENED_TOGETHER = 8;

/** Content of the main file of an image. */
export interface MainFile {
  readonly storage: Storage;
  /** Its own extent; null: it is a descriptor alone. */
  readonly layout: SparseLayout | null;
  /** Null: an extent without a descriptor. */
  readonly descriptor: DescriptorStore | null;
}

/** Opens the image in these files. Throws `invalid-format`, `corrupt`, `unsupported`, `denied`, `limit`. */
export async function openVmdk(files: ImageFiles, options: FormatOpenOptions): Promise<VmdkImage> {
  const main = await readMain(mainFile(files));
  const lines = linesOf(main);
  checkSize(lines, main.storage.label);
  const opening: Opening = {
    files,
    options,
    main,
    opened: new Map(),
    cache: new PageCache(),
    guard: main.descriptor?.guard ?? new ChangeGuard(main.storage.label),
  };
  // A sparse extent with a descriptor inside is alone in its file.
  const isAlone = main.layout !== null && lines.length === 1 && !hasParentHint(main);
  const overlaps = isAlone ? null : await import('./overlaps.ts');
  overlaps?.refuseParentAsExtent(main, lines);
  const extents = await someAtATime(lines, OPENED_TOGETHER, (line) => openExtent(line, opening));
  await overlaps?.refuseOverlaps({ main, lines, storageOf: (_line, index) => extents[index]?.storage ?? null });
  const { storage, descriptor } = main;
  const { directory } = files;
  return new VmdkImage({
    storage,
    directory,
    descriptor,
    lines,
    extents,
    parts: await partsOf(opening),
    mode: options.mode,
    cache: opening.cache,
    guard: opening.guard,
    files,
  });
}

function hasParentHint({ descriptor }: MainFile): boolean {
  return (descriptor?.text.value(KEYS.parentHint) ?? null) !== null;
}

/** The sparse extents of a file or its descriptor. `fileSize`: when the storage has the start of the file only. */
export async function readMain(storage: Storage, fileSize: number = storage.size): Promise<MainFile> {
  const head = new Uint8Array(Math.min(storage.size, 4096));
  await storage.read(0, head);
  const magic = head.length >= 4 ? new DataView(head.buffer).getUint32(0, true) : 0;
  if (magic === KDMV) {
    const layout = parseSparse(head, fileSize, storage.label);
    const place = layout.descriptor;
    if (place === null) return { storage, layout, descriptor: null };
    const { fileOffset, length: room } = place;
    return { storage, layout, descriptor: await DescriptorStore.open({ storage, fileOffset, room }) };
  }
  if (magic === COWD && head.length >= COWD_HEADER.size) {
    const { isCowdBase, parseCowd } = await import('./extents/cowd.ts');
    if (isCowdBase(head)) return { storage, layout: parseCowd(head, storage.size, storage.label), descriptor: null };
  }
  if (magic === COWD || magic === SESPARSE) {
    throw new ImageError('unsupported', 'This is an extent of ESX, which its descriptor must lead to', {
      path: storage.label,
      hint: 'Open the descriptor: the file of that name without "-delta" or "-sesparse".',
    });
  }
  if (!looksLikeDescriptor(head)) {
    throw new ImageError('invalid-format', 'This is neither a VMDK descriptor nor a sparse extent', {
      status: 'VERR_VD_VMDK_INVALID_HEADER',
      path: storage.label,
    });
  }
  return { storage, layout: null, descriptor: await DescriptorStore.open({ storage, fileOffset: 0, room: null }) };
}

/** The extents of the disk. A file without a descriptor is one. */
export function linesOf({ storage, layout, descriptor }: MainFile): ExtentLine[] {
  const texts = descriptor?.text.extents ?? [];
  if (texts.length > VMDK_LIMITS.extents) {
    throw new ImageError('limit', 'The image has too many extents', {
      path: storage.label,
      found: texts.length,
      expected: `at most ${VMDK_LIMITS.extents}`,
    });
  }
  if (texts.length > 0) return texts.map((text) => parseExtent(text, storage.label));
  if (layout !== null && layout.capacity > 0) {
    const sectors = layout.capacity / SECTOR;
    return [{ access: 'RW', sectors, type: layout.form.type, file: storage.label, offset: 0, rest: [] }];
  }
  throw new ImageError('corrupt', 'The descriptor names no extents', {
    status: 'VERR_VD_VMDK_VALUE_NOT_FOUND',
    path: storage.label,
    field: 'extents',
  });
}

function checkSize(lines: readonly ExtentLine[], path: string): void {
  const sectors = lines.reduce((sum, line) => sum + line.sectors, 0);
  if (sectors <= LIMITS.virtualSize / SECTOR) return;
  throw new ImageError('limit', 'The extents together are larger than what can be addressed', {
    path,
    found: `${sectors} sectors`,
    expected: `at most ${Math.floor(LIMITS.virtualSize / SECTOR)}`,
  });
}

/** State while the extents of an image are opened. */
interface Opening {
  readonly files: ImageFiles;
  readonly options: FormatOpenOptions;
  readonly main: MainFile;
  /** Files by stored name, in the order of the lines: several extents may lie in one. Null: it stays closed. */
  readonly opened: Map<string, Promise<Storage> | null>;
  /** Tables of all extents. */
  readonly cache: PageCache;
  /** Of the whole image. */
  readonly guard: ChangeGuard;
}

async function openExtent(line: ExtentLine, opening: Opening): Promise<Extent> {
  const { main, options, cache, guard } = opening;
  const length = line.sectors * SECTOR;
  const kind = EXTENT_TYPES[line.type];
  const { label } = main.storage;
  if (kind === 'zero') return new ZeroExtent(length);
  if (line.access === 'NOACCESS') return new ClosedExtent(length, label);
  const permitted = line.access === 'RW';
  const mode: OpenMode = permitted ? options.mode : 'read';
  if ((kind === 'sparse' || kind === 'cowd') && main.layout !== null) {
    // Whatever name its line has: the file may have been renamed.
    return openSparseFile(main.storage, main.layout, { ...options, length, permitted, cache, guard });
  }
  const isClosed = options.withoutData === true || (kind === 'mapped' && options.infoOnly === true);
  if (isClosed) return unseenExtent(line, opening);
  if (kind === 'mapped') throw unsupported(line, label);
  const storage = await openFile(line.file ?? '', mode, opening);
  if (kind === 'flat')
    return new FlatExtent(storage, { length, fileOffset: line.offset * SECTOR, writable: mode === 'write', guard });
  if (kind === 'sesparse') {
    const { openSeSparse } = await import('./extents/sesparse.ts');
    return openSeSparse(storage, { mode, length, cache, signal: options.signal });
  }
  const { readLayout } = await import('./extents/cowd.ts');
  return openSparseFile(storage, await readLayout(storage), { ...options, length, permitted, cache, guard });
}

/** True for a device: deleting or moving the image must leave it alone. */
function isOutside(name: string, { descriptor }: MainFile): boolean {
  return isRawDevice(name, descriptor?.text.value(KEYS.createType) ?? null);
}

/** An extent whose file stays closed. */
function unseenExtent(line: ExtentLine, { options, opened }: Opening): Extent {
  const { file, access, type } = line;
  if (file !== null && !opened.has(file)) opened.set(file, null);
  const kind = EXTENT_TYPES[type];
  const writable = access === 'RW' && options.mode === 'write' && kind !== 'sesparse';
  return new UnseenExtent(line.sectors * SECTOR, { writable, isDynamic: kind !== 'flat' && kind !== 'mapped' });
}

async function openSparseFile(
  storage: Storage,
  layout: SparseLayout,
  how: FormatOpenOptions & Pick<SparseOpen, 'length' | 'permitted' | 'cache' | 'guard'>,
): Promise<Extent> {
  const { length, permitted, cache, guard, signal, infoOnly = false } = how;
  if (layout.compressed || layout.directoryOffset === null) {
    const { openStream } = await import('./extents/stream-open.ts');
    return openStream(storage, layout, { length, infoOnly, signal });
  }
  const mode = infoOnly ? 'read' : how.mode;
  return openSparse(storage, layout, { mode, length, permitted, cache, guard, signal });
}

/** The file of extents. The first line that names it decides how it is opened. */
function openFile(name: string, mode: OpenMode, { files, main, opened }: Opening): Promise<Storage> {
  const known = opened.get(name);
  if (known !== undefined && known !== null) return known;
  const opening = files.open({ name, role: ROLE, part: true }, mode).catch((error: unknown) => {
    throw withContext(error, { hint: `It is an extent of ${main.storage.label}: put it back beside it.` });
  });
  opened.set(name, opening);
  return opening;
}

/** The files of the extents, as far as they belong to the image. */
async function partsOf({ main, opened }: Opening): Promise<ImagePart[]> {
  const parts: ImagePart[] = [];
  for (const [name, opening] of opened)
    if (!isOutside(name, main)) parts.push({ name, role: ROLE, storage: await opening, follows: true });
  return parts;
}

function unsupported({ type }: ExtentLine, path: string): ImageError {
  return new ImageError('unsupported', 'Extents of this type cannot be opened', {
    path,
    field: 'extent type',
    found: type,
    expected: 'FLAT, VMFS, SPARSE, VMFSSPARSE, SESPARSE or ZERO',
  });
}
