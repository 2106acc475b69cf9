/**
 * `vdkit create`: creates an empty image.
 */

import type { CreateImageOptions } from '../../disk/options.ts';
import { ImageError, printable } from '../../errors.ts';
import { keyWithRole } from '../../image/config.ts';
import type { Format } from '../../image/contract.ts';
import { fixedVariant } from '../../image/variants.ts';
import { createImage } from '../../operations/create.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { imageName } from '../images.ts';
import { registryOf } from '../registry.ts';
import { reportDocument } from '../report.ts';
import { formatSize, parseSize } from '../size.ts';
import { printedVariants, refuseDevice, targetFormat, targetOptions } from '../target.ts';

/** Runs `create IMAGE [SIZE]`. */
export async function run(context: CommandContext): Promise<number> {
  const registry = registryOf(context);
  if (await printedVariants(context, context.optionalArgument(0), registry)) return EXIT.done;
  const target = imageName(context, 0);
  const device = context.options.text('raw-device');
  if (device !== undefined) {
    const { describeDevice } = await import('../raw-device.ts');
    return describeDevice(context, target, device);
  }
  const directory = context.options.text('from');
  if (directory !== undefined) {
    const { createFrom } = await import('../from-directory.ts');
    return createFrom(context, target, directory);
  }
  const alone = context.options.firstGiven(['label', 'boot', 'boot-info-table', 'boot-efi']);
  if (alone !== undefined) throw new UsageError(`--${alone} needs --from`, 'Name the directory with --from.');
  const lonely = context.options.firstGiven(['partitions', 'raw-writable']);
  if (lonely !== undefined)
    throw new UsageError(`--${lonely} needs --raw-device`, 'Name the device with --raw-device.');
  const sizeText = context.optionalArgument(1);
  if (sizeText === undefined && context.options.text('parent') === undefined) {
    throw new UsageError('The size of the new disk is missing', 'Give one, such as 20G, or a parent with --parent.');
  }
  const size = sizeText === undefined ? {} : { size: parseSize(sizeText, 'SIZE') };
  await refuseDevice(target);
  const format = targetFormat(context, target, registry);
  const options: CreateImageOptions = { ...targetOptions(context, format, registry), ...size };
  context.afterCancel = 'no target was left behind';
  const report = await createImage(target, withPreallocation(context, format, options));
  for (const warning of report.warnings) context.warn(warning);
  if (context.json) await context.printJson({ schema: 'vdkit/create/1', ...reportDocument(report) });
  else context.note(printable(`${target}: ${report.format}, ${formatSize(report.virtualSize)}`));
  return EXIT.done;
}

/** Translates `--preallocation`: into the format's own option, else into the variant that has all its space allocated. */
function withPreallocation(context: CommandContext, format: Format, options: CreateImageOptions): CreateImageOptions {
  const mode = context.options.text('preallocation') ?? 'off';
  const key = keyWithRole(format.configKeys, 'preallocation');
  const fixed = fixedVariant(format);
  if (mode === 'off') return options;
  if (key?.values?.includes(mode) === true) return { ...options, config: { ...options.config, [key.name]: mode } };
  if (mode === 'metadata' || fixed === undefined) {
    throw new ImageError(
      'unsupported',
      `Format ${format.name} cannot preallocate ${mode === 'metadata' ? 'metadata only' : 'data'}`,
      {
        hint: 'Use --preallocation off.',
      },
    );
  }
  return { ...options, variant: [...new Set([...(options.variant ?? []), fixed.word])] };
}
