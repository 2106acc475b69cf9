/** Images that are directories, as they are deleted and renamed. */
import { checkArguments } from '../arguments.ts';
import { removeFiles } from '../disk/change/stack.ts';
import { SOURCE } from '../disk/kinds.ts';
import { refuseIncomplete } from '../disk/open/beside.ts';
import { type Environment, type Resolved, resolve } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { takesLocks } from '../disk/open/locking.ts';
import { openImage } from '../disk/open/open-image.ts';
import { allFiles, mainStorage, openPart, type PartFile } from '../disk/open/parts.ts';
import type { EnvironmentOptions, ImageSource } from '../disk/options.ts';
import { ImageError, isImageError } from '../errors.ts';
import type { Format } from '../image/contract.ts';
import type { Source, Storage, StorageProvider } from '../storage/contract.ts';
import { stageDirectory } from '../storage/staged-directory.ts';
import { requireDirectoryOf } from '../storage/staging.ts';
import { copyStorage, sameBytes } from './byte-copy.ts';
import { type HeldParts, holdAllParts } from './held-parts.ts';
import { OPTIONS } from './option-kinds.ts';
import { findChildren } from './siblings.ts';

/** Files of an image that were deleted, and warnings. */
interface Removed {
  readonly removed: readonly string[];
  readonly warnings: readonly string[];
}

/** Deletes the files of an image, durably, the main one last; then the directory that is the image, if it is one. */
export async function removeAll(
  opened: Pick<OpenedImage, 'source' | 'format' | 'name'>,
  parts: readonly Pick<PartFile, 'file'>[],
  environment: Environment,
): Promise<Removed> {
  const { source } = opened;
  if (source.isDirectory !== true) return { removed: await removeFiles(source, parts), warnings: [] };
  const { provider, name } = source;
  const main = { provider, name: provider.resolve(mainOf(opened, environment), `${name}/x`) };
  const removed = await removeFiles(main, parts);
  try {
    await provider.removeDirectory?.(name);
    await provider.syncNames(provider.directory(name));
    return { removed: [...removed, name], warnings: [] };
  } catch (error) {
    if (!isImageError(error) || error.kind !== 'exists') throw error;
    return { removed, warnings: [`The directory ${name} is left: it contains files that do not belong to the image.`] };
  }
}

/** The file of a directory that names the others. Throws `unsupported` where its format does not tell. */
function mainOf({ format, name }: Pick<OpenedImage, 'format' | 'name'>, { registry }: Environment): string {
  const { directoryMain, capabilities } = registry.find(format);
  // An image that is only read does not tell all the files it is made of.
  if (directoryMain !== undefined && capabilities.write) return directoryMain;
  const uses = capabilities.write ? 'read and written' : 'read';
  throw new ImageError('unsupported', `Directories of format ${format} can only be ${uses}`, {
    path: name,
    hint: 'Convert it, or move or remove it with the tools of the system.',
  });
}

/**
 * Renames a directory with all its files, in one step; with `mayCopy` it is copied to another file system, read back, and
 * deleted. What it stores counts from the directory and stays. Cut off, it can be called again. Throws `exists`, `busy`
 * while an image beside it names it (unless `force`), `locked`, and `unsupported` for another file system.
 */
export async function relocateDirectory(
  opened: OpenedImage,
  to: Source,
  options: Resolved<EnvironmentOptions & { readonly force?: boolean | undefined }>,
  mayCopy: boolean,
): Promise<readonly string[]> {
  const { source: from, key, image, name } = opened;
  const { environment, force = false } = options;
  mainOf(opened, environment);
  await using held = await holdAllParts(opened, environment);
  const children = await findChildren({ source: from, uuid: image.info.uuid, key }, environment);
  const [child] = children.names;
  if (!force) refuseIncomplete(name, children);
  if (child !== undefined && !force) {
    throw new ImageError('busy', `The image cannot be moved: ${child} in the same directory depends on it`, {
      path: name,
      hint: 'Delete or merge that image first, or proceed with option force (on the command line: --force).',
    });
  }
  if (await isElsewhere(from, to)) {
    if (!mayCopy) throw elsewhere(to.name);
    await copyAway(opened, held, to, environment);
    return (
      await removeAll(
        opened,
        held.held.map(({ part }) => part),
        environment,
      )
    ).warnings;
  }
  await requireDirectoryOf(to);
  await renameWhole(from.provider, from.name, to.name);
  return [];
}

/** True when surely on another file system. */
async function isElsewhere(from: Source, to: Source): Promise<boolean> {
  if (from.provider !== to.provider) return true;
  const directory = await to.provider.lookUp(to.provider.directory(to.name));
  const volume = (await from.provider.lookUp(from.name))?.volume;
  return volume !== undefined && directory?.volume !== undefined && volume !== directory.volume;
}

/** A file of the directory, open, by its stored name. */
interface OwnFile {
  readonly name: string;
  readonly storage: Storage;
}

/** Makes the directory on another file system, unless an earlier call has made it. */
async function copyAway(opened: OpenedImage, parts: HeldParts, to: Source, environment: Environment): Promise<void> {
  const main = { name: mainOf(opened, environment), storage: mainStorage(opened.image) };
  const files = parts.held.map(({ part, storage }): OwnFile => ({ name: part.name, storage }));
  if ((await to.provider.lookUp(to.name)) !== null) {
    if (await isCopy([main, ...files], to, environment)) return;
    throw taken(to.name);
  }
  const [missing] = parts.missing;
  if (missing !== undefined) {
    throw new ImageError('not-found', 'A file of the image is missing', { path: missing.file, found: opened.name });
  }
  await stageCopy({ main, files }, to, { environment, force: false, old: null });
}

