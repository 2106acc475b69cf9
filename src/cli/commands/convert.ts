/**
 * `vdkit convert`: writes the content of an image to a new one.
 */

import { Environment } from '../../disk/open/environment.ts';
import type { ConvertOptions, ConvertResult, ImageSource } from '../../disk/options.ts';
import { isImageError, printable } from '../../errors.ts';
import type { Format } from '../../image/contract.ts';
import type { Registry } from '../../image/registry.ts';
import { compressionKey, convert } from '../../operations/convert.ts';
import type { ForwardDisk } from '../../operations/forward-disk.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import {
  failures,
  holeOptions,
  lockOptions,
  namedFormat,
  openOptions,
  placed,
  STANDARD_STREAM,
  withOtherOption,
} from '../images.ts';
import { present } from '../options.ts';
import { registryOf } from '../registry.ts';
import { formatSize } from '../size.ts';
import { describedTarget, printedVariants, refuseDevice, targetFormat, targetOptions } from '../target.ts';

/** More bad ranges than this are counted, not listed. */
const LISTED_RANGES = 20;
/** More pieces in flight cost memory and gain nothing. */
const THREADS = { min: 1, max: 64 };
const TRACKS = { min: 1, max: 99 };

/** Runs `convert SRC DST`. */
export async function run(context: CommandContext): Promise<number> {
  const registry = registryOf(context);
  if (await printedVariants(context, context.optionalArgument(1), registry)) return EXIT.done;
  const [source, target] = [context.argument(0), context.argument(1)];
  if (source === '' || target === '') throw new UsageError('The name of an image is empty', 'Name a file.');
  const toStream = target === STANDARD_STREAM;
  const plan = toStream ? planStream(context, registry) : await planFile(context, target, registry);
  const result = await withSource(context, source, plan, async (from) => {
    if (plan !== null && !toStream) return convertImage(context, from, plan);
    const { convertToPipe, convertToStream } = await import('../stream-target.ts');
    context.afterCancel = 'the output is incomplete';
    if (plan === null) return convertToStream(context, from, sourceOptions(context), discPart(context));
    return convertToPipe(context, from, { ...plan.options, ...namedSource(context) });
  });
  for (const warning of result.warnings) context.warn(warning);
  for (const warning of unreadableText(result)) context.warn(warning);
  if (context.json) await context.printJson(resultDocument(source, target, result, plan));
  else context.note(summary(target, result));
  return result.unreadable.length === 0 ? EXIT.done : EXIT.damaged;
}

/** Everything decided about the target before the source is opened. */
interface TargetPlan {
  readonly name: string;
  /** Null with `--into`: the existing target decides. */
  readonly format: Format | null;
  readonly options: ConvertOptions;
}

/** A target on standard output; null: raw bytes. */
function planStream(context: CommandContext, registry: Registry): TargetPlan | null {
  refuseForStream(context, registry);
  const format = namedFormat(context, 'to', registry);
  return format === undefined || format.name === 'raw' ? null : planTarget(context, STANDARD_STREAM, registry);
}

async function planFile(context: CommandContext, target: string, registry: Registry): Promise<TargetPlan> {
  if (!context.options.flag('into')) await refuseDevice(target);
  return planTarget(context, target, registry);
}

/** All options, checked before anything is opened. */
function planTarget(context: CommandContext, name: string, registry: Registry): TargetPlan {
  const { options } = context;
  const into = options.flag('into');
  const format = into ? (namedFormat(context, 'to', registry) ?? null) : targetFormat(context, name, registry);
  if (into) refuseForInto(context);
  refuseCompression(context, format);
  const copy = { ...copyOptions(context), into, verify: options.flag('verify') };
  if (format !== null && !into)
    return { name, format, options: { ...targetOptions(context, format, registry), ...copy } };
  const { allow, signal, progress } = context;
  const shareable = options.flag('shareable');
  const shared = {
    registry,
    allow,
    signal,
    onProgress: progress.report,
    onMessage: failures(context),
    shareable,
    ...lockOptions(context),
    ...holeOptions(context),
  };
  return { name, format, options: { ...shared, ...present({ format: format?.name }), ...copy } };
}

