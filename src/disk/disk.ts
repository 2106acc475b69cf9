/**
 * The Disk: vd.h's container. A chain of images as one device; all data moves through here, whatever the formats.
 *
 * Its duties lie in files of their own: requests in path/requests.ts, turns of operations on the structure in
 * change/open-host.ts, the operations in change/. Metadata is written back by flushes: see path/flusher.ts and
 * image/flush.ts.
 */
import { BYTES, checkArguments, NUMBER, nullable, oneOf, WHOLE } from '../arguments.ts';
import { throwIfAborted } from '../errors.ts';
import type { ImageChanges, ImageInfo } from '../image/contract.ts';
import { clipLogical, clipPhysical, type Geometry, isSet } from '../image/geometry.ts';
import type { RegionList } from '../image/regions.ts';
import type { FileAttributes } from '../storage/contract.ts';
import {
  isPromise,
  type MaybePromise,
  type OpenMode,
  type OperationOptions,
  type ReadTarget,
  type WriteSource,
} from '../storage/contract.ts';
import { DiskBitmaps } from './change/bitmaps.ts';
import { closeCacheOf, DiskCache } from './change/cache.ts';
import { type CompactOptions, compactDisk, tidy } from './change/compact.ts';
import { DiskFilters } from './change/filters.ts';

import { type CommitOptions, commitOf, type MergeOptions, planMerge } from './change/merge.ts';
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
  removableParts,
  removeFiles,
} from './change/stack.ts';
import { closeLastOf, createDiffOf, setImageOf, setOpenOptionsOf } from './change/structure.ts';
import type {
  BlockDevice,
  CompressedWrite,
  DeviceCapabilities,
  Extent,
  Range,
  ReadResult,
  ZeroOptions,
} from './device.ts';
import { NUMBER_OF_IMAGE, RANGES, SOURCE } from './kinds.ts';
import { type PartFile, partFiles } from './open/parts.ts';
import type { DiskOpenOptions, ImageOpenOptions, ImageSettings, ImageSource, MetadataOptions } from './options.ts';
import { ActiveImage } from './path/active-image.ts';
import { attributesOf, Chain, type ChainImage, closeImages, identitiesOf } from './path/chain.ts';
import { extentOf, joined } from './path/extents.ts';
import { Requests, signalOf } from './path/requests.ts';
import { dumpChain, hostSizes, type MetadataChunk, metadataOf } from './report.ts';

/** What a disk is built from; `openDisk` makes one. */
export interface DiskParts {
  readonly chain: Chain;
  readonly tools: ChainServices;
  readonly warnings: readonly string[];
  readonly options: DiskOpenOptions;
}

/** One image of a disk, as it is reported. */
export interface DiskImage {
  readonly name: string;
  readonly format: string;
  /** What it is open for now; `settings` has what was asked for. */
  readonly mode: OpenMode;
  readonly settings: ImageSettings;
  readonly info: ImageInfo;
  /** Names of its files, the main one first. */
  readonly files: readonly string[];
}

/** An opened chain of images. Made by `openDisk`; close it, or bind it with `await using`. */
export class ChainDisk implements BlockDevice, AsyncDisposable {
  /** Things that a person should know about the images. */
  readonly warnings: readonly string[];
  /** What its last image keeps inside: states of the disk, and bitmaps of changes. */
  readonly snapshots: DiskSnapshots;
  readonly bitmaps: DiskBitmaps;
  /** What transforms the bytes between its user and its images. */
  readonly filters: DiskFilters;
  /** A file on a quick medium for what is read of its images. */
  readonly cache: DiskCache;
  readonly #requests: Requests;
  #closing: Promise<void> | null = null;
  readonly #host: OpenHost;

