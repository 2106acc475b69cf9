/** `vdkit resize`: changes the size of a disk. */
import type { ChainDisk } from '../../disk/disk.ts';
import { printable } from '../../errors.ts';
import { openDisk } from '../../operations/open.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { openOptions, placedImage } from '../images.ts';
import { warnOfChildren } from '../siblings.ts';
import { formatSize, parseNewSize, parseSize } from '../size.ts';

/** Runs `resize IMAGE SIZE`. */
export async function run(context: CommandContext): Promise<number> {
  const text = context.argument(1);
  // A size that is none should not cost opening the image.
  parseSize(text.replace(/^[+-]/, ''), 'SIZE');
  const options = openOptions(context);
  await using place = await placedImage(context, 0, 'write');
  const { source, name: image } = place;
  let sizes: { readonly before: number; readonly after: number };
  {
    await using disk = await openDisk(source, { ...options, mode: 'write' });
    for (const warning of disk.warnings) context.warn(warning);
    await warnOfChildren(context, source, disk, options);
    sizes = await resize(context, disk, parseNewSize(text, disk.size, 'SIZE'));
  }
  context.progress.finish(true);
  const { before, after } = sizes;
  if (context.json) {
    const document = { file: image, virtualSizeBefore: before, virtualSize: after };
    await context.printJson({ schema: 'vdkit/resize/1', ...document });
  } else {
    context.note(printable(`${image}: ${formatSize(before)} before, ${formatSize(after)} now`));
  }
  return EXIT.done;
}

async function resize(
  context: CommandContext,
  disk: ChainDisk,
  size: number,
): Promise<{ readonly before: number; readonly after: number }> {
  const before = disk.size;
  try {
    await disk.resize(size, {
      shrink: context.options.flag('shrink'),
      signal: context.signal,
      onProgress: context.progress.report,
    });
  } finally {
    const state = disk.size === before ? 'has its old size' : 'has its new size';
    context.afterCancel = `${printable(disk.label)} is intact and ${state}`;
  }
  return { before, after: disk.size };
}