function copyOptions(context: CommandContext): ConvertOptions {
  const { options } = context;
  return {
    salvage: options.flag('salvage'),
    shrink: options.flag('shrink'),
    ...present({
      size: options.size('size'),
      parallel: options.count('threads', THREADS),
      rateLimit: options.size('rate-limit'),
      sparseSize: options.size('sparse-size'),
      compress: compressionOf(options.text('compress')),
    }),
  };
}

/** The word of `--compress`, one of its values: a method, a level, or neither. */
function compressionOf(word: string | undefined): ConvertOptions['compress'] {
  if (word === undefined || word === 'zlib' || word === 'zstd') return word;
  return word === 'auto' ? true : Number(word);
}

/** With `--into` the target keeps its format, variant and metadata. */
function refuseForInto(context: CommandContext): void {
  const { options } = context;
  const described = ['parent', 'block-size', 'comment', 'uuid', 'size'].filter(
    (name) => options.text(name) !== undefined,
  );
  for (const name of ['variant', 'option']) if (options.list(name).length > 0) described.push(name);
  const [first] = described;
  if (first === undefined) return;
  throw new UsageError(
    `--into keeps the format and metadata of the target, so --${first} cannot be used`,
    'Remove one of them.',
  );
}

/** With `--into` the existing image decides about compression. */
function refuseCompression(context: CommandContext, format: Format | null): void {
  const compress = compressionOf(context.options.text('compress'));
  if (compress !== undefined && format !== null)
    compressionKey(format, { compress, ...describedTarget(context, format) });
}

/** Standard output takes bytes in order, once: raw ones, or an image that is written so. */
function refuseForStream(context: CommandContext, registry: Registry): void {
  const { options, io } = context;
  if (context.json) {
    throw new UsageError(
      '--json and the image cannot both go to standard output',
      'Name a file as DST, or remove --json.',
    );
  }
  const format = namedFormat(context, 'to', registry) ?? registry.find('raw');
  const isRaw = format?.name === 'raw';
  if (format !== undefined && !isRaw) refuseRandomWrites(context, format, registry);
  refuseCompression(context, format ?? null);
  const impossible = ['into', 'verify', 'force'].filter((name) => options.flag(name));
  if (options.text('parent') !== undefined) impossible.push('parent');
  if (isRaw) {
    for (const name of ['block-size', 'comment', 'uuid']) if (options.text(name) !== undefined) impossible.push(name);
    for (const name of ['variant', 'option']) if (options.list(name).length > 0) impossible.push(name);
  }
  const [first] = impossible;
  if (first !== undefined) {
    throw new UsageError(`--${first} cannot be used with standard output`, 'Remove it, or name a file as DST.');
  }
  if (io.stdout.isTTY === true) {
    throw new UsageError('Standard output is a terminal', 'Name a file as DST, or pipe the output into a program.');
  }
}

/** Most images are completed in places that were written before, which a pipe does not have. */
function refuseRandomWrites(context: CommandContext, format: Format, registry: Registry): void {
  if (format.writesForwards?.(describedTarget(context, format)) === true) return;
  const words = format.variants.map(({ word }) => word);
  const word = words.find((one) => format.writesForwards?.({ variant: [one] }) === true);
  const others = registry.formats.some((one) => one.writesForwards !== undefined);
  throw new UsageError(
    `Format ${format.name} cannot be written to standard output${word === undefined ? '' : ' in this variant'}`,
    word === undefined
      ? `Use --to raw${others ? ', or another format that is written in order' : ''}.`
      : `Use --variant ${word}, or --to raw.`,
  );
}

function sourceOptions(context: CommandContext): ReturnType<typeof openOptions> {
  return openOptions(context, {
    format: 'format',
    parent: 'source-parent',
    parentFormat: 'source-parent-format',
  });
}

