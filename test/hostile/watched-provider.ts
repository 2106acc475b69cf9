/** A provider that tells which files were opened, and which were not closed again. */
import { isZero } from '../../src/codec/bytes.ts';
import type { CreateMode, OpenMode, OperationOptions, Storage, WriteSource } from '../../src/storage/contract.ts';
import { ForwardingProvider, ForwardingStorage } from '../../src/storage/forwarding.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import type { BaseFile, Piece } from './protocol.ts';

/** Files in memory, watched. */
export class WatchedProvider extends ForwardingProvider {
  /** Names that were opened, as often as they were, with `+` before those opened for writing. */
  readonly opened: string[] = [];
  /** Names that were made, renamed or removed. */
  readonly changedNames: string[] = [];
  #open = 0;

  constructor() {
    super(new MemoryProvider(), ['link']);
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

  override async open(name: string, mode: OpenMode): Promise<Storage> {
    this.opened.push(mode === 'write' ? `+${name}` : name);
    return this.#watch(await this.inner.open(name, mode));
  }

  override async create(name: string, how?: CreateMode): Promise<Storage> {
    this.changedNames.push(name);
    return this.#watch(await this.inner.create(name, how));
  }

  override async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    this.changedNames.push(from, to);
    await this.inner.rename(from, to, how);
  }

  override async remove(name: string): Promise<void> {
    this.changedNames.push(name);
    await this.inner.remove(name);
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

class WatchedStorage extends ForwardingStorage {
  readonly #onClose: () => void;
  #closed = false;

  constructor(inner: Storage, onClose: () => void) {
    super(inner);
    this.#onClose = onClose;
  }

  override async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    const list = source instanceof Uint8Array ? [source] : source;
    const length = list.reduce((sum, part) => sum + part.length, 0);
    if (length < LONG || !list.every(isZero)) return this.inner.write(offset, source, options);
    if (offset + length > this.inner.size) await this.inner.resize(offset + length, options);
    return this.inner.zero(offset, length, { punch: true }, options);
  }

  override close(): Promise<void> {
    if (!this.#closed) this.#onClose();
    this.#closed = true;
    return this.inner.close();
  }
}
