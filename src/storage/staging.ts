/**
 * Staging of new files, which appear only when complete, durable, and without replacing anything that they may not. In an
 * image of several files the one that names the others comes last. Which names may be taken is decided and locked here;
 * how files get their names together is up to the provider (`StorageProvider.stage`, else `RenamedSet`).
 */
import { checkArguments, FLAG, NAME, withFields } from '../arguments.ts';
import { ImageError, isImageError, withPath } from '../errors.ts';
import { allDone } from './all-done.ts';
import { PROVIDER } from './checks.ts';
import type {
  FileAttributes,
  NameInfo,
  NewFiles,
  PublishSetHow,
  Source,
  StagedSet,
  Storage,
  StorageProvider,
} from './contract.ts';
import { type KeptOpen, keptOpen } from './kept-open.ts';
import { isLeftover, RenamedSet } from './staged-set.ts';

/** Options for a target. */
export interface StageOptions {
  /** Replace an existing file. */
  readonly force: boolean;
  /** Lock the new file until it is published, and with `force` the old one. Default true. */
  readonly lock?: boolean | undefined;
  /** Keys of files that the caller has open and locked and may replace regardless. */
  readonly own?: ReadonlySet<string> | undefined;
  /** Files whose content goes into the target: it becomes no more readable than they are. */
  readonly sources?: readonly FileAttributes[] | undefined;
  /** File that the target continues: it gets its attributes and times. Default: those of the replaced file. */
  readonly continues?: FileAttributes | undefined;
  /**
   * Keys of the parts of the replaced image: with `force` new parts may replace them, and nothing else. Called when the
   * name of a part is taken. Default: none.
   */
  readonly replaces?: (() => Promise<ReadonlySet<string>>) | undefined;
}

/** A target under construction. */
export interface Staged {
  /** Creates the main file under a temporary name. Called once. */
  create(): Promise<NewFiles>;
  /**
   * Renames all files to their final names, durably. Throws `exists` when one was taken in the meantime: then call
   * `discard`. Returns warnings: attributes of replaced files that could not be kept.
   */
  publish(): Promise<readonly string[]>;
  /** Removes all files made so far, unless published. Closes any that are open. */
  discard(): Promise<void>;
}

const TARGET = withFields('an object with provider and name', { provider: PROVIDER, name: NAME });
const HOW = withFields('an object with force', { force: FLAG });

/**
 * Prepares a target. Throws at once if it could not be published: an existing file (unless `force`), a directory, a
 * device, a missing directory. Nothing is created before `create`.
 */
export async function stageTarget(target: Source, how: StageOptions): Promise<Staged> {
  checkArguments('stageTarget', { target: [target, TARGET], how: [how, HOW] });
  const { provider, name } = target;
  const old = await checkTarget(target, how.force);
  // A link stays a link: what it leads to is replaced.
  const final = old === null ? name : await provider.realName(name);
  const staging = new Staging(provider, how);
  await staging.begin({ final, label: name }, old);
  return staging;
}

/** Names of one file of a target. */
interface FileNames {
  /** Final name, with links resolved. */
  readonly final: string;
  /** Name for messages. */
  readonly label: string;
}

/** One file of a target. */
interface NewFile extends FileNames {
  /** The file that it replaces, and its key; null for none. */
  readonly old: (ReplacedLook & { readonly key: string }) | null;
}

/** The files of one target. */
class Staging implements Staged {
  readonly #provider: StorageProvider;
  readonly #how: StageOptions;
  readonly #locks: TargetLocks;
  readonly #set: StagedSet;
  /** All files, the main one first. */
  readonly #files: NewFile[] = [];

  constructor(provider: StorageProvider, how: StageOptions) {
    this.#provider = provider;
    this.#how = how;
    this.#set = provider.stage?.() ?? new RenamedSet(provider);
    this.#locks = new TargetLocks(how.lock ?? true);
  }

  /** The main file, and the one that it replaces. */
  async begin(names: FileNames, old: NameInfo | null): Promise<void> {
    this.#files.push({ ...names, old: await this.#lookAtOld(names, old) });
  }

