/**
 * Staging of an image that is a directory: its files are made in a directory with a temporary name, which gets the final
 * one in a single step when all of them are complete and durable. With `force` the old directory is moved aside first and
 * comes back when anything fails, so a power cut leaves the old image, the new one, or none of that name.
 */
import { describeError, ImageError, isImageError, withPath } from '../errors.ts';
import { allDone } from './all-done.ts';
import type { FileAttributes, NewFiles, PublishHow, Source, Storage, StorageProvider } from './contract.ts';
import { existing, replacedLook, requireDirectoryOf, type Staged, type StageOptions, TargetLocks } from './staging.ts';

/** Options for a directory. */
export interface DirectoryOptions extends Omit<StageOptions, 'own' | 'replaces'> {
  /** Base name of the file that names the others. */
  readonly main: string;
  /** Base names of the files of the directory that is replaced; null: it is not an image of the format. */
  readonly old: readonly string[] | null;
}

/** A provider whose images can be directories. */
type WithDirectories = StorageProvider & Required<Pick<StorageProvider, 'makeDirectory' | 'removeDirectory'>>;

/** Prepares a directory. Throws at once if it could not be published, as `stageTarget` does. */
export async function stageDirectory(target: Source, how: DirectoryOptions): Promise<Staged> {
  const { provider, name } = target;
  if (!hasDirectories(provider)) {
    throw new ImageError('unsupported', 'An image of this format is a directory, which this storage does not have', {
      path: name,
      hint: 'Choose another format, or create the image in a file system.',
    });
  }
  const present = await provider.lookUp(name);
  if (present === null) await requireDirectoryOf(target);
  else if (!how.force) throw existing(name, 'The target already exists');
  else if (present.kind !== 'directory' || how.old === null) throw notReplaced(name, present.kind);
  const staging = new StagedDirectory(provider, name, how);
  if (present !== null) await staging.holdOld();
  return staging;
}

function hasDirectories(provider: StorageProvider): provider is WithDirectories {
  return provider.makeDirectory !== undefined && provider.removeDirectory !== undefined;
}

/** True when the provider can make images that are directories. */
export function canStageDirectories(provider: StorageProvider): boolean {
  return hasDirectories(provider);
}

function notReplaced(path: string, kind: string): ImageError {
  return new ImageError(
    'unsupported',
    'The target is not an image of this format, and is not replaced by a directory',
    {
      path,
      found: kind,
      hint: 'Choose another name, or delete it first.',
    },
  );
}

class StagedDirectory implements Staged {
  readonly #provider: WithDirectories;
  readonly #final: string;
  readonly #temporary: string;
  readonly #how: DirectoryOptions;
  readonly #locks: TargetLocks;
  readonly #made = new Set<string>();
  /** Name of the old directory while it is moved aside. */
  #backup: string | null = null;
  #like: FileAttributes | null = null;
  #exists = false;
  #complete = false;

  constructor(provider: WithDirectories, final: string, how: DirectoryOptions) {
    this.#provider = provider;
    this.#final = final;
    this.#temporary = provider.temporaryName(final);
    this.#how = how;
    this.#locks = new TargetLocks(how.lock ?? true);
  }

