/**
 * Files of one image as its format receives them: open, admitted by the gate, and locked. A format never opens files
 * itself, so these three steps happen in one place, in one order.
 */
import { assert, ImageError, isImageError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type {
  DirectoryEntry,
  LockOptions,
  NameInfo,
  NewFiles,
  OpenMode,
  Source,
  Storage,
} from '../storage/contract.ts';
import { denyAll, isPlainName, type OpenGate, type Reference } from '../storage/gate.ts';
import { openPartOf } from '../storage/part-handles.ts';

/** Files of an existing image. */
export interface ImageFiles {
  /** Final name of the image, never a temporary one. */
  readonly name: string;
  /** Base of relative names: the directory of the image's file, or the directory that is the image. */
  readonly directory: string;
  /**
   * The named file, open in the requested mode. Null: the image is a directory or a configuration. It belongs to the
   * image that `open` returns; otherwise the caller closes it.
   */
  readonly main: Storage | null;
  /**
   * Opens another file by the name stored in the image. Throws `denied` unless the gate permits it. Files opened before
   * a failure of the format's `open` are closed by the caller.
   */
  open(reference: Reference, mode: OpenMode): Promise<Storage>;
  /** Names in `directory`, each ready for `open`. Throws `limit` when there are too many. */
  list(): AsyncIterable<string>;
  /**
   * Everything in a directory that the image names; null: it names a file. Only of directories in `directory`, or below.
   * Throws `denied`.
   */
  entries?(name: string): Promise<NamedDirectory | null>;
  /** Files that the image gets and gives up while it is open. Absent: it can do neither. */
  readonly parts?: PartFiles | undefined;
}

/** A directory that an image names. */
export interface NamedDirectory extends Pick<NameInfo, 'modifiedMs' | 'permissions'> {
  /** Full name. */
  readonly path: string;
  readonly entries: AsyncIterable<DirectoryEntry>;
}

/** Files that an open image gets when it grows, and gives up when it shrinks. */
export interface PartFiles {
  /**
   * Makes a file in the directory of the image, empty, open for writing, locked, and as readable as another one of its
   * files. Null: the name is taken.
   */
  make(name: string, like: Storage): Promise<Storage | null>;
  /** Deletes a file that was made, or opened for writing, and closes it. False: it is none of those, and stays. */
  remove(storage: Storage): Promise<boolean>;
  /** Makes names that came and went durable. */
  sync(): Promise<void>;
  /**
   * Puts a new file with these bytes into the place of an open one in the directory of the image, in one step and durably.
   * Throws `busy` when another file has its name by now, `locked` while another program does the same.
   */
  replace(name: string, old: Storage, bytes: Uint8Array): Promise<void>;
}

/** Source of the files of an image, and the policy applied to each. */
export interface FilesFrom {
  readonly source: Source;
  readonly main: Storage | null;
  /** True when the image is a directory of this name. */
  readonly isDirectory?: boolean | undefined;
  /** Default: files named by the image are not opened. */
  readonly gate?: OpenGate | undefined;
  /** Lock for each file; null: none. `main` is already locked. */
  readonly lock?: LockOptions | null | undefined;
}

/** Files of an image behind one provider. */
export class OpenedFiles implements ImageFiles {
  readonly name: string;
  readonly directory: string;
  readonly main: Storage | null;
  readonly #source: Source;
  /** Any name in `directory`. */
  readonly #beside: string;
  readonly #gate: OpenGate;
  readonly #lock: LockOptions | null;
  readonly #opened: Storage[] = [];
  /** Parts that were asked for: several may be opened at the same time. */
  #parts = 0;
  /** Names of the files that may be deleted. */
  readonly #owned = new Map<Storage, string>();

  constructor({ source, main, isDirectory = false, gate = denyAll(), lock = null }: FilesFrom) {
    const { provider, name } = source;
    this.name = name;
    const isFile = !isDirectory && source.configuration === undefined;
    this.directory = isFile ? provider.directory(name) : isDirectory ? name : '';
    this.main = main;
    this.#source = source;
    this.#beside = isFile ? name : isDirectory ? `${name}/x` : '';
    this.#gate = gate;
    this.#lock = lock;
  }

  async open({ name, ...about }: Reference, mode: OpenMode): Promise<Storage> {
    const { provider } = this.#source;
    const wanted = isPlainName(name) ? provider.resolve(name, this.#beside) : name;
    const open = (): Promise<Storage> => this.#gate.open({ ...about, name: wanted }, this.#source, mode);
    if (about.passing === true) return open();
    const storage = await (about.part === true ? openPartOf(this.#parts++, open) : open());
    this.#opened.push(storage);
    const lock = about.unlocked === true ? null : this.#lock;
    if (lock !== null) await storage.lock(mode === 'write' ? 'exclusive' : 'shared', lock);
    if (about.part === true && mode === 'write' && isPlainName(name)) this.#owned.set(storage, wanted);
    return storage;
  }

  async entries(name: string): Promise<NamedDirectory | null> {
    const { entriesWithin } = await import('./directory-entries.ts');
    return entriesWithin(this.#source, this.directory, this.#source.provider.resolve(name, this.#beside));
  }

  get parts(): PartFiles | undefined {
    if (this.#beside === '') return undefined;
    return {
      make: (name, like) => this.#make(name, like),
      remove: (storage) => this.#remove(storage),
      sync: () => this.#source.provider.syncNames(this.directory),
      replace: (name, old, bytes) => this.#replace(name, old, bytes),
    };
  }

  async #make(stored: string, like: Storage): Promise<Storage | null> {
    const { provider } = this.#source;
    assert(!/[/\\]/.test(stored) && isPlainName(stored), 'a new part lies in the directory of its image');
    const name = provider.resolve(stored, this.#beside);
    const attributes = (await like.attributes?.()) ?? null;
    const create = (): Promise<Storage> => provider.create(name, { private: true });
    let storage: Storage;
    try {
      storage = await openPartOf(this.#parts++, create, () => provider.open(name, 'write'));
    } catch (error) {
      if (isImageError(error) && error.kind === 'exists') return null;
      throw error;
    }
    this.#opened.push(storage);
    this.#owned.set(storage, name);
    try {
      if (this.#lock !== null) await storage.lock('exclusive', this.#lock);
      if (attributes === null) await provider.publishMode(name);
      else await provider.publishLike(name, { like: attributes });
    } catch (error) {
      await this.#remove(storage);
      throw error;
    }
    return storage;
  }

  async #remove(storage: Storage): Promise<boolean> {
    const name = this.#owned.get(storage);
    if (name === undefined) return false;
    this.#owned.delete(storage);
    await this.#source.provider.remove(name);
    await storage.close();
    return true;
  }

  async #replace(stored: string, old: Storage, bytes: Uint8Array): Promise<void> {
    const { provider } = this.#source;
    assert(!/[/\\]/.test(stored) && isPlainName(stored), 'a part that is replaced lies in the directory of its image');
    const name = provider.resolve(stored, this.#beside);
    if (this.#lock !== null) await old.lock('exclusive', this.#lock);
    if ((await provider.lookUp(name))?.key !== (await old.identity()).key) throw replacedMeanwhile(name);
    const like = (await old.attributes?.()) ?? null;
    const draft = provider.temporaryName(name);
    const storage = await provider.create(draft, { label: name, private: true });
    try {
      try {
        await storage.write(0, bytes);
        if (like === null) await provider.publishMode(draft);
        else await provider.publishLike(draft, { like });
        await storage.flush();
      } finally {
        await storage.close();
      }
      await provider.rename(draft, name, { replace: true });
    } catch (error) {
      await provider.remove(draft).catch(() => {});
      throw error;
    }
    await provider.syncNames(this.directory);
  }

  async *list(): AsyncGenerator<string> {
    let count = 0;
    for await (const name of this.#source.provider.list(this.directory)) {
      if (++count > LIMITS.filesBeside) throw tooMany(this.directory);
      yield name;
    }
  }

  /** Closes every file of an image that could not be opened or is not kept open. */
  async close(): Promise<void> {
    for (const storage of [...this.#opened, ...(this.main === null ? [] : [this.main])]) await storage.close();
  }
}

function replacedMeanwhile(path: string): ImageError {
  return new ImageError('busy', 'Another program changed the file', { path, hint: 'Run the command again.' });
}

function tooMany(path: string): ImageError {
  return new ImageError('limit', 'The directory of the image contains too many files', {
    path,
    expected: `at most ${LIMITS.filesBeside}`,
    hint: 'Move the image with its files to a separate directory.',
  });
}

/** The files of a newly created image, for opening it: parts by stored name. */
export function filesOfNew(files: NewFiles, parts: ReadonlyMap<string, Storage> = new Map()): ImageFiles {
  const { name, directory, main } = files;
  return {
    name,
    directory,
    main,
    async open(wanted) {
      const part = parts.get(wanted.name);
      if (part === undefined) throw new Error(`internal: the new image has no part ${wanted.name}`);
      return part;
    },
    async *list() {},
  };
}

/** The only file of an image of a single-file format. */
export function mainFile({ main, name }: Pick<ImageFiles, 'main' | 'name'>): Storage {
  if (main !== null) return main;
  throw new ImageError('unsupported', 'An image of this format is a file', { path: name, found: 'no file' });
}
