/**
 * The cache of a disk, as its read and write paths use it: before and after reading the images. It contains data in
 * stored form, under the range locks of the requests: a read holds its range until it is in the cache, a change drops
 * its range before and after. An error of the cache disables it, and never fails a request.
 */
import type { CacheIdentity, CacheImage, CacheInfo } from '../../image/cache.ts';
import type { Source, StorageRevision } from '../../storage/contract.ts';
import { bufferList } from './buffers.ts';

/** Identity and state of an image of a chain. */
export interface ImageFacts {
  /** Equal while the image reads the same; may differ although it does. */
  readonly text: string;
  /** False: a change would not show. */
  readonly known: boolean;
  /** Clocks of the files whose changes are visible. */
  readonly clocks: readonly StorageRevision[];
}

/** The cache of a disk in its read and write paths. */
export class CacheLayer {
  /** The cache file. */
  readonly source: Source;
  readonly #cache: CacheImage;
  readonly #onFailure: (error: unknown) => void;
  #failed = false;
  /** State of each image when the cache was opened; null for one changed through this disk. */
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

  /** Fills the target from the cache, and missing parts by `miss`. */
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

  /** Drops a range of the last image that is about to change, or has. */
  drop(offset: number, length: number): void {
    this.#facts[this.#facts.length - 1] = null;
    if (!this.#failed) this.#cache.drop(offset, length);
  }

  /** Drops everything. Nothing else may run at the same time. */
  clear(): void {
    this.noteStructure();
    if (!this.#failed) this.#cache.clear();
  }

  /** The images of the chain may be replaced or changed from now on without changing their data. */
  noteStructure(): void {
    this.#facts.fill(null);
  }

  /** True when an image was changed by another program. */
  changedByOthers(facts: readonly ImageFacts[]): boolean {
    return this.#facts.some((before, number) => before !== null && before !== facts[number]?.text);
  }

  /**
   * Nothing else runs any more. `identity` as in {@link CacheImage.close}. A cache that cannot be stored is empty the
   * next time.
   */
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
