/**
 * New files that get their names together, on a provider that can rename: each is made under a temporary name in its
 * directory.
 *
 * Two files cannot be exchanged at once, so where a new part takes the place of an old one, the old files go first: they
 * get temporary names, the one that names the others before them, and come back when anything fails. After a power cut
 * there is the old image, the new one, or none of that name, and never a mixture.
 *
 * Parts of providers whose files can have two names keep their temporary ones until the main file, which comes last, has
 * lost its own.
 * So a part of a set that was cut can be told from any other file, and the same command can be run again.
 */
import { describeError, isImageError, withPath } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { allDone } from './all-done.ts';
import type { NameInfo, PublishHow, PublishSetHow, StagedSet, Storage, StorageProvider } from './contract.ts';
import { openPartOf } from './part-handles.ts';

/** Ends the names of files that are not complete. */
export const TEMPORARY_SUFFIX = '.vdkit-tmp';
/** Longest name that gets a number: file systems allow 255 bytes. */
const NUMBERED_MAX = 240;

/** One new file. */
interface NewName {
  readonly final: string;
  readonly temporary: string;
}

/** A file that was moved aside, and its temporary name. */
interface Withdrawn {
  readonly final: string;
  readonly backup: string;
}

/** See the head of this file. */
export class RenamedSet implements StagedSet {
  readonly #provider: StorageProvider;
  readonly #files: NewName[] = [];
  /** Temporary names in use. */
  readonly #made = new Set<string>();
  /** Parts that have their names while the main file does not. */
  readonly #published: string[] = [];
  /** Temporary names of parts that have their final ones as well. */
  readonly #twoNames: string[] = [];
  readonly #withdrawn: Withdrawn[] = [];
  /** True when the main file has its name. */
  #complete = false;

  constructor(provider: StorageProvider) {
    this.#provider = provider;
  }

  create(name: string, label = name): Promise<Storage> {
    return this.#underFinalNames(async () => {
      const temporary = this.#files.find(({ final }) => final === name)?.temporary ?? this.#temporaryName(name);
      const storage = await openPartOf(
        this.#files.length - 1,
        () => this.#provider.create(temporary, { label, private: true }),
        () => this.#provider.open(this.#complete ? name : temporary, 'write'),
      );
      this.#files.push({ final: name, temporary });
      this.#made.add(temporary);
      return storage;
    });
  }

  dress(name: string, how: PublishHow | null): Promise<readonly string[]> {
    return this.#underFinalNames(async () => {
      const { temporary } = this.#fileOf(name);
      if (how !== null) return this.#provider.publishLike(temporary, how);
      await this.#provider.publishMode(temporary);
      return [];
    });
  }

  publish(main: string, how: PublishSetHow): Promise<readonly string[]> {
    return this.#underFinalNames(async () => {
      for (const name of how.withdraw) await this.#withdraw(name);
      await this.#publishParts(main);
      await this.#provider.rename(this.#fileOf(main).temporary, main, { replace: how.replace });
      this.#complete = true;
      await this.#provider.syncNames(this.#provider.directory(main));
      await this.#dropSecondNames();
      return this.#forgetOld();
    });
  }

  discard(): Promise<void> {
    return this.#underFinalNames(async () => {
      if (!this.#complete) return this.#undo();
      await this.#dropSecondNames();
      await this.#forgetOld();
    });
  }

  /** Parts beside the main file have its temporary name with a number. */
  #temporaryName(name: string): string {
    const [main] = this.#files;
    if (main === undefined || this.#provider.directory(name) !== this.#provider.directory(main.final))
      return this.#provider.temporaryName(name);
    return numbered(main.temporary, this.#files.length) ?? this.#provider.temporaryName(name);
  }

  #fileOf(name: string): NewName {
    const file = this.#files.find(({ final }) => final === name);
    if (file === undefined) throw new Error(`internal: ${name} was not made`);
    return file;
  }

  async #withdraw(final: string): Promise<void> {
    const backup = this.#provider.temporaryName(final);
    await this.#provider.rename(final, backup, { replace: false });
    this.#withdrawn.push({ final, backup });
    await this.#provider.syncNames(this.#provider.directory(final));
  }

  /** Parts first: the file that names them must find them. */
  async #publishParts(main: string): Promise<void> {
    const directories = new Set<string>();
    for (const { final, temporary } of this.#files) {
      if (final === main) continue;
      await this.#namePart(temporary, final);
      this.#published.push(final);
      directories.add(this.#provider.directory(final));
    }
    for (const directory of directories) await this.#provider.syncNames(directory);
  }

  async #namePart(temporary: string, final: string): Promise<void> {
    const provider = this.#provider;
    try {
      if (provider.link !== undefined) {
        await provider.link(temporary, final);
        this.#twoNames.push(temporary);
        return;
      }
    } catch (error) {
      if (!isImageError(error) || error.kind !== 'unsupported') throw error;
    }
    await provider.rename(temporary, final, { replace: false });
  }

  /**
   * The image is complete: a second name that stays costs nothing but its place in the directory. It gets a second try,
   * since scanners of other programs open new files for a moment.
   */
  async #dropSecondNames(): Promise<void> {
    for (const name of this.#twoNames.splice(0)) {
      const remove = (): Promise<void> => removeIfThere(this.#provider, name);
      await remove()
        .catch(remove)
        .catch(() => {});
    }
  }

  /** Removes the new files and restores the old ones. */
  async #undo(): Promise<void> {
    const made = [...this.#made, ...this.#published.splice(0)];
    this.#made.clear();
    await allDone(made.map((name) => removeIfThere(this.#provider, name)));
    // The main file last, as it went first.
    for (const { final, backup } of this.#withdrawn.splice(0).reverse()) {
      await this.#provider.rename(backup, final, { replace: false });
      await this.#provider.syncNames(this.#provider.directory(final));
    }
  }

  /** Deletes the old files. Returns a sentence for each that stays. */
  async #forgetOld(): Promise<string[]> {
    const stay: string[] = [];
    for (const { final, backup } of this.#withdrawn.splice(0)) {
      try {
        await removeIfThere(this.#provider, backup);
      } catch (error) {
        if (!isImageError(error)) throw error;
        stay.push(`The old ${final} could not be deleted; it was renamed to ${backup}: ${describeError(error)}.`);
      }
    }
    return stay;
  }

  /** Temporary names are meaningless to users: errors name the final ones. */
  async #underFinalNames<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw this.#files.reduce((told, { temporary, final }) => withPath(told, temporary, final), error);
    }
  }
}

