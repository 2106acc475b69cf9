/** Image metadata, without guest data. */
import { checkArguments } from '../arguments.ts';
import { SECTOR } from '../binary/numbers.ts';
import { SOURCE } from '../disk/kinds.ts';
import { Environment, type Resolved, resolve } from '../disk/open/environment.ts';
import { type ImageFileOptions, type OpenedImage, withImageFile } from '../disk/open/image-file.ts';
import { type OpenImageOptions, openImage } from '../disk/open/open-image.ts';
import { mainStorages, openPart, type PartFile, partFiles } from '../disk/open/parts.ts';
import type {
  EnvironmentOptions,
  ImageReport,
  ImageSource,
  InspectOptions,
  InspectReport,
  PartReport,
} from '../disk/options.ts';
import { closeImages } from '../disk/path/chain.ts';
import { hostSizes } from '../disk/report.ts';
import { ImageError, isImageError, throwIfAborted } from '../errors.ts';
import type { ImageInfo, MediumType } from '../image/contract.ts';
import { allDone, someAtATime } from '../storage/all-done.ts';
import type { LockState, Source, Storage } from '../storage/contract.ts';
import { OPTIONS } from './option-kinds.ts';

const UNKNOWN: LockState = { held: null, holders: [] };
const ORDER: readonly LockState['held'][] = ['exclusive', 'shared', null, 'none'];

/**
 * Reports on an image from its headers: format, sizes, UUIDs, parent, geometry. With `chain`, also on its parents,
 * which the gate must permit. Changes nothing; takes no lock and reports existing ones. Throws as `Disk.open` does.
 */
export async function inspect(source: ImageSource, options: InspectOptions = {}): Promise<InspectReport> {
  checkArguments('inspect', { source: [source, SOURCE], options: [options, OPTIONS] });
  const own = await resolve(options);
  return inspectImage(own.environment.sourceOf(source), { ...own, unwrap: true });
}

/** Like `inspect`, in an environment. */
export async function inspectImage(
  source: Source,
  options: Resolved<InspectOptions> & Pick<OpenImageOptions, 'unwrap'>,
): Promise<InspectReport> {
  const { environment, format } = options;
  const onOpen = environment.lock ? lookEarly : undefined;
  const opened: OpenedImage[] = [];
  try {
    const settings = options.snapshot === undefined ? {} : { settings: { snapshot: options.snapshot } };
    const how = {
      environment,
      format,
      ...settings,
      mode: 'read',
      infoOnly: true,
      onOpen,
      unwrap: options.unwrap,
    } as const;
    const last = await openImage(source, how);
    opened.push(last);
    if (options.chain !== true) return await report(last, environment);
    // A page that looks at one image loads no search for others.
    const { openParents } = await import('../disk/open/parents.ts');
    const doubts = await openParents(opened, [], { ...options, infoOnly: true });
    const chain: ImageReport[] = [];
    for (const entry of [...opened].reverse()) {
      const own = await report(entry, environment);
      chain.push(entry === last ? { ...own, warnings: [...own.warnings, ...doubts] } : own);
    }
    return { ...(chain.at(-1) ?? (await report(last, environment))), chain };
  } finally {
    await closeImages(opened);
  }
}

/** The first look at the system's locks takes milliseconds of waiting, during which the image can be opened. */
async function lookEarly(storage: Storage): Promise<void> {
  try {
    await storage.lockState();
  } catch {
    // The second look meets the same obstacle, where it can be reported.
  }
}

/** Result of format detection. */
export interface DetectedFormat {
  readonly format: string;
  readonly type: MediumType;
  /** Reason, for people: `VDI signature at 0x40`. */
  readonly recognisedBy: string;
  /** True when nothing identifies the file, so it is treated as a raw disk. Not acceptable for writing. */
  readonly guessed: boolean;
  /** Precise description, for people: `a gzip-compressed file`. */
  readonly detail: string;
  /** False: recognised, but cannot be opened. */
  readonly readable: boolean;
  readonly warnings: readonly string[];
}

