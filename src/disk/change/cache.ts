/** The cache of a disk as its user sees it: `disk.cache`. */
import { checkArguments, NUMBER, optionsWith } from '../../arguments.ts';
import { digestGuid } from '../../binary/digest.ts';
import { isNullGuid, NULL_GUID, normalizeGuid } from '../../binary/guid.ts';
import { largest } from '../../binary/numbers.ts';
import { ImageError, isImageError } from '../../errors.ts';
import type { CacheIdentity, CacheImage, CacheInfo } from '../../image/cache.ts';
import type { Progress } from '../../image/contract.ts';
import type { Finding } from '../../image/findings.ts';
import type { FileAttributes, OpenMode, OperationOptions, Source, StorageRevision } from '../../storage/contract.ts';
import { stageTarget } from '../../storage/staging.ts';
import { SOURCE } from '../kinds.ts';
import { Environment, type Resolved, resolve } from '../open/environment.ts';
import { type ImageFileOptions, openLocked } from '../open/image-file.ts';
import type { CacheEntry, EnvironmentOptions, ImageSource } from '../options.ts';
import { CacheLayer, type ImageFacts } from '../path/cache-layer.ts';
import { attributesOf, type Chain, type ChainImage, identitiesOf } from '../path/chain.ts';
import type { DiskHost } from './host.ts';
import { OPTIONS, REMOVING } from './option-kinds.ts';
import { removeFile } from './stack.ts';

/** Options for opening a cache file. */
export interface OpenCacheOptions {
  /** Format of the cache. Default: the registry's first, `vci`. */
  readonly format?: string | undefined;
  /**
   * Treatment of a cache that is invalid or belongs to another state of the images: `refuse` (default), or `discard`,
   * which empties it.
   */
  readonly stale?: 'refuse' | 'discard' | undefined;
}

/** Options for a new cache file. */
export interface CreateCacheOptions extends OperationOptions {
  /** Maximum size of the file in bytes: at least 2 MiB, rounded down to a multiple of that. */
  readonly size: number;
  readonly format?: string | undefined;
  /** Allocate all space at once. Default false. */
  readonly fixed?: boolean | undefined;
  /** Replace an existing file. */
  readonly force?: boolean | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

const SIZED = optionsWith({ size: NUMBER }, OPTIONS);

/** Clocks with a longer tick are not waited for: after so recent a change the cache starts empty the next time. */
const LONGEST_TICK_MS = 100;

/**
 * A file on a fast medium that caches data read from images on a slow one: `disk.cache`. Writes, zeroes and discards
 * take effect immediately; after a power cut the cache is empty. Closed with the disk, it serves the next disk over the
 * same images in the same state.
 */
export class DiskCache {
  readonly #host: DiskHost;

  constructor(host: DiskHost) {
    this.#host = host;
  }

  /** Metadata of the cache; null: the disk has none. */
  get info(): (CacheInfo & { readonly name: string }) | null {
    const { cache } = this.#host.head.chain;
    return cache === null ? null : { name: cache.source.name, ...cache.info };
  }

