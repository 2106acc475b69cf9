/** Telling people whom a change concerns beside the image itself. */
import { type ChildrenOptions, childrenOf, childrenWarnings } from '../disk/siblings.ts';
import type { CommandContext } from './context.ts';

/** Warns of images beside this one that name it as their parent. */
export async function warnOfChildren(context: CommandContext, image: string, options: ChildrenOptions): Promise<void> {
  // Looking at all neighbours for a warning that nobody sees would only cost time.
  if (context.quiet) return;
  for (const warning of childrenWarnings(image, await childrenOf(image, options))) context.warn(warning);
}
