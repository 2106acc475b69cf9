/** Creation of images: checked, made under a temporary name, published when complete. */
import { checkArguments } from '../arguments.ts';
import { SOURCE } from '../disk/kinds.ts';
import { type Environment, type Resolved, resolve } from '../disk/open/environment.ts';
import { checkFormatConfig, checkVariants } from '../disk/open/format-options.ts';
import { wholeOf } from '../disk/open/image-file.ts';
import { linkWarnings } from '../disk/open/link-warnings.ts';
import { type LockingOptions, locked, takesLocks } from '../disk/open/locking.ts';
import { openImage } from '../disk/open/open-image.ts';
import { mainStorage, type PartFile, partFiles } from '../disk/open/parts.ts';
import type { CreateImageOptions, ImageSource, InspectReport } from '../disk/options.ts';
import { ImageError, isImageError, printable, throwIfAborted } from '../errors.ts';
import type { Format, FormatCreateOptions, Image } from '../image/contract.ts';
import { ofParent } from '../image/probe.ts';
import type { Registry } from '../image/registry.ts';
import type { FileAttributes, Source } from '../storage/contract.ts';
import { stageDirectory } from '../storage/staged-directory.ts';
import { type Staged, stageTarget } from '../storage/staging.ts';
import { refuseChainTarget } from './chain-files.ts';
import { filesOfOld } from './directories.ts';
import { inspectImage } from './inspect.ts';
import { type ListedParent, listedParent, listing, refuseListedTarget } from './listed-image.ts';
import { OPTIONS } from './option-kinds.ts';

/** A new image under its temporary name, open for writing. */
export interface StagedImage {
  readonly image: Image;
  readonly format: Format;
  readonly staged: Staged;
  /** The name by which it is opened once it is published. */
  readonly target: Source;
  readonly warnings: readonly string[];
}

/**
 * Creates an empty image: a base of `size` bytes, or a differencing image over `parent`. It appears under its name only
 * when it is complete and durable; a failure leaves nothing behind. Throws `exists` if the name is taken.
 */
export async function createImage(target: ImageSource, options: CreateImageOptions): Promise<InspectReport> {
  checkArguments('createImage', { target: [target, SOURCE], options: [options, OPTIONS] });
  const own = await resolve(options);
  return createIn(own.environment.sourceOf(target), own);
}

/** Like `createImage`, in an environment. */
export async function createIn(target: Source, options: Resolved<CreateImageOptions>): Promise<InspectReport> {
  const made = await stageImage(target, options);
  const lost = await finishImage(made);
  // The image is there, whatever the signal says now.
  const environment = options.environment.with({ allow: 'none', lock: false, signal: undefined });
  const report = await inspectImage(made.target, { environment, format: made.format.name });
  return { ...report, lock: { held: 'none', holders: [] }, warnings: [...report.warnings, ...made.warnings, ...lost] };
}

/** Ends, closes and publishes an image that stays empty. Returns warnings of publishing; a failure leaves nothing behind. */
export async function finishImage({ image, staged }: StagedImage): Promise<readonly string[]> {
  try {
    await image.finish?.();
    await image.close();
    return await staged.publish();
  } catch (error) {
    await staged.discard();
    throw error;
  }
}

/** Format of a new image: as given, or from the extension of its name. */
export function targetFormat(target: Source, options: Resolved<CreateImageOptions>): Format {
  const { registry } = options.environment;
  const format = options.format === undefined ? registry.byExtension(target.name) : registry.find(options.format);
  if (format === undefined) {
    throw new ImageError('invalid-argument', 'Cannot tell the format from the file name', {
      path: target.name,
      hint: 'Specify the format (on the command line: --to FORMAT).',
    });
  }
  if (format.create === undefined) {
    throw new ImageError('unsupported', `Images of format ${format.name} cannot be created`, {
      path: target.name,
      hint: `Formats that can be created: ${registry.formats.flatMap((one) => (one.create === undefined ? [] : [one.name])).join(', ')}.`,
    });
  }
  return format;
}

