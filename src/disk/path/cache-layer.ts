/**
 * The cache of a disk, as its read and write paths use it: before the images are asked, and after they answered. It holds
 * what images store, in the form in which they store it, under the range locks of the requests: a read holds its range
 * until it is in the cache, a change drops its range before and after. Whatever goes wrong with the cache ends it, and
 * never a request.
 */
import type { CacheIdentity, CacheImage, CacheInfo } from '../../image/cache.ts';
import type { Source, StorageRevision } from '../../storage/contract.ts';
import { bufferList } from './buffers.ts';

/** Identity and state of an image of a chain. */
export interface ImageFacts {
  /** The same as long as it reads the same; may be another although it does. */
  readonly text: string;
  /** False: a change would not show. */
  readonly known: boolean;
  /** Of those of its files whose changes a clock tells. */
  readonly clocks: readonly StorageRevision[];
}

/** See the head of this file. */
export class CacheLayer {
  /** Where it is. */
  readonly source: Source;
  readonly #cache: CacheImage;
  readonly #onFailure: (error: unknown) => void;
  #failed = false;
  /** Of the images when the cache was opened; null for one that changed through this disk. */
  readonly #facts: (string | null)[];

  constructor(source: Source, cache: CacheImage, facts: readonly ImageFacts[], onFailure: (error: unknown) => void) {
    this.source = source;
    this.#cache = cache;
    this.#facts = facts.map(({ text }) => text);
    this.#onFailure = onFailure;
  }

  get info(): CacheInfo {
    return this.#cache.info;
  }

  /** Fills the target from the cache, and what is not in it by `miss`. */
  async read(
    offset: number,
    target: Uint8Array | readonly Uint8Array[],
    miss: (offset: number, target: Uint8Array | readonly Uint8Array[]) => Promise<void>,
  ): Promise<void> {
    if (this.#failed) return miss(offset, target);
    let at = offset;
    for (const buffer of bufferList(target)) {
      await this.#readOne(at, buffer, miss);
      at += buffer.length;
    }
  }

  /** The range is about to change, or has: in the last image. */
  drop(offset: number, length: number): void {
    this.#facts[this.#facts.length - 1] = null;
    if (!this.#failed) this.#cache.drop(offset, length);
  }

  /** Anything may have changed. Nothing else runs meanwhile. */
  clear(): void {
    this.noteStructure();
    if (!this.#failed) this.#cache.clear();
  }

  /** The images of the chain may be others from now on, or change, and what they hold stays the same. */
  noteStructure(): void {
    this.#facts.fill(null);
  }

  /** True when an image changed although nothing was done to it through this disk. */
  changedByOthers(facts: readonly ImageFacts[]): boolean {
    return this.#facts.some((before, number) => before !== null && before !== facts[number]?.text);
  }

  /** Nothing else runs any more. `identity` as in {@link CacheImage.close}. What cannot be stored is empty the next time. */
  async close(identity: CacheIdentity | null): Promise<void> {
    try {
      await this.#cache.close(this.#failed ? null : identity);
    } catch (error) {
      this.#fail(error);
    }
  }

  async #readOne(
    offset: number,
    target: Uint8Array,
    miss: (offset: number, target: Uint8Array) => Promise<void>,
  ): Promise<void> {
    for (let at = 0; at < target.length; ) {
      const { cached, length } = this.#look(offset + at, target.length - at);
      const part = target.subarray(at, at + length);
      if (!cached || !(await this.#hit(offset + at, part))) {
        await miss(offset + at, part);
        await this.#keep(offset + at, part);
      }
      at += length;
    }
  }

  #look(offset: number, length: number): { readonly cached: boolean; readonly length: number } {
    return this.#failed ? { cached: false, length } : this.#cache.look(offset, length);
  }

  async #hit(offset: number, target: Uint8Array): Promise<boolean> {
    try {
      await this.#cache.read(offset, target);
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  async #keep(offset: number, bytes: Uint8Array): Promise<void> {
    if (this.#failed) return;
    try {
      await this.#cache.fill(offset, bytes);
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#onFailure(error);
  }
}
