/**
 * Files without holes: Windows attaches no VHD or VHDX that is a sparse file of NTFS, and a hole that another system leaves
 * on a share is one. Room behind the end of a file is reserved before it is used, and zeroes are stored.
 */
import { checkArguments } from '../arguments.ts';
import { PROVIDER } from './checks.ts';
import type {
  CreateMode,
  OpenMode,
  OperationOptions,
  Storage,
  StorageCapabilities,
  StorageProvider,
  WriteSource,
} from './contract.ts';
import { ForwardingProvider, ForwardingStorage } from './forwarding.ts';

const PIECE = 1024 * 1024;

/** The provider with files that get no holes. Those that a file has stay: a copy of it has none. */
export function withoutHoles(provider: StorageProvider): StorageProvider {
  checkArguments('withoutHoles', { provider: [provider, PROVIDER] });
  // Sets of staged files are the provider's own.
  return new ProviderWithoutHoles(provider, ['stage']);
}

class ProviderWithoutHoles extends ForwardingProvider {
  override async open(name: string, mode: OpenMode): Promise<Storage> {
    const storage = await super.open(name, mode);
    return mode === 'write' ? new StorageWithoutHoles(storage) : storage;
  }

  override async create(name: string, how?: CreateMode): Promise<Storage> {
    return new StorageWithoutHoles(await super.create(name, how));
  }
}

class StorageWithoutHoles extends ForwardingStorage {
  /** End of what was begun: growth is reserved piece by piece, one after the other. */
  #end = 0;
  #growing: Promise<void> = Promise.resolve();

  override get size(): number {
    return Math.max(this.#end, this.inner.size);
  }

  override get can(): StorageCapabilities {
    const { write, resize, random, growsZeroed } = this.inner.can;
    return { write, resize, random, growsZeroed, punch: false };
  }

  override async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    const length = Array.isArray(source) ? source.reduce((sum, one) => sum + one.length, 0) : source.length;
    if (offset > this.size) await this.#grow(offset, offset + length);
    return super.write(offset, source, options);
  }

  override zero(
    offset: number,
    length: number,
    _how: { readonly punch: boolean },
    options?: OperationOptions,
  ): Promise<void> {
    return super.zero(offset, length, { punch: false }, options);
  }

  override async resize(size: number, options?: OperationOptions): Promise<void> {
    if (size > this.size) return this.#grow(size, size);
    await this.#growing;
    this.#end = 0;
    return super.resize(size, options);
  }

  /** Reserves everything up to `offset`. `end`: the size from now on, which a write behind it reaches. */
  #grow(offset: number, end: number): Promise<void> {
    this.#end = Math.max(this.#end, end);
    const growing = this.#growing.then(() => this.#reserve(offset));
    this.#growing = growing.catch(() => {
      this.#end = 0;
    });
    return growing;
  }

  async #reserve(end: number): Promise<void> {
    const { inner } = this;
    const start = inner.size;
    if (start >= end) return;
    if (inner.allocate !== undefined) return inner.allocate(start, end - start);
    const zeroes = new Uint8Array(Math.min(PIECE, end - start));
    for (let at = start; at < end; at += zeroes.length) await inner.write(at, zeroes.subarray(0, end - at));
  }
}
