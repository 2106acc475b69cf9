/** Renaming and removing images: names change, content never does. */
import { checkArguments, NAME } from '../arguments.ts';
import { SOURCE } from '../disk/kinds.ts';
import { refuseIncomplete } from '../disk/open/beside.ts';
import { nameOn, sourceOf } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { openImage } from '../disk/open/open-image.ts';
import type { EnvironmentOptions, ImageSource } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import type { OpenMode, Source } from '../storage/contract.ts';
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
 * Removes all files of an image, durably. Throws `busy` while an image beside it names it as its parent (unless
 * `force`), `denied` for a file that nothing identifies as an image, and `locked`.
 */
export async function removeImage(image: ImageSource, options: FileOptions = {}): Promise<RemoveResult> {
  checkArguments('removeImage', { image: [image, SOURCE], options: [options, OPTIONS] });
  const source = sourceOf(image, options);
  const { provider, name } = source;
  await using opened = await openAlone(source, 'write', options);
  const warnings = await refuseParent(opened, 'removed', options);
  await provider.remove(name);
  await provider.syncNames(provider.directory(name));
  return { removed: [name], warnings };
}

/** An opened image that closes when it goes out of sight. Until then its lock keeps others away. */
type Held = OpenedImage & AsyncDisposable;

async function openAlone(source: Source, mode: OpenMode, options: FileOptions): Promise<Held> {
  const opened = await openImage(source, { ...options, mode });
  const held = { ...opened, [Symbol.asyncDispose]: () => opened.image.close() };
  if (opened.image.storages().length === 1) return held;
  await opened.image.close();
  throw new ImageError('unsupported', 'Images of several files cannot be renamed or removed yet', {
    path: source.name,
    hint: 'Its parts name each other; convert it instead.',
  });
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
