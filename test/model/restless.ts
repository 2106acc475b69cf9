/**
 * Storages that take their time: requests begin and end some turns later than asked, by chance, so that requests which
 * run together overtake each other as they do on a busy disk. Chance comes from a seed.
 */
import {
  type CreateMode,
  isPromise,
  type LockMode,
  type LockOptions,
  type LockState,
  type MaybePromise,
  type OpenMode,
  type ReadTarget,
  type Storage,
  type StorageCapabilities,
  type StorageExtent,
  type StorageIdentity,
  type StorageProvider,
  type WriteSource,
} from '../../src/storage/contract.ts';
import type { Random } from '../../src/testing/random.ts';
import { WrappedProvider } from '../../src/testing/wrapped-provider.ts';

/** Hands out restless storages. */
export class RestlessProvider extends WrappedProvider {
  readonly #random: Random;

  constructor(inner: StorageProvider, random: Random) {
    super(inner);
    this.#random = random;
  }

  async open(name: string, mode: OpenMode): Promise<Storage> {
    return new RestlessStorage(await this.inner.open(name, mode), this.#random);
  }

  async create(name: string, how?: CreateMode): Promise<Storage> {
    return new RestlessStorage(await this.inner.create(name, how), this.#random);
  }

  rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    return this.inner.rename(from, to, how);
  }

  remove(name: string): Promise<void> {
    return this.inner.remove(name);
  }

  syncNames(directory: string): Promise<void> {
    return this.inner.syncNames(directory);
  }
}

class RestlessStorage implements Storage {
  readonly #inner: Storage;
  readonly #random: Random;
  /** The end of every write that was started: the size covers it. */
  #started = 0;

  constructor(inner: Storage, random: Random) {
    this.#inner = inner;
    this.#random = random;
  }

  get label(): string {
    return this.#inner.label;
  }

  get size(): number {
    return Math.max(this.#inner.size, this.#started);
  }

  get can(): StorageCapabilities {
    return this.#inner.can;
  }

  readNow(offset: number, target: Uint8Array): boolean {
    if (this.#random.chance(0.1) || offset + target.length > this.#inner.size) return false;
    return this.#inner.readNow?.(offset, target) ?? false;
  }

  async read(offset: number, target: ReadTarget): Promise<void> {
    await this.#wait();
    const buffers = target instanceof Uint8Array ? [target] : target;
    let at = offset;
    for (const buffer of buffers) {
      // Inside the size, but not yet written by a write that was started: zeroes, as in a file.
      const stored = at + buffer.length > this.size ? buffer.length : Math.max(this.#inner.size - at, 0);
      const part = buffer.subarray(0, stored);
      if (part.length > 0) await this.#inner.read(at, part);
      buffer.fill(0, part.length);
      at += buffer.length;
    }
    await this.#wait();
  }

  async write(offset: number, source: WriteSource): Promise<void> {
    const length = source instanceof Uint8Array ? source.length : source.reduce((sum, part) => sum + part.length, 0);
    if (length > 0) this.#started = Math.max(this.#started, offset + length);
    await this.#wait();
    await this.#inner.write(offset, source);
    await this.#wait();
  }

  extentAt(offset: number): MaybePromise<StorageExtent> {
    if (offset >= this.#inner.size && offset < this.#started) return { start: offset, end: this.#started, data: true };
    const answer = this.#inner.extentAt(offset);
    if (isPromise(answer) || this.#random.chance(0.7)) return answer;
    return this.#wait().then(() => answer);
  }

  async zero(offset: number, length: number, how: { readonly punch: boolean }): Promise<void> {
    await this.#wait();
    // Behind what is stored by now everything reads zero already.
    const stored = Math.min(length, this.#inner.size - offset);
    if (stored > 0) await this.#inner.zero(offset, stored, how);
    await this.#wait();
  }

  async resize(size: number): Promise<void> {
    await this.#wait();
    await this.#inner.resize(size);
    this.#started = 0;
  }

  async flush(): Promise<void> {
    await this.#wait();
    await this.#inner.flush();
    await this.#wait();
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
    return this.#inner.close();
  }

  /** Lets others go first, mostly a few, sometimes many. */
  async #wait(): Promise<void> {
    const turns = this.#random.below(this.#random.chance(0.1) ? 60 : 6);
    for (let turn = 0; turn < turns; turn++) await null;
  }
}
