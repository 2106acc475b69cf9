/** Warnings about other images that a change affects. */

import type { ImageSource } from '../disk/options.ts';
import { type ChildrenOptions, childrenOf, childrenWarnings } from '../operations/siblings.ts';
import type { CommandContext } from './context.ts';

/** Warns of images beside this one that name it as their parent. */
export async function warnOfChildren(
  context: CommandContext,
  image: ImageSource,
  options: ChildrenOptions,
): Promise<void> {
  // Looking at all neighbours for a warning that nobody sees would only cost time.
  if (context.quiet) return;
  const name = typeof image === 'string' ? image : image.name;
  for (const warning of childrenWarnings(name, await childrenOf(image, options))) context.warn(warning);
}
