/** Renaming and removing images: names change, content never does. */
import { checkArguments, NAME } from '../arguments.ts';
import { removeFiles } from '../disk/change/stack.ts';
import { SOURCE } from '../disk/kinds.ts';
import { refuseIncomplete } from '../disk/open/beside.ts';
import { nameOn, sourceOf } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { openImage } from '../disk/open/open-image.ts';
import { partFiles } from '../disk/open/parts.ts';
import type { EnvironmentOptions, ImageSource } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import type { Source } from '../storage/contract.ts';
import { holdAllParts, refuseShared } from './held-parts.ts';
import { relocate } from './move.ts';
import { OPTIONS } from './option-kinds.ts';
import { type Children, findChildren, incompleteWarning } from './siblings.ts';

/** How an image is renamed or removed. */
export interface FileOptions extends EnvironmentOptions {
  /** Default: probed. A file that nothing identifies is never removed as raw unless this says so. */
  readonly format?: string | undefined;
  /** Do it although an image beside it names this one as its parent. */
  readonly force?: boolean | undefined;
}

/** What was renamed. */
export interface RenameResult {
  readonly from: string;
  readonly to: string;
  readonly warnings: readonly string[];
}

/** What was removed. */
export interface RemoveResult {
  readonly removed: readonly string[];
  readonly warnings: readonly string[];
}

/**
 * Gives an image another name, durably, also in another directory of the same file system. Names that it stores of other
 * files, and names of it in the images beside it, change with it. Throws `exists` rather than replace anything, `busy`
 * while an image beside it needs it where it is (unless `force`), and `locked`. A name that is a link is renamed itself.
 */
export async function renameImage(
  image: ImageSource,
  newName: string,
  options: FileOptions = {},
): Promise<RenameResult> {
  checkArguments('renameImage', { image: [image, SOURCE], newName: [newName, NAME], options: [options, OPTIONS] });
  const from = sourceOf(image, options);
  const { provider } = from;
  return relocate(from, { provider, name: nameOn(provider, newName, options) }, options, false);
}

/**
 * Deletes all files of an image, durably: the main file first. Throws `busy` while an image beside it refers to it as its
 * parent or uses one of its files (unless `force`), `denied` for a file that nothing identifies as an image and for a part
 * that `allow` does not list by its own name, and `locked`.
 */
export async function removeImage(image: ImageSource, options: FileOptions = {}): Promise<RemoveResult> {
  checkArguments('removeImage', { image: [image, SOURCE], options: [options, OPTIONS] });
  const source = sourceOf(image, options);
  await using opened = await openForRemoval(source, options);
  await using parts = await holdAllParts(opened, options);
  const warnings = [...(await refuseParent(opened, 'removed', options)), ...parts.warnings];
  const files = parts.held.map(({ part }) => part);
  warnings.push(...(await refuseShared(opened, 'removed', files, options)));
  return { removed: await removeFiles(source, files), warnings };
}

/**
 * Deletes an image that was just made here, with parts that are named as the caller wanted: they need no further
 * permission.
 */
export async function removeMade(image: ImageSource, options: FileOptions): Promise<void> {
  const source = sourceOf(image, options);
  // Also when its making was cancelled.
  const environment = { ...options, signal: undefined };
  const headers = await openImage(source, { ...environment, mode: 'read', infoOnly: true });
  const allow = partFiles(headers).map(({ file }) => file);
  await headers.image.close();
  await removeImage(source, { ...environment, allow, force: true });
}

/** An opened image that closes when it goes out of sight. Until then its lock keeps others away. */
type Held = OpenedImage & AsyncDisposable;

async function openForRemoval(source: Source, options: FileOptions): Promise<Held> {
  const opened = await openImage(source, { ...options, mode: 'write', withoutData: true });
  return { ...opened, [Symbol.asyncDispose]: () => opened.image.close() };
}

/** Its children could not be read any more. */
async function refuseParent(opened: OpenedImage, what: string, options: FileOptions): Promise<string[]> {
  const { source, image, key, name } = opened;
  const children: Children = await findChildren({ source, uuid: image.info.uuid, key }, options);
  const [first] = children.names;
  if (first !== undefined && options.force !== true) {
    const others = children.names.length > 1 ? ` and ${children.names.length - 1} more` : '';
    throw new ImageError('busy', `The image cannot be ${what}: ${first}${others} beside it name it as parent`, {
      path: name,
      hint: 'Remove or merge those first; option force (on the command line: --force) does it all the same.',
    });
  }
  if (options.force !== true) refuseIncomplete(name, children.complete);
  const warnings = children.names.map((child) => `${child} names ${name} as its parent.`);
  return children.complete ? warnings : [...warnings, incompleteWarning(name)];
}
