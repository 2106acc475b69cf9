/**
 * The files that an image is read from, found by headers alone, so that none of them is replaced under another name: a
 * link, a hard link, another spelling.
 */

import { type Environment, SAME_DIRECTORY } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { openImage } from '../disk/open/open-image.ts';
import { entryList, openParents } from '../disk/open/parents.ts';
import { keysOfNamed } from '../disk/open/parts.ts';
import type { Allow, ImageInput, ImageSource } from '../disk/options.ts';
import { closeImages } from '../disk/path/chain.ts';
import { ImageError, isImageError } from '../errors.ts';
import type { Source } from '../storage/contract.ts';

/** Options for finding the chain of an image. */
export interface ChainFilesOptions {
  readonly environment: Environment;
  /** Format of the image. Default: probed. */
  readonly format?: string | undefined;
  /** All images of the chain, base first, the image itself last, if they cannot be found by links. */
  readonly chain?: ImageInput | readonly ImageInput[] | undefined;
}

/** The files of a chain. */
export interface ChainFiles {
  /** Keys of all files found, including those that are only named. */
  readonly keys: ReadonlySet<string>;
  /** The obstacle to finding the rest; null: these are all. */
  readonly obstacle: ImageError | null;
  /** UUID of a parent that was not found. */
  readonly missingUuid: string | null;
}

/**
 * Finds the files of an image and its parents. Headers of images in their directories are read whatever `allow` is, and
 * not disclosed.
 */
export async function chainFilesOf(image: ImageSource, options: ChainFilesOptions): Promise<ChainFiles> {
  const { format, chain } = options;
  const environment = options.environment.with({ allow: widened(options.environment.allow) });
  const source = environment.sourceOf(image);
  const opened: OpenedImage[] = [];
  let obstacle: ImageError | null = null;
  try {
    opened.push(await openImage(source, { environment, format, mode: 'read', infoOnly: true }));
    const named = chain === undefined ? [] : entryList(chain).slice(0, -1);
    await openParents(opened, named, { environment, infoOnly: true, linkage: 'off' });
  } catch (error) {
    if (!isImageError(error) || error.kind === 'aborted') throw error;
    obstacle = error;
  } finally {
    await closeImages(opened);
  }
  const keys = new Set(opened.map(({ key }) => key));
  // Also what is named and was not opened.
  for (const one of opened) for (const key of await keysOfNamed(one)) keys.add(key);
  const last = opened.at(-1)?.image.info;
  return { keys, obstacle, missingUuid: obstacle === null ? null : (last?.parentUuid ?? null) };
}

function widened(allow: Allow): Allow {
  if (allow === 'none') return [SAME_DIRECTORY];
  return Array.isArray(allow) ? [...allow, SAME_DIRECTORY] : allow;
}

/**
 * Throws for a target that is, or may be, a file of the chain of `parent`: `force` must not replace a file in use. Does
 * nothing if the target does not exist. Returns keys of files that must stay.
 */
export async function refuseChainTarget(
  target: Source,
  parent: ImageSource,
  options: ChainFilesOptions,
): Promise<ReadonlySet<string>> {
  const { provider, name } = target;
  const present = await provider.lookUp(name);
  if (present?.kind !== 'file') return new Set();
  const { keys, obstacle, missingUuid } = await chainFilesOf(parent, options);
  if (keys.has(present.key) || (missingUuid !== null && (await uuidOf(target, options.environment)) === missingUuid)) {
    throw new ImageError('exists', 'The new image would replace an image of the same chain', {
      path: name,
      hint: 'Choose another name.',
    });
  }
  if (obstacle?.kind !== 'denied') return keys;
  throw new ImageError('denied', 'Cannot tell whether the file to be replaced belongs to the chain', {
    path: name,
    found: obstacle.message,
    hint: 'Pass allow (on the command line: --allow DIRECTORY) for all of the chain, or choose another name.',
    cause: obstacle,
  });
}

/** UUID of a file as an image; null for other files. */
async function uuidOf(source: Source, environment: Environment): Promise<string | null> {
  try {
    const how = { environment: environment.with({ allow: 'none' }), mode: 'read', infoOnly: true } as const;
    const { image } = await openImage(source, how);
    await image.close();
    return image.info.uuid;
  } catch (error) {
    if (!isImageError(error) || error.kind === 'aborted') throw error;
    return null;
  }
}
