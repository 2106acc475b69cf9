/**
 * The Disk: vd.h's container. A chain of images as one device; all data moves through here, whatever the formats.
 *
 * Its duties are divided: requests in path/requests.ts, exclusion between structural operations in change/open-host.ts,
 * the operations in change/. Metadata is written back by flushes.
 */
import { BYTES, checkArguments, NUMBER, nullable, oneOf, WHOLE } from '../arguments.ts';
import { ImageError, throwIfAborted } from '../errors.ts';
import type { ImageChanges, ImageInfo } from '../image/contract.ts';
import { clipLogical, clipPhysical, type Geometry, isSet } from '../image/geometry.ts';
import type { RegionList } from '../image/regions.ts';
import type { FileAttributes, Wrapping } from '../storage/contract.ts';
import {
  isPromise,
  type MaybePromise,
  type OpenMode,
  type OperationOptions,
  type ReadTarget,
  type StorageHints,
  type WriteSource,
} from '../storage/contract.ts';
import { DiskBitmaps } from './change/bitmaps.ts';
import { closeCacheOf, DiskCache } from './change/cache.ts';
import type { CommitOptions } from './change/commit.ts';
import { type CompactOptions, compactDisk, tidy } from './change/compact.ts';
import { DiskFilters } from './change/filters.ts';
import { commitOf, type MergeOptions, planMerge } from './change/merge.ts';
import { OpenHost } from './change/open-host.ts';
import { OPTIONS, REMOVING } from './change/option-kinds.ts';
import { type RebaseOptions, rebaseOf } from './change/rebase.ts';
import { type DiskResizeOptions, resizeOf } from './change/resize.ts';
import { DiskSnapshots } from './change/snapshots.ts';
import {
  type ChainServices,
  type CreateDiffOptions,
  imageNumber,
  refuseChildren,
  refuseWhole,
  removableParts,
  removeFiles,
} from './change/stack.ts';
import { closeLastOf, createDiffOf, setImageOf, setOpenOptionsOf } from './change/structure.ts';
import type {
  BlockDevice,
  CompressedWrite,
  DeviceCapabilities,
  Extent,
  ExtentOptions,
  Range,
  ReadResult,
  WriteOptions,
  ZeroOptions,
} from './device.ts';
import { NUMBER_OF_IMAGE, RANGES, SOURCE } from './kinds.ts';
import type { Resolved } from './open/environment.ts';
import { type PartFile, partFiles } from './open/parts.ts';
import type { DiskOpenOptions, ImageOpenOptions, ImageSettings, ImageSource, MetadataOptions } from './options.ts';
import { ActiveImage } from './path/active-image.ts';
import { attributesOf, Chain, type ChainImage, closeImages, hintsOf, identitiesOf } from './path/chain.ts';
import { extentOf, joined, soundOrDamaged } from './path/extents.ts';
import { Requests, signalOf } from './path/requests.ts';
import { dumpChain, hostSizes, type MetadataChunk, metadataOf } from './report.ts';

/** Parts of a disk, assembled by `openDisk`. */
export interface DiskParts {
  readonly chain: Chain;
  readonly tools: ChainServices;
  readonly warnings: readonly string[];
  readonly options: Resolved<DiskOpenOptions>;
  /** For an image that is not under its name yet. */
  readonly ending?: DiskEnding | undefined;
}

/** The end of a new image that is made by writing to the disk: it gets its name, or nothing is left of it. */
export interface DiskEnding {
  /** Called after all files are closed. Returns warnings. */
  publish(): Promise<readonly string[]>;
  discard(): Promise<void>;
}

/** One image of a disk in reports. */
export interface DiskImage {
  readonly name: string;
  readonly format: string;
  /** Current access mode; `settings` has the requested one. */
  readonly mode: OpenMode;
  readonly settings: ImageSettings;
  readonly info: ImageInfo;
  /** Names of its files, the main one first. */
  readonly files: readonly string[];
  /** The compressed file or archive that it is in, and the file in that, outermost first. */
  readonly wrappings: readonly Wrapping[];
}

/** An open chain of images. Made by `Disk.open`; close it, or bind it with `await using`. */
export class ChainDisk implements BlockDevice, AsyncDisposable {
  /** Warnings about the images. */
  readonly warnings: readonly string[];
  /** Snapshots and bitmaps inside the last image. */
  readonly snapshots: DiskSnapshots;
  readonly bitmaps: DiskBitmaps;
  /** Filters between the disk's user and its images. */
  readonly filters: DiskFilters;
  /** Cache file on a fast medium for data read from the images. */
  readonly cache: DiskCache;
  readonly #requests: Requests;
  #closing: Promise<void> | null = null;
  readonly #host: OpenHost;
  readonly #ending: DiskEnding | undefined;