  constructor(parts: DiskParts) {
    this.warnings = parts.warnings;
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

  get blockSize(): number {
    return this.#head.blockSize;
  }

  /** Bytes of the disk. */
  get size(): number {
    return this.#head.chain.size;
  }

  /** How the medium is divided into sectors, as the last image says. */
  get regions(): RegionList {
    return this.#head.last.image.info.regions;
  }

  /** How the last image compresses what it is told to, and in units of how many bytes; null: it cannot. */
  get compression(): { readonly method: string; readonly unit: number } | null {
    const { encoder } = this.#head.last.image;
    return encoder === undefined || encoder === null ? null : { method: encoder.method, unit: encoder.unit };
  }

  /** The images, base first. */
  get images(): readonly DiskImage[] {
    return this.#head.chain.images.map((entry) => {
      const { name, format, settings, image } = entry;
      const mode = image.can.write ? 'write' : 'read';
      const files = [name, ...partFiles(entry).map(({ file }) => file)];
      return { name, format, mode, settings, info: image.info, files };
    });
  }

  /** Geometry of the last image as a machine is told it: clipped to what drives and BIOS calls can have; null: not set. */
  get geometry(): { readonly physical: Geometry | null; readonly logical: Geometry | null } {
    const { physical, logical } = this.#head.last.image.info.geometry;
    return {
      physical: isSet(physical) ? clipPhysical(physical) : null,
      logical: isSet(logical) ? clipLogical(logical) : null,
    };
  }

  /** Bytes on the host of all files of an image (0 = base), and what the host really keeps; null when unknown. */
  fileSizes(number: number | 'last'): Promise<{ readonly fileSize: number; readonly allocatedSize: number | null }> {
    checkArguments('disk.fileSizes', { number: [number, NUMBER_OF_IMAGE] });
    this.#requests.checkOpen();
    const { chain } = this.#head;
    return hostSizes(chain.at(imageNumber(chain, number)).image.storages());
  }

  /**
   * What an image of the chain (0 = base) keeps for itself, with the bytes, as it is on the medium: flush before. The
   * chain must stay as it is meanwhile. Throws `invalid-argument`, `io`.
   */
  metadata(number: number | 'last', options: MetadataOptions = {}): AsyncGenerator<MetadataChunk> {
    checkArguments('disk.metadata', { number: [number, NUMBER_OF_IMAGE], options: [options, OPTIONS] });
    this.#requests.checkData();
    const { chain } = this.#head;
    return metadataOf(chain.at(imageNumber(chain, number)).image, options);
  }

  /** Text about all images for people. */
  dump(): Promise<string> {
    this.#requests.checkOpen();
    return dumpChain(this.#head.chain.images);
  }

  /** Keys of all files of the chain, or of those that writes go to: two disks that share one are, in part, the same bytes. */
  async identities(of: 'chain' | 'last' = 'chain'): Promise<ReadonlySet<string>> {
    this.#requests.checkOpen();
    checkArguments('disk.identities', { of: [of, oneOf('chain', 'last')] });
    const { images, last } = this.#head.chain;
    return identitiesOf(of === 'chain' ? images : [last]);
  }

  /** The same, with the file of its cache. */
  async filesInUse(): Promise<ReadonlySet<string>> {
    const { cache } = this.#head.chain;
    const keys = await this.identities();
    if (cache === null) return keys;
    const found = await cache.source.provider.lookUp(cache.source.name);
    return found === null ? keys : new Set([...keys, found.key]);
  }

  /** Key of the file of the last image. */
  get lastKey(): string {
    return this.#head.chain.last.key;
  }

  /** Attributes of all files of the images, where files have some. */
  async attributes(): Promise<readonly FileAttributes[]> {
    this.#requests.checkOpen();
    return attributesOf(this.#head.chain.images);
  }

  /**
   * The content of some neighbours of the chain alone, from number `first` to number `last`: what none of them holds is
   * absent. For reading, as long as this disk is open, its chain stays as it is and nobody writes to those images.
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
    return new ChainDisk({ chain, tools: this.#host.tools, options: {}, warnings: [] });
  }

  /** Reads when everything is in memory. False: nothing was read, use `read`. */
  readNow(offset: number, target: Uint8Array): boolean {
    return this.#requests.readNow(offset, target);
  }

  /** Fills the target from `offset` on. The whole range must lie inside the disk. */
  read(offset: number, target: ReadTarget, options: OperationOptions = {}): Promise<ReadResult> {
    return this.#requests.read(offset, target, options);
  }

  /** Writes the source at `offset`. Durable after the next `flush`. */
  async write(offset: number, source: WriteSource, options: OperationOptions = {}): Promise<void> {
    return this.#requests.write(offset, source, options);
  }

  /**
   * Compresses bytes that shall be written at `offset`, as the format stores them; `store` writes them. So several can be
   * compressed at a time and stored in order. The bytes must stay as they are until then. What does not get smaller, or
   * is no whole unit of the format, is written as it is. Throws `unsupported` where the format stores nothing compressed.
   */
  async compress(offset: number, bytes: Uint8Array, options: OperationOptions = {}): Promise<CompressedWrite> {
    checkArguments('disk.compress', { bytes: [bytes, BYTES], options: [options, OPTIONS] });
    return this.#requests.compress(offset, bytes, options);
  }

  /** Makes a range read zero, giving its room back where that is possible. */
  async zero(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    return this.#requests.zero(offset, length, options);
  }

  /**
   * Tells that nobody needs what the ranges hold. Afterwards they read as before or zero, never as the parent where
   * they hid it. Whole sectors only: what covers a sector in part is left alone.
   */
  async discard(ranges: readonly Range[], options: OperationOptions = {}): Promise<void> {
    checkArguments('disk.discard', { ranges: [ranges, RANGES], options: [options, OPTIONS] });
    return this.#requests.discard(ranges, options);
  }

  /**
   * Makes an image of the chain as small as its content allows, the last one unless another is named; see compact.ts.
   * Waits for running requests and holds back new ones. May be cancelled at any time and run again. Throws `unsupported`
   * when the format cannot.
   */
  async compact(options: CompactOptions = {}): Promise<void> {
    checkArguments('disk.compact', { options: [options, OPTIONS] });
    this.#requests.checkOpen();
    this.#requests.checkWritable();
    await this.#host.inTurn(() => compactDisk(this.#host, options));
  }

  /**
   * Changes the size of the disk, a multiple of 512. New space reads zero, whatever a longer parent holds there.
   * Getting smaller is refused where data would be lost, unless `shrink`.
   */
  async resize(size: number, options: DiskResizeOptions = {}): Promise<void> {
    checkArguments('disk.resize', { size: [size, NUMBER], options: [options, OPTIONS] });
    this.#requests.checkOpen();
    this.#requests.checkWritable();
    await this.#host.inTurn(() => resizeOf(this.#host, size, options));
  }

  /**
   * Makes a differencing image over the last one and goes on with it; the one below is only read from then on. Whatever
   * was written is durable before. After a failure the new image is gone and the disk is as it was. Returns what a person
   * should know, such as that the new image has no place for the link to its parent.
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
   * Closes the last image, and with `remove` deletes its files; the one below is the last then, and written if that was
   * wanted of it. With the only image the disk is closed.
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
   * Merges images of the chain, 0 = base, into one of the two and removes the others: into the child when `from` is the
   * lower one, else into the parent; see merge.ts. Requests go on meanwhile. May be cut off or cancelled at any time and
   * run again. Throws `invalid-argument`, `read-only`, `unsupported`, and `busy` when an image outside the chain would
   * lose what it is made from.
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
   * Stores what the last image holds in its parent, or in an image further down, and empties it: it stays, as a child of
   * that one, and reads the same; see merge.ts. Requests go on meanwhile. May be cut off or cancelled at any time and run
   * again. Images between the two are no part of the chain any more, and read something else. Throws `invalid-argument`,
   * `read-only`, `unsupported`, and `busy` when something else depends on what would change.
   */
  async commit(options: CommitOptions = {}): Promise<void> {
    checkArguments('disk.commit', { options: [options, OPTIONS] });
    this.#requests.checkOpen();
    this.#requests.checkWritable();
    await this.#host.inTurn(() => this.#host.runMerge(commitOf(this.#host, options)));
  }

  /**
   * Makes the last image a child of another parent, or of none, and goes on with that chain; see rebase.ts. What is read
   * stays the same: where the new parent reads something else the image gets what it read. Holds back requests. May be
   * cut off or cancelled at any time and run again: the old parent counts until the end. Returns what a person should
   * know of the new parents. Throws `invalid-argument`, `unsupported`, and what opening the parents throws.
   */
  async rebase(parent: ImageSource | null, options: RebaseOptions = {}): Promise<readonly string[]> {
    checkArguments('disk.rebase', { parent: [parent, nullable(SOURCE)], options: [options, OPTIONS] });
    this.#requests.checkData();
    this.#requests.checkWritable();
    return this.#host.inTurn(() => rebaseOf(this.#host, parent, options));
  }

  /**
   * Changes what an image of the chain says of itself (0 = base), durably: comment, UUIDs, geometry; see `setImage`. What
   * is read stays the same. Throws `unsupported` where the format has no place for it, `read-only`, `invalid-argument`.
   */
  async set(number: number | 'last', changes: ImageChanges): Promise<void> {
    checkArguments('disk.set', { number: [number, NUMBER_OF_IMAGE], changes: [changes, OPTIONS] });
    this.#requests.checkOpen();
    this.#requests.checkWritable();
    await this.#host.inTurn(() => this.#requests.exclusive(() => setImageOf(this.#host, number, changes)));
  }

  /**
   * Changes how an image of the chain was opened (0 = base): what is left out stays. The last image is opened anew where
   * that is needed, between two requests; what is said of one below counts when it becomes the last. When the image
   * cannot be opened so, all stays as it was. Throws `denied`, `locked`, `read-only`, `invalid-argument`.
   */
  async setOpenOptions(number: number | 'last', changes: ImageOpenOptions): Promise<void> {
    checkArguments('disk.setOpenOptions', { number: [number, NUMBER_OF_IMAGE], changes: [changes, OPTIONS] });
    this.#requests.checkData();
    await this.#host.inTurn(() => this.#requests.exclusive(() => setOpenOptionsOf(this.#host, number, changes)));
  }

  /** The run at `offset`, at most up to `end`. */
  extentAt(offset: number, end: number): MaybePromise<Extent> {
    this.#requests.check(offset, typeof end === 'number' && typeof offset === 'number' ? end - offset : end);
    return extentOf(this.#head.chain, offset, end - offset);
  }

  /** All runs of `[start, end)`, neighbours of one kind joined. */
  async *extents(start = 0, end = this.size, options: OperationOptions = {}): AsyncGenerator<Extent, void, void> {
    checkArguments('disk.extents', { start: [start, NUMBER], end: [end, NUMBER], options: [options, OPTIONS] });
    yield* joined(start, end, (at) => this.extentAt(at, end), options);
  }

  /** Resolves when everything that was written before this call is durable. */
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

  /** Waits for running requests, flushes and gives all files back. Rejects when the flush fails; the files are closed all the same. */
  close(): Promise<void> {
    this.#requests.refuseMore();
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await this.#host.ended;
    // Requests that take one lock after another would go on in files that are closed.
    await this.#requests.running.whenIdle();
    // After all reads, and the flushes beside them.
    const lock = this.#requests.locks.acquire(0, Number.MAX_SAFE_INTEGER, true);
    const held = isPromise(lock) ? await lock : lock;
    let durable = false;
    try {
      await this.#host.quiesce();
      durable = true;
    } finally {
      this.#head.flusher.stop();
      await this.#giveBack(durable);
      held.release();
    }
  }

  /** Everything that is open, also after a failure. */
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
