/**
 * New files appear only when they are complete: made under a temporary name in the same directory, readable by their
 * owner only, and given their own name, without replacing anything, when they are durable.
 */
import { ImageError, isImageError } from '../errors.ts';
import type { CreateMode, NameInfo, Source, StorageProvider } from './contract.ts';

/** A target that is being made. */
export interface Staged {
  /** Where it is made; formats create it there. */
  readonly source: Source;
  /** Gives it its name, durably. Throws `exists` when somebody else took the name meanwhile. */
  publish(): Promise<void>;
  /** Removes what was made so far. */
  discard(): Promise<void>;
}

/**
 * Prepares a target. Refuses at once what could not be published: an existing file (unless `force`), a directory, a
 * device, a missing directory. Nothing is made yet: the format does that, under the temporary name.
 */
export async function stageTarget(target: Source, how: { readonly force: boolean }): Promise<Staged> {
  const { provider, name } = target;
  const old = await checkTarget(target, how.force);
  // A link stays a link: what it leads to is replaced.
  const final = old === null ? name : await provider.realName(name);
  const temporary = provider.temporaryName(final);
  const known: Names = { temporary, name };
  return {
    source: { provider: labelled(provider, known), name: temporary },
    publish: () => underFinalName(known, () => publish({ provider, name: final }, temporary, how.force)),
    discard: () => underFinalName(known, () => removeIfThere(provider, temporary)),
  };
}

/** The name on the medium, and the one that the person knows. */
interface Names {
  readonly temporary: string;
  readonly name: string;
}

async function publish(target: Source, temporary: string, force: boolean): Promise<void> {
  const { provider, name } = target;
  await provider.publishMode(temporary);
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
    if (!isImageError(error) || error.context.path !== names.temporary) throw error;
    const { kind, message, context, hint, status, cause } = error;
    throw new ImageError(kind, message, {
      ...context,
      path: names.name,
      ...(hint === undefined ? {} : { hint }),
      status,
      cause,
    });
  }
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
function labelled(provider: StorageProvider, names: Names): StorageProvider {
  return {
    open: (name, mode) => underFinalName(names, () => provider.open(name, mode)),
    create: (name, how) => underFinalName(names, () => provider.create(name, createMode(names, name, how))),
    rename: (from, to, how) => provider.rename(from, to, how),
    remove: (name) => underFinalName(names, () => provider.remove(name)),
    list: (directory) => provider.list(directory),
    resolve: (name, relativeTo) => provider.resolve(name, relativeTo),
    directory: (name) => provider.directory(name),
    lookUp: (name) => provider.lookUp(name),
    realName: (name) => provider.realName(name),
    temporaryName: (name) => provider.temporaryName(name),
    publishMode: (name) => provider.publishMode(name),
    syncNames: (directory) => provider.syncNames(directory),
    freeSpace: (directory) => provider.freeSpace(directory),
  };
}

function createMode(names: Names, name: string, how: CreateMode | undefined): CreateMode {
  return name === names.temporary ? { ...how, label: names.name, private: true } : { ...how };
}