  /**
   * Starts using a cache file. Throws `exists` (VERR_VD_CACHE_ALREADY_EXISTS) when there is one already,
   * `invalid-argument` (VERR_VD_CACHE_NOT_UP_TO_DATE) when it belongs to another state of the images, unless it may be
   * discarded; `unsupported` for images that others may be writing; `corrupt` when its header does not give the size.
   */
  async open(cache: ImageSource, options: OpenCacheOptions = {}): Promise<void> {
    checkArguments('cache.open', { cache: [cache, SOURCE], options: [options, OPTIONS] });
    const host = this.#host;
    await host.reordering(() =>
      host.exclusive(async () => {
        const { chain } = host.head;
        this.#refuseSecond();
        this.#refuseShared();
        // What is not flushed has given the images no other identity yet.
        await host.head.quiesce();
        const { environment, shareable, forceShare } = host.options;
        const source = environment.sourceOf(cache);
        const format = environment.registry.findCache(options.format);
        const how: ImageFileOptions = { environment, shareable, forceShare, mode: 'write' };
        const opened = await openLocked(source, how, (storage) => format.open(storage, { mode: 'write' }));
        let facts: readonly ImageFacts[] = [];
        try {
          facts = await factsOf(chain);
          const identity = identityOf(chain, facts);
          const { identity: found } = opened.info;
          if (found === null || identity === null || !sameIdentity(found, identity)) {
            if (found !== null && options.stale !== 'discard') throw stale(source.name, found, identity);
            opened.clear();
          }
        } catch (error) {
          await opened.close(opened.info.identity).catch(() => {});
          throw error;
        }
        chain.cache = new CacheLayer(source, opened, facts, (error) => this.#failed(source, error));
      }),
    );
  }

  /** Creates a cache file and uses it. Throws as `open` does, and `invalid-argument` for an impossible size. */
  async create(cache: ImageSource, options: CreateCacheOptions): Promise<void> {
    checkArguments('cache.create', { cache: [cache, SOURCE], options: [options, SIZED] });
    this.#refuseSecond();
    this.#refuseShared();
    const { images } = this.#host.head.chain;
    const environment = this.#host.options.environment.with({ signal: options.signal });
    const target = environment.sourceOf(cache);
    await this.#refuseImage(target);
    await createCacheOf(target, { ...options, environment }, await attributesOf(images));
    await this.open(cache, { format: options.format, stale: 'discard' });
  }

  /** Stops using the cache, and with `remove` deletes its file. Throws `not-found` (VERR_VD_CACHE_NOT_FOUND). */
  async close(options: { readonly remove?: boolean | undefined } = {}): Promise<void> {
    checkArguments('cache.close', { options: [options, REMOVING] });
    const host = this.#host;
    await host.reordering(() =>
      host.exclusive(async () => {
        const { chain } = host.head;
        const { cache } = chain;
        if (cache === null) {
          throw new ImageError('not-found', 'The disk has no cache', {
            path: chain.last.name,
            status: 'VERR_VD_CACHE_NOT_FOUND',
          });
        }
        await host.quiesce();
        // What is written from now on is not in the cache, so it must not be found to fit.
        await host.head.renew();
        await closeCacheOf(chain);
        if (options.remove === true) await removeFile(cache.source);
      }),
    );
  }

  /** Opens the cache of a disk that is being opened. Returns warnings. */
  async attach({ file, size }: CacheEntry): Promise<string[]> {
    const source = this.#host.options.environment.sourceOf(file);
    if (size !== undefined && (await source.provider.lookUp(source.name)) === null) {
      await this.create(file, { size });
      return [];
    }
    try {
      await this.open(file);
      return [];
    } catch (error) {
      if (!isImageError(error)) throw error;
      if (error.status === 'VERR_VD_CACHE_NOT_UP_TO_DATE') {
        await this.open(file, { stale: 'discard' });
        return [`The cache ${source.name} did not match the current state of the images and was emptied.`];
      }
      // How large it may be is in the header: only the caller can tell now.
      const damaged = error.kind === 'corrupt' || error.kind === 'limit';
      if (!damaged || size === undefined) throw error;
      await this.create(file, { size, force: true });
      return [`The cache ${source.name} was damaged and has been recreated.`];
    }
  }

  /** Refused even with `force`. */
  async #refuseImage({ provider, name }: Source): Promise<void> {
    const present = await provider.lookUp(name);
    if (present === null || !(await identitiesOf(this.#host.head.chain.images)).has(present.key)) return;
    throw new ImageError('invalid-argument', 'The cache file would replace a file of the disk', {
      path: name,
      hint: 'Choose another name.',
    });
  }

  #failed({ name }: Source, error: unknown): void {
    const text = `The cache ${name} failed and is no longer used.`;
    this.#host.options.environment.onMessage?.({ level: 'error', text, path: name, error });
  }

  /** A cache would never see writes by others. */
  #refuseShared(): void {
    const { head, options } = this.#host;
    const shared = head.chain.images.find(({ settings }) => settings.shareable === true);
    if (shared === undefined && options.forceShare !== true) return;
    throw new ImageError('unsupported', 'A cache cannot be used with images that other programs may be writing', {
      path: (shared ?? head.chain.last).name,
      hint: 'Open the disk without a cache, or without sharing it.',
    });
  }

  #refuseSecond(): void {
    const { chain } = this.#host.head;
    if (chain.cache === null) return;
    throw new ImageError('exists', 'The disk already has a cache', {
      path: chain.last.name,
      found: chain.cache.source.name,
      status: 'VERR_VD_CACHE_ALREADY_EXISTS',
      hint: 'Close that one first.',
    });
  }
}

/**
 * Creates an empty cache file, durably. Throws `exists` unless `force`, and `invalid-argument` for an impossible size.
 */
export async function createCache(cache: ImageSource, options: CreateCacheOptions & EnvironmentOptions): Promise<void> {
  checkArguments('createCache', { cache: [cache, SOURCE], options: [options, SIZED] });
  const own = await resolve(options);
  return createCacheOf(own.environment.sourceOf(cache), own, []);
}

/**
 * `sources`: attributes of the files whose content it will contain.
 */
async function createCacheOf(
  target: Source,
  options: Resolved<CreateCacheOptions & EnvironmentOptions>,
  sources: readonly FileAttributes[],
): Promise<void> {
  const { size, format, fixed = false, force = false, onProgress, environment } = options;
  const { signal, lock, registry } = environment;
  const staged = await stageTarget(target, { force, sources, lock });
  try {
    await registry.findCache(format).create(await staged.create(), { size, fixed, signal, onProgress });
    for (const text of await staged.publish()) environment.warn(text, target.name);
  } catch (error) {
    await staged.discard();
    throw error;
  }
}

/** Options for inspecting a cache file. */
export interface InspectCacheOptions extends EnvironmentOptions {
  readonly format?: string | undefined;
}

/** Reads the metadata of a cache file, without a disk. Throws `invalid-format`, `corrupt`. */
export async function inspectCache(cache: ImageSource, options: InspectCacheOptions = {}): Promise<CacheInfo> {
  checkArguments('inspectCache', { cache: [cache, SOURCE], options: [options, OPTIONS] });
  const { environment, format } = await resolve(options);
  const opened = await openCacheOf(environment.sourceOf(cache), environment, format, 'read');
  try {
    return opened.info;
  } finally {
    await opened.close(null);
  }
}

/** Reading takes no lock: a disk may have it. */
function openCacheOf(
  source: Source,
  environment: Environment,
  wanted: string | undefined,
  mode: OpenMode,
): Promise<CacheImage> {
  const format = environment.registry.findCache(wanted);
  const own = mode === 'read' ? environment.with({ lock: false }) : environment;
  return openLocked(source, { environment: own, mode }, (storage) => format.open(storage, { mode }));
}

/** Checks a cache file. Damage never loses data: a damaged cache counts as empty. Throws `invalid-format`. */
export async function checkCache(cache: ImageSource, options: InspectCacheOptions = {}): Promise<readonly Finding[]> {
  checkArguments('checkCache', { cache: [cache, SOURCE], options: [options, OPTIONS] });
  const environment = await Environment.of({ ...options, lock: false });
  const format = environment.registry.findCache(options.format);
  return openLocked(environment.sourceOf(cache), { environment, mode: 'read' }, async (storage) => {
    const findings = await format.check(storage, { signal: environment.signal });
    await storage.close();
    return findings;
  });
}

/**
 * Empties a cache file, whatever its content; `remove`: deletes it. Throws `invalid-format` for other files, `locked`.
 */
export async function dropCache(
  cache: ImageSource,
  options: InspectCacheOptions & { readonly remove?: boolean | undefined } = {},
): Promise<void> {
  checkArguments('dropCache', { cache: [cache, SOURCE], options: [options, REMOVING] });
  const environment = await Environment.of(options);
  const source = environment.sourceOf(cache);
  const opened = await openCacheOf(source, environment, options.format, 'write');
  // Opened for writing and not closed in order it is empty.
  await opened.close(null);
  if (options.remove === true) await removeFile(source);
}

/**
 * Stores the cache of a chain for the current state of the images. `durable`: that state is on the medium; otherwise
 * the cache will be empty. Nothing else runs any more.
 */
export async function closeCacheOf(chain: Chain, { durable = true } = {}): Promise<void> {
  const { cache } = chain;
  if (cache === null) return;
  chain.cache = null;
  // An image that does not even say what it is has no state that could be found again.
  const identity = durable ? await identityToKeep(chain, cache).catch(() => null) : null;
  await cache.close(identity);
}

/**
 * Identity and state of each image of the chain: its UUIDs, the snapshot being read, and all of its files with size and
 * time of the last change.
 */
async function factsOf({ images }: Chain): Promise<ImageFacts[]> {
  return Promise.all(images.map(factsOfImage));
}

async function factsOfImage({ image, format, settings }: ChainImage): Promise<ImageFacts> {
  const { uuid, modificationUuid, virtualSize } = image.info;
  const { snapshot = null, config = null } = settings;
  const files: string[] = [];
  let known = true;
  const clocks: StorageRevision[] = [];
  for (const storage of image.storages()) {
    const { key, revision } = await storage.identity();
    if (revision === undefined) known = false;
    else if (revision.tickMs > 0) clocks.push(revision);
    files.push(key, `${storage.size}`, revision?.text ?? '');
  }
  return {
    text: JSON.stringify([format, uuid, modificationUuid, virtualSize, snapshot, config, files]),
    known,
    clocks,
  };
}

/** Identity that a cache stores; null: the state of the images cannot be told. */
function identityOf({ last }: Chain, facts: readonly ImageFacts[]): CacheIdentity | null {
  if (!facts.every(({ known }) => known)) return null;
  const { uuid } = last.image.info;
  const image = uuid === null || isNullGuid(uuid) ? null : uuid;
  return { image, modification: digestGuid(facts.map(({ text }) => text).join('\n')) };
}

/**
 * Identity that the cache of a chain is stored with. Null when another program changed an image in the meantime, since
 * stale data may be in the cache, or when the state cannot be told. A file changed within the last tick of its clock
 * could change again without a trace: then it must stay unchanged for one tick.
 */
async function identityToKeep(chain: Chain, cache: CacheLayer): Promise<CacheIdentity | null> {
  const facts = await factsOf(chain);
  if (cache.changedByOthers(facts)) return null;
  const young = facts.flatMap(({ clocks }) => clocks).filter(isYoung);
  const tickMs = largest(
    young.map((revision) => revision.tickMs),
    0,
  );
  if (tickMs > LONGEST_TICK_MS) return null;
  if (tickMs > 0) {
    await new Promise((resolve) => setTimeout(resolve, tickMs));
    const later = await factsOf(chain);
    if (later.some(({ text }, number) => text !== facts[number]?.text)) return null;
  }
  return identityOf(chain, facts);
}

/** True also for times in the future: the clock of another machine. */
function isYoung({ atMs, tickMs }: StorageRevision): boolean {
  return Date.now() - atMs < tickMs;
}

function sameIdentity(a: CacheIdentity, b: CacheIdentity): boolean {
  const [image, other] = [a.image ?? NULL_GUID, b.image ?? NULL_GUID];
  return (
    normalizeGuid(a.modification) === normalizeGuid(b.modification) && normalizeGuid(image) === normalizeGuid(other)
  );
}

function stale(path: string, found: CacheIdentity, identity: CacheIdentity | null): ImageError {
  return new ImageError('invalid-argument', 'The cache belongs to other images, or to another state of these images', {
    path,
    status: 'VERR_VD_CACHE_NOT_UP_TO_DATE',
    found: found.modification,
    expected: identity?.modification ?? 'nothing: the state of the images cannot be identified',
    hint: 'Open it with stale "discard" to empty it.',
  });
}