/** The target of a copy. */
interface StageCopyHow {
  readonly environment: Environment;
  readonly force: boolean;
  /** Base names of the files that are replaced. */
  readonly old: readonly string[] | null;
}

/** Makes a directory with copies of files, which are compared. A failure leaves nothing behind. */
async function stageCopy(
  { main, files }: { readonly main: OwnFile; readonly files: readonly OwnFile[] },
  to: Source,
  { environment, force, old }: StageCopyHow,
): Promise<void> {
  const { lock, signal } = environment;
  const continues = (await main.storage.attributes?.()) ?? undefined;
  const staged = await stageDirectory(to, { force, lock, main: main.name, old, continues });
  try {
    const target = await staged.create();
    for (const { name, storage } of files) await copyStorage(storage, await target.part(name), { signal });
    await copyStorage(main.storage, target.main, { signal });
    await staged.publish();
  } catch (error) {
    await staged.discard();
    throw error;
  }
}

/** True when the directory has the same files: those of the original that are still there are compared. */
async function isCopy(
  files: readonly OwnFile[],
  { provider, name }: Source,
  { signal }: Environment,
): Promise<boolean> {
  for (const file of files) {
    const other = provider.resolve(file.name, `${name}/x`);
    if ((await provider.lookUp(other))?.kind !== 'file') return false;
    const storage = await provider.open(other, 'read');
    try {
      if (!(await sameBytes(file.storage, storage, { signal }))) return false;
    } finally {
      await storage.close();
    }
  }
  return true;
}

async function renameWhole(provider: StorageProvider, from: string, to: string): Promise<void> {
  if ((await provider.lookUp(to)) !== null) throw taken(to);
  await provider.rename(from, to, { replace: false });
  for (const directory of new Set([to, from].map((name) => provider.directory(name)))) {
    await provider.syncNames(directory);
  }
}

function taken(path: string): ImageError {
  return new ImageError('exists', 'The new name is taken', { path, hint: 'Choose another name.' });
}

function elsewhere(path: string): ImageError {
  return new ImageError('unsupported', 'A directory cannot be moved to another file system', {
    path,
    status: 'VERR_NOT_SAME_DEVICE',
    hint: 'Copy it (copyImage; on the command line: copy), then delete the original.',
  });
}

/**
 * Base names of the files of a directory that is replaced, the main one first; null: it is not an image of the format, or
 * cannot be read.
 */
export async function filesOfOld(source: Source, format: Format, environment: Environment): Promise<string[] | null> {
  const { directoryMain: main = '' } = format;
  if ((await source.provider.lookUp(source.name))?.kind !== 'directory') return null;
  try {
    const own = environment.with({ allow: 'none' });
    const old = await openImage(source, { environment: own, format: format.name, mode: 'read', infoOnly: true });
    const parts = [...(old.image.parts?.() ?? []), ...((await old.image.member?.others()) ?? [])];
    await old.image.close();
    return [main, ...parts.map(({ name }) => name)];
  } catch (error) {
    if (isImageError(error) && error.kind !== 'aborted') return null;
    throw error;
  }
}

/** Options for a copy of a directory. */
export interface CopyDirectoryOptions extends EnvironmentOptions {
  /** Replace an existing image of the format. */
  readonly force?: boolean | undefined;
}

/**
 * Copies an image that is a directory with all its files, each of which is compared: also those of other images in it.
 * Until then no program may write to them. Returns the bytes copied. Throws `exists`, `locked`, `unsupported`.
 */
export async function copyDirectory(
  image: ImageSource,
  target: ImageSource,
  options: CopyDirectoryOptions = {},
): Promise<{ readonly from: string; readonly to: string; readonly written: number }> {
  checkArguments('copyDirectory', { image: [image, SOURCE], target: [target, SOURCE], options: [options, OPTIONS] });
  const { environment, force = false } = await resolve(options);
  const to = environment.sourceOf(target);
  const opened = await openImage(environment.sourceOf(image), { environment, mode: 'read', withoutData: true });
  const held: Storage[] = [];
  try {
    const main = { name: mainOf(opened, environment), storage: mainStorage(opened.image) };
    await refuseInside(opened.source, to);
    const files: OwnFile[] = [];
    for (const part of await allFiles(opened)) {
      const storage = await openPart(opened, part, 'read');
      held.push(storage);
      if (takesLocks({ environment })) await storage.lock('shared');
      files.push({ name: part.name, storage });
    }
    const old = force ? await filesOfOld(to, environment.registry.find(opened.format), environment) : null;
    await stageCopy({ main, files }, to, { environment, force, old });
    const written = [main, ...files].reduce((sum, { storage }) => sum + storage.size, 0);
    return { from: opened.name, to: to.name, written };
  } finally {
    for (const storage of held) await storage.close();
    await opened.image.close();
  }
}

/** Throws for a target that is the directory itself, or lies in it. */
async function refuseInside({ provider, name }: Source, to: Source): Promise<void> {
  if (provider !== to.provider) return;
  const own = (await provider.lookUp(name))?.key;
  for (const place of [to.name, provider.directory(to.name)]) {
    if ((await provider.lookUp(place))?.key !== own) continue;
    throw new ImageError('invalid-argument', 'The copy would replace the image, or lie in it', {
      path: to.name,
      hint: 'Choose another name or directory.',
    });
  }
}
