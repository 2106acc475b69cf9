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
import { imageName, lockOptions } from '../images.ts';
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
  if (device !== undefined) return describeDevice(context, target, device);
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

/** `--raw-device`: an image that describes a disk of the host. */
async function describeDevice(context: CommandContext, target: string, device: string): Promise<number> {
  const { options } = context;
  const { createRawDisk } = await import('../../vfs/raw-disk.ts');
  const listed = options.text('partitions');
  if (context.optionalArgument(1) !== undefined)
    throw new UsageError('The disk is as large as the device', 'Omit the size.');
  await refuseDevice(target);
  const warnings = await createRawDisk(target, device, {
    ...lockOptions(context),
    registry: registryOf(context),
    signal: context.signal,
    format: options.text('to'),
    force: options.flag('force'),
    writable: options.flag('raw-writable'),
    partitions: listed === undefined ? undefined : numbersOf(listed),
  });
  for (const warning of warnings) context.warn(warning);
  if (context.json) await context.printJson({ schema: 'vdkit/create/1', file: target, device });
  else context.note(printable(`${target}: describes ${device}; open it with --allow ${device}`));
  return EXIT.done;
}

/** Numbers of partitions: `1,3`. */
function numbersOf(text: string): number[] {
  const words = text.split(',');
  if (words.every((word) => /^[1-9]\d{0,3}$/.test(word))) return words.map(Number);
  throw new UsageError(`--partitions ${printable(text)} is not a list of numbers`, 'Name partitions as in 1,3.');
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
