/** Targets of `create` and `convert`: the options that describe a new image, checked before anything is touched. */
import { defaultProvider } from '#local-storage';
import { normalizeGuid } from '../binary/guid.ts';
import type { CreateImageOptions } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import { keyWithRole } from '../image/config.ts';
import type { ConfigKey, Format } from '../image/contract.ts';
import type { Registry } from '../image/registry.ts';
import { isPlainName } from '../storage/gate.ts';
import { notAFile } from '../storage/staging.ts';
import type { CommandContext } from './context.ts';
import { UsageError } from './failure.ts';
import { failures, formatsHint, holeOptions, lockOptions, namedFormat, STANDARD_STREAM } from './images.ts';
import { present } from './options.ts';
import { parseSize } from './size.ts';

/** Prints the variants for `--variant help`. Returns true if it did: there is nothing more to do. */
export async function printedVariants(
  context: CommandContext,
  target: string | undefined,
  registry: Registry,
): Promise<boolean> {
  if (!context.options.list('variant').includes('help')) return false;
  const format =
    namedFormat(context, 'to', registry) ?? (target === undefined ? undefined : registry.byExtension(target));
  const formats = format === undefined ? registry.formats : [format];
  if (context.json) {
    const lists = formats.map(({ name, variants }) => ({ format: name, variants }));
    await context.printJson({ schema: 'vdkit/variants/1', formats: lists });
    return true;
  }
  const lines = formats.flatMap(({ name, variants }) => [
    `${name}:`,
    ...variants.map(({ word, description }) => `  ${word.padEnd(14)}${description}`),
  ]);
  await context.print(lines.join('\n'));
  return true;
}

/** Refuses a device as a new image, before anything else about it is asked for. */
export async function refuseDevice(target: string): Promise<void> {
  const provider = defaultProvider();
  const present = isPlainName(target) ? await provider.lookUp(provider.resolve(target, '')) : null;
  if (present?.kind === 'device') throw notAFile(target, present.kind);
}

/** Format of a new image: from `--to`, else from the extension. */
export function targetFormat(context: CommandContext, target: string, registry: Registry): Format {
  const named = namedFormat(context, 'to', registry);
  if (named !== undefined) return named;
  const format = registry.byExtension(target);
  if (format !== undefined) return format;
  throw new UsageError(
    `Cannot tell the format from the file name`,
    `Name the format with --to. ${formatsHint(registry)}`,
    { path: target },
  );
}

/** The library's options for a new image of that format. Throws usage errors. */
export function targetOptions(context: CommandContext, format: Format, registry: Registry): CreateImageOptions {
  const { options } = context;
  const parent = options.text('parent');
  if (parent === STANDARD_STREAM) throw new UsageError('A parent cannot be read from standard input', 'Name a file.');
  return {
    format: format.name,
    registry,
    allow: context.allow,
    signal: context.signal,
    ...lockOptions(context),
    ...holeOptions(context),
    ...describedTarget(context, format),
    force: options.flag('force'),
    onProgress: context.progress.report,
    onMessage: failures(context),
    ...present({
      comment: options.text('comment'),
      uuid: uuidOption(context),
      parent,
      parentFormat: namedFormat(context, 'parent-format', registry)?.name,
    }),
  };
}

/** Variant and config keys of a new image of that format. Throws usage errors. */
export function describedTarget(
  context: CommandContext,
  format: Format,
): { readonly variant: readonly string[]; readonly config: Record<string, string | number> } {
  const variant = context.options.list('variant').flatMap((words) => words.split(','));
  for (const word of variant) checkVariant(format, word);
  return { variant, config: configValues(context, format) };
}

function checkVariant(format: Format, word: string): void {
  if (format.variants.some((variant) => variant.word === word)) return;
  const words = format.variants.map((variant) => variant.word).join(', ');
  throw new UsageError(`Format ${format.name} does not have a variant "${word}"`, `Variants: ${words}.`);
}

/** The value of `--uuid`, in its usual form. */
export function uuidOption(context: CommandContext): string | undefined {
  const text = context.options.text('uuid');
  if (text === undefined) return undefined;
  try {
    return normalizeGuid(text);
  } catch {
    const hint = 'Write 8-4-4-4-12 hexadecimal digits.';
    throw new UsageError('--uuid takes a UUID', hint, { found: text });
  }
}

/** Values of `--option K=V` and `--block-size`, converted for the format's keys. */
function configValues(context: CommandContext, format: Format): Record<string, string | number> {
  const config: Record<string, string | number> = {};
  for (const pair of context.options.list('option')) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(pair) ?? [];
    if (name === undefined || value === undefined) {
      throw new UsageError('--option takes KEY=VALUE', keysHint(format), { found: pair });
    }
    const key = format.configKeys.find((one) => one.name.toLowerCase() === name.toLowerCase());
    if (key === undefined) throw new UsageError(`Format ${format.name} has no option "${name}"`, keysHint(format));
    config[key.name] = configValue(key, value);
  }
  const blockSize = context.options.size('block-size');
  if (blockSize === undefined) return config;
  const key = keyWithRole(format.configKeys, 'unit');
  if (key === undefined) {
    throw new ImageError('unsupported', `Format ${format.name} has no selectable block size`, {
      hint: 'Remove --block-size.',
    });
  }
  return { ...config, [key.name]: blockSize };
}

function configValue(key: ConfigKey, value: string): string | number {
  return key.valueType === 'integer' ? parseSize(value, `--option ${key.name}`) : value;
}

function keysHint(format: Format): string {
  const keys = format.configKeys.map(({ name }) => name);
  return keys.length === 0 ? `Format ${format.name} has none.` : `Keys of format ${format.name}: ${keys.join(', ')}.`;
}
