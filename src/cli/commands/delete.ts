/** `vdkit delete`: removes an image. */

import { printable } from '../../errors.ts';
import { removeImage } from '../../operations/files.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { imageName, openOptions } from '../images.ts';

/** Runs `delete IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const image = imageName(context, 0);
  const { removed, warnings } = await removeImage(image, {
    ...openOptions(context),
    force: context.options.flag('force'),
  });
  for (const warning of warnings) context.warn(warning);
  if (context.json) await context.printJson({ schema: 'vdkit/delete/1', removed, warnings });
  else context.note(printable(`${image}: deleted${withParts(removed.slice(1))}`));
  return EXIT.done;
}

function withParts(parts: readonly string[]): string {
  return parts.length === 0 ? '' : `, with ${parts.join(', ')}`;
}
