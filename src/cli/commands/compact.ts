/** `vdkit compact`: makes the file of an image smaller. */

import { printable } from '../../errors.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { openOptions, placedImage } from '../images.ts';
import { formatSize } from '../size.ts';

/** Runs `compact IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const options = openOptions(context);
  await using place = await placedImage(context, 0, 'write');
  const { source, name: image } = place;
  const before = await inspect(source, options);
  {
    await using disk = await openDisk(source, { ...options, mode: 'write' });
    for (const warning of disk.warnings) context.warn(warning);
    context.afterCancel = `${printable(image)} is intact and reads as before; run the command again to continue`;
    await disk.compact({ signal: context.signal, onProgress: context.progress.report });
  }
  context.progress.finish(true);
  const after = await inspect(source, { ...options, format: before.format });
  const sizes = { fileSizeBefore: before.fileSize, fileSize: after.fileSize };
  if (context.json) await context.printJson({ schema: 'vdkit/compact/1', file: after.file, ...sizes });
  else context.note(printable(`${image}: ${formatSize(before.fileSize)} before, ${formatSize(after.fileSize)} now`));
  return EXIT.done;
}
