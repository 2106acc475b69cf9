/**
 * New files that get their names together, on a provider that can rename: each is made under a temporary name in its
 * directory.
 *
 * Two files cannot be exchanged at once, so where a new part takes the place of an old one, the old files go first: they
 * get temporary names, the one that names the others before them, and come back when anything fails. After a power cut
 * there is the old image, the new one, or none of that name, and never a mixture.
 */
import { describeError, isImageError, withPath } from '../errors.ts';
import { allDone } from './all-done.ts';
import type { PublishHow, PublishSetHow, StagedSet, Storage, StorageProvider } from './contract.ts';

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
  readonly #withdrawn: Withdrawn[] = [];
  /** True when the main file has its name. */
  #complete = false;

  constructor(provider: StorageProvider) {
    this.#provider = provider;
  }

  create(name: string, label = name): Promise<Storage> {
    return this.#underFinalNames(async () => {
      const temporary =
        this.#files.find(({ final }) => final === name)?.temporary ?? this.#provider.temporaryName(name);
      const storage = await this.#provider.create(temporary, { label, private: true });
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
      return this.#forgetOld();
    });
  }

  discard(): Promise<void> {
    return this.#underFinalNames(async () => {
      if (this.#complete) await this.#forgetOld();
      else await this.#undo();
    });
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
      await this.#provider.rename(temporary, final, { replace: false });
      this.#published.push(final);
      directories.add(this.#provider.directory(final));
    }
    for (const directory of directories) await this.#provider.syncNames(directory);
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
        stay.push(`The old ${final} could not be deleted and is called ${backup} now: ${describeError(error)}.`);
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

async function removeIfThere(provider: StorageProvider, name: string): Promise<void> {
  try {
    await provider.remove(name);
  } catch (error) {
    if (!isImageError(error) || error.kind !== 'not-found') throw error;
  }
}
