/** Files of an image other than the main one, while they are moved or deleted. */
import { refuseIncomplete, type SearchExtent } from '../disk/open/beside.ts';
import type { Environment } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { takesLocks } from '../disk/open/locking.ts';
import { openPart, type PartFile, partFiles } from '../disk/open/parts.ts';
import { ImageError, isImageError, printable } from '../errors.ts';
import { allDone, someAtATime } from '../storage/all-done.ts';
import type { LockMode, NameInfo, Source, Storage } from '../storage/contract.ts';
import { isPlainName } from '../storage/gate.ts';
import { openPartOf } from '../storage/part-handles.ts';
import { extentOf, lookAround, lookInto } from './siblings.ts';

/** Names that are looked up together. */
const LOOKS = 8;

/** A part that is open for writing, and locked. */
export interface HeldPart {
  readonly part: PartFile;
  readonly storage: Storage;
}

/** Parts of an image. */
export interface HeldParts extends AsyncDisposable {
  readonly held: readonly HeldPart[];
  /** Parts that are not there. */
  readonly missing: readonly PartFile[];
}

/**
 * Opens parts of an image for writing, through its gate, and locks them: an image may refer to any of its neighbours, so
 * that deleting or moving a part needs the same permission as writing it. Throws `denied`, `locked`.
 */
export async function holdParts(
  opened: OpenedImage,
  wanted: readonly PartFile[],
  mode: LockMode,
  environment: Environment,
): Promise<HeldParts> {
  const held: HeldPart[] = [];
  const missing: PartFile[] = [];
  const own: Storage[] = [];
  const close = (): Promise<void> => allDone(own.splice(0).map((storage) => storage.close()));
  try {
    for (const part of wanted) {
      const storage = part.storage?.can.write === true ? part.storage : await openIfThere(opened, part, own.length);
      if (storage === null) {
        missing.push(part);
        continue;
      }
      held.push({ part, storage });
      if (storage === part.storage) continue;
      own.push(storage);
      if (takesLocks({ environment })) await storage.lock(mode);
    }
    return { held, missing, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openIfThere(opened: OpenedImage, part: PartFile, number: number): Promise<Storage | null> {
  try {
    return await openPartOf(number, () => openPart(opened, part, 'write'));
  } catch (error) {
    if (isImageError(error) && error.kind === 'not-found') return null;
    throw error;
  }
}

/** Images that refer to the parts of another one. */
export interface PartUsers extends SearchExtent {
  /** A sentence fragment for each: `b.qcow2 also uses a.data`. */
  readonly uses: readonly string[];
}

/** Finds the images beside an image, and beside these parts of it, that refer to the same files. Reads headers only. */
export async function usersOf(
  { source, key }: Pick<OpenedImage, 'source' | 'key'>,
  parts: readonly Pick<PartFile, 'file'>[],
  environment: Environment,
): Promise<PartUsers> {
  if (parts.length === 0) return { uses: [], complete: true };
  const { provider, name } = source;
  const uses = new Set<string>();
  const wanted = new Map<string, string>();
  for (const { file } of parts) {
    const found = await provider.lookUp(file);
    if (found !== null) wanted.set(found.key, file);
  }
  let extent: SearchExtent = { complete: true };
  const own = provider.directory(name);
  for (const directory of new Set([own, ...parts.map(({ file }) => provider.directory(file))])) {
    const around =
      directory === own
        ? await lookAround(source, environment, new Map([[name, null]]))
        : lookInto(directory, source, environment);
    for await (const neighbour of around) {
      if (neighbour.key === key) continue;
      for (const used of await keysOf(source, neighbour)) {
        const file = wanted.get(used);
        if (file !== undefined) uses.add(`${neighbour.name} also uses ${file}`);
      }
    }
    if (!around.complete) extent = extentOf(around);
  }
  return { uses: [...uses].sort(), ...extent };
}

async function keysOf({ provider }: Source, file: { name: string; named: readonly string[] }): Promise<Set<string>> {
  const names = file.named.filter(isPlainName).map((stored) => provider.resolve(stored, file.name));
  const found = await someAtATime(names, LOOKS, (name) => provider.lookUp(name));
  return new Set(found.filter((one): one is NameInfo => one !== null).map(({ key }) => key));
}

/** Refuses to take a part away from another image, unless `force`: then there is a warning for each. */
export async function refuseShared(
  opened: Pick<OpenedImage, 'source' | 'key' | 'name'>,
  what: string,
  parts: readonly Pick<PartFile, 'file'>[],
  options: { readonly environment: Environment; readonly force?: boolean | undefined },
): Promise<string[]> {
  const users = await usersOf(opened, parts, options.environment);
  const { uses } = users;
  const [first] = uses;
  if (first !== undefined && options.force !== true) {
    throw new ImageError('busy', `The image cannot be ${what}: ${printable(first)}`, {
      path: opened.name,
      hint: 'Convert that image first, or proceed with option force (on the command line: --force).',
    });
  }
  if (options.force !== true) refuseIncomplete(opened.name, users);
  return uses.map((use) => `${printable(use)}, which was ${what}.`);
}

/** All parts of an image, and a warning for each that is not there. */
export async function holdAllParts(
  opened: OpenedImage,
  environment: Environment,
): Promise<HeldParts & { readonly warnings: readonly string[] }> {
  const parts = await holdParts(opened, partFiles(opened), 'exclusive', environment);
  const warnings = parts.missing.map(({ file, role }) => `${printable(file)} (${role}) does not exist.`);
  return { ...parts, warnings };
}
