/**
 * `vdkit compare`: compares the disks in two images.
 */

import type { CompareResult } from '../../disk/options.ts';
import { hex, isImageError } from '../../errors.ts';
import { compare } from '../../operations/compare-images.ts';
import { openDisk } from '../../operations/open.ts';
import type { CommandContext } from '../context.ts';
import { openOptions, placedImage, withOtherOption } from '../images.ts';

const SAME = 0;
const DIFFERENT = 1;

/** Runs `compare A B`. */
export async function run(context: CommandContext): Promise<number> {
  const optionsA = openOptions(context, { format: 'format', parent: 'parent' });
  const optionsB = openOptions(context, { format: 'format-b', parent: 'parent-b', snapshot: 'snapshot-b' });
  await using placeA = await placedImage(context, 0, 'read');
  await using placeB = await placedImage(context, 1, 'read', {
    offset: 'offset-b',
    partition: 'partition-b',
    member: 'member-b',
  });
  await using a = await openDisk(placeA.source, optionsA);
  await using b = await openDisk(placeB.source, optionsB).catch((error: unknown) => {
    throw isImageError(error) ? withOtherOption(error, '--format', '--format-b') : error;
  });
  for (const warning of [...a.warnings, ...b.warnings]) context.warn(warning);
  const result = await compare(a, b, {
    strict: context.options.flag('strict'),
    signal: context.signal,
    onProgress: context.progress.report,
  });
  context.progress.finish(result.same);
  if (context.json) await context.printJson({ schema: 'vdkit/compare/1', ...document(result) });
  else if (!context.quiet) await context.print(sentence(result));
  return result.same ? SAME : DIFFERENT;
}

function document({ same, firstDifference, sizes }: CompareResult): Record<string, unknown> {
  return { same, firstDifference, sizes };
}

function sentence({ same, firstDifference, sizes }: CompareResult): string {
  const [a, b] = sizes;
  const lengths = a === b ? '' : ` The sizes are ${a} and ${b} bytes.`;
  if (same) return `Images are identical.${a === b ? '' : `${lengths} The rest of the longer one is zero.`}`;
  if (firstDifference === null) return `Images differ.${lengths}`;
  return `Images differ: the first difference is at offset ${firstDifference} (${hex(firstDifference)}).${lengths}`;
}
