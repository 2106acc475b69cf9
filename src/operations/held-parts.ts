/** Files of an image other than the main one, while they are moved or deleted. */
import { refuseIncomplete, type SearchExtent } from '../disk/open/beside.ts';
import type { Environment } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { takesLocks } from '../disk/open/locking.ts';
import { allFiles, openPart, type PartFile } from '../disk/open/parts.ts';
import { ImageError, isImageError, printable } from '../errors.ts';
import { allDone, someAtATime } from '../storage/all-done.ts';
import type { LockMode, NameInfo, Source, Storage } from '../storage/contract.ts';
import { isPlainName } from '../storage/gate.ts';
import { openPartOf } from '../storage/part-handles.ts';
import { TEMPORARY_SUFFIX } from '../storage/staged-set.ts';
import { type Children, extentOf, findChildren, lookAround, lookInto } from './siblings.ts';

/** Files that are looked up or opened together. */
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
  const own: Storage[] = [];
  const close = (): Promise<void> => allDone(own.splice(0).map((storage) => storage.close()));
  const hold = async (part: PartFile, number: number): Promise<HeldPart | null> => {
    if (part.storage?.can.write === true) return { part, storage: part.storage };
    const storage = await openIfThere(opened, part, number);
    if (storage === null) return null;
    own.push(storage);
    if (takesLocks({ environment })) await storage.lock(mode);
    return { part, storage };
  };
  try {
    const found = await someAtATime(wanted, LOOKS, hold);
    const held = found.filter((one): one is HeldPart => one !== null);
    const missing = wanted.filter((_part, index) => found[index] === null);
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
  { environment, besides }: { readonly environment: Environment; readonly besides?: string | undefined },
): Promise<PartUsers> {
  const shared = await SharedFiles.of(parts, { source, key });
  if (parts.length === 0) return shared.users({ complete: true });
  const around = await lookAround(source, environment, new Map([[source.name, null]]));
  for await (const neighbour of around) if (neighbour.name !== besides) await shared.note(neighbour);
  return shared.users(await shared.lookElsewhere(extentOf(around), environment, besides));
}

/** Images that refer to an image, or to its parts. */
export interface Dependants {
  readonly children: Children;
  readonly users: PartUsers;
}

/** The children of an image, and what `usersOf` finds: the headers beside the image are read once. */
export async function dependantsOf(
  { source, key, image }: Pick<OpenedImage, 'source' | 'key' | 'image'>,
  parts: readonly Pick<PartFile, 'file'>[],
  environment: Environment,
): Promise<Dependants> {
  const shared = await SharedFiles.of(parts, { source, key });
  const parent = { source, uuid: image.info.uuid, key };
  const children = await findChildren(parent, environment, (neighbour) => shared.note(neighbour));
  const extent = parts.length === 0 ? { complete: true } : extentOf(children);
  return { children, users: shared.users(await shared.lookElsewhere(extent, environment)) };
}

/** Files of an image, and the images that refer to them. */
class SharedFiles {
  readonly #source: Source;
  /** Of the image itself. */
  readonly #key: string;
  readonly #files: ReadonlyMap<string, string>;
  readonly #directories: ReadonlySet<string>;
  readonly #uses = new Set<string>();

  private constructor(files: readonly string[], keys: ReadonlyMap<string, string>, { source, key }: OfImage) {
    this.#source = source;
    this.#key = key;
    this.#files = keys;
    this.#directories = new Set(files.map((file) => source.provider.directory(file)));
  }

  static async of(parts: readonly Pick<PartFile, 'file'>[], image: OfImage): Promise<SharedFiles> {
    const files = parts.map(({ file }) => file);
    const found = await someAtATime(files, LOOKS, (file) => image.source.provider.lookUp(file));
    const keys = new Map<string, string>();
    for (const [index, file] of files.entries()) {
      const info = found[index] ?? null;
      if (info !== null) keys.set(info.key, file);
    }
    return new SharedFiles(files, keys, image);
  }

  users(extent: SearchExtent): PartUsers {
    return { uses: [...this.#uses].sort(), ...extent };
  }

  async note(neighbour: {
    readonly name: string;
    readonly key: string;
    readonly named: readonly string[];
  }): Promise<void> {
    // An interruption left a temporary file, perhaps of the same operation; no program opens it.
    const isOther = neighbour.key !== this.#key && !neighbour.name.endsWith(TEMPORARY_SUFFIX);
    if (!isOther || this.#files.size === 0) return;
    for (const used of await keysOf(this.#source, neighbour)) {
      const file = this.#files.get(used);
      if (file !== undefined) this.#uses.add(`${neighbour.name} also uses ${file}`);
    }
  }

  /** Looks into the directories of the files but for that of the image. Returns the extent of all. */
  async lookElsewhere(extent: SearchExtent, environment: Environment, besides?: string): Promise<SearchExtent> {
    const { provider, name } = this.#source;
    let all = extent;
    for (const directory of this.#directories) {
      if (directory === provider.directory(name)) continue;
      const around = lookInto(directory, this.#source, environment);
      for await (const neighbour of around) if (neighbour.name !== besides) await this.note(neighbour);
      if (!around.complete) all = extentOf(around);
    }
    return all;
  }
}

type OfImage = Pick<OpenedImage, 'source' | 'key'>;

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
  options: {
    readonly environment: Environment;
    readonly force?: boolean | undefined;
    /** Name of an image that may use them. */
    readonly besides?: string | undefined;
  },
): Promise<string[]> {
  return refuseUsers(opened.name, what, await usersOf(opened, parts, options), options);
}

/** Like {@link refuseShared}, for users that were found before. */
export function refuseUsers(
  name: string,
  what: string,
  users: PartUsers,
  options: { readonly force?: boolean | undefined },
): string[] {
  const { uses } = users;
  const [first] = uses;
  if (first !== undefined && options.force !== true) {
    throw new ImageError('busy', `The image cannot be ${what}: ${printable(first)}`, {
      path: name,
      hint: 'Convert that image first, or proceed with option force (on the command line: --force).',
    });
  }
  if (options.force !== true) refuseIncomplete(name, users);
  return uses.map((use) => `${printable(use)}, which was ${what}.`);
}

/** All parts of an image, and of the other images of its directory, and a warning for each that is not there. */
export async function holdAllParts(
  opened: OpenedImage,
  environment: Environment,
): Promise<HeldParts & { readonly warnings: readonly string[] }> {
  const parts = await holdParts(opened, await allFiles(opened), 'exclusive', environment);
  const warnings = parts.missing.map(({ file, role }) => `${printable(file)} (${role}) does not exist.`);
  return { ...parts, warnings };
}