/** Facts about a new image that its options do not hold. */
export interface StageHow {
  /** Keys of files that the caller has open and may replace all the same. */
  readonly own?: ReadonlySet<string> | undefined;
  /** Keys of files that are never replaced, even if they belong to the image that is. */
  readonly keep?: ReadonlySet<string> | undefined;
  /** All images below it, base first, if they cannot be found by links. */
  readonly parentChain?: readonly ImageSource[] | undefined;
  /** The size is that of the source, which may end inside a sector. */
  readonly sizeOfSource?: boolean | undefined;
  /** The parent, held by the caller: see {@link holdParent}. */
  readonly parent?: Source | undefined;
  /** File that the image continues: it gets its attributes and times. */
  readonly continues?: FileAttributes | undefined;
  /** Attributes of the files whose content goes into it. */
  readonly sources?: readonly FileAttributes[] | undefined;
}

/** Creates the image and leaves it open under its temporary name. */
export async function stageImage(
  source: Source,
  options: Resolved<CreateImageOptions>,
  how: StageHow = {},
): Promise<StagedImage> {
  const { environment } = options;
  throwIfAborted(environment.signal, 'Creating the image');
  if (how.parent === undefined && options.parent !== undefined) {
    await using held = await holdParent(options.parent, options);
    return await stageImage(source, options, { ...how, parent: held.source });
  }
  const format = targetFormat(source, options);
  checkVariants(format, options.variant ?? []);
  checkFormatConfig(format, options.config ?? {}, 'create');
  const keep = new Set(how.keep);
  if (options.force === true && how.parent !== undefined) {
    const below = { environment, format: options.parentFormat, chain: how.parentChain };
    const needed = await refuseChainTarget(source, how.parent, below);
    for (const key of needed) keep.add(key);
  }
  return stageLocked(source, format, options, { ...how, keep });
}

/** A parent with its file open, and locked while an image over it is made. */
export interface HeldParent extends AsyncDisposable {
  readonly source: Source;
}

/** Opens the file of a parent once, for all that looks at it. One that is not a file is opened when it is looked at. */
export async function holdParent(parent: ImageSource, options: LockingOptions): Promise<HeldParent> {
  const source = await wholeOf(options.environment.sourceOf(parent), options.environment);
  const free = { source, [Symbol.asyncDispose]: async () => {} };
  if (source.configuration !== undefined) return free;
  const { provider, name } = source;
  const info = await provider.lookUp(name);
  if (info?.kind === 'directory') return free;
  const opened = await provider.open(name, 'read');
  const storage = takesLocks(options) ? await locked(opened, 'shared') : opened;
  return { source: { ...source, storage }, [Symbol.asyncDispose]: () => storage.close() };
}

async function stageLocked(
  source: Source,
  format: Format,
  options: Resolved<CreateImageOptions>,
  how: StageHow,
): Promise<StagedImage> {
  if (options.force === true) await refuseListedTarget(source, options.environment);
  const listed = await listedParent(source, format, how.parent, options.environment);
  try {
    return await stageAt(source, format, options, { ...how, listed });
  } catch (error) {
    await listed?.opened.image.close();
    throw error;
  }
}

async function stageAt(
  source: Source,
  format: Format,
  given: Resolved<CreateImageOptions>,
  how: StageHow & { readonly listed: ListedParent | null },
): Promise<StagedImage> {
  const { listed } = how;
  // The images of a directory are alike.
  const options =
    listed === null ? given : { ...given, config: { ...listed.opened.image.info.config, ...given.config } };
  const made = await createOptions(format, options, how.parent, listed !== null);
  const create = how.sizeOfSource === true ? { ...made, sizeOfSource: true } : made;
  await format.plan?.(create);
  const { force = false, environment } = options;
  const { lock, registry } = environment;
  if (format.directoryMain !== undefined && (format.makesDirectory?.(create) ?? true)) {
    const replaced = force ? await filesOfOld(source, format, environment) : null;
    const staged = await stageDirectory(source, { force, lock, main: format.directoryMain, old: replaced, ...how });
    return createStaged(source, format, { staged, create, registry });
  }
  const old = force ? await partsOfOld(source, environment, how.keep) : [];
  const replaces = async (): Promise<ReadonlySet<string>> => new Set(old.map(({ key }) => key));
  const staged = await stageTarget(source, { force, lock, replaces, ...how });
  const publish = async (): Promise<readonly string[]> => [
    ...(await staged.publish()),
    ...(await leftBehind(source, old)),
  ];
  const reporting = { create: () => staged.create(), publish, discard: () => staged.discard() };
  if (listed === null) return createStaged(source, format, { staged: reporting, create, registry });
  const whole = listing(reporting, source, listed, environment);
  return {
    ...(await createStaged(source, format, { staged: whole, create, registry })),
    target: listed.source,
  };
}

