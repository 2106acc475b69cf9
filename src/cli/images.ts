/** Naming images and formats on the command line; loaded only by commands that open images. */
import type { CacheEntry, DiskOpenOptions, Message } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import type { Format } from '../image/contract.ts';
import type { Registry } from '../image/registry.ts';
import type { CommandContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { OuterMode, PlacedImage } from './inside.ts';
import { present } from './options.ts';
import { registryOf } from './registry.ts';

/** What a cache file may have at most, if nobody says it. */
export const DEFAULT_CACHE_BYTES = 1024 ** 3;

/** Stands for no parent at all; a file of that name is `./none`. */
export const NONE = 'none';
/** Stands for standard input or output. */
export const STANDARD_STREAM = '-';

/** The name of an image that must be a file. */
export function imageName(context: CommandContext, index: number): string {
  return fileName(context.argument(index));
}

function fileName(name: string): string {
  if (name === '') throw new UsageError('The name of an image is empty', 'Name a file.');
  if (name !== STANDARD_STREAM) return name;
  throw new UsageError('Only convert works with standard input and output', 'Name a file; a file called "-" is "./-".');
}

/** Names of the options that say where an image lies in what is named. */
const INSIDE = { offset: 'offset', partition: 'partition' };
/** Linux makes no more. */
const PARTITIONS = { min: 1, max: 8192 };

/**
 * The image of an argument: the file itself, or what `--offset` or `--partition` say is inside of it. What is inside is
 * opened for writing only where the command writes.
 */
export async function placedImage(
  context: CommandContext,
  index: number,
  mode: OuterMode,
  names: typeof INSIDE = INSIDE,
): Promise<PlacedImage> {
  return placed(context, imageName(context, index), mode, names);
}

/** The same for a name. */
export async function placed(
  context: CommandContext,
  name: string,
  mode: OuterMode,
  names: typeof INSIDE = INSIDE,
): Promise<PlacedImage> {
  const offset = context.options.size(names.offset);
  const partition = context.options.count(names.partition, PARTITIONS);
  if (offset === undefined && partition === undefined) return { source: name, name, async [Symbol.asyncDispose]() {} };
  if (offset !== undefined && partition !== undefined) {
    throw new UsageError(`--${names.offset} and --${names.partition} say the same`, 'Give one of them.');
  }
  if (name === STANDARD_STREAM) {
    throw new UsageError('What is inside standard input cannot be reached', 'Name a file.');
  }
  const { imageInside } = await import('./inside.ts');
  return imageInside(context, name, present({ offset, partition }), { ...lockOptions(context), mode });
}

/** The format that an option names; undefined when it names none. Throws a usage error for an unknown one. */
export function namedFormat(context: CommandContext, option: string, registry: Registry): Format | undefined {
  const name = context.options.text(option);
  if (name === undefined) return undefined;
  const wanted = name.toLowerCase();
  const format = registry.formats.find((one) => one.name === wanted || one.aliases.includes(wanted));
  if (format !== undefined) return format;
  throw new UsageError(`--${option}: there is no format named "${name}"`, formatsHint(registry));
}

/** `Formats: vdi, raw.` */
export function formatsHint(registry: Registry): string {
  return `Formats: ${registry.formats.map((format) => format.name).join(', ')}.`;
}

/** What `--force-share` and `--no-lock` say. */
export function lockOptions(context: CommandContext): Pick<DiskOpenOptions, 'lock' | 'forceShare'> {
  return { lock: !context.options.declined('lock'), forceShare: context.options.flag('force-share') };
}

/** Which options say what about one image. */
export interface ImageOptionNames {
  readonly format: string;
  readonly parent: string;
  readonly parentFormat?: string;
  /** Default `snapshot`. */
  readonly snapshot?: string;
}

/** What every opening takes, from the options of those names. */
export function openOptions(
  context: CommandContext,
  names: ImageOptionNames = { format: 'format', parent: 'parent', parentFormat: 'parent-format' },
): DiskOpenOptions {
  const registry = registryOf(context);
  const named = context.options.text(names.parent);
  const parent = named === NONE ? [] : named === undefined ? undefined : fileName(named);
  const below = names.parent === 'parent' ? context.options.text('chain') : undefined;
  if (parent !== undefined && below !== undefined) {
    throw new UsageError('--parent and --chain say the same', 'Give one of them.');
  }
  return {
    registry,
    allow: context.allow,
    signal: context.signal,
    onMessage: failures(context),
    ...lockOptions(context),
    ...present({
      format: namedFormat(context, names.format, registry)?.name,
      parent: below === undefined ? parent : below.split(',').map(fileName),
      parentFormat:
        names.parentFormat === undefined ? undefined : namedFormat(context, names.parentFormat, registry)?.name,
      snapshot: context.options.text(names.snapshot ?? 'snapshot'),
      cache: names.parent === 'parent' || names.parent === 'source-parent' ? cacheEntry(context) : undefined,
    }),
  };
}

/** What fails where no call waits for it, such as a cache on a full disk. Warnings come with the results. */
export function failures(context: CommandContext): (message: Message) => void {
  return ({ level, text, error }) => {
    if (level === 'error') context.warn(error instanceof Error ? `${text} ${error.message}.` : text);
  };
}

function cacheEntry({ options }: CommandContext): CacheEntry | undefined {
  const file = options.text('cache');
  const size = options.size('cache-size');
  if (file !== undefined) return { file: fileName(file), size: size ?? DEFAULT_CACHE_BYTES };
  if (size === undefined) return undefined;
  throw new UsageError('--cache-size is about the file that --cache names', 'Give both, or leave it out.');
}

/** Refuses arguments that a command's action has no use for, and says which one is missing. */
export function checkArguments(context: CommandContext, usage: string, count: number): void {
  const missing = context.optionalArgument(count - 1) === undefined;
  if (!missing && context.optionalArgument(count) === undefined) return;
  throw new UsageError(missing ? 'An argument is missing' : 'There is an argument too many', `Usage: vdkit ${usage}`);
}

/**
 * The same failure, whose hint names the option that this command has for it. Options of other commands, as in
 * "set --parent none", stay.
 */
export function withOtherOption(error: ImageError, option: string, instead: string): ImageError {
  const hint = error.hint?.replace(new RegExp(`(?<!\\bset )${option}(?=-format\\b|[^\\w-])`, 'g'), instead);
  if (hint === undefined || hint === error.hint) return error;
  const { kind, message, status, cause, context } = error;
  return new ImageError(kind, message, { ...context, status, hint, cause });
}
