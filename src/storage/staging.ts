/**
 * New files appear only when they are complete: made under a temporary name in the same directory, readable by their
 * owner only, and given their own name, without replacing anything, when they are durable.
 */
import { ImageError } from '../errors.ts';
import type { Source, StorageProvider } from './contract.ts';

/** A target that is being made. */
export interface Staged {
  /** Where it is made; formats create it there. */
  readonly source: Source;
  /** Gives it its name, durably. Throws `exists` when somebody else took the name meanwhile. */
  publish(): Promise<void>;
  /** Removes what was made so far. */
  discard(): Promise<void>;
}

/** Prepares a target. Refuses at once what could not be published: an existing file, a directory, a missing directory. */
export async function stageTarget(target: Source, how: { readonly force: boolean }): Promise<Staged> {
  const { provider, name } = target;
  await checkTarget(target, how.force);
  const temporary = provider.temporaryName(name);
  return {
    source: { provider: labelled(provider, temporary, name), name: temporary },
    async publish() {
      await provider.publishMode(temporary);
      try {
        await provider.rename(temporary, name, { replace: how.force });
      } catch (error) {
        if (!(error instanceof ImageError) || error.kind !== 'exists') throw error;
        throw existing(name, 'A file of that name appeared while this one was made');
      }
      await provider.syncNames(provider.directory(name));
    },
    async discard() {
      if ((await provider.lookUp(temporary)) !== null) await provider.remove(temporary);
    },
  };
}

async function checkTarget(target: Source, force: boolean): Promise<void> {
  const { provider, name } = target;
  const present = await provider.lookUp(name);
  if (present === null) {
    const directory = await provider.lookUp(provider.directory(name));
    if (directory?.kind === 'directory') return;
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
}

function existing(name: string, message: string): ImageError {
  return new ImageError('exists', message, {
    path: name,
    hint: 'Choose another name, or replace it with force (on the command line: --force).',
  });
}

/** The same provider; what is created under the temporary name calls itself by the final one. */
function labelled(provider: StorageProvider, temporary: string, label: string): StorageProvider {
  return {
    open: (name, mode) => provider.open(name, mode),
    create: (name, how) => provider.create(name, name === temporary ? { ...how, label, private: true } : how),
    rename: (from, to, how) => provider.rename(from, to, how),
    remove: (name) => provider.remove(name),
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
