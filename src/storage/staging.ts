/**
 * New files appear only when they are complete: made under a temporary name in the same directory, readable by their
 * owner only, and given their own name, without replacing anything, when they are durable.
 */
import { checkArguments, FLAG, NAME, withFields } from '../arguments.ts';
import { ImageError, isImageError } from '../errors.ts';
import { allDone } from './all-done.ts';
import { PROVIDER } from './checks.ts';
import type { CreateMode, FileAttributes, NameInfo, PublishHow, Source, Storage, StorageProvider } from './contract.ts';
import { type KeptOpen, keptOpen } from './kept-open.ts';

/** How a target is made. */
export interface StageOptions {
  /** Replace a file that is there. */
  readonly force: boolean;
  /** Lock what is made until it is published, and with `force` what it replaces. Default true. */
  readonly lock?: boolean;
  /** Keys of files that the caller has open and locked already, and may replace all the same. */
  readonly own?: ReadonlySet<string>;
  /** Files whose content goes into it: it becomes no more readable than they are. */
  readonly sources?: readonly FileAttributes[];
  /** A file that goes on in this one: it gets its attributes and times. Left out: those of what it replaces. */
  readonly continues?: FileAttributes;
}

/** A target that is being made. */
export interface Staged {
  /** Where it is made; formats create it there. */
  readonly source: Source;
  /**
   * Gives it its name, durably. Throws `exists` when somebody else took the name meanwhile. Returns what a person should
   * know: attributes of the replaced file that it could not be given.
   */
  publish(): Promise<readonly string[]>;
  /** Removes what was made so far, all files of it, if it was not published. */
  discard(): Promise<void>;
}

const TARGET = withFields('an object with provider and name', { provider: PROVIDER, name: NAME });
const HOW = withFields('an object with force', { force: FLAG });

/**
 * Prepares a target. Refuses at once what could not be published: an existing file (unless `force`), a directory, a
 * device, a missing directory. Nothing is made yet: the format does that, under the temporary name.
 */
export async function stageTarget(target: Source, how: StageOptions): Promise<Staged> {
  checkArguments('stageTarget', { target: [target, TARGET], how: [how, HOW] });
  const { provider, name } = target;
  const old = await checkTarget(target, how.force);
  // A link stays a link: what it leads to is replaced.
  const final = old === null ? name : await provider.realName(name);
  const temporary = provider.temporaryName(final);
  const known: Names = { temporary, name, parts: new Set() };
  const locks = new TargetLocks(how.lock ?? true);
  if (old !== null && how.own?.has(old.key) !== true) await locks.lockOld({ provider, name: final }, name);
  const look = old === null ? NOTHING_REPLACED : await replacedLook({ provider, name: final });
  return {
    source: { provider: labelled(provider, known, locks), name: temporary },
    publish: () =>
      underFinalName(known, async () => {
        const lost = await dress(provider, known, { ...how, ...look });
        await publish({ provider, name: final }, temporary, how.force);
        known.parts.clear();
        await locks.release();
        return lost;
      }),
    discard: () =>
      underFinalName(known, async () => {
        try {
          for (const part of [temporary, ...known.parts]) await removeIfThere(provider, part);
        } finally {
          await locks.release();
        }
      }),
  };
}

/** What is known of the file that is replaced. */
interface ReplacedLook {
  readonly replaced: FileAttributes | null;
  /** It could not be looked at, so nobody but its owner gets to see the new one. */
  readonly unknown: boolean;
}

const NOTHING_REPLACED: ReplacedLook = { replaced: null, unknown: false };

