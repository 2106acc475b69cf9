/** `vdkit create --from`: an ISO 9660 image of the files in a directory. */
import { printable } from '../errors.ts';
import { createIso } from '../operations/iso/create.ts';
import type { CommandContext } from './context.ts';
import { EXIT, UsageError } from './failure.ts';
import { failures, holeOptions, lockOptions } from './images.ts';
import { present } from './options.ts';
import { registryOf } from './registry.ts';
import { formatSize } from './size.ts';
import { refuseDevice } from './target.ts';

/** Options of other new images. */
const OTHERS = [
  ...['variant', 'parent', 'parent-format', 'block-size', 'option', 'preallocation', 'comment', 'uuid'],
  ...['raw-device', 'partitions', 'raw-writable'],
] as const;

/** Creates the image and reports on it. */
export async function createFrom(context: CommandContext, target: string, directory: string): Promise<number> {
  const { options } = context;
  if (context.optionalArgument(1) !== undefined) {
    throw new UsageError('The image is as large as the files', 'Omit the size.');
  }
  const other = options.firstGiven(OTHERS);
  if (other !== undefined) throw new UsageError(`--${other} does not apply to an ISO image`, 'Omit it.');
  const format = options.text('to') ?? 'raw';
  if (format !== 'raw') throw new UsageError('An ISO image is a raw image', 'Create it, and convert it then.');
  if (directory === '') throw new UsageError('The name of the directory is empty', 'Name a directory.');
  await refuseDevice(target);
  context.afterCancel = 'no target was left behind';
  const result = await createIso(target, directory, {
    ...lockOptions(context),
    ...holeOptions(context),
    registry: registryOf(context),
    signal: context.signal,
    onProgress: context.progress.report,
    onMessage: failures(context),
    force: options.flag('force'),
    bootInfoTable: options.flag('boot-info-table'),
    ...present({ label: options.text('label'), boot: options.text('boot'), bootEfi: options.text('boot-efi') }),
  });
  for (const warning of result.warnings) context.warn(warning);
  const { size: virtualSize, entries } = result;
  const document = { schema: 'vdkit/create/1', file: target, format: 'raw', type: 'optical', virtualSize, entries };
  if (context.json) await context.printJson(document);
  else context.note(printable(`${target}: ISO image, ${entries} files and directories, ${formatSize(virtualSize)}`));
  return EXIT.done;
}