/** Calls `use` with the source. */
async function withSource<T>(
  context: CommandContext,
  source: string,
  plan: TargetPlan | null,
  use: (from: ImageSource | ForwardDisk) => Promise<T>,
): Promise<T> {
  // Checked here too: a wrong name should not cost a wait for all of standard input.
  const options = sourceOptions(context);
  try {
    await using place = await placed(context, source, 'read');
    if (source !== STANDARD_STREAM) return await use(place.source);
    const { standardInput } = await import('../stream-source.ts');
    const isFile = plan !== null && plan.name !== STANDARD_STREAM && plan.options.into !== true;
    const forwards = readsOnce(context) ? { format: options.format } : null;
    await using input = await standardInput(context, { target: isFile ? plan : null, forwards });
    return await use(input.source);
  } catch (error) {
    throw options.parent === undefined ? withSourceParentHint(error) : error;
  }
}

/** Options that go back in the source, or need more files than it, are not for a pipe. */
function readsOnce({ options }: CommandContext): boolean {
  const again = ['verify', 'salvage', 'shrink'].some((name) => options.flag(name));
  return (
    !again &&
    ['source-parent', 'snapshot', 'cache', 'track', 'sectors'].every((name) => options.text(name) === undefined)
  );
}

/** In this command `--parent` belongs to the target; the option for the source has a longer name. */
function withSourceParentHint(error: unknown): unknown {
  return isImageError(error) ? withOtherOption(error, '--parent', '--source-parent') : error;
}

/** Options of the library about the source. */
function namedSource(context: CommandContext): Partial<ConvertOptions> {
  const { format, parent, parentFormat, snapshot, cache } = sourceOptions(context);
  return present({
    sourceFormat: format,
    sourceParent: parent,
    sourceParentFormat: parentFormat,
    sourceSnapshot: snapshot,
    sourceConfig: discPart(context),
    sourceCache: cache,
  });
}

/** The part of a disc that `--track` and `--sectors` name; undefined: neither was given. */
function discPart({ options }: CommandContext): ConvertOptions['sourceConfig'] {
  const part = present({ track: options.count('track', TRACKS), sectors: options.text('sectors') });
  return Object.keys(part).length === 0 ? undefined : part;
}

async function convertImage(
  context: CommandContext,
  from: ImageSource | ForwardDisk,
  plan: TargetPlan,
): Promise<ConvertResult> {
  context.afterCancel =
    plan.options.into === true ? `${printable(plan.name)} may be partly overwritten` : 'no target was left behind';
  try {
    return await convert(from, plan.name, { ...plan.options, ...namedSource(context) });
  } catch (error) {
    // The format of the target has another name here. Only a target is refused for being taken as raw.
    const ofTarget =
      isImageError(error) && (error.kind === 'denied' || error.context.path === (await pathOf(plan.name)));
    throw ofTarget ? withOtherOption(error, '--format', '--to') : error;
  }
}

/** The target as messages name it. */
async function pathOf(name: string): Promise<string> {
  return (await Environment.of({})).sourceOf(name).name;
}

function unreadableText({ unreadable }: ConvertResult): string[] {
  const lines = unreadable
    .slice(0, LISTED_RANGES)
    .map(
      ({ offset, length, reason }) =>
        `${length} bytes at offset ${offset} could not be read and are zero in the target: ${reason}`,
    );
  const more = unreadable.length - lines.length;
  return more > 0 ? [...lines, `and ${more} more ranges`] : lines;
}

function resultDocument(
  source: string,
  target: string,
  result: ConvertResult,
  plan: TargetPlan | null,
): Record<string, unknown> {
  const { size, written, unreadable, warnings } = result;
  const format = plan?.format?.name ?? null;
  return { schema: 'vdkit/convert/1', source, target, format, virtualSize: size, written, unreadable, warnings };
}

function summary(target: string, { size, written, unreadable }: ConvertResult): string {
  const name = target === STANDARD_STREAM ? 'standard output' : target;
  const done = `${name}: ${formatSize(size)}, ${formatSize(written)} of data written`;
  if (unreadable.length === 0) return printable(done);
  const lost = unreadable.reduce((sum, { length }) => sum + length, 0);
  const where = unreadable.length === 1 ? '1 range' : `${unreadable.length} ranges`;
  return printable(`${done}; incomplete: ${lost} bytes in ${where} could not be read and are zero`);
}
