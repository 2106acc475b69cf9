/** A provider that tells which files were opened, and which were not closed again. */
import { isZero } from '../../src/codec/bytes.ts';
import type {
  CreateMode,
  LockMode,
  LockOptions,
  LockState,
  MaybePromise,
  OpenMode,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
  WriteSource,
} from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { WrappedProvider } from '../../src/testing/wrapped-provider.ts';
import type { BaseFile, Piece } from './protocol.ts';

/** Files in memory, watched. */
export class WatchedProvider extends WrappedProvider {
  /** Names that were opened, as often as they were, with `+` before those opened for writing. */
  readonly opened: string[] = [];
  /** Names that were made, renamed or removed. */
  readonly changedNames: string[] = [];
  #open = 0;

  constructor() {
    super(new MemoryProvider());
  }

  /** Handles that were not given back. */
  get stillOpen(): number {
    return this.#open;
  }

  /** Puts a file there, with some places changed. */
  async add(name: string, file: BaseFile, edits: readonly Piece[] = [], size = file.size): Promise<void> {
    const storage = await this.inner.create(name);
    for (const { offset, bytes } of file.pieces) await storage.write(offset, bytes);
    for (const { offset, bytes } of edits) await storage.write(offset, bytes);
    await storage.resize(size);
    await storage.close();
  }

  async open(name: string, mode: OpenMode): Promise<Storage> {
    this.opened.push(mode === 'write' ? `+${name}` : name);
    return this.#watch(await this.inner.open(name, mode));
  }

  async create(name: string, how?: CreateMode): Promise<Storage> {
    this.changedNames.push(name);
    return this.#watch(await this.inner.create(name, how));
  }

  async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    this.changedNames.push(from, to);
    await this.inner.rename(from, to, how);
  }

  async remove(name: string): Promise<void> {
    this.changedNames.push(name);
    await this.inner.remove(name);
  }

  async syncNames(directory: string): Promise<void> {
    await this.inner.syncNames(directory);
  }

  #watch(storage: Storage): Storage {
    this.#open++;
    return new WatchedStorage(storage, () => {
      this.#open--;
    });
  }
}

/** From this length on, zeroes are made holes: a real file system would not keep a gigabyte of them in memory either. */
const LONG = 64 * 1024;

class WatchedStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities;
  readonly #inner: Storage;
  readonly #onClose: () => void;
  #closed = false;

  constructor(inner: Storage, onClose: () => void) {
    this.label = inner.label;
    this.can = inner.can;
    this.#inner = inner;
    this.#onClose = onClose;
  }

  get size(): number {
    return this.#inner.size;
  }

  readNow(offset: number, target: Uint8Array): boolean {
    return this.#inner.readNow?.(offset, target) ?? false;
  }

  read(offset: number, target: ReadTarget): Promise<void> {
    return this.#inner.read(offset, target);
  }

  async write(offset: number, source: WriteSource): Promise<void> {
    const list = source instanceof Uint8Array ? [source] : source;
    const length = list.reduce((sum, part) => sum + part.length, 0);
    if (length < LONG || !list.every(isZero)) return this.#inner.write(offset, source);
    if (offset + length > this.#inner.size) await this.#inner.resize(offset + length);
    return this.#inner.zero(offset, length, { punch: true });
  }

  extentAt(offset: number): MaybePromise<StorageExtent> {
    return this.#inner.extentAt(offset);
  }

  zero(offset: number, length: number, how: { readonly punch: boolean }): Promise<void> {
    return this.#inner.zero(offset, length, how);
  }

  resize(size: number): Promise<void> {
    return this.#inner.resize(size);
  }

  flush(): Promise<void> {
    return this.#inner.flush();
  }

  identity(): Promise<StorageIdentity> {
    return this.#inner.identity();
  }

  lock(mode: LockMode, how?: LockOptions): Promise<void> {
    return this.#inner.lock(mode, how);
  }

  lockState(): Promise<LockState> {
    return this.#inner.lockState();
  }

  close(): Promise<void> {
    if (!this.#closed) this.#onClose();
    this.#closed = true;
    return this.#inner.close();
  }
}
