/** Renaming and deleting images: names change, content never does. */
import { checkArguments, NAME } from '../arguments.ts';
import { SOURCE } from '../disk/kinds.ts';
import { refuseIncomplete } from '../disk/open/beside.ts';
import { type Resolved, resolve } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { openImage } from '../disk/open/open-image.ts';
import { allFiles, requireFile } from '../disk/open/parts.ts';
import type { EnvironmentOptions, ImageSource } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import type { Source } from '../storage/contract.ts';
import { removeAll } from './directories.ts';
import { dependantsOf, holdAllParts, refuseUsers } from './held-parts.ts';
import { relocate } from './move.ts';
import { OPTIONS } from './option-kinds.ts';
import { type Children, incompleteWarning } from './siblings.ts';

/** Options for renaming or deleting. */
export interface FileOptions extends EnvironmentOptions {
  /** Default: probed. An unidentified file is never deleted as raw unless this says so. */
  readonly format?: string | undefined;
  /** Proceed even if an image in the same directory names this one as its parent. */
  readonly force?: boolean | undefined;
}

/** Result of renaming. */
export interface RenameResult {
  readonly from: string;
  readonly to: string;
  readonly warnings: readonly string[];
}

/** Result of deleting. */
export interface RemoveResult {
  readonly removed: readonly string[];
  readonly warnings: readonly string[];
}

/**
 * Renames an image, durably, also to another directory of the same file system. Stored names of other files, and names
 * of it in images of its directory, are updated. Throws `exists` if the name is taken, `busy` while an image in its
 * directory needs it in place (unless `force`), and `locked`. A name that is a link is renamed itself.
 */
export async function renameImage(
  image: ImageSource,
  newName: string,
  options: FileOptions = {},
): Promise<RenameResult> {
  checkArguments('renameImage', { image: [image, SOURCE], newName: [newName, NAME], options: [options, OPTIONS] });
  const own = await resolve(options);
  const { environment } = own;
  const from = environment.sourceOf(image);
  const { provider } = from;
  return relocate(from, { provider, name: environment.nameOn(provider, newName) }, own, false);
}

/**
 * Deletes all files of an image, durably: the main file last, so that a cut leaves an image that can be deleted again.
 * Throws `busy` while an image beside it refers to it as its parent or uses one of its files (unless `force`), `denied`
 * for a file that nothing identifies as an image and for a part that `allow` does not list by its own name, and `locked`.
 */
export async function removeImage(image: ImageSource, options: FileOptions = {}): Promise<RemoveResult> {
  checkArguments('removeImage', { image: [image, SOURCE], options: [options, OPTIONS] });
  const own = await resolve(options);
  return removeIn(own.environment.sourceOf(image), own);
}

async function removeIn(source: Source, options: Resolved<FileOptions>): Promise<RemoveResult> {
  await using opened = await openForRemoval(source, options);
  await using parts = await holdAllParts(opened, options.environment);
  const files = parts.held.map(({ part }) => part);
  const found = await dependantsOf(opened, files, options.environment);
  const children = refuseParent(opened, 'removed', options, found.children);
  const shared = refuseUsers(opened.name, 'removed', found.users, options);
  const { removed, warnings } = await removeAll(opened, files, options.environment);
  return { removed, warnings: [...children, ...parts.warnings, ...shared, ...warnings] };
}

/**
 * Deletes an image that was just made here, with parts that are named as the caller wanted: they need no further
 * permission.
 */
export async function removeMade(source: Source, options: Resolved<FileOptions>): Promise<void> {
  // Also when its making was cancelled.
  const environment = options.environment.with({ signal: undefined });
  const { format } = options;
  const headers = await openImage(source, { environment, format, mode: 'read', infoOnly: true });
  const allow = (await allFiles(headers)).map(({ file }) => file);
  await headers.image.close();
  await removeIn(source, { environment: environment.with({ allow }), format, force: true });
}

/** An open image, closed at the end of its scope. Until then it is locked. */
type Held = OpenedImage & AsyncDisposable;

async function openForRemoval(source: Source, { environment, format }: Resolved<FileOptions>): Promise<Held> {
  const opened = await openImage(source, { environment, format, mode: 'write', withoutData: true });
  try {
    await requireFile(opened, { directories: true });
  } catch (error) {
    await opened.image.close();
    throw error;
  }
  return { ...opened, [Symbol.asyncDispose]: () => opened.image.close() };
}

/** Throws when its children would become unreadable. */
function refuseParent(
  { name }: OpenedImage,
  what: string,
  options: Resolved<FileOptions>,
  children: Children,
): string[] {
  const [first] = children.names;
  if (first !== undefined && options.force !== true) {
    const others = children.names.length > 1 ? ` and ${children.names.length - 1} more` : '';
    throw new ImageError(
      'busy',
      `The image cannot be ${what}: ${first}${others} in the same directory ${children.names.length > 1 ? 'depend' : 'depends'} on it`,
      {
        path: name,
        hint: 'Delete or merge those first, or proceed with option force (on the command line: --force).',
      },
    );
  }
  if (options.force !== true) refuseIncomplete(name, children);
  const warnings = children.names.map((child) => `${child} names ${name} as its parent.`);
  return children.complete ? warnings : [...warnings, incompleteWarning(name, children)];
}
