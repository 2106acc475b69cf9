/**
 * Copying images of a chain one by one, so that the copy is a chain as well; and moving an image, also to another
 * format or file system. New files appear only when complete and durable.
 */
import { CALLBACK, checkArguments } from '../arguments.ts';
import { requireRandom } from '../disk/device.ts';
import type { ChainDisk, DiskImage } from '../disk/disk.ts';
import { DISK, NUMBER_OF_IMAGE, SOURCE } from '../disk/kinds.ts';
import { refuseIncomplete } from '../disk/open/beside.ts';
import { type Resolved, resolve } from '../disk/open/environment.ts';
import type {
  ConvertOptions,
  ConvertResult,
  CreateImageOptions,
  EnvironmentOptions,
  ImageSource,
} from '../disk/options.ts';
import { ImageError, isImageError } from '../errors.ts';
import type { ImageInfo, Progress } from '../image/contract.ts';
import { logicalForSize, physicalForSize } from '../image/geometry.ts';
import { isPromise, type Source } from '../storage/contract.ts';
import { Turns } from '../storage/turns.ts';
import { compareDevices } from './compare.ts';
import { convertNew } from './convert.ts';
import { removeAll } from './directories.ts';
import { type FileOptions, type RenameResult, removeMade } from './files.ts';
import { refuseShared } from './held-parts.ts';
import { inspectImage } from './inspect.ts';
import { lostOf } from './lost.ts';
import { relocate } from './move.ts';
import { openIn } from './open.ts';
import { OPTIONS } from './option-kinds.ts';
import { type SetChanges, type SetOptions, setIn } from './set.ts';
import { childrenIn } from './siblings.ts';

/** Options for the copy. With `parent` it is a differencing image over the last image of another chain. */
export interface CopyImageOptions extends Omit<CreateImageOptions, 'lock'> {
  /**
   * With `parent`: images 0 to this number of the source chain read the same as the whole chain of the target, so that
   * only the data above them is copied. A wrong number makes a wrong copy. Default: copy everything.
   */
  readonly fromSame?: number | undefined;
  /** With `parent`: all images below the copy, base first, if they cannot be found by links. */
  readonly parentChain?: readonly ImageSource[] | undefined;
  /** See {@link ConvertOptions.compress}. */
  readonly compress?: NonNullable<ConvertOptions['compress']> | undefined;
  readonly parallel?: number | undefined;
  readonly rateLimit?: number | undefined;
  readonly verify?: boolean | undefined;
  /** As {@link ConvertOptions.shrink}. */
  readonly shrink?: boolean | undefined;
}

/**
 * Copies the data of a chain at one of its images (0 = base), or only the data above `fromSame`, into a new image of
 * any format. The copy gets a new UUID and keeps the comment and the modification UUID. Throws the errors of opening,
 * creating and I/O, leaving nothing behind.
 */
export async function copyImage(
  source: ChainDisk,
  number: number | 'last',
  target: ImageSource,
  options: CopyImageOptions = {},
): Promise<ConvertResult> {
  checkArguments('copyImage', {
    source: [source, DISK],
    number: [number, NUMBER_OF_IMAGE],
    target: [target, SOURCE],
    options: [options, OPTIONS],
  });
  const own = await resolve(options);
  return copyIn(source, number, own.environment.sourceOf(target), own);
}

