/**
 * `vdkit rename`: renames an image.
 */

import { printable } from '../../errors.ts';
import { renameImage } from '../../operations/files.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { imageName, openOptions } from '../images.ts';

/** Runs `rename IMAGE NEW`. */
export async function run(context: CommandContext): Promise<number> {
  const image = imageName(context, 0);
  const name = imageName(context, 1);
  if (/[/\\]$/.test(name)) throw new UsageError('The new name is a directory', 'Name a file in it.');
  const { from, to, warnings } = await renameImage(image, name, {
    ...openOptions(context),
    force: context.options.flag('force'),
  });
  for (const warning of warnings) context.warn(warning);
  if (context.json) await context.printJson({ schema: 'vdkit/rename/1', source: from, target: to, warnings });
  else context.note(printable(`${image} renamed to ${name}`));
  return EXIT.done;
}
