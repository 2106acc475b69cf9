/**
 * One storage as a source to open images from, without a directory: an image inside an image, behind a stream or a
 * handle. Files that such an image names do not exist there, so parents must be named.
 */
import { checkArguments } from '../arguments.ts';
import { ImageError } from '../errors.ts';
import type { NameInfo, OpenMode, Source, Storage, StorageProvider } from '../storage/contract.ts';
import { type Bytes, checkOffset } from './bytes.ts';
import { INSIDE_OPTIONS, PLACE, STORE } from './kinds.ts';
import { rangeStorage } from './range.ts';

/** Place of the inner image in bytes. Default: from the start; up to the end, growing with it. */
export interface InsidePlace {
  readonly offset?: number;
  readonly length?: number;
}

/** Options for the source. */
export interface InsideOptions {
  /** Name of the image in messages. Default: the outer label, with the offset. */
  readonly name?: string | undefined;
  /** Strictest access mode permitted. Default: as the outer one. */
  readonly access?: OpenMode | undefined;
  /**
   * Permits a single opening, under any name; later ones throw `not-found`. For programs that open storages themselves:
   * opening a disk takes two, one of them for probing. Default false.
   */
  readonly once?: boolean | undefined;
  /** Disposing of the source, and with `once` closing the opened storage, closes the outer one. Default false. */
  readonly closeOuter?: boolean | undefined;
}

/** A source with one name. Dispose of it to close the outer storage, if permitted. */
export interface InsideSource extends Source, AsyncDisposable {}

/** Name of the imaginary directory. */
const NOWHERE = '(inside another image)';

/**
 * A range of a disk, a device or a storage as a source for `Disk.open`, `inspect`, `convert` and the like. Names stored
 * in the image cannot be resolved: pass `parent`. Throws `out-of-bounds`, `invalid-argument`.
 */
export function insideSource(outer: Bytes, place: InsidePlace = {}, options: InsideOptions = {}): InsideSource {
  checkArguments('insideSource', { outer: [outer, STORE], place: [place, PLACE], options: [options, INSIDE_OPTIONS] });
  const { offset = 0, length } = place;
  checkOffset(outer.label, offset);
  const name = options.name ?? (offset === 0 ? outer.label : `${outer.label} (at ${offset})`);
  const { once = false, closeOuter = false } = options;
  const access = options.access ?? (outer.can.write ? 'write' : 'read');
  // A range that does not lie inside is refused now and not when somebody opens it.
  const { size } = rangeStorage(outer, offset, length);
  const openAs = async (mode: OpenMode, closing: boolean): Promise<Storage> => {
    if (mode === 'write' && access !== 'write') throw notAllowed(name);
    return rangeStorage(outer, offset, length, { label: name, mode, closeOuter: closing });
  };
  const provider = new OneName(name, size, (mode) => openAs(mode, false));
  if (once) provider.open = onlyOnce((mode) => openAs(mode, closeOuter));
  return {
    name,
    provider,
    async [Symbol.asyncDispose]() {
      if (closeOuter) await outer.close();
    },
  };
}

function notAllowed(path: string): ImageError {
  return new ImageError('denied', 'It can be opened for reading only', { path });
}

/** Any name opens the one storage, once. */
function onlyOnce(open: (mode: OpenMode) => Promise<Storage>): StorageProvider['open'] {
  let used = false;
  return async (name, mode) => {
    if (used) throw notFound(name);
    const storage = await open(mode);
    used = true;
    return storage;
  };
}

function notFound(path: string): ImageError {
  return new ImageError('not-found', 'An image inside another one has no directory', {
    path,
    hint: 'Specify the parent (parent; on the command line: --parent).',
  });
}

class OneName implements StorageProvider {
  readonly openOwn: (mode: OpenMode) => Promise<Storage>;
  readonly #name: string;
  readonly #size: number;

  constructor(name: string, size: number, open: (mode: OpenMode) => Promise<Storage>) {
    this.#name = name;
    this.#size = size;
    this.openOwn = open;
  }

  open = async (name: string, mode: OpenMode): Promise<Storage> => {
    if (name !== this.#name) throw notFound(name);
    return this.openOwn(mode);
  };

  create(name: string): Promise<Storage> {
    return this.#refuse(name);
  }

  rename(from: string): Promise<void> {
    return this.#refuse(from);
  }

  remove(name: string): Promise<void> {
    return this.#refuse(name);
  }

  async *list(): AsyncGenerator<string> {}

  resolve(name: string): string {
    return name;
  }

  directory(_name: string): string {
    return NOWHERE;
  }

  async lookUp(name: string): Promise<NameInfo | null> {
    if (name === NOWHERE) return { kind: 'directory', size: 0, key: NOWHERE };
    if (name !== this.#name) return null;
    const storage = await this.openOwn('read');
    try {
      const { key } = await storage.identity();
      return { kind: 'other', size: this.#size, key };
    } finally {
      await storage.close();
    }
  }

  async realName(name: string): Promise<string> {
    if (name === NOWHERE || name === this.#name) return name;
    throw notFound(name);
  }

  temporaryName(name: string): string {
    return `${name}.vdkit-tmp`;
  }

  publishMode(name: string): Promise<void> {
    return this.#refuse(name);
  }

  publishLike(name: string): Promise<readonly string[]> {
    return this.#refuse(name);
  }

  async syncNames(_directory: string): Promise<void> {}

  async freeSpace(_directory: string): Promise<number | null> {
    return null;
  }

  async #refuse(path: string): Promise<never> {
    throw new ImageError('unsupported', 'Files cannot be created, renamed or removed inside another image', { path });
  }
}