async function copyIn(
  source: ChainDisk,
  number: number | 'last',
  target: Source,
  options: Resolved<CopyImageOptions>,
): Promise<ConvertResult> {
  const { environment } = options;
  const { images } = source;
  const last = number === 'last' ? images.length - 1 : number;
  const image = images[last];
  const { fromSame, verify, ...rest } = options;
  if (image === undefined) throw noImage(source, last);
  if (fromSame !== undefined && !(fromSame >= 0 && fromSame < last && options.parent !== undefined)) {
    throw new ImageError(
      'invalid-argument',
      'fromSame must be an image below the copied one, and the copy must have a parent',
      {
        path: source.label,
        found: fromSame,
        expected: options.parent === undefined ? 'a parent, too' : `0 to ${last - 1}`,
      },
    );
  }
  if (verify === true) requireRandom(source, 'Verifying a copy');
  await refuseSelf(source, target);
  const wanted: Resolved<ConvertOptions> = {
    ...rest,
    geometry: rest.geometry ?? geometryFor(image.info, rest.size ?? image.info.virtualSize),
    ...(fromSame === undefined ? {} : { skipAbsent: true }),
  };
  const layers = source.layers(fromSame === undefined ? 0 : fromSame + 1, last);
  const result = await convertNew(layers, target, wanted);
  try {
    if (verify === true) await compareWhole(source.layers(0, last), target, options);
    const { modificationUuid, comment } = image.info;
    await keepFacts(target, { modificationUuid, ...(rest.comment === undefined ? { comment } : {}) }, options);
    const lost = await lostInCopy(image, target, options);
    return { ...result, warnings: [...result.warnings, ...lost] };
  } catch (error) {
    await removeMade(target, { environment, format: options.format }).catch(() => {
      // The reason why there is no copy matters more.
    });
    throw error;
  }
}

/** Facts of the image that its copy lacks. */
async function lostInCopy(image: DiskImage, target: Source, options: Resolved<CopyImageOptions>): Promise<string[]> {
  const { format, comment } = options;
  const environment = options.environment.with({ lock: false });
  const copy = await inspectImage(target, { environment, format });
  const { geometry, format: made, config = {}, variant } = copy;
  const own = { geometry, comment: comment === undefined ? copy.comment : image.info.comment };
  return lostOf(image.info, image.name, made === image.format ? { ...own, config, variant } : own);
}

/** The guest finds the same drive, unless its size makes that impossible. */
function geometryFor({ geometry }: ImageInfo, size: number): NonNullable<CreateImageOptions['geometry']> {
  const { physical, logical } = geometry;
  return {
    ...(physical === null ? {} : { physical: physicalForSize(physical, size) }),
    ...(logical === null ? {} : { logical: logicalForSize(logical, size) }),
  };
}

/** Throws when the copy would replace an image of the chain. */
async function refuseSelf(source: ChainDisk, { provider, name }: Source): Promise<void> {
  const present = await provider.lookUp(name);
  if (present === null || !(await source.identities()).has(present.key)) return;
  throw new ImageError('invalid-argument', 'The copy would replace an image of the source chain', {
    path: name,
    hint: 'Choose another name or directory.',
  });
}

function noImage(source: ChainDisk, number: number): ImageError {
  return new ImageError('invalid-argument', 'The chain has no image with that number', {
    status: 'VERR_VD_IMAGE_NOT_FOUND',
    path: source.label,
    found: number,
    expected: `0 to ${source.images.length - 1}`,
  });
}

/** Throws unless the copy with its parents reads as the chain does. */
async function compareWhole(source: ChainDisk, target: Source, options: Resolved<CopyImageOptions>): Promise<void> {
  const { environment, format, parent, parentChain, parentFormat } = options;
  const { signal } = environment;
  const disk = await openIn(target, {
    environment,
    format,
    ...(parent === undefined ? {} : { parent: parentChain ?? parent }),
    parentFormat,
  });
  const outcome = await compareDevices(source, disk, { signal }).finally(() => disk.close());
  if (outcome.same) return;
  throw new ImageError('io', 'Verification failed: target differs from source', {
    path: target.name,
    guestOffset: outcome.firstDifference ?? 0,
    hint: 'The storage device may be faulty, or the common images differ.',
  });
}

/** Stores the image's metadata, as far as the format of the copy can. Returns what was stored. */
async function keepFacts(target: Source, facts: SetChanges, options: Resolved<SetOptions>): Promise<string[]> {
  const kept: string[] = [];
  for (const [name, value] of Object.entries(facts)) {
    if (value === null) continue;
    try {
      await setIn(target, { [name]: value }, options);
      kept.push(name);
    } catch (error) {
      if (!isImageError(error) || (error.kind !== 'unsupported' && error.kind !== 'denied')) throw error;
    }
  }
  return kept;
}

