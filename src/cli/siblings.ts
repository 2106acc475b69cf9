/** Warnings about other images that a change affects. */

import type { ChainDisk } from '../disk/disk.ts';
import { Environment } from '../disk/open/environment.ts';
import type { EnvironmentOptions, ImageSource } from '../disk/options.ts';
import { childrenWarnings, findChildren } from '../operations/siblings.ts';
import type { CommandContext } from './context.ts';

/** Warns of images beside this one, the last of an open disk, that name it as their parent. */
export async function warnOfChildren(
  context: CommandContext,
  image: ImageSource,
  disk: ChainDisk,
  options: EnvironmentOptions,
): Promise<void> {
  // Looking at all neighbours for a warning that is not shown would only cost time.
  if (context.quiet) return;
  const environment = await Environment.of(options);
  const source = environment.sourceOf(image);
  const name = typeof image === 'string' ? image : source.name;
  const uuid = disk.images.at(-1)?.info.uuid ?? null;
  const parents = disk.images.map((one) => one.name);
  const children = await findChildren({ source, uuid, key: disk.lastKey, parents }, environment);
  for (const warning of childrenWarnings(name, children)) context.warn(warning);
}