/** A target, and the options for the image in it. */
interface CreateJob {
  readonly staged: Staged;
  readonly create: FormatCreateOptions;
  readonly registry: Registry;
}

async function createStaged(source: Source, format: Format, job: CreateJob): Promise<StagedImage> {
  const { staged, create, registry } = job;
  try {
    if (format.create === undefined) throw new Error('internal: the format was checked');
    const image = await format.create(await staged.create(), create);
    const warnings = create.parent === undefined ? [] : linkWarnings({ image }, create.parent, registry);
    return { image, format, staged, target: source, warnings };
  } catch (error) {
    await staged.discard();
    throw error;
  }
}

/** A part of an image that is replaced. */
interface OldPart extends PartFile {
  readonly key: string;
}

/** Parts of an image that is replaced. Headers alone are read, whatever `allow` says. */
async function partsOfOld(
  source: Source,
  environment: Environment,
  keep: ReadonlySet<string> = new Set(),
): Promise<readonly OldPart[]> {
  if ((await source.provider.lookUp(source.name))?.kind !== 'file') return [];
  try {
    const own = environment.with({ allow: 'none' });
    const old = await openImage(source, { environment: own, mode: 'read', infoOnly: true });
    const files = partFiles(old);
    await old.image.close();
    const found: OldPart[] = [];
    for (const part of files) {
      const key = (await source.provider.lookUp(part.file))?.key;
      if (key !== undefined && !keep.has(key)) found.push({ ...part, key });
    }
    return found;
  } catch (error) {
    if (isImageError(error) && error.kind !== 'aborted') return [];
    throw error;
  }
}

/**
 * A warning for each part of the replaced image that the new one does not use. It stays: an image can name any file, and
 * permission to replace the image does not include others.
 */
async function leftBehind({ provider, name }: Source, old: readonly OldPart[]): Promise<string[]> {
  const left: string[] = [];
  for (const { file, role, key } of old) {
    if ((await provider.lookUp(file))?.key !== key) continue;
    left.push(
      `${printable(file)} (${role}) belonged to the ${name} that was replaced, and is left: delete it if nothing needs it.`,
    );
  }
  return left;
}

async function createOptions(
  format: Format,
  options: Resolved<CreateImageOptions>,
  held: Source | undefined,
  isListed: boolean,
): Promise<FormatCreateOptions> {
  if (held !== undefined && !isListed && !format.capabilities.diff) {
    throw new ImageError('unsupported', `Format ${format.name} does not support differencing images`);
  }
  const parent = held === undefined ? null : await parentOf(held, options);
  const size = options.size ?? parent?.size;
  if (size === undefined) {
    throw new ImageError('invalid-argument', 'The size of the new disk is missing', {
      hint: 'Give a size, or a parent.',
    });
  }
  const { type, comment, uuid, geometry, config, onProgress } = options;
  const { signal } = options.environment;
  return {
    size,
    variant: options.variant ?? [],
    signal,
    type,
    comment,
    uuid,
    geometry,
    config,
    onProgress,
    // A list of the directory has the parent, and the file nothing of it.
    ...(parent === null || isListed ? {} : { parent: parent.links }),
  };
}

interface ParentFacts {
  readonly size: number;
  readonly links: NonNullable<FormatCreateOptions['parent']>;
}

async function parentOf(source: Source, options: Resolved<CreateImageOptions>): Promise<ParentFacts> {
  const environment = options.environment.with({ allow: 'none', lock: false });
  const how = { environment, format: options.parentFormat, mode: 'read', infoOnly: true } as const;
  const opened = await openImage(source, how).catch((error: unknown) => {
    throw ofParent(error);
  });
  await using _closing = { [Symbol.asyncDispose]: () => opened.image.close() };
  const { info } = opened.image;
  const { uuid, modificationUuid, parentUuid, parentModificationUuid, parentName, parentFormat: grandFormat } = info;
  const links = { uuid, modificationUuid, parentUuid, parentModificationUuid, parentName, parentFormat: grandFormat };
  const { modifiedMs } = await mainStorage(opened.image).identity();
  const link = { name: source.name, format: info.format, contentId: info.contentId, modifiedMs };
  return { size: info.virtualSize, links: { ...links, ...link } };
}