/** Options for the copy of a chain. */
export interface CopyChainOptions extends EnvironmentOptions {
  /** Format of the copies. Default: that of each image. */
  readonly format?: string | undefined;
  /** Replace existing files. */
  readonly force?: boolean | undefined;
  readonly verify?: boolean | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** One copied image. */
export interface CopiedImage {
  readonly from: string;
  readonly to: string;
  /** Bytes written, without holes and zeroes. */
  readonly written: number;
  /** Warnings for people: facts of the image that the copy lacks. */
  readonly warnings: readonly string[];
}

/**
 * Copies all images of a chain, each to the name returned by `nameOf`, base first, so that the copies form a chain that
 * reads the same at every image. After a failure all unfinished copies are gone.
 */
export async function copyChain(
  source: ChainDisk,
  nameOf: (image: string, number: number, format: string) => ImageSource,
  options: CopyChainOptions = {},
): Promise<CopiedImage[]> {
  checkArguments('copyChain', { source: [source, DISK], nameOf: [nameOf, CALLBACK], options: [options, OPTIONS] });
  const own = await resolve(options);
  const { environment } = own;
  const copied: CopiedImage[] = [];
  const made: Source[] = [];
  let parent: { readonly image: Source; readonly format: string } | null = null;
  try {
    for (const [number, image] of source.images.entries()) {
      const format = options.format ?? image.format;
      const target = environment.sourceOf(nameOf(image.name, number, format));
      const { variant } = image.info;
      const { variants } = environment.registry.find(format);
      const words = variant.filter((word) => variants.some((one) => one.word === word));
      const like = format === image.format ? await likenessOf(source, number, environment.signal) : {};
      const { written, warnings } = await copyIn(source, number, target, {
        ...own,
        ...like,
        format,
        ...(parent === null
          ? { variant: words, size: image.info.virtualSize }
          : {
              parent: parent.image,
              parentFormat: parent.format,
              parentChain: [...made],
              fromSame: number - 1,
              size: image.info.virtualSize,
            }),
      });
      made.push(target);
      copied.push({ from: image.name, to: target.name, written, warnings });
      parent = { image: target, format };
    }
    return copied;
  } catch (error) {
    // Also when it was cancelled.
    for (const target of made.reverse()) {
      await removeMade(target, { environment }).catch(() => {
        // What went wrong first matters more.
      });
    }
    throw error;
  }
}

/** Options that make a copy in the same format like the image: its config, and compression if it holds compressed data. */
async function likenessOf(
  source: ChainDisk,
  number: number,
  signal: AbortSignal | undefined,
): Promise<Pick<CopyImageOptions, 'config' | 'compress'>> {
  const config = source.images[number]?.info.config;
  const compress = await holdsCompressed(source.layers(number, number), signal);
  return { config, ...(compress ? { compress } : {}) };
}

/** Reads the tables of an image up to the first compressed unit. */
async function holdsCompressed(layer: ChainDisk, signal: AbortSignal | undefined): Promise<boolean> {
  const turns = new Turns(signal, 'The copy');
  for (let at = 0; at < layer.size; ) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    const answer = layer.extentAt(at, layer.size);
    const extent = isPromise(answer) ? await answer : answer;
    if (extent.compressed) return true;
    at = extent.offset + extent.length;
  }
  return false;
}