async function replacedLook({ provider, name }: Source): Promise<ReplacedLook> {
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

/** Gives all files of the target, still under names that nobody looks for, the attributes that they are to have. */
async function dress(
  provider: StorageProvider,
  { temporary, name, parts }: Names,
  { replaced, unknown, continues, sources = [] }: ReplacedLook & Pick<StageOptions, 'continues' | 'sources'>,
): Promise<string[]> {
  if (unknown) return [`Who may read the old ${name} could not be found out, so only its owner may read the new one.`];
  const like = continues ?? replaced;
  const usual = like === null && sources.length === 0;
  const lost = new Set<string>();
  for (const part of [...parts, temporary]) {
    if (usual) await provider.publishMode(part);
    else for (const one of await provider.publishLike(part, howFor(like, continues, sources))) lost.add(one);
  }
  return lost.size === 0 ? [] : [`${name} could not get all that ${whose(continues)} had: ${[...lost].join(', ')}.`];
}

function howFor(
  like: FileAttributes | null,
  continues: FileAttributes | undefined,
  sources: readonly FileAttributes[],
): PublishHow {
  return { like, sources, times: continues !== undefined };
}

function whose(continues: FileAttributes | undefined): string {
  return continues === undefined ? 'the file before it' : 'the original';
}

/** Keeps others away from the old target and the new one until the one has become the other. */
class TargetLocks {
  readonly #wanted: boolean;
  readonly #made: KeptOpen[] = [];
  #old: Storage | null = null;

  constructor(wanted: boolean) {
    this.#wanted = wanted;
  }

  /** Whoever works with a file that is replaced would go on in one that has no name any more. */
  async lockOld(target: Source, label: string): Promise<void> {
    if (!this.#wanted) return;
    const storage = await target.provider.open(target.name, 'read');
    try {
      await storage.lock('exclusive');
    } catch (error) {
      await storage.close();
      throw isImageError(error) ? underName(error, target.name, label) : error;
    }
    this.#old = storage;
  }

  /** The lock outlives the handle that the format closes. */
  async lockNew(storage: Storage): Promise<Storage> {
    if (!this.#wanted) return storage;
    try {
      await storage.lock('exclusive');
    } catch (error) {
      await storage.close();
      throw error;
    }
    const kept = keptOpen(storage);
    this.#made.push(kept);
    return kept.storage;
  }

  async release(): Promise<void> {
    const old = this.#old;
    this.#old = null;
    const closing = this.#made.splice(0).map((kept) => kept.release());
    if (old !== null) closing.push(old.close());
    await allDone(closing);
  }
}

/** The name on the medium, and the one that the person knows. */
interface Names {
  readonly temporary: string;
  readonly name: string;
  /** Other files of the target, made under their own names. */
  readonly parts: Set<string>;
}

async function publish(target: Source, temporary: string, force: boolean): Promise<void> {
  const { provider, name } = target;
  // The old target may have become something else since it was looked at, and a device is not replaced.
  if (force) await checkTarget(target, force);
  try {
    await provider.rename(temporary, name, { replace: force });
  } catch (error) {
    if (!isImageError(error) || error.kind !== 'exists') throw error;
    throw existing(name, 'A file of that name appeared while this one was made');
  }
  await provider.syncNames(provider.directory(name));
}

async function removeIfThere(provider: StorageProvider, name: string): Promise<void> {
  try {
    await provider.remove(name);
  } catch (error) {
    if (!isImageError(error) || error.kind !== 'not-found') throw error;
  }
}

/** Nobody knows the temporary name: failures speak of the final one. */
async function underFinalName<T>(names: Names, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw isImageError(error) ? underName(error, names.temporary, names.name) : error;
  }
}

function underName(error: ImageError, from: string, to: string): ImageError {
  if (error.context.path !== from || from === to) return error;
  const { kind, message, context, hint, status, cause } = error;
  return new ImageError(kind, message, {
    ...context,
    path: to,
    ...(hint === undefined ? {} : { hint }),
    status,
    cause,
  });
}

/** What the new file will replace; null when there is nothing yet. */
async function checkTarget(target: Source, force: boolean): Promise<NameInfo | null> {
  const { provider, name } = target;
  const present = await provider.lookUp(name);
  if (present === null) {
    const directory = await provider.lookUp(provider.directory(name));
    if (directory?.kind === 'directory') return null;
    throw new ImageError('not-found', 'The directory of the target does not exist', {
      path: provider.directory(name),
      status: 'VERR_PATH_NOT_FOUND',
      hint: 'Make it first.',
    });
  }
  if (present.kind !== 'file') {
    throw new ImageError('unsupported', `The target is a ${present.kind}, not a file`, {
      path: name,
      hint: present.kind === 'directory' ? 'Name a file inside it.' : 'To write into a device, use into (--into).',
    });
  }
  if (!force) throw existing(name, 'The target exists already');
  return present;
}

function existing(name: string, message: string): ImageError {
  return new ImageError('exists', message, {
    path: name,
    hint: 'Choose another name; option force (on the command line: --force) replaces it.',
  });
}

/** The same provider; what is done under the temporary name is reported under the final one. */
function labelled(provider: StorageProvider, names: Names, locks: TargetLocks): StorageProvider {
  return {
    open: (name, mode) => underFinalName(names, () => provider.open(name, mode)),
    create: (name, how) =>
      underFinalName(names, async () => {
        const storage = await provider.create(name, { ...how, ...createMode(names, name) });
        if (name !== names.temporary) names.parts.add(name);
        return locks.lockNew(storage);
      }),
    rename: (from, to, how) => provider.rename(from, to, how),
    remove: async (name) => {
      await underFinalName(names, () => provider.remove(name));
      names.parts.delete(name);
    },
    list: (directory) => provider.list(directory),
    resolve: (name, relativeTo) => provider.resolve(name, relativeTo),
    directory: (name) => provider.directory(name),
    lookUp: (name) => provider.lookUp(name),
    realName: (name) => provider.realName(name),
    temporaryName: (name) => provider.temporaryName(name),
    publishMode: (name) => provider.publishMode(name),
    publishLike: (name, how) => provider.publishLike(name, how),
    syncNames: (directory) => provider.syncNames(directory),
    freeSpace: (directory) => provider.freeSpace(directory),
  };
}

/** Nobody else reads any file of it before it is complete. */
function createMode({ temporary, name }: Names, wanted: string): CreateMode {
  return wanted === temporary ? { label: name, private: true } : { private: true };
}
