/** `vdkit info`: what an image says of itself. */
import { inspect } from '../../disk/inspect.ts';
import type { ImageReport, ImageSource } from '../../disk/options.ts';
import { isImageError } from '../../errors.ts';
import type { PartitionTable } from '../../vfs/partitions/contract.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { openOptions, placedImage } from '../images.ts';
import { partitionsDocument, reportDocument, reportText } from '../report.ts';

/** Runs `info IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const wantsChain = context.options.flag('backing-chain');
  const options = openOptions(context);
  await using place = await placedImage(context, 0, 'look');
  const report = await inspect(place.source, { ...options, chain: wantsChain });
  const table = await partitionsOf(context, place.source, report);
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
  const warnings = wantsChain ? chain.flatMap((one) => one.warnings) : report.warnings;
  for (const warning of [...warnings, ...(table?.warnings ?? [])]) context.warn(warning);
  return EXIT.done;
}

/**
 * Reads some sectors of the disk, without a lock. Null where they cannot be read, for want of the parents for one: what
 * the headers say is still worth printing.
 */
async function partitionsOf(
  context: CommandContext,
  source: ImageSource,
  { format }: ImageReport,
): Promise<PartitionTable | null> {
  const { openDisk } = await import('../../disk/open.ts');
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