/** Options for a move. */
export interface MoveOptions extends FileOptions {
  /** Format of the image afterwards. Default: unchanged. */
  readonly to?: string | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/**
 * Moves an image: by renaming it if possible, otherwise all its files are copied, verified, and only then deleted. With
 * another format its data is converted, with its UUIDs, and compared. There is always one complete image. Throws as
 * `renameImage` does, and `unsupported` for features that the other format lacks.
 */
export async function moveImage(
  image: ImageSource,
  target: ImageSource,
  options: MoveOptions = {},
): Promise<RenameResult> {
  checkArguments('moveImage', { image: [image, SOURCE], target: [target, SOURCE], options: [options, OPTIONS] });
  const own = await resolve(options);
  const { environment } = own;
  const [from, to] = [environment.sourceOf(image), environment.sourceOf(target)];
  const report = await inspectImage(from, { environment, format: options.format });
  const format = options.to ?? report.format;
  if (format === report.format) return relocate(from, to, { ...own, format }, true);
  await refuseParent(from, own);
  return copyAway(from, to, { ...own, to: format });
}

/** Checked before anything is copied: the original could not be deleted afterwards. */
async function refuseParent(from: Source, { environment, force, format }: Resolved<MoveOptions>): Promise<void> {
  if (force === true) return;
  const children = await childrenIn(from, environment, format);
  const [child] = children.names;
  if (child === undefined) return refuseIncomplete(from.name, children);
  throw new ImageError('busy', `The image cannot be moved: ${child} in the same directory depends on it`, {
    path: from.name,
    hint: 'Copy the chain instead (copyChain; on the command line: copy), or use option force (--force).',
  });
}

/** Converts the image; the original is deleted when the copy is complete. */
async function copyAway(
  from: Source,
  to: Source,
  options: Resolved<MoveOptions> & { to: string },
): Promise<RenameResult> {
  const { to: format, onProgress, environment } = options;
  // For writing, so that no program writes to the original between its copy and its end.
  const disk = await openIn(from, {
    environment,
    format: options.format,
    mode: 'write',
    flushAfterMs: 0,
    withoutParents: true,
  });
  try {
    const [image] = disk.images;
    if (image === undefined) throw noImage(disk, 0);
    const { info } = image;
    if (info.differencing) {
      throw new ImageError('unsupported', 'A differencing image cannot be converted while it is moved', {
        path: from.name,
        hint: 'Omit the format (on the command line: --to), or copy the chain (copyChain; copy).',
      });
    }
    refuseLoss(info, from.name, format);
    const parts = image.files.slice(1).map((file) => ({ file }));
    const shared = await refuseShared({ source: from, key: disk.lastKey, name: from.name }, 'moved', parts, options);
    const warnings = (await isCopied(disk, to, options))
      ? []
      : await copyContent(disk, to, { environment, format, onProgress });
    const { uuid, modificationUuid, comment } = info;
    const kept = await keepFacts(to, { uuid, modificationUuid, comment }, { environment, format });
    if (!kept.includes('comment') && comment !== null && comment !== '') {
      warnings.push(`${to.name} cannot store the comment of ${from.name}: ${JSON.stringify(comment)}.`);
    }
    const isDirectory = (await from.provider.lookUp(from.name))?.kind === 'directory';
    const original = { source: { ...from, isDirectory }, format: info.format, name: from.name };
    const left = (await removeAll(original, parts, environment)).warnings;
    return { from: from.name, to: to.name, warnings: [...warnings, ...shared, ...left] };
  } finally {
    await disk.close();
  }
}

/** Content that would be gone with the original. */
function refuseLoss({ snapshots = [], bitmaps = [] }: ImageInfo, path: string, format: string): void {
  const found = [
    ...(snapshots.length === 0 ? [] : [`${snapshots.length} internal snapshots`]),
    ...(bitmaps.length === 0 ? [] : [`${bitmaps.length} bitmaps`]),
  ];
  if (found.length === 0) return;
  throw new ImageError('unsupported', `A move to ${format} would lose internal data of the image`, {
    path,
    found: found.join(' and '),
    hint: 'Copy it instead (convert), or delete these first (on the command line: snapshot delete, bitmap remove).',
  });
}

/**
 * Detects a move that was interrupted before the original was deleted; the copy is complete, except perhaps for its
 * metadata.
 */
async function isCopied(
  disk: ChainDisk,
  to: Source,
  options: Resolved<MoveOptions> & { to: string },
): Promise<boolean> {
  if ((await to.provider.lookUp(to.name)) === null) return false;
  const existing = new ImageError('exists', 'The target already exists', {
    path: to.name,
    hint: 'Choose another name.',
  });
  try {
    const { environment } = options;
    const copy = await openIn(to, { environment, format: options.to });
    try {
      const { same } = await compareDevices(disk, copy, { strict: true, signal: environment.signal });
      if (same) return true;
    } finally {
      await copy.close();
    }
  } catch (error) {
    if (!isImageError(error) || error.kind === 'aborted' || error.kind === 'io') throw error;
  }
  throw existing;
}

async function copyContent(disk: ChainDisk, to: Source, options: Resolved<ConvertOptions>): Promise<string[]> {
  const [attributes] = await disk.attributes();
  const { warnings } = await convertNew(disk, to, { ...options, verify: true }, attributes);
  return [...warnings];
}
