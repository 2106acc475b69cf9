/**
 * The read side of a chain of images: locating and reading the image that supplies a range. Used by reads, by padding
 * and comparing in the write path, and by the allocation map.
 *
 * Clipping: a lower image is never asked for more than every higher image has declared absent.
 */
import { alignDown, largest, SECTOR } from '../../binary/numbers.ts';
import { assert, ImageError, isDamage } from '../../errors.ts';
import type { Image, Mapping } from '../../image/contract.ts';
import { allDone, markHandled } from '../../storage/all-done.ts';
import {
  type FileAttributes,
  isPromise,
  type MaybePromise,
  type OperationOptions,
  type ReadTarget,
  type Source,
  type StorageHints,
} from '../../storage/contract.ts';
import { orAborted } from '../../storage/or-aborted.ts';
import type { Range } from '../device.ts';
import type { ImageSettings } from '../options.ts';
import { bufferList, fillZero, sliceBuffers, totalLength } from './buffers.ts';
import type { CacheLayer } from './cache-layer.ts';
import { FilterStack } from './filter-stack.ts';
import { isStored, readEncoded } from './stored.ts';

/** One image of a chain and its origin. */
export interface ChainImage {
  readonly image: Image;
  /** Name as the provider resolves it. */
  readonly name: string;
  readonly format: string;
  readonly source: Source;
  /** Equal for two names of one file. */
  readonly key: string;
  /** Settings for reopening it. */
  readonly settings: ImageSettings;
  /** Another image may be the parent as well: reading is permitted, changes are not. */
  readonly doubt?: ImageError;
}

/** Location of a range: a mapping and the number of its image, or none. */
export interface Located {
  readonly mapping: Mapping;
  /** 0 = base; -1 when the range is unallocated in all images. */
  readonly image: number;
}

/** A range that cannot be located. */
export interface Damage {
  readonly length: number;
  /** Number of the damaged image; -1 for a parent that was not opened. */
  readonly image: number;
  readonly error: ImageError;
}

/** Options for reading a range. */
export interface ChainReadOptions {
  /** Unallocated ranges become zero and are recorded here. Absent: they get the stored form of zeroes. */
  readonly gaps?: Range[] | undefined;
  /** For a request of the disk, which holds the range: read and fill the cache. */
  readonly cached?: boolean | undefined;
}

/** Concurrent runs of one request. */
const PARALLEL_RUNS = 64;

/** The images of a disk, base first. */
export class Chain {
  readonly #images: ChainImage[];
  /** Name of the lowest image if its parents were left out: its absent ranges cannot be resolved. */
  readonly incomplete: string | null;
  /** Filters of the disk, whatever its images: stored data is in the form that they produce. */
  readonly filters: FilterStack;
  /** Cache of this chain, as its last image shows it. */
  cache: CacheLayer | null = null;
  #sizes: readonly number[];

  constructor(images: readonly ChainImage[], incomplete: string | null, filters = new FilterStack()) {
    this.#images = [...images];
    this.incomplete = incomplete;
    this.filters = filters;
    this.#sizes = images.map((entry) => entry.image.info.virtualSize);
  }

  get images(): readonly ChainImage[] {
    return this.#images;
  }

  /** A chain of the same disk with other images. */
  with(images: readonly ChainImage[]): Chain {
    return new Chain(images, this.incomplete, this.filters);
  }

  /** The image that was opened. */
  get last(): ChainImage {
    return this.at(this.top);
  }

  /** The image of that number, 0 = base. */
  at(number: number): ChainImage {
    const entry = this.#images[number];
    assert(entry !== undefined, 'the chain has an image of that number');
    return entry;
  }

  /** Replaces an image opened again. Nothing else may run at the same time. */
  replace(number: number, entry: ChainImage): void {
    this.#images[number] = entry;
  }

  /** Size of the disk in bytes. */
  get size(): number {
    return this.#sizes[this.top] ?? 0;
  }

  /** Called when the last image changed its size. */
  resized(): void {
    this.#sizes = this.#images.map((entry) => entry.image.info.virtualSize);
  }

  /** Number of the image that was opened. */
  get top(): number {
    return this.#images.length - 1;
  }

  /** True when ranges that image `level` lacks may hold data further down. */
  hasParent(level: number): boolean {
    return level > 0 || this.incomplete !== null;
  }

