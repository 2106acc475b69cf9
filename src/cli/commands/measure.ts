/**
 * `vdkit measure`: file size of an image before it is created.
 */
import { type MeasureResult, measure } from '../../operations/measure.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { formatsHint, namedFormat, openOptions, placedImage } from '../images.ts';
import { present } from '../options.ts';
import { registryOf } from '../registry.ts';
import { formatSize } from '../size.ts';
import { describedTarget, printedVariants } from '../target.ts';

/** Runs `measure [IMAGE]`. */
export async function run(context: CommandContext): Promise<number> {
  const registry = registryOf(context);
  if (await printedVariants(context, undefined, registry)) return EXIT.done;
  const format = namedFormat(context, 'to', registry);
  if (format === undefined)
    throw new UsageError('The format of the new image is missing', `Name it with --to. ${formatsHint(registry)}`);
  const size = context.options.size('size');
  const named = context.optionalArgument(0) !== undefined;
  if (!named && size === undefined) {
    throw new UsageError('Nothing to measure', 'Name an image, or give a size with --size.');
  }
  const { format: sourceFormat, parent, parentFormat, snapshot, ...options } = openOptions(context);
  await using place = named ? await placedImage(context, 0, 'read') : null;
  const result = await measure(place?.source ?? size ?? 0, {
    ...options,
    ...describedTarget(context, format),
    format: format.name,
    ...present({
      size,
      sourceFormat,
      sourceParent: parent,
      sourceParentFormat: parentFormat,
      sourceSnapshot: snapshot,
    }),
  });
  if (context.json) await context.printJson({ schema: 'vdkit/measure/1', ...document(result) });
  else await context.print(text(result));
  return EXIT.done;
}

function document({ required, fullyAllocated, format, virtualSize }: MeasureResult): Record<string, unknown> {
  return { required, fullyAllocated, format, virtualSize };
}

function text({ required, fullyAllocated }: MeasureResult): string {
  const both = (bytes: number): string => (bytes < 1024 ? formatSize(bytes) : `${formatSize(bytes)} (${bytes} bytes)`);
  return `required:         ${both(required)}\nfully allocated:  ${both(fullyAllocated)}`;
}
