/** Filters and a cache of a disk under the model: what they are now, and what the disk must read when they change. */
import type { ChainDisk } from '../../src/disk/disk.ts';
import { isImageError } from '../../src/errors.ts';
import { byteswap } from '../../src/filters/byteswap/index.ts';
import { writeContent } from '../../src/formats/vci/file.ts';
import { HEADER, HEADER_BLOCKS, mapBlocksOf, SIGNATURE, TYPE, VERSION } from '../../src/formats/vci/layout.ts';
import type { Filter, FilterConfig } from '../../src/image/filter.ts';
import type { Source } from '../../src/storage/contract.ts';
import { xorFilter } from '../../src/testing/xor-filter.ts';

/** A filter and its options. Chosen by a number, so that a list of operations says all. */
interface Layer {
  readonly filter: Filter;
  readonly config: FilterConfig;
}

const NULL_GUID = '00000000-0000-0000-0000-000000000000';
/** A few lines, so that most reads put something out. Smaller than any that users can make. */
const CACHE_BLOCKS = 420;
const MAX_FILTERS = 3;

function layerOf(which: number): Layer {
  const kind = which % 5;
  if (kind < 2) return { filter: byteswap, config: { width: kind === 0 ? 2 : 8 } };
  const how = { name: `xor${which}`, key: which * 37, slow: kind === 3, elsewhere: kind === 4 };
  return { filter: xorFilter(how), config: {} };
}

/** See the head of this file. */
export class Layers {
  #layers: Layer[] = [];
  #cached = false;

  get active(): boolean {
    return this.#layers.length > 0;
  }

  get cached(): boolean {
    return this.#cached;
  }

  /** The disk was reopened, on the same files. `cache`: its expected cache; null: none. */
  async attach(disk: ChainDisk, cache: Source | null): Promise<void> {
    for (const { filter, config } of this.#layers) await disk.filters.add(filter, { config });
    if (cache !== null && this.#cached) await disk.cache.open(cache, { stale: 'discard' });
  }

  /** Opens the cache, or closes it. */
  async toggleCache(disk: ChainDisk, cache: Source): Promise<void> {
    if (this.#cached) await disk.cache.close();
    else {
      if ((await cache.provider.lookUp(cache.name)) === null) await makeSmallCache(cache);
      await disk.cache.open(cache, { stale: 'discard' });
    }
    this.#cached = !this.#cached;
  }

  /** Adds a filter or takes the last one off. Returns what the disk must read then, where it read `before`; null: nothing was done. */
  async change(
    disk: ChainDisk,
    { add, which }: { readonly add: boolean; readonly which: number },
    before: Uint8Array,
  ): Promise<Uint8Array | null> {
    if (add ? this.#layers.length >= MAX_FILTERS : this.#layers.length === 0) return null;
    const stored = await this.#pass(before, 'encode');
    if (add) {
      const layer = layerOf(which);
      await disk.filters.add(layer.filter, { config: layer.config });
      this.#layers.push(layer);
    } else {
      await disk.filters.remove();
      this.#layers.pop();
    }
    const decoded = await this.#pass(stored, 'decode');
    const wanted = new Uint8Array(before.length);
    // What no image stores passes no filter.
    for await (const { offset, length, state } of disk.extents()) {
      if (state === 'data') wanted.set(decoded.subarray(offset, offset + length), offset);
    }
    return wanted;
  }

  /** Converts the stored data for one more filter; false: it was cancelled, and the disk must be reopened. */
  async prepare(disk: ChainDisk, which: number, cancelAt: number | null): Promise<boolean> {
    const layer = layerOf(which);
    await disk.filters.add(layer.filter, { config: layer.config, read: false });
    const stop = new AbortController();
    try {
      await disk.filters.prepare({
        signal: stop.signal,
        onProgress: ({ done, total }) => {
          if (cancelAt !== null && done >= cancelAt * total) stop.abort();
        },
      });
    } catch (error) {
      if (isImageError(error) && error.kind === 'aborted') return false;
      throw error;
    }
    await disk.filters.remove({ read: false });
    await disk.filters.add(layer.filter, { config: layer.config });
    this.#layers.push(layer);
    return true;
  }

  get full(): boolean {
    return this.#layers.length >= MAX_FILTERS;
  }

  async #pass(bytes: Uint8Array, way: 'encode' | 'decode'): Promise<Uint8Array> {
    let passed: Uint8Array = bytes.slice();
    for (const { filter, config } of way === 'encode' ? this.#layers : [...this.#layers].reverse()) {
      const one = await filter.open({ config, info: false, keys: null, diskSize: bytes.length });
      passed = await one[way](0, passed);
      await one.close();
    }
    return passed;
  }
}

async function makeSmallCache({ provider, name }: Source): Promise<void> {
  const storage = await provider.create(name);
  const header = {
    signature: SIGNATURE,
    version: VERSION,
    blockCount: CACHE_BLOCKS,
    unclean: 1,
    type: TYPE.dynamic,
    rootAddress: 0,
    mapAddress: HEADER_BLOCKS,
    mapBlocks: mapBlocksOf(CACHE_BLOCKS),
    imageUuid: NULL_GUID,
    modificationUuid: NULL_GUID,
    reserved: new Uint8Array(HEADER.fields.reserved.size),
  };
  const treeAt = HEADER_BLOCKS + mapBlocksOf(CACHE_BLOCKS);
  await writeContent(storage, header, { extents: [], identity: { image: null, modification: NULL_GUID }, treeAt });
  await storage.close();
}