  /** Locates the data at `offset`, from image `level` down. The result covers at most `length`. */
  locate(level: number, offset: number, length: number): MaybePromise<Located> {
    let clipped = length;
    for (let number = level; number >= 0; number--) {
      const entry = this.#images[number];
      const rest = (this.#sizes[number] ?? 0) - offset;
      // Beyond the end of a shorter parent there is nothing, whatever its own parents hold.
      if (entry === undefined || rest <= 0) break;
      const mapping = entry.image.map(offset, Math.min(clipped, rest));
      if (isPromise(mapping)) return mapping.then((found) => this.#follow(found, number, offset, clipped));
      if (mapping.kind !== 'absent') return { mapping: clip(mapping, clipped), image: number };
      clipped = Math.min(clipped, mapping.length);
    }
    return { mapping: { kind: 'absent', length: clipped }, image: -1 };
  }

  /** The damage that keeps `offset` from being located; null if there is none. Covers at most `length`. */
  async damageAt(offset: number, length: number): Promise<Damage | null> {
    let clipped = length;
    for (let number = this.top; number >= 0; number--) {
      const entry = this.#images[number];
      const rest = (this.#sizes[number] ?? 0) - offset;
      if (entry === undefined || rest <= 0) return null;
      clipped = Math.min(clipped, rest);
      try {
        const mapping = await entry.image.map(offset, clipped);
        if (mapping.kind !== 'absent') return null;
        clipped = Math.min(clipped, mapping.length);
      } catch (error) {
        if (!isDamage(error)) throw error;
        return { length: Math.min(clipped, lengthOf(error, offset)), image: number, error };
      }
    }
    return this.incomplete === null
      ? null
      : { length: clipped, image: -1, error: parentMissing(this.incomplete, offset) };
  }

  /** Fills the buffers from image `level` down, with bytes in stored form. True when no image had any byte of it. */
  async read(
    level: number,
    offset: number,
    buffers: readonly Uint8Array[],
    length: number,
    { gaps, cached = false }: ChainReadOptions = {},
    options?: OperationOptions,
  ): Promise<boolean> {
    const cache = cached && level === this.top ? this.cache : null;
    let unallocated = true;
    let running: Promise<void>[] = [];
    try {
      for (let position = 0; position < length; ) {
        const answer = this.locate(level, offset + position, length - position);
        const located = isPromise(answer) ? await orAborted(answer, options, 'The read') : answer;
        const end = position + located.mapping.length;
        if (isStored(located.mapping)) {
          const part = sliceBuffers(buffers, position, end);
          running.push(markHandled(this.#readRun(located, offset + position, part, cache, options)));
        } else {
          this.checkComplete(located, offset + position);
          const part = sliceBuffers(buffers, position, end);
          if (gaps === undefined && this.filters.encodes)
            running.push(markHandled(this.#fillStored(offset + position, part)));
          else fillZero(part);
          gaps?.push({ offset: offset + position, length: end - position });
        }
        unallocated &&= located.mapping.kind === 'absent';
        position = end;
        if (running.length >= PARALLEL_RUNS) {
          await allDone(running);
          running = [];
        }
      }
    } finally {
      // Nothing may still fill the caller's buffers when the promise settles, not even after a failure.
      await Promise.allSettled(running);
    }
    await allDone(running);
    return unallocated;
  }

  #readRun(
    located: Located,
    offset: number,
    target: ReadTarget,
    cache: CacheLayer | null,
    options: OperationOptions | undefined,
  ): Promise<void> {
    if (cache === null) return this.#readStored(located, offset, 0, target, options);
    return cache.read(offset, target, (at, part) => this.#readStored(located, at, at - offset, part, options));
  }

  /** A part of a run, `skipped` bytes from its start. */
  #readStored(
    { mapping, image }: Located,
    offset: number,
    skipped: number,
    target: ReadTarget,
    options: OperationOptions | undefined,
  ): Promise<void> {
    if (mapping.kind === 'data') return mapping.storage.read(mapping.fileOffset + skipped, target, options);
    return readEncoded(this.at(image).image, offset, target, options);
  }

  /** Fills with the stored form of zeroes. */
  async #fillStored(offset: number, target: Uint8Array | readonly Uint8Array[]): Promise<void> {
    const stored = await this.filters.zeroes(offset, totalLength(target));
    let at = 0;
    for (const buffer of bufferList(target)) {
      buffer.set(stored.subarray(at, at + buffer.length));
      at += buffer.length;
    }
  }

  async #follow(found: Mapping, number: number, offset: number, length: number): Promise<Located> {
    if (found.kind !== 'absent') return { mapping: clip(found, length), image: number };
    // The table is in memory now, so asking from the same image again does not wait.
    return this.locate(number, offset, Math.min(length, Math.max(found.length, 1)));
  }

  /** Unallocated ranges read as zero, unless parents that may supply them were left out. */
  checkComplete(located: Located, offset: number): void {
    if (located.image !== -1 || this.incomplete === null) return;
    throw parentMissing(this.incomplete, offset);
  }
}

function parentMissing(path: string, guestOffset: number): ImageError {
  return new ImageError('not-found', 'This range is stored in a parent that was not opened', {
    path,
    guestOffset,
    hint: 'Open the image with its parents.',
  });
}

/** Bytes from `offset` on that an error is about: what it says, or a sector. */
function lengthOf({ context }: ImageError, offset: number): number {
  const { guestOffset = offset, guestLength = 0 } = context;
  const end = guestOffset + guestLength;
  return (end > offset ? end : alignDown(offset, SECTOR) + SECTOR) - offset;
}

function clip(mapping: Mapping, length: number): Mapping {
  return mapping.length <= length ? mapping : { ...mapping, length };
}

/** Keys of all files that the images are read from. */
export async function identitiesOf(images: readonly ChainImage[]): Promise<ReadonlySet<string>> {
  const storages = images.flatMap(({ image }) => image.storages());
  const identities = await Promise.all(storages.map((storage) => storage.identity()));
  return new Set(identities.map(({ key }) => key));
}

/** Attributes of those files, where files have some. */
export async function attributesOf(images: readonly ChainImage[]): Promise<readonly FileAttributes[]> {
  const storages = images.flatMap(({ image }) => image.storages());
  const found = await Promise.all(storages.map(async (storage) => (await storage.attributes?.()) ?? null));
  return found.filter((one) => one !== null);
}

/** Hints of those of the files that give some: the largest of each. */
export function hintsOf(images: readonly ChainImage[]): StorageHints | undefined {
  const hints = images.flatMap(({ image }) => image.storages()).flatMap((storage) => storage.hints ?? []);
  if (hints.length === 0) return undefined;
  const most = (of: (one: StorageHints) => number): number => largest(hints.map(of), 0);
  return {
    align: most(({ align }) => align),
    transfer: most(({ transfer }) => transfer),
    parallel: most((one) => one.parallel),
  };
}

/** Closes all images, last first, and then throws the first failure. */
export async function closeImages(images: readonly ChainImage[]): Promise<void> {
  let failure: unknown;
  for (const { image } of [...images].reverse()) {
    try {
      await image.close();
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure !== undefined) throw failure;
}