  create(): Promise<NewFiles> {
    return this.#underLabels(async () => {
      const { final, label } = this.#mainFile;
      const directory = this.#provider.directory(final);
      return {
        name: label,
        directory,
        main: await this.#make(this.#mainFile),
        part: (name) => this.#underLabels(() => this.#part(name)),
        freeSpace: () => this.#provider.freeSpace(directory),
      };
    });
  }

  publish(): Promise<readonly string[]> {
    return this.#underLabels(async () => {
      const lost = await this.#dress();
      const main = this.#mainFile;
      const withdraw = await this.#leaving();
      const replace = this.#how.force && withdraw.length === 0;
      // The old target may have become something else since it was looked at, and a device is not replaced.
      if (replace) await checkTarget({ provider: this.#provider, name: main.final }, true);
      const stay = await this.#publishSet(main.final, { replace, withdraw });
      await this.#locks.release();
      return [...lost, ...stay];
    });
  }

  discard(): Promise<void> {
    return this.#underLabels(async () => {
      try {
        await this.#locks.closeNew();
        await this.#set.discard();
      } finally {
        await this.#locks.release();
      }
    });
  }

  get #mainFile(): NewFile {
    const [main] = this.#files;
    if (main === undefined) throw new Error('internal: a target has a main file');
    return main;
  }

  /** Locks a file that will be replaced, and records its attributes. */
  async #lookAtOld({ final, label }: FileNames, old: NameInfo | null): Promise<NewFile['old']> {
    if (old === null) return null;
    const source = { provider: this.#provider, name: final };
    if (this.#how.own?.has(old.key) !== true) await this.#locks.lockOld(source, label);
    return { ...(await replacedLook(source)), key: old.key };
  }

  /** The file stays private until complete. */
  async #make({ final, label }: FileNames): Promise<Storage> {
    return this.#locks.lockNew(await this.#set.create(final, label));
  }

  async #part(name: string): Promise<Storage> {
    const provider = this.#provider;
    const label = provider.resolve(name, this.#mainFile.final);
    const present = await this.#lookAtPart(label);
    const final = present === null ? label : await provider.realName(label);
    if (this.#files.some((file) => file.final === final)) throw takenTwice(label);
    if (present !== null && !(await this.#mayReplace(present))) throw partExists(label, this.#how.force);
    const names = { final, label };
    const file = { ...names, old: await this.#lookAtOld(names, present) };
    this.#files.push(file);
    return this.#make(file);
  }

  /** The file that has the name of a part. One that an interrupted command left there is removed. */
  async #lookAtPart(name: string): Promise<NameInfo | null> {
    const provider = this.#provider;
    const present = await provider.lookUp(name);
    // Without locks there is no telling whether that command still runs.
    if (present?.kind !== 'file' || this.#how.lock === false) return present;
    if (!(await isLeftover(provider, present, provider.directory(name)))) return present;
    await provider.remove(name);
    return null;
  }

  /** The name of a part comes from an image, and may be that of any file. */
  async #mayReplace({ kind, key }: NameInfo): Promise<boolean> {
    const { force, replaces } = this.#how;
    if (!force || kind !== 'file') return false;
    return (await replaces?.())?.has(key) ?? false;
  }

  /** Gives all files, still under temporary names, their final attributes. */
  async #dress(): Promise<string[]> {
    const { continues, sources = [] } = this.#how;
    const { label, old } = this.#mainFile;
    if (old?.unknown === true) return [unknownReaders(label)];
    const lost = new Set<string>();
    for (const file of [...this.#files].reverse()) {
      const like = continues ?? (file.old ?? old)?.replaced ?? null;
      const usual = like === null && sources.length === 0;
      const how = usual ? null : { like, sources, times: continues !== undefined };
      for (const one of await this.#set.dress(file.final, how)) lost.add(one);
    }
    return lost.size === 0
      ? []
      : [`${label} did not get all attributes of ${whose(continues)}: ${[...lost].join(', ')}.`];
  }

  /** The old files that make room, the main one first: where a part replaces one, the whole old image. */
  async #leaving(): Promise<string[]> {
    const replacing = this.#files.filter(({ old }) => old !== null);
    if (replacing.every((file) => file === this.#mainFile)) return [];
    for (const { final, label, old } of replacing) {
      if ((await this.#provider.lookUp(final))?.key !== old?.key) throw appeared(label);
    }
    return replacing.map(({ final }) => final);
  }

  async #publishSet(main: string, how: PublishSetHow): Promise<readonly string[]> {
    try {
      return await this.#set.publish(main, how);
    } catch (error) {
      if (!isImageError(error) || error.kind !== 'exists') throw error;
      throw appeared(error.context.path ?? main);
    }
  }

  /** Errors have the names that people know. */
  async #underLabels<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw this.#files.reduce<unknown>((told, { final, label }) => withPath(told, final, label), error);
    }
  }
}

/** Facts about a replaced file. */
export interface ReplacedLook {
  readonly replaced: FileAttributes | null;
  /** It could not be examined, so only the owner may read the new file. */
  readonly unknown: boolean;
}

/** The attributes of a file that will be replaced. */
export async function replacedLook({ provider, name }: Source): Promise<ReplacedLook> {
  try {
    const storage = await provider.open(name, 'read');
    try {
      return { replaced: (await storage.attributes?.()) ?? null, unknown: false };
    } finally {
      await storage.close();
    }
  } catch (error) {
    if (!isImageError(error)) throw error;
    return { replaced: null, unknown: true };
  }
}

function unknownReaders(name: string): string {
  return `The access list of the old ${name} could not be read, so only the owner can read the new file.`;
}

function whose(continues: FileAttributes | undefined): string {
  return continues === undefined ? 'the file before it' : 'the original';
}

/** Locks the old files and the new ones until the replacement is done. */
export class TargetLocks {
  readonly #wanted: boolean;
  readonly #made: Storage[] = [];
  readonly #kept: KeptOpen[] = [];
  readonly #old: Storage[] = [];

  constructor(wanted: boolean) {
    this.#wanted = wanted;
  }

  /** A program using the replaced file would continue in a file without a name. */
  async lockOld(target: Source, label: string): Promise<void> {
    if (!this.#wanted) return;
    const storage = await target.provider.open(target.name, 'read');
    try {
      await storage.lock('exclusive');
    } catch (error) {
      await storage.close();
      throw withPath(error, target.name, label);
    }
    this.#old.push(storage);
  }

  /** The lock outlives the handle that the format closes. */
  async lockNew(storage: Storage): Promise<Storage> {
    this.#made.push(storage);
    if (!this.#wanted) return storage;
    await storage.lock('exclusive');
    const kept = keptOpen(storage);
    this.#kept.push(kept);
    return kept.storage;
  }

  /** Closes all new files, including those that a format left open. */
  closeNew(): Promise<void> {
    return allDone(this.#made.splice(0).map((storage) => storage.close()));
  }

  async release(): Promise<void> {
    const kept = this.#kept.splice(0).map((one) => one.release());
    await allDone([...kept, ...this.#old.splice(0).map((storage) => storage.close())]);
  }
}

/** The file that the new one will replace; null for none. */
async function checkTarget(target: Source, force: boolean): Promise<NameInfo | null> {
  const { provider, name } = target;
  const present = await provider.lookUp(name);
  if (present === null) {
    await requireDirectoryOf(target);
    return null;
  }
  if (present.kind !== 'file') throw notAFile(name, present.kind);
  if (!force) throw existing(name, 'The target already exists');
  return present;
}

/** Throws unless the directory of a target is there. */
export async function requireDirectoryOf({ provider, name }: Source): Promise<void> {
  const directory = await provider.lookUp(provider.directory(name));
  if (directory?.kind === 'directory') return;
  throw new ImageError('not-found', 'The directory of the target does not exist', {
    path: provider.directory(name),
    status: 'VERR_PATH_NOT_FOUND',
    hint: 'Create the directory first (mkdir -p).',
  });
}

/** A new image needs a file. */
export function notAFile(path: string, kind: NameInfo['kind']): ImageError {
  const device = kind === 'device';
  return new ImageError('unsupported', `The target is a ${kind}, not a file`, {
    path,
    hint: device
      ? 'To write onto the device, over what it holds, convert with into (on the command line: convert SRC DEVICE --into --to raw).'
      : 'Name a file inside it.',
  });
}

/** Error for a name that is taken. */
export function existing(name: string, message: string): ImageError {
  return new ImageError('exists', message, {
    path: name,
    hint: 'Choose another name, or replace it with option force (on the command line: --force).',
  });
}

function appeared(name: string): ImageError {
  return existing(name, 'A file of that name appeared while the new one was being written');
}

function partExists(path: string, force: boolean): ImageError {
  return new ImageError('exists', 'A file of the new image would replace an existing file', {
    path,
    hint: force
      ? 'Choose another name: option force (--force) replaces files of the old image only, and this is not one of them.'
      : 'Choose another name; if an interrupted command left this file, delete it first.',
  });
}

function takenTwice(path: string): ImageError {
  return new ImageError('invalid-argument', 'Two files of the new image have the same name', {
    path,
    hint: 'Choose another name for one of them.',
  });
}
