/** Images and formats named on the command line; loaded only by commands that open images. */
import { defaultProvider } from '#local-storage';
import type { CacheEntry, DiskOpenOptions, Message } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import type { Format } from '../image/contract.ts';
import type { Registry } from '../image/registry.ts';
import { withoutHoles } from '../storage/without-holes.ts';
import type { CommandContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { OuterMode, PlacedImage } from './inside.ts';
import { present } from './options.ts';
import { registryOf } from './registry.ts';

/** Default limit of a new cache file. */
export const DEFAULT_CACHE_BYTES = 1024 ** 3;

/** The word for no parent; a file of that name is written `./none`. */
export const NONE = 'none';
/** The word for standard input or output. */
export const STANDARD_STREAM = '-';

/** The name of an image that must be a file. */
export function imageName(context: CommandContext, index: number): string {
  return fileName(context.argument(index));
}

function fileName(name: string): string {
  if (name === '') throw new UsageError('The name of an image is empty', 'Name a file.');
  if (name !== STANDARD_STREAM) return name;
  throw new UsageError(
    'Only convert reads standard input and writes standard output',
    'Name a file; a file called "-" is "./-".',
  );
}

/** Options that place an image inside the named file. */
const INSIDE = { offset: 'offset', partition: 'partition', member: 'member' };
/** Upper limit in Linux. */
const PARTITIONS = { min: 1, max: 8192 };

/**
 * Source for an argument: the file itself, or what is selected in it by `--offset`, `--partition` or `--member`. The outer file is
 * opened for writing only if the command writes.
 */
export async function placedImage(
  context: CommandContext,
  index: number,
  mode: OuterMode,
  names: typeof INSIDE = INSIDE,
): Promise<PlacedImage> {
  return placed(context, imageName(context, index), mode, names);
}

/** Source for a name; see {@link placedImage}. */
export async function placed(
  context: CommandContext,
  name: string,
  mode: OuterMode,
  names: typeof INSIDE = INSIDE,
): Promise<PlacedImage> {
  const offset = context.options.size(names.offset);
  const partition = context.options.count(names.partition, PARTITIONS);
  const member = context.options.text(names.member);
  if (offset === undefined && partition === undefined && member === undefined) {
    return { source: name, name, async [Symbol.asyncDispose]() {} };
  }
  if (offset !== undefined && partition !== undefined) {
    throw new UsageError(`--${names.offset} and --${names.partition} exclude each other`, 'Give one of them.');
  }
  if (name === STANDARD_STREAM) {
    throw new UsageError('Standard input cannot be searched for an inner image', 'Name a file.');
  }
  const { imageInside, memberOf } = await import('./inside.ts');
  if (offset === undefined && partition === undefined && member !== undefined) return memberOf(context, name, member);
  return imageInside(context, name, present({ offset, partition, member }), { ...lockOptions(context), mode });
}

/** The format that an option names; undefined when it names none. Throws a usage error for an unknown one. */
export function namedFormat(context: CommandContext, option: string, registry: Registry): Format | undefined {
  const name = context.options.text(option);
  if (name === undefined) return undefined;
  const wanted = name.toLowerCase();
  const format = registry.formats.find((one) => one.name === wanted || one.aliases.includes(wanted));
  if (format !== undefined) return format;
  throw new UsageError(`--${option}: unknown format "${name}"`, formatsHint(registry));
}

/** `Formats: vdi, raw.` */
export function formatsHint(registry: Registry): string {
  return `Formats: ${registry.formats.map((format) => format.name).join(', ')}.`;
}

/** Lock options from `--force-share` and `--no-lock`. */
export function lockOptions(context: CommandContext): Pick<DiskOpenOptions, 'lock' | 'forceShare'> {
  return { lock: !context.options.declined('lock'), forceShare: context.options.flag('force-share') };
}

/** The provider that `--no-holes` asks for; without it, none: files get holes where that saves space. */
export function holeOptions(context: CommandContext): Pick<DiskOpenOptions, 'provider'> {
  return context.options.declined('holes') ? { provider: withoutHoles(defaultProvider()) } : {};
}

/** Names of the options that describe one image. */
export interface ImageOptionNames {
  readonly format: string;
  readonly parent: string;
  readonly parentFormat?: string;
  /** Default `snapshot`. */
  readonly snapshot?: string;
}

/** Open options read from the options of those names. */
export function openOptions(
  context: CommandContext,
  names: ImageOptionNames = { format: 'format', parent: 'parent', parentFormat: 'parent-format' },
): DiskOpenOptions {
  const registry = registryOf(context);
  const named = context.options.text(names.parent);
  const parent = named === NONE ? [] : named === undefined ? undefined : fileName(named);
  const below = names.parent === 'parent' ? context.options.text('chain') : undefined;
  if (parent !== undefined && below !== undefined) {
    throw new UsageError('--parent and --chain exclude each other', 'Give one of them.');
  }
  return {
    registry,
    allow: context.allow,
    signal: context.signal,
    onMessage: failures(context),
    ...lockOptions(context),
    ...holeOptions(context),
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

/** Collects failures that no call waits for, such as a cache on a full disk. Warnings come with the results. */
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
  throw new UsageError('--cache-size requires --cache', 'Name the cache file with --cache.');
}

/** Rejects surplus arguments of an action and names a missing one. */
export function checkArguments(context: CommandContext, usage: string, count: number): void {
  const missing = context.optionalArgument(count - 1) === undefined;
  if (!missing && context.optionalArgument(count) === undefined) return;
  throw new UsageError(missing ? 'Missing argument' : 'Too many arguments', `Usage: vdkit ${usage}`);
}

/**
 * The same failure with a hint that names this command's own option. Options of other commands, as in "set --parent
 * none", stay.
 */
export function withOtherOption(error: ImageError, option: string, instead: string): ImageError {
  const hint = error.hint?.replace(new RegExp(`(?<!\\bset )${option}(?=-format\\b|[^\\w-])`, 'g'), instead);
  if (hint === undefined || hint === error.hint) return error;
  const { kind, message, status, cause, context } = error;
  return new ImageError(kind, message, { ...context, status, hint, cause });
}