/** The name with a number before its suffix; null when it would be too long. */
function numbered(temporary: string, number: number): string | null {
  const base = temporary.slice(temporary.search(/[^/\\]*$/));
  if (!base.endsWith(TEMPORARY_SUFFIX) || new TextEncoder().encode(base).length > NUMBERED_MAX) return null;
  return `${temporary.slice(0, -TEMPORARY_SUFFIX.length)}-${number}${TEMPORARY_SUFFIX}`;
}

/** The temporary name of the main file, by that of a part; null for other names. */
function mainOf(name: string): string | null {
  const main = /^(.*)-\d+\.vdkit-tmp$/s.exec(name)?.[1];
  return main === undefined ? null : `${main}${TEMPORARY_SUFFIX}`;
}

/**
 * True for a part in this directory whose set was cut before the main file got its name: both still have their temporary
 * ones, so no image refers to the part. False while another program works on the set.
 */
export async function isLeftover(provider: StorageProvider, part: NameInfo, directory: string): Promise<boolean> {
  if ((part.links ?? 1) < 2) return false;
  try {
    return await hasUnfinishedMain(provider, part, directory);
  } catch (error) {
    // Where nothing can be listed, nothing is proven.
    if (isImageError(error) && error.kind !== 'aborted') return false;
    throw error;
  }
}

async function hasUnfinishedMain(provider: StorageProvider, part: NameInfo, directory: string): Promise<boolean> {
  let looked = 0;
  for await (const name of provider.list(directory)) {
    if (++looked > LIMITS.filesBeside) return false;
    const main = mainOf(name);
    if (main === null || (await provider.lookUp(name))?.key !== part.key) continue;
    return (await provider.lookUp(main))?.kind === 'file' && isFree(provider, main);
  }
  return false;
}

async function isFree(provider: StorageProvider, name: string): Promise<boolean> {
  const storage = await provider.open(name, 'read');
  try {
    await storage.lock('exclusive');
    return true;
  } catch (error) {
    if (isImageError(error) && error.kind === 'locked') return false;
    throw error;
  } finally {
    await storage.close();
  }
}

async function removeIfThere(provider: StorageProvider, name: string): Promise<void> {
  try {
    await provider.remove(name);
  } catch (error) {
    if (!isImageError(error) || error.kind !== 'not-found') throw error;
  }
}