  constructor(parts: DiskParts) {
    this.warnings = parts.warnings;
    this.#ending = parts.ending;
    this.#requests = new Requests(new ActiveImage(parts.chain, parts.options), parts.options);
    this.#host = new OpenHost(this.#requests, parts.tools, parts.options);
    this.snapshots = new DiskSnapshots(this.#host);
    this.bitmaps = new DiskBitmaps(this.#host);
    this.filters = new DiskFilters(this.#host);
    this.cache = new DiskCache(this.#host);
  }

  get #head(): ActiveImage {
    return this.#requests.head;
  }

  /** The name of the last image. */
  get label(): string {
    return this.#head.last.name;
  }

  get can(): DeviceCapabilities {
    return this.#head.can;
  }

  get countsStored(): true {
    return true;
  }

  get blockSize(): number {
    return this.#head.blockSize;
  }

  /** Size of the disk in bytes. */
  get size(): number {
    return this.#head.chain.size;
  }

  /** Sector layout of the last image. */
  get regions(): RegionList {
    return this.#head.last.image.info.regions;
  }

  /** Request sizes that suit the files of its images. */
  get hints(): StorageHints | undefined {
    return hintsOf(this.#head.chain.images);
  }

  /** Compression method and unit of the last image in bytes; null: unsupported. */
  get compression(): { readonly method: string; readonly unit: number; readonly must: boolean } | null {
    const { encoder } = this.#head.last.image;
    return encoder === undefined || encoder === null
      ? null
      : { method: encoder.method, unit: encoder.unit, must: encoder.must ?? false };
  }

  /** The images, base first. */
  get images(): readonly DiskImage[] {
    return this.#head.chain.images.map((entry) => {
      const { name, format, settings, image, source } = entry;
      const wrappings = source.unpacked?.wrappings ?? [];
      const mode = image.can.write ? 'write' : 'read';
      const files = [name, ...partFiles(entry).map(({ file }) => file)];
      // Images of one directory are told apart by their files.
      const own = image.member !== undefined && this.#head.chain.top > 0 ? (files[1] ?? name) : name;
      return { name: own, format, mode, settings, info: image.info, files, wrappings };
    });
  }

  /**
   * Geometry of the last image as reported to a machine: clipped to the limits of drives and BIOS calls; null: not set.
   */
  get geometry(): { readonly physical: Geometry | null; readonly logical: Geometry | null } {
    const { physical, logical } = this.#head.last.image.info.geometry;
    return {
      physical: isSet(physical) ? clipPhysical(physical) : null,
      logical: isSet(logical) ? clipLogical(logical) : null,
    };
  }

  /** Length of all files of an image (0 = base), and the bytes allocated on the host; null when unknown. */
  fileSizes(number: number | 'last'): Promise<{ readonly fileSize: number; readonly allocatedSize: number | null }> {
    checkArguments('disk.fileSizes', { number: [number, NUMBER_OF_IMAGE] });
    this.#requests.checkOpen();
    const { chain } = this.#head;
    return hostSizes(chain.at(imageNumber(chain, number)).image.storages());
  }

  /**
   * Metadata of an image of the chain (0 = base) as on the medium: flush before. The chain must not change during the
   * iteration. Throws `invalid-argument`, `io`.
   */
  metadata(number: number | 'last', options: MetadataOptions = {}): AsyncGenerator<MetadataChunk> {
    checkArguments('disk.metadata', { number: [number, NUMBER_OF_IMAGE], options: [options, OPTIONS] });
    this.#requests.checkData();
    const { chain } = this.#head;
    return metadataOf(chain.at(imageNumber(chain, number)).image, options);
  }

  /** A report on all images for people. */
  dump(): Promise<string> {
    this.#requests.checkOpen();
    return dumpChain(this.#head.chain.images);
  }

  /** Keys of all files of the chain, or of those that are written: disks that share one have bytes in common. */
  async identities(of: 'chain' | 'last' = 'chain'): Promise<ReadonlySet<string>> {
    this.#requests.checkOpen();
    checkArguments('disk.identities', { of: [of, oneOf('chain', 'last')] });
    const { images, last } = this.#head.chain;
    return identitiesOf(of === 'chain' ? images : [last]);
  }

  /** Keys of all files of the chain and its cache. */
  async filesInUse(): Promise<ReadonlySet<string>> {
    const { cache } = this.#head.chain;
    const keys = await this.identities();
    if (cache === null) return keys;
    const found = await cache.source.provider.lookUp(cache.source.name);
    return found === null ? keys : new Set([...keys, found.key]);
  }

  /** Key of the last image's file. */
  get lastKey(): string {
    return this.#head.chain.last.key;
  }

  /** Attributes of all files of the images, where files have any. */
  async attributes(): Promise<readonly FileAttributes[]> {
    this.#requests.checkOpen();
    return attributesOf(this.#head.chain.images);
  }

  /**
   * The data of images `first` to `last` of the chain alone: ranges unallocated in all of them are absent. Read-only;
   * valid while this disk is open, its chain does not change and those images are not written.
   */
  layers(first: number, last: number): ChainDisk {
    this.#requests.checkOpen();
    checkArguments('disk.layers', { first: [first, WHOLE], last: [last, WHOLE] });
    const images = this.#head.chain.images.slice(first, last + 1);
    const chain = new Chain(
      images.map((image) => ({ ...image, settings: { mode: 'read' } })),
      null,
      this.#head.chain.filters,
    );
    const { tools, options } = this.#host;
    return new ChainDisk({ chain, tools, options: { environment: options.environment }, warnings: [] });
  }

  /** Reads if everything is in memory. False: nothing was read, use `read`. */
  readNow(offset: number, target: Uint8Array): boolean {
    return this.#requests.readNow(offset, target);
  }

  /** Fills the target from `offset` on. The whole range must lie inside the disk. */
  read(offset: number, target: ReadTarget, options: OperationOptions = {}): Promise<ReadResult> {
    return this.#requests.read(offset, target, options);
  }

  /** Writes the source at `offset`. Durable after the next `flush`. */
  write(offset: number, source: WriteSource, options: WriteOptions = {}): Promise<void> {
    return this.#requests.write(offset, source, options);
  }

  /**
   * Compresses bytes for a write at `offset` in the format's stored form; `store` writes them. Several can be
   * compressed at a time and stored in order. The bytes must not change until then. Data that does not get smaller, or
   * is not a whole unit of the format, is written uncompressed. Throws `unsupported` for formats without compression.
   */
  async compress(offset: number, bytes: Uint8Array, options: WriteOptions = {}): Promise<CompressedWrite> {
    checkArguments('disk.compress', { bytes: [bytes, BYTES], options: [options, OPTIONS] });
    return this.#requests.compress(offset, bytes, options);
  }

  /** Makes a range read as zero, freeing its space where possible. */
  async zero(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    return this.#requests.zero(offset, length, options);
  }

  /**
   * Marks the data in the ranges as unneeded. Afterwards they read as before or as zero, never as hidden parent data.
   * Whole sectors only: partly covered sectors are left alone.
   */
  async discard(ranges: readonly Range[], options: OperationOptions = {}): Promise<void> {
    checkArguments('disk.discard', { ranges: [ranges, RANGES], options: [options, OPTIONS] });
    return this.#requests.discard(ranges, options);
  }

  /**
   * Makes an image of the chain as small as its content permits, by default the last one. Waits for running requests
   * and holds back new ones. Can be cancelled at any time and repeated. Throws `unsupported` if the format cannot be
   * compacted.
   */
  async compact(options: CompactOptions = {}): Promise<void> {
    checkArguments('disk.compact', { options: [options, OPTIONS] });
    this.#requests.checkOpen();
    this.#requests.checkWritable();
    await this.#host.inTurn(() => compactDisk(this.#host, options));
  }

  /**
   * Changes the size of the disk, a multiple of 512. New space reads as zero, whatever a longer parent contains there.
   * Refuses to discard data, unless `shrink`.
   */
  async resize(size: number, options: DiskResizeOptions = {}): Promise<void> {
    checkArguments('disk.resize', { size: [size, NUMBER], options: [options, OPTIONS] });
    this.#requests.checkOpen();
    this.#requests.checkWritable();
    await this.#host.inTurn(() => resizeOf(this.#host, size, options));
  }

  /**
   * Creates a differencing image over the last one and continues with it; the image below becomes read-only. All
   * earlier writes are durable first. After a failure the new image is gone and the disk is unchanged. Returns
   * warnings, for example that the new image cannot store the link to its parent.
   */
  async createDiff(target: ImageSource, options: CreateDiffOptions = {}): Promise<readonly string[]> {
    checkArguments('disk.createDiff', { target: [target, SOURCE], options: [options, OPTIONS] });
    this.#requests.checkData();
    let warnings: readonly string[] = [];
    await this.#host.inTurn(() =>
      this.#requests.exclusive(async () => {
        warnings = await createDiffOf(this.#host, target, options);
      }),
    );
    return warnings;
  }

  /**
   * Closes the last image, and with `remove` deletes its files; the image below becomes the last, writable if it was
   * opened for that. With a single image the disk is closed.
   */
  async closeLast(options: { readonly remove?: boolean | undefined } = {}): Promise<void> {
    checkArguments('disk.closeLast', { options: [options, REMOVING] });
    const { remove = false } = options;
    this.#requests.checkOpen();
    let only: ChainImage | null = null;
    let parts: readonly PartFile[] = [];
    await this.#host.inTurn(async () => {
      const { chain } = this.#head;
      if (chain.top > 0) return this.#host.exclusive(() => closeLastOf(this.#host, remove));
      if (remove) {
        refuseWhole(chain.last);
        parts = removableParts(chain.last);
        await refuseChildren(this.#host.tools, chain.last);
      }
      only = chain.last;
    });
    if (only === null) return;
    await this.close();
    if (remove) await removeFiles((only as ChainImage).source, parts);
  }

  /**
   * Merges images of the chain, 0 = base, into one of the two and deletes the others: into the child when `from` is the
   * lower one, otherwise into the parent. Requests continue during the merge. Can be interrupted at any time and
   * repeated. Throws `invalid-argument`, `read-only`, `unsupported`, and `busy` when an image outside the chain depends
   * on one that changes.
   */
  async merge(from: number | 'last', to: number | 'last', options: MergeOptions = {}): Promise<void> {
    checkArguments('disk.merge', {
      from: [from, NUMBER_OF_IMAGE],
      to: [to, NUMBER_OF_IMAGE],
      options: [options, OPTIONS],
    });
    this.#requests.checkOpen();
    this.#requests.checkWritable();
    await this.#host.inTurn(async () => this.#host.runMerge(await planMerge(this.#host, from, to, options)));
  }

  /**
   * Writes the data of the last image into its parent, or an image further down, and empties it: it becomes a child of
   * that one, and reads the same. Requests continue during the commit. Can be interrupted at any time and repeated.
   * Images between the two leave the chain, and read differently. Throws `invalid-argument`, `read-only`,
   * `unsupported`, and `busy` when something else depends on an image that changes.
   */
  async commit(options: CommitOptions = {}): Promise<void> {
    checkArguments('disk.commit', { options: [options, OPTIONS] });
    this.#requests.checkOpen();
    this.#requests.checkWritable();
    await this.#host.inTurn(() => this.#host.runMerge(commitOf(this.#host, options)));
  }

  /**
   * Makes the last image a child of another parent, or of none, and continues with that chain. The disk reads the same:
   * data that differs between the parents is copied into the image. Holds back requests. Can be interrupted at any time
   * and repeated: the old parent counts until the end. Returns warnings about the new parents. Throws
   * `invalid-argument`, `unsupported`, and the errors of opening the parents.
   */
  async rebase(parent: ImageSource | null, options: RebaseOptions = {}): Promise<readonly string[]> {
    checkArguments('disk.rebase', { parent: [parent, nullable(SOURCE)], options: [options, OPTIONS] });
    this.#requests.checkData();
    this.#requests.checkWritable();
    return this.#host.inTurn(() => rebaseOf(this.#host, parent, options));
  }

  /**
   * Changes metadata of an image of the chain (0 = base), durably: comment, UUIDs, geometry; see `setImage`. The disk
   * reads the same. Throws `unsupported` if the format cannot store it, `read-only`, `invalid-argument`.
   */
  async set(number: number | 'last', changes: ImageChanges): Promise<void> {
    checkArguments('disk.set', { number: [number, NUMBER_OF_IMAGE], changes: [changes, OPTIONS] });
    this.#requests.checkOpen();
    this.#requests.checkWritable();
    await this.#host.inTurn(() => this.#requests.exclusive(() => setImageOf(this.#host, number, changes)));
  }

  /**
   * Changes the open options of an image of the chain (0 = base); absent options stay. The last image is reopened if
   * necessary, between two requests; options of one below apply when it becomes the last. If the image cannot be
   * reopened, everything stays as before. Throws `denied`, `locked`, `read-only`, `invalid-argument`.
   */
  async setOpenOptions(number: number | 'last', changes: ImageOpenOptions): Promise<void> {
    checkArguments('disk.setOpenOptions', { number: [number, NUMBER_OF_IMAGE], changes: [changes, OPTIONS] });
    this.#requests.checkData();
    await this.#host.inTurn(() => this.#requests.exclusive(() => setOpenOptionsOf(this.#host, number, changes)));
  }

  /** The run at `offset`, at most up to `end`. Throws `corrupt`, `io`, unless `damaged`. */
  extentAt(offset: number, end: number, options: ExtentOptions = {}): MaybePromise<Extent> {
    this.#requests.check(offset, typeof end === 'number' && typeof offset === 'number' ? end - offset : end);
    const find = options.damaged === true ? soundOrDamaged : extentOf;
    return find(this.#head.chain, offset, end - offset);
  }

  /** All runs of `[start, end)`, neighbours of one kind joined. */
  async *extents(start = 0, end = this.size, options: ExtentOptions = {}): AsyncGenerator<Extent, void, void> {
    checkArguments('disk.extents', { start: [start, NUMBER], end: [end, NUMBER], options: [options, OPTIONS] });
    yield* joined(start, end, (at) => this.extentAt(at, end, options), options);
  }

  /** Resolves when all writes made before this call are durable. */
  async flush(options: OperationOptions = {}): Promise<void> {
    this.#requests.checkOpen();
    throwIfAborted(signalOf(options), 'The flush');
    this.#requests.running.begin();
    try {
      await this.#requests.beside(() => this.#head.flusher.flush());
      // Closing tidies up by itself, and nothing may begin once it has.
      const wanted = this.#closing === null && this.#head.ready && (this.#head.last.image.reclaimable ?? 0) > 0;
      if (wanted) await this.#requests.exclusive(() => tidy(this.#head));
    } finally {
      this.#requests.running.end();
    }
  }

  /**
   * Waits for running requests, flushes and closes all files. Rejects when the flush fails; the files are closed all
   * the same.
   */
  close(options: { readonly incomplete?: boolean | undefined } = {}): Promise<void> {
    checkArguments('disk.close', { options: [options, OPTIONS] });
    this.#requests.refuseMore();
    this.#closing ??= this.#close(options.incomplete !== true);
    return this.#closing;
  }

  /**
   * Closes the disk at the end of its scope. The end of a scope does not tell whether the work was done or has failed, so
   * an image that is written once gets its end from `close` alone: without it, what was written does not look whole.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const once = this.#head.once !== null && this.#closing === null;
    if (once) {
      const rest = this.#ending === undefined ? 'so its end is missing' : 'so it was not created';
      this.#host.options.environment.warn(`${this.label} was left without close, ${rest}.`, this.label);
    }
    await this.close({ incomplete: once });
  }

  async #close(complete: boolean): Promise<void> {
    await this.#host.ended;
    // Requests that take one lock after another would go on in files that are closed.
    await this.#requests.running.whenIdle();
    // After all reads, and the flushes beside them.
    const lock = this.#requests.locks.acquire(0, Number.MAX_SAFE_INTEGER, true);
    const held = isPromise(lock) ? await lock : lock;
    try {
      const whole = await this.#closeFiles(complete);
      await this.#end(whole, complete);
    } catch (error) {
      await this.#ending?.discard();
      throw error;
    } finally {
      held.release();
    }
  }

  /** Flushes and closes everything. False: the image is written once and did not get its end. */
  async #closeFiles(complete: boolean): Promise<boolean> {
    let durable = false;
    try {
      await this.#host.quiesce();
      const whole = complete && (!this.#head.can.write || (await this.#head.finish()));
      durable = true;
      return whole;
    } finally {
      this.#head.flusher.stop();
      await this.#giveBack(durable);
    }
  }

  /** Gives a new image its name if it is whole; otherwise removes it. Throws if it was meant to be whole. */
  async #end(whole: boolean, complete: boolean): Promise<void> {
    const ending = this.#ending;
    if (ending === undefined) return;
    if (whole) {
      const { environment } = this.#host.options;
      for (const text of await ending.publish()) environment.warn(text, this.label);
      return;
    }
    if (complete) throw notCreated(this.label);
    await ending.discard();
  }

  /** Closes everything, even after a failure. */
  async #giveBack(durable: boolean): Promise<void> {
    const { chain } = this.#head;
    try {
      await closeCacheOf(chain, { durable });
    } finally {
      try {
        await chain.filters.close();
      } finally {
        await closeImages(chain.images);
      }
    }
  }
}

function notCreated(path: string): ImageError {
  return new ImageError('io', 'The image was not created, since a write to it failed', {
    path,
    hint: 'Create it again.',
  });
}
