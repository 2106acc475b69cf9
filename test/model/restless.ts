/**
 * Storages that take their time: requests begin and end some turns later than asked, by chance, so that requests which
 * run together overtake each other as they do on a busy disk. Chance comes from a seed.
 */
import {
  type CreateMode,
  isPromise,
  type MaybePromise,
  type OpenMode,
  type OperationOptions,
  type ReadTarget,
  type Storage,
  type StorageExtent,
  type StorageProvider,
  type WriteSource,
} from '../../src/storage/contract.ts';
import { ForwardingProvider, ForwardingStorage } from '../../src/storage/forwarding.ts';
import type { Random } from '../../src/testing/random.ts';

/** Hands out restless storages. */
export class RestlessProvider extends ForwardingProvider {
  readonly #random: Random;

  constructor(inner: StorageProvider, random: Random) {
    super(inner);
    this.#random = random;
  }

  override async open(name: string, mode: OpenMode): Promise<Storage> {
    return new RestlessStorage(await this.inner.open(name, mode), this.#random);
  }

  override async create(name: string, how?: CreateMode): Promise<Storage> {
    return new RestlessStorage(await this.inner.create(name, how), this.#random);
  }
}

class RestlessStorage extends ForwardingStorage {
  readonly #random: Random;
  /** The end of every write that was started: the size covers it. */
  #started = 0;

  constructor(inner: Storage, random: Random) {
    super(inner);
    this.#random = random;
  }

  override get size(): number {
    return Math.max(this.inner.size, this.#started);
  }

  override readNow(offset: number, target: Uint8Array): boolean {
    if (this.#random.chance(0.1) || offset + target.length > this.inner.size) return false;
    return this.inner.readNow?.(offset, target) ?? false;
  }

  override async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    await this.#wait();
    const buffers = target instanceof Uint8Array ? [target] : target;
    let at = offset;
    for (const buffer of buffers) {
      // Inside the size, but not yet written by a write that was started: zeroes, as in a file.
      const stored = at + buffer.length > this.size ? buffer.length : Math.max(this.inner.size - at, 0);
      const part = buffer.subarray(0, stored);
      if (part.length > 0) await this.inner.read(at, part, options);
      buffer.fill(0, part.length);
      at += buffer.length;
    }
    await this.#wait();
  }

  override async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    const length = source instanceof Uint8Array ? source.length : source.reduce((sum, part) => sum + part.length, 0);
    if (length > 0) this.#started = Math.max(this.#started, offset + length);
    await this.#wait();
    await this.inner.write(offset, source, options);
    await this.#wait();
  }

  override extentAt(offset: number, options?: OperationOptions): MaybePromise<StorageExtent> {
    if (offset >= this.inner.size && offset < this.#started) return { start: offset, end: this.#started, data: true };
    const answer = this.inner.extentAt(offset, options);
    if (isPromise(answer) || this.#random.chance(0.7)) return answer;
    return this.#wait().then(() => answer);
  }

  override async zero(
    offset: number,
    length: number,
    how: { readonly punch: boolean },
    options?: OperationOptions,
  ): Promise<void> {
    await this.#wait();
    // Behind what is stored by now everything reads zero already.
    const stored = Math.min(length, this.inner.size - offset);
    if (stored > 0) await this.inner.zero(offset, stored, how, options);
    await this.#wait();
  }

  override async resize(size: number, options?: OperationOptions): Promise<void> {
    await this.#wait();
    await this.inner.resize(size, options);
    this.#started = 0;
  }

  override async flush(options?: OperationOptions): Promise<void> {
    await this.#wait();
    await this.inner.flush(options);
    await this.#wait();
  }

  /** Lets others go first, mostly a few, sometimes many. */
  async #wait(): Promise<void> {
    const turns = this.#random.below(this.#random.chance(0.1) ? 60 : 6);
    for (let turn = 0; turn < turns; turn++) await null;
  }
}
