/**
 * `vdkit info`: image metadata.
 */
import { Environment } from '../../disk/open/environment.ts';
import type { DiskOpenOptions, ImageReport, ImageSource, InspectReport } from '../../disk/options.ts';
import { type ImageError, isImageError } from '../../errors.ts';
import { type DetectedFormat, detectFormat, inspect } from '../../operations/inspect.ts';
import type { Source } from '../../storage/contract.ts';
import { HeldFiles } from '../../storage/held-files.ts';
import type { PartitionTable } from '../../vfs/partitions/contract.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { openOptions, placedImage } from '../images.ts';
import { partitionsDocument, reportDocument, reportText, unopenedText } from '../report.ts';

/** Runs `info IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const wantsChain = context.options.flag('backing-chain');
  const options = openOptions(context);
  await using place = await placedImage(context, 0, 'look');
  const source = (await Environment.of(options)).sourceOf(place.source);
  // Metadata and content are read through one handle, so both are of one file.
  await using files = new HeldFiles(source.provider);
  await using inner = await innerOf({ ...source, provider: files.provider }, options);
  const image = inner.source;
  const report = await inspectOr(image, { ...options, chain: wantsChain }, (found, error) =>
    printUnopened(context, image, found, error),
  );
  if (report === null) return EXIT.done;
  const table = await partitionsOf(context, image, report);
  const chain = report.chain ?? [];
  if (context.json) {
    const parents = wantsChain ? { chain: chain.map(reportDocument) } : {};
    const own = { ...reportDocument(report), ...partitionsDocument(table) };
    await context.printJson({ schema: 'vdkit/info/1', ...own, ...parents });
  } else {
    const reports = wantsChain ? chain : [report];
    const texts = reports.map((one, at) => reportText(one, at === reports.length - 1 ? table : null));
    await context.print(texts.join('\n\n'));
  }
  const warnings = wantsChain
    ? chain.flatMap((one) => one.warnings)
    : [...report.warnings, ...(await doubtsAbout(image, report, options))];
  for (const warning of [...warnings, ...(table?.warnings ?? [])]) context.warn(warning);
  return EXIT.done;
}

/** The image inside a compressed file or an archive, unpacked once; other sources as they are. */
async function innerOf(
  source: Source,
  options: DiskOpenOptions,
): Promise<{ readonly source: Source } & AsyncDisposable> {
  const { insideOf } = await import('../../disk/open/inside.ts');
  const inner = await insideOf(source, { environment: await Environment.of(options), format: options.format });
  return { source: inner ?? source, [Symbol.asyncDispose]: async () => inner?.storage.close() };
}

/** Warnings about the parents of an image, as far as they may be looked at. */
async function doubtsAbout(image: Source, own: ImageReport, options: DiskOpenOptions): Promise<readonly string[]> {
  if (!own.differencing) return [];
  try {
    const { warnings } = await inspect(image, { ...options, format: own.format, chain: true });
    return warnings.filter((text) => !own.warnings.includes(text));
  } catch (error) {
    if (isImageError(error) && error.kind !== 'aborted') return [];
    throw error;
  }
}

type Unopened = (found: DetectedFormat, error: ImageError) => Promise<void>;

/** The report; null for a recognised file that cannot be opened, which `unopened` describes. */
async function inspectOr(
  source: ImageSource,
  options: DiskOpenOptions & { readonly chain: boolean },
  unopened: Unopened,
): Promise<InspectReport | null> {
  try {
    return await inspect(source, options);
  } catch (error) {
    if (!isImageError(error) || error.kind !== 'unsupported' || options.format !== undefined) throw error;
    const found = await detectFormat(source, options);
    if (found.readable) throw error;
    await unopened(found, error);
    return null;
  }
}

async function printUnopened(
  context: CommandContext,
  source: ImageSource,
  found: DetectedFormat,
  error: ImageError,
): Promise<void> {
  const { provider, name: file } = (await Environment.of({})).sourceOf(source);
  const facts = { ...found, file, fileSize: (await provider.lookUp(file))?.size ?? null };
  if (context.json) {
    await context.printJson({ schema: 'vdkit/info/1', ...reportDocument(facts), ...partitionsDocument(null) });
  } else {
    await context.print(unopenedText(facts, found));
  }
  for (const warning of found.warnings) context.warn(warning);
  context.warn(`${error.message}.${error.hint === undefined ? '' : ` ${error.hint}`}`);
}

/**
 * Reads the partition table without a lock. Null if it cannot be read, for example for want of parents: the metadata is
 * still worth printing.
 */
async function partitionsOf(
  context: CommandContext,
  source: ImageSource,
  { format }: ImageReport,
): Promise<PartitionTable | null> {
  const { openDisk } = await import('../../operations/open.ts');
  const { listPartitions } = await import('../../vfs/partitions/index.ts');
  try {
    const { cache: _cache, ...options } = openOptions(context);
    await using disk = await openDisk(source, { ...options, format, lock: false });
    return await listPartitions(disk);
  } catch (error) {
    if (isImageError(error) && error.kind !== 'aborted') return null;
    throw error;
  }
}