  /** Locks the image that will be replaced. */
  async holdOld(): Promise<void> {
    const main = this.#in(this.#final, this.#how.main);
    const source = { provider: this.#provider, name: main };
    await this.#locks.lockOld(source, main);
    this.#like = (await replacedLook(source)).replaced;
  }

  create(): Promise<NewFiles> {
    return this.#underFinalNames(async () => {
      await this.#provider.makeDirectory(this.#temporary);
      this.#exists = true;
      return {
        name: this.#final,
        directory: this.#final,
        main: await this.#make(this.#how.main),
        part: (name) => this.#underFinalNames(() => this.#make(name)),
        freeSpace: () => this.#provider.freeSpace(this.#temporary),
      };
    });
  }

  publish(): Promise<readonly string[]> {
    return this.#underFinalNames(async () => {
      const lost = await this.#dress();
      await this.#provider.syncNames(this.#temporary);
      if (this.#how.force) await this.#withdraw();
      await this.#provider.rename(this.#temporary, this.#final, { replace: false });
      this.#complete = true;
      await this.#provider.syncNames(this.#provider.directory(this.#final));
      const stay = await this.#forgetOld();
      await this.#locks.release();
      return [...lost, ...stay];
    });
  }

  discard(): Promise<void> {
    return this.#underFinalNames(async () => {
      try {
        await this.#locks.closeNew();
        if (this.#complete) await this.#forgetOld();
        else await this.#undo();
      } finally {
        await this.#locks.release();
      }
    });
  }

  #in(directory: string, name: string): string {
    return this.#provider.resolve(name, `${directory}/x`);
  }

  async #make(name: string): Promise<Storage> {
    const whole = this.#in(this.#temporary, name);
    if (this.#provider.directory(whole) !== this.#temporary) throw outside(this.#in(this.#final, name), this.#final);
    const label = this.#in(this.#final, name);
    const storage = await this.#provider.create(whole, { label, private: true });
    this.#made.add(whole);
    return this.#locks.lockNew(storage);
  }

  /** Gives all files their final attributes. */
  async #dress(): Promise<string[]> {
    const { continues, sources = [] } = this.#how;
    const like = continues ?? this.#like;
    const how: PublishHow | null =
      like === null && sources.length === 0 ? null : { like, sources, times: continues !== undefined };
    const lost = new Set<string>();
    for (const name of this.#made) {
      if (how === null) await this.#provider.publishMode(name);
      else for (const one of await this.#provider.publishLike(name, how)) lost.add(one);
    }
    return lost.size === 0 ? [] : [`${this.#final} did not get all attributes of its origin: ${[...lost].join(', ')}.`];
  }

  async #withdraw(): Promise<void> {
    if ((await this.#provider.lookUp(this.#final)) === null) return;
    const backup = this.#provider.temporaryName(this.#final);
    await this.#provider.rename(this.#final, backup, { replace: false });
    this.#backup = backup;
    await this.#provider.syncNames(this.#provider.directory(this.#final));
  }

  /** Removes what was made, and restores the old directory. */
  async #undo(): Promise<void> {
    const made = [...this.#made];
    this.#made.clear();
    await allDone(made.map((name) => ifThere(() => this.#provider.remove(name))));
    if (this.#exists) await ifThere(() => this.#provider.removeDirectory(this.#temporary));
    this.#exists = false;
    if (this.#backup === null) return;
    await this.#provider.rename(this.#backup, this.#final, { replace: false });
    this.#backup = null;
    await this.#provider.syncNames(this.#provider.directory(this.#final));
  }

  /** Deletes the old image. A directory with other files in it stays under its temporary name. */
  async #forgetOld(): Promise<string[]> {
    const backup = this.#backup;
    this.#backup = null;
    if (backup === null) return [];
    try {
      for (const name of this.#how.old ?? []) await ifThere(() => this.#provider.remove(this.#in(backup, name)));
      await this.#provider.removeDirectory(backup);
      return [];
    } catch (error) {
      if (!isImageError(error)) throw error;
      return [`The old ${this.#final} could not be deleted; it was renamed to ${backup}: ${describeError(error)}.`];
    }
  }

  /** Errors have the names that people know. */
  async #underFinalNames<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      const path = isImageError(error) ? error.context.path : undefined;
      if (path === undefined || !path.startsWith(this.#temporary)) throw error;
      throw withPath(error, path, this.#final + path.slice(this.#temporary.length));
    }
  }
}

function outside(path: string, directory: string): ImageError {
  return new ImageError('denied', 'A file of the new image would lie outside of its directory', {
    path,
    expected: `a name in ${directory}`,
    hint: 'Give a name without folders.',
  });
}

async function ifThere(remove: () => Promise<void>): Promise<void> {
  try {
    await remove();
  } catch (error) {
    if (!isImageError(error) || error.kind !== 'not-found') throw error;
  }
}
