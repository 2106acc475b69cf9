/**
 * Files of the host as contents of an image, opened while they are read. They must stay as they were when the image was
 * planned: the directories tell their lengths, and a reader must not get some of the old bytes and some of the new ones.
 * Each is looked at again after every read. So they need no locks.
 */
import { ImageError, withContext } from '../../errors.ts';
import type {
  OperationOptions,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
} from '../../storage/contract.ts';
import { ForwardingStorage } from '../../storage/forwarding.ts';
import { MemoryStorage } from '../../storage/memory.ts';
import type { IsoContent } from './tree.ts';

/** Files that are open at a time. */
const MOST_OPEN = 24;
/** A file of fewer bytes is read whole: opening it to ask for its holes would take longer. */
const WITHOUT_HOLES = 1024 * 1024;

/** A file of the host as it was when the tree was read. */
export interface HostContent extends IsoContent, FileState {
  /** Full name. */
  readonly path: string;
  readonly modifiedMs: number;
  /** The content is part of the file. Left out: all of it. */
  readonly within?: { readonly offset: number; readonly file: HostContent } | undefined;
}

/** State of a file when the image was planned. */
export interface FileState {
  readonly key: string;
  readonly size: number;
  readonly modifiedMs: number | null;
  /** Differs after every change that the platform can tell. */
  readonly revision: string | null;
}

/** The state of an open file. */
export async function stateOf(storage: Storage): Promise<FileState> {
  const { key, modifiedMs, revision } = await storage.identity();
  return { key, size: storage.size, modifiedMs, revision: revision?.text ?? null };
}

/** Opens a file of the host for reading, without a lock. The caller closes it. */
export type OpenHostFile = (path: string) => Promise<Storage>;

interface OpenFile {
  uses: number;
  readonly storage: Promise<Storage>;
}

/** See the head of this file. */
export class HostFiles {
  readonly #openFile: OpenHostFile;
  /** The one that was used last at the end. */
  readonly #open = new Map<string, OpenFile>();
  readonly #storages = new Map<HostContent, Storage>();
  /** Revisions that the tree did not tell: those of the first time. */
  readonly #revisions = new Map<HostContent, string>();
  readonly #waiting: (() => void)[] = [];
  #closed = false;

  constructor(openFile: OpenHostFile) {
    this.#openFile = openFile;
  }

  /** A whole file as a storage, which opens it when it is read. */
  storageOf(content: HostContent): Storage {
    const known = this.#storages.get(content);
    if (known !== undefined) return known;
    const storage = new HostStorage(this, content);
    this.#storages.set(content, storage);
    return storage;
  }

  /** Calls with the open file, and throws `io` unless it is as planned, whatever the call came to. */
  async use<T>(content: HostContent, call: (storage: Storage) => Promise<T>): Promise<T> {
    const file = await this.#opened(content);
    try {
      const storage = await file.storage;
      try {
        return await call(storage);
      } finally {
        await this.#check(content, storage);
      }
    } finally {
      file.uses--;
      await this.#shrink();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#shrink();
  }

  async #opened(content: HostContent): Promise<OpenFile> {
    for (;;) {
      const known = this.#open.get(content.path);
      if (known !== undefined || this.#open.size < MOST_OPEN) {
        const file = known ?? { uses: 0, storage: this.#openNow(content.path) };
        this.#open.delete(content.path);
        this.#open.set(content.path, file);
        file.uses++;
        return file;
      }
      const idle = this.#takeIdle();
      if (idle === null) await new Promise<void>((resolve) => this.#waiting.push(resolve));
      else await idle.close();
    }
  }

  #openNow(path: string): Promise<Storage> {
    return this.#openFile(path).catch((error: unknown) => {
      // The next use tries again.
      this.#open.delete(path);
      throw withContext(error, { path });
    });
  }

  /** Takes out the file that was used least recently, for closing; null: all are in use. */
  #takeIdle(): { close(): Promise<void> } | null {
    for (const [path, { uses, storage }] of this.#open) {
      if (uses > 0) continue;
      this.#open.delete(path);
      return { close: async () => (await storage).close() };
    }
    return null;
  }

  async #shrink(): Promise<void> {
    this.#waiting.shift()?.();
    if (!this.#closed) return;
    for (let idle = this.#takeIdle(); idle !== null; idle = this.#takeIdle()) await idle.close();
  }

  async #check(content: HostContent, storage: Storage): Promise<void> {
    const { key, size, modifiedMs } = content;
    const now = await stateOf(storage);
    const revision = content.revision ?? this.#revisions.get(content) ?? null;
    if (revision === null && now.revision !== null) this.#revisions.set(content, now.revision);
    const isSame = now.key === key && now.modifiedMs === modifiedMs && (revision ?? now.revision) === now.revision;
    if (isSame && now.size === size) return;
    throw new ImageError('io', 'A file of the image changed while the image was open', {
      path: storage.label,
      found: `${now.size} bytes, changed at ${timeOf(now.modifiedMs)}`,
      expected: `${size} bytes, changed at ${timeOf(modifiedMs)}`,
      hint: 'Open the image again, or create it again.',
    });
  }
}

/** All bytes of a file. */
export async function wholeFile(content: HostContent, openFile: OpenHostFile): Promise<Uint8Array> {
  const files = new HostFiles(openFile);
  try {
    const bytes = new Uint8Array(content.size);
    const { within } = content;
    await files.storageOf(within?.file ?? content).read(within?.offset ?? 0, bytes);
    return bytes;
  } finally {
    await files.close();
  }
}

/** Stands in for a file that is not open. */
const NO_FILE = new MemoryStorage('no file');

class HostStorage extends ForwardingStorage {
  readonly #files: HostFiles;
  readonly #content: HostContent;

  constructor(files: HostFiles, content: HostContent) {
    super(NO_FILE, ['hints', 'readNow', 'allocate', 'adviseSequential', 'attributes', 'place']);
    this.#files = files;
    this.#content = content;
  }

  override get label(): string {
    return this.#content.path;
  }

  /** As planned: a shorter file must not seem to end earlier. */
  override get size(): number {
    return this.#content.size;
  }

  override get can(): StorageCapabilities {
    return { write: false, resize: false, random: true, punch: false, growsZeroed: false };
  }

  override read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    return this.#files.use(this.#content, (storage) => storage.read(offset, target, options));
  }

  override extentAt(offset: number, options?: OperationOptions): StorageExtent | Promise<StorageExtent> {
    const { size } = this.#content;
    if (size < WITHOUT_HOLES) return { start: 0, end: size, data: true };
    return this.#files.use(this.#content, async (storage) => storage.extentAt(offset, options));
  }

  override identity(options?: OperationOptions): Promise<StorageIdentity> {
    return this.#files.use(this.#content, (storage) => storage.identity(options));
  }

  override async lock(): Promise<void> {}

  override async flush(): Promise<void> {}

  override async close(): Promise<void> {}
}

function timeOf(ms: number | null): string {
  return ms === null ? 'an unknown time' : new Date(ms).toISOString();
}