/**
 * Detects the format of a file without opening it as an image: also for images that are damaged, of another version, or
 * of an unsupported format. Takes no lock. Throws `not-found`, `denied`, `io`, and `invalid-format` if not even a raw
 * disk fits.
 */
export async function detectFormat(source: ImageSource, options: EnvironmentOptions = {}): Promise<DetectedFormat> {
  checkArguments('detectFormat', { source: [source, SOURCE], options: [options, OPTIONS] });
  const environment = await Environment.of(options);
  throwIfAborted(environment.signal, 'Looking at the file');
  const how: ImageFileOptions = { environment, mode: 'read', infoOnly: true };
  return withImageFile(environment.sourceOf(source), how, async (file) => {
    const { format, answer, guessed, warnings } = await file.probe();
    const {
      storage,
      source: { name },
    } = file;
    if (guessed && storage !== null && storage.size % SECTOR !== 0) {
      throw new ImageError('invalid-format', 'The file does not look like an image', {
        status: 'VERR_NOT_SUPPORTED',
        path: name,
        found: `${storage.size} bytes`,
        expected: 'a signature, or a multiple of 512 bytes for a raw disk',
      });
    }
    const type = answer.type ?? 'hdd';
    const { read: readable } = format.capabilities;
    const detail = answer.detail ?? format.title;
    return { format: format.name, type, recognisedBy: answer.reason, guessed, detail, readable, warnings };
  });
}

async function report(entry: OpenedImage, environment: Environment): Promise<ImageReport> {
  const info: ImageInfo = entry.image.info;
  const { unpacked } = entry.source;
  await using looked = await lookAtParts(entry);
  const storages = [...mainStorages(entry.image), ...looked.storages];
  return {
    ...info,
    file: entry.name,
    ...(await hostSizes(storages)),
    ...(unpacked === undefined ? {} : { fileSize: unpacked.fileSize }),
    wrappings: unpacked?.wrappings ?? [],
    lock: environment.lock ? await lockOf(storages) : UNKNOWN,
    recognisedBy: entry.recognisedBy,
    guessed: entry.guessed,
    warnings: entry.warnings,
    parts: looked.parts,
  };
}

/** Files that are looked at together: a look at locks opens tables of the system. */
const LOOKS = 8;

/** Opens the parts of an image that the gate lets through, to look at their sizes and locks. */
async function lookAtParts(
  entry: OpenedImage,
): Promise<{ storages: readonly Storage[]; parts: readonly PartReport[] } & AsyncDisposable> {
  const opened: Storage[] = [];
  const close = (): Promise<void> => allDone(opened.map((storage) => storage.close()));
  const look = async (part: PartFile) => {
    const storage = part.storage ?? (await openIfAllowed(entry, part));
    if (storage !== part.storage && storage !== null) opened.push(storage);
    const { fileSize, allocatedSize } = storage === null ? UNSEEN : await hostSizes([storage]);
    return { storage, part: { file: part.file, role: part.role, fileSize, allocatedSize } };
  };
  try {
    const looked = await someAtATime(partFiles(entry), LOOKS, look);
    const storages = looked.flatMap(({ storage }) => (storage === null ? [] : [storage]));
    return { storages, parts: looked.map(({ part }) => part), [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

const UNSEEN = { fileSize: null, allocatedSize: null };

async function openIfAllowed(entry: OpenedImage, part: PartFile): Promise<Storage | null> {
  try {
    return await openPart(entry, part, 'read');
  } catch (error) {
    if (isImageError(error)) return null;
    throw error;
  }
}

/** The strictest lock on any file of the image. */
async function lockOf(storages: readonly Storage[]): Promise<LockState> {
  const states = await someAtATime(storages, LOOKS, (storage) => storage.lockState());
  const strictest = ORDER.map((held) => states.find((state) => state.held === held)).find(
    (state) => state !== undefined,
  );
  return strictest ?? UNKNOWN;
}
