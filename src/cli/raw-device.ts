/** `vdkit create --raw-device`: an image that describes a disk of the host. */
import { printable } from '../errors.ts';
import { createRawDisk, type RawDiskReport } from '../vfs/raw-disk.ts';
import type { CommandContext } from './context.ts';
import { EXIT, UsageError } from './failure.ts';
import { lockOptions } from './images.ts';
import { registryOf } from './registry.ts';
import { partitionsDocument, reportDocument } from './report.ts';
import { formatSize } from './size.ts';
import { refuseDevice, uuidOption } from './target.ts';

/** Options of other new images: a description has a size, a layout and no parent. */
const OTHERS = ['variant', 'parent', 'parent-format', 'block-size', 'option', 'preallocation'] as const;

/** Creates the image and reports on it. */
export async function describeDevice(context: CommandContext, target: string, device: string): Promise<number> {
  const { options } = context;
  if (context.optionalArgument(1) !== undefined) {
    throw new UsageError('The disk is as large as the device', 'Omit the size.');
  }
  const other = options.firstGiven(OTHERS);
  if (other !== undefined) throw new UsageError(`--${other} does not apply to the description of a device`, 'Omit it.');
  const listed = options.text('partitions');
  const partitions = listed === undefined ? undefined : numbersOf(listed);
  await refuseDevice(target);
  context.afterCancel = 'no target was left behind';
  const report = await createRawDisk(target, device, {
    ...lockOptions(context),
    registry: registryOf(context),
    signal: context.signal,
    format: options.text('to'),
    force: options.flag('force'),
    comment: options.text('comment'),
    uuid: uuidOption(context),
    writable: options.flag('raw-writable'),
    partitions,
  });
  for (const warning of report.warnings) context.warn(warning);
  if (context.json) await context.printJson({ schema: 'vdkit/create/1', ...documentOf(report), file: target });
  else context.note(printable(`${target}: ${sentence(report)}; open it with --allow ${device}`));
  return EXIT.done;
}

function documentOf(report: RawDiskReport): Record<string, unknown> {
  const { device, writable, table, partitions } = report;
  return {
    ...reportDocument(report),
    device,
    mode: partitions === null ? 'device' : 'partitions',
    writable,
    ...partitionsDocument(table),
    ...(partitions === null ? {} : { partitions }),
  };
}

function sentence({ device, virtualSize, writable, partitions }: RawDiskReport): string {
  const numbers = (partitions ?? []).map(({ number }) => number).join(', ');
  const what = partitions === null ? device : `partition${partitions.length === 1 ? '' : 's'} ${numbers} of ${device}`;
  return `describes ${what}, ${formatSize(virtualSize)}, ${writable ? 'for reading and writing' : 'for reading'}`;
}

/** Numbers of partitions: `1,3`. */
function numbersOf(text: string): number[] {
  const words = text.split(',');
  if (words.every((word) => /^[1-9]\d{0,3}$/.test(word))) return words.map(Number);
  throw new UsageError(`--partitions ${printable(text)} is not a list of numbers`, 'Name partitions as in 1,3.');
}
