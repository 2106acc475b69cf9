/**
 * Files of one image as its format receives them: open, admitted by the gate, and locked. A format never opens files
 * itself, so these three steps happen in one place, in one order.
 */
import { ImageError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { LockOptions, NewFiles, OpenMode, Source, Storage } from '../storage/contract.ts';
import { denyAll, isPlainName, type OpenGate, type Reference } from '../storage/gate.ts';
import { openPartOf } from '../storage/handle-pool.ts';

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
    const storage = await (about.part === true ? openPartOf(this.#opened.length, open) : open());
    this.#opened.push(storage);
    if (this.#lock !== null) await storage.lock(mode === 'write' ? 'exclusive' : 'shared', this.#lock);
    return storage;
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
