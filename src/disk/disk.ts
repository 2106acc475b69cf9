/**
 * The Disk: vd.h's container. A chain of images as one device; all data moves through here, whatever the formats.
 *
 * Requests that overlap are kept apart by range locks, everything else runs together. Only the last image is written.
 * Metadata is written back by flushes: see flusher.ts and image/flush.ts.
 *
 * Long file: one method for each thing that can be done with a disk; what they do is in files of their own.
 */
import { BYTES, checkArguments, isObject, NUMBER, nullable, oneOf, WHOLE } from '../arguments.ts';
import { alignDown, alignUp, SECTOR } from '../binary/numbers.ts';
import { ImageError, throwIfAborted } from '../errors.ts';
import type { ImageChanges, ImageInfo } from '../image/contract.ts';
import { clipLogical, clipPhysical, type Geometry, isSet } from '../image/geometry.ts';
import type { RegionList } from '../image/regions.ts';
import { markHandled } from '../storage/all-done.ts';
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
import type { DiskHost } from './change/host.ts';
import { type CommitOptions, commitOf, type Merge, type MergeOptions, planMerge } from './change/merge.ts';
import { OPTIONS, REMOVING } from './change/option-kinds.ts';
import { type RebaseOptions, rebaseOf } from './change/rebase.ts';
import { type DiskResizeOptions, resizeOf } from './change/resize.ts';
import { DiskSnapshots } from './change/snapshots.ts';
import {
  type ChainServices,
  type CreateDiffOptions,
  imageNumber,
  refuseChildren,
  refuseParts,
  removeFile,
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
import type { DiskOpenOptions, ImageOpenOptions, ImageSettings, ImageSource, MetadataOptions } from './options.ts';
import { ActiveImage } from './path/active-image.ts';
import { bufferList, totalLength } from './path/buffers.ts';
import { attributesOf, Chain, type ChainImage, closeImages, identitiesOf } from './path/chain.ts';
import { compressUnits, encoderOf } from './path/compressed-writes.ts';
import { extentOf, joined } from './path/extents.ts';
import { readFiltered, widened, writeFiltered, zeroFiltered } from './path/filtered.ts';
import { type RangeLock, RangeLocks } from './path/range-locks.ts';
import { RunningRequests } from './path/running-requests.ts';
import { dumpChain, hostSizes, type MetadataChunk, metadataOf } from './report.ts';

const DATA: ReadResult = { unallocated: false };
const NOTHING: ReadResult = { unallocated: true };
/** A discard holds at most this many units at a time, so that others get their turn. */
const DISCARD_UNITS = 1024;
/** The same for images without units, in bytes. */
const RAW_DISCARD_BYTES = 1024 * 1024;

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
  readonly #options: DiskOpenOptions;
  readonly #locks = new RangeLocks();
  readonly #requests = new RunningRequests();
  #head: ActiveImage;
  #closing: Promise<void> | null = null;
  readonly #tools: ChainServices;
  #merge: Merge | null = null;
  /** Ends when the operation on the structure that runs last has ended. */
  #structure: Promise<void> = Promise.resolve();
  readonly #host: DiskHost;

  constructor(parts: DiskParts) {
    this.warnings = parts.warnings;
    this.#options = parts.options;
    this.#tools = parts.tools;
    this.#head = this.#timed(new ActiveImage(parts.chain, parts.options));
    this.#host = this.#asHost();
    this.snapshots = new DiskSnapshots(this.#host);
    this.bitmaps = new DiskBitmaps(this.#host);
    this.filters = new DiskFilters(this.#host);
    this.cache = new DiskCache(this.#host);
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
    return this.#head.chain.images.map(({ name, format, settings, image }) => {
      const mode = image.can.write ? 'write' : 'read';
      return { name, format, mode, settings, info: image.info };
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
    this.#checkOpen();
    const { chain } = this.#head;
    return hostSizes(chain.at(imageNumber(chain, number)).image);
  }

  /**
   * What an image of the chain (0 = base) keeps for itself, with the bytes, as it is on the medium: flush before. The
   * chain must stay as it is meanwhile. Throws `invalid-argument`, `io`.
   */
  metadata(number: number | 'last', options: MetadataOptions = {}): AsyncGenerator<MetadataChunk> {
    checkArguments('disk.metadata', { number: [number, NUMBER_OF_IMAGE], options: [options, OPTIONS] });
    this.#checkData();
    const { chain } = this.#head;
    return metadataOf(chain.at(imageNumber(chain, number)).image, options);
  }

  /** Text about all images for people. */
  dump(): Promise<string> {
    this.#checkOpen();
    return dumpChain(this.#head.chain.images);
  }

  /** Keys of all files of the chain, or of those that writes go to: two disks that share one are, in part, the same bytes. */
  async identities(of: 'chain' | 'last' = 'chain'): Promise<ReadonlySet<string>> {
    this.#checkOpen();
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
    this.#checkOpen();
    return attributesOf(this.#head.chain.images);
  }

  /**
   * The content of some neighbours of the chain alone, from number `first` to number `last`: what none of them holds is
   * absent. For reading, as long as this disk is open, its chain stays as it is and nobody writes to those images.
   */
  layers(first: number, last: number): ChainDisk {
    this.#checkOpen();
    checkArguments('disk.layers', { first: [first, WHOLE], last: [last, WHOLE] });
    const images = this.#head.chain.images.slice(first, last + 1);
    const chain = new Chain(
      images.map((image) => ({ ...image, settings: { mode: 'read' } })),
      null,
      this.#head.chain.filters,
    );
    return new ChainDisk({ chain, tools: this.#tools, options: {}, warnings: [] });
  }

  /** Reads when everything is in memory. False: nothing was read, use `read`. */
  readNow(offset: number, target: Uint8Array): boolean {
    if (!(target instanceof Uint8Array)) checkArguments('disk.readNow', { target: [target, BYTES] });
    this.#check(offset, target.length);
    if (!this.#locks.isFree(offset, offset + target.length)) return false;
    if (this.#head.chain.filters.decodes || this.#head.chain.cache !== null) return false;
    for (let at = 0; at < target.length; ) {
      const located = this.#head.chain.locate(this.#head.chain.top, offset + at, target.length - at);
      if (isPromise(located)) {
        // The caller reads again and hears of a failure then.
        void markHandled(located);
        return false;
      }
      this.#head.chain.checkComplete(located, offset + at);
      const { mapping } = located;
      const part = target.subarray(at, at + mapping.length);
      // Decoding takes its time, on another thread.
      if (mapping.kind === 'encoded') return false;
      if (mapping.kind !== 'data') part.fill(0);
      else if (mapping.storage.readNow?.(mapping.fileOffset, part) !== true) return false;
      at += mapping.length;
    }
    return true;
  }

  /** Fills the target from `offset` on. The whole range must lie inside the disk. */
  read(offset: number, target: ReadTarget, options: OperationOptions = {}): Promise<ReadResult> {
    let length: number;
    try {
      length = totalLength(target);
      this.#check(offset, length);
      throwIfAborted(signalOf(options), 'The read');
    } catch (error) {
      return Promise.reject(error);
    }
    const buffers = bufferList(target);
    const { start, end } = this.#range(offset, length);
    const lock = this.#locks.acquire(start, end, false);
    return isPromise(lock)
      ? lock.then((held) => this.#read(held, offset, buffers, length))
      : this.#read(lock, offset, buffers, length);
  }

  /** Writes the source at `offset`. Durable after the next `flush`. */
  async write(offset: number, source: WriteSource, options: OperationOptions = {}): Promise<void> {
    const length = totalLength(source);
    this.#check(offset, length);
    throwIfAborted(signalOf(options), 'The write');
    if (length === 0) return;
    await this.#change(offset, length, () => {
      this.#head.discards.noteChange(offset, length);
      return this.#head.chain.filters.active
        ? writeFiltered(this.#head, offset, bufferList(source), length)
        : this.#head.writes.write(offset, length, bufferList(source));
    });
  }

  /**
   * Compresses bytes that shall be written at `offset`, as the format stores them; `store` writes them. So several can be
   * compressed at a time and stored in order. The bytes must stay as they are until then. What does not get smaller, or
   * is no whole unit of the format, is written as it is. Throws `unsupported` where the format stores nothing compressed.
   */
  async compress(offset: number, bytes: Uint8Array, options: OperationOptions = {}): Promise<CompressedWrite> {
    checkArguments('disk.compress', { bytes: [bytes, BYTES], options: [options, OPTIONS] });
    this.#check(offset, bytes.length);
    throwIfAborted(options.signal, 'The write');
    this.#checkWritable();
    // What a filter made of the bytes hardly gets smaller.
    if (this.#head.chain.filters.active) return { store: () => this.write(offset, bytes) };
    const encoder = encoderOf(this.#head.last.image, this.label);
    const pieces = await compressUnits(encoder, offset, bytes, this.size);
    const { length } = bytes;
    return {
      store: () =>
        this.#change(offset, length, () => {
          this.#head.discards.noteChange(offset, length);
          return this.#head.writes.writePieces(pieces);
        }),
    };
  }

  /** Makes a range read zero, giving its room back where that is possible. */
  async zero(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    this.#check(offset, length);
    throwIfAborted(signalOf(options), 'The write');
    if (length === 0) return;
    await this.#change(offset, length, () => {
      this.#head.discards.noteChange(offset, length);
      const punch = options.punch ?? true;
      return this.#head.chain.filters.active
        ? zeroFiltered(this.#head, offset, length, punch)
        : this.#head.writes.zero(offset, length, punch);
    });
  }

  /**
   * Tells that nobody needs what the ranges hold. Afterwards they read as before or zero, never as the parent where
   * they hid it. Whole sectors only: what covers a sector in part is left alone.
   */
  async discard(ranges: readonly Range[], options: OperationOptions = {}): Promise<void> {
    checkArguments('disk.discard', { ranges: [ranges, RANGES], options: [options, OPTIONS] });
    if (!this.can.discard) this.#checkWritable();
    for (const { offset, length } of ranges) this.#check(offset, length);
    if (!this.can.discard) return;
    this.#requests.begin();
    try {
      for (const { offset, length } of ranges) {
        const end = offset + length === this.size ? this.size : alignDown(offset + length, SECTOR);
        await this.#discardRange(alignUp(offset, SECTOR), end, options);
      }
      await this.#pushOut(false);
    } finally {
      this.#requests.end();
    }
  }

  /**
   * Makes an image of the chain as small as its content allows, the last one unless another is named; see compact.ts.
   * Waits for running requests and holds back new ones. May be cancelled at any time and run again. Throws `unsupported`
   * when the format cannot.
   */
  async compact(options: CompactOptions = {}): Promise<void> {
    checkArguments('disk.compact', { options: [options, OPTIONS] });
    this.#checkOpen();
    this.#checkWritable();
    await this.#structural(() => compactDisk(this.#host, options));
  }

  /**
   * Changes the size of the disk, a multiple of 512. New space reads zero, whatever a longer parent holds there.
   * Getting smaller is refused where data would be lost, unless `shrink`.
   */
  async resize(size: number, options: DiskResizeOptions = {}): Promise<void> {
    checkArguments('disk.resize', { size: [size, NUMBER], options: [options, OPTIONS] });
    this.#checkOpen();
    this.#checkWritable();
    await this.#structural(() => resizeOf(this.#host, size, options));
  }

  /**
   * Makes a differencing image over the last one and goes on with it; the one below is only read from then on. Whatever
   * was written is durable before. After a failure the new image is gone and the disk is as it was. Returns what a person
   * should know, such as that the new image has no place for the link to its parent.
   */
  async createDiff(target: ImageSource, options: CreateDiffOptions = {}): Promise<readonly string[]> {
    checkArguments('disk.createDiff', { target: [target, SOURCE], options: [options, OPTIONS] });
    this.#checkData();
    let warnings: readonly string[] = [];
    await this.#structural(() =>
      this.#exclusive(async () => {
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
    this.#checkOpen();
    let only: ChainImage | null = null;
    await this.#structural(async () => {
      const { chain } = this.#head;
      if (chain.top > 0) return this.#host.exclusive(() => closeLastOf(this.#host, remove));
      if (remove) {
        refuseParts(chain.last);
        await refuseChildren(this.#tools, chain.last);
      }
      only = chain.last;
    });
    if (only === null) return;
    await this.close();
    if (remove) await removeFile((only as ChainImage).source);
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
    this.#checkOpen();
    this.#checkWritable();
    await this.#structural(async () => this.#runMerge(await planMerge(this.#host, from, to, options)));
  }

  /**
   * Stores what the last image holds in its parent, or in an image further down, and empties it: it stays, as a child of
   * that one, and reads the same; see merge.ts. Requests go on meanwhile. May be cut off or cancelled at any time and run
   * again. Images between the two are no part of the chain any more, and read something else. Throws `invalid-argument`,
   * `read-only`, `unsupported`, and `busy` when something else depends on what would change.
   */
  async commit(options: CommitOptions = {}): Promise<void> {
    checkArguments('disk.commit', { options: [options, OPTIONS] });
    this.#checkOpen();
    this.#checkWritable();
    await this.#structural(() => this.#runMerge(commitOf(this.#host, options)));
  }

  /**
   * Makes the last image a child of another parent, or of none, and goes on with that chain; see rebase.ts. What is read
   * stays the same: where the new parent reads something else the image gets what it read. Holds back requests. May be
   * cut off or cancelled at any time and run again: the old parent counts until the end. Returns what a person should
   * know of the new parents. Throws `invalid-argument`, `unsupported`, and what opening the parents throws.
   */
  async rebase(parent: ImageSource | null, options: RebaseOptions = {}): Promise<readonly string[]> {
    checkArguments('disk.rebase', { parent: [parent, nullable(SOURCE)], options: [options, OPTIONS] });
    this.#checkData();
    this.#checkWritable();
    return this.#structural(() => rebaseOf(this.#host, parent, options));
  }

  /**
   * Changes what an image of the chain says of itself (0 = base), durably: comment, UUIDs, geometry; see `setImage`. What
   * is read stays the same. Throws `unsupported` where the format has no place for it, `read-only`, `invalid-argument`.
   */
  async set(number: number | 'last', changes: ImageChanges): Promise<void> {
    checkArguments('disk.set', { number: [number, NUMBER_OF_IMAGE], changes: [changes, OPTIONS] });
    this.#checkOpen();
    this.#checkWritable();
    await this.#structural(() => this.#exclusive(() => setImageOf(this.#host, number, changes)));
  }

  /**
   * Changes how an image of the chain was opened (0 = base): what is left out stays. The last image is opened anew where
   * that is needed, between two requests; what is said of one below counts when it becomes the last. When the image
   * cannot be opened so, all stays as it was. Throws `denied`, `locked`, `read-only`, `invalid-argument`.
   */
  async setOpenOptions(number: number | 'last', changes: ImageOpenOptions): Promise<void> {
    checkArguments('disk.setOpenOptions', { number: [number, NUMBER_OF_IMAGE], changes: [changes, OPTIONS] });
    this.#checkData();
    await this.#structural(() => this.#exclusive(() => setOpenOptionsOf(this.#host, number, changes)));
  }

  /** The run at `offset`, at most up to `end`. */
  extentAt(offset: number, end: number): MaybePromise<Extent> {
    this.#check(offset, typeof end === 'number' && typeof offset === 'number' ? end - offset : end);
    return extentOf(this.#head.chain, offset, end - offset);
  }

  /** All runs of `[start, end)`, neighbours of one kind joined. */
  async *extents(start = 0, end = this.size, options: OperationOptions = {}): AsyncGenerator<Extent, void, void> {
    checkArguments('disk.extents', { start: [start, NUMBER], end: [end, NUMBER], options: [options, OPTIONS] });
    yield* joined(start, end, (at) => this.extentAt(at, end), options);
  }

  /** Resolves when everything that was written before this call is durable. */
  async flush(options: OperationOptions = {}): Promise<void> {
    this.#checkOpen();
    throwIfAborted(signalOf(options), 'The flush');
    this.#requests.begin();
    try {
      await this.#beside(() => this.#head.flusher.flush());
      // Closing tidies up by itself, and nothing may begin once it has.
      const wanted = this.#closing === null && this.#head.ready && (this.#head.last.image.reclaimable ?? 0) > 0;
      if (wanted) await this.#exclusive(() => tidy(this.#head));
    } finally {
      this.#requests.end();
    }
  }

  /** Waits for running requests, flushes and gives all files back. Rejects when the flush fails; the files are closed all the same. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #check(offset: number, length: number): void {
    this.#checkData();
    if (Number.isSafeInteger(offset) && Number.isSafeInteger(length)) {
      if (offset >= 0 && length >= 0 && offset + length <= this.size) return;
    } else {
      checkArguments('a request', { offset: [offset, NUMBER], length: [length, NUMBER] });
    }
    throw new ImageError('out-of-bounds', 'The request does not lie inside the disk', {
      path: this.label,
      found: `${length} bytes at ${offset}`,
      expected: `up to ${this.size}`,
    });
  }

  #checkData(): void {
    this.#checkOpen();
    this.#head.chain.filters.check(this.label);
    if (this.#options.infoOnly !== true) return;
    throw new ImageError('unsupported', 'The disk was opened for its headers only', {
      path: this.label,
      hint: 'Open it without infoOnly.',
    });
  }

  #checkOpen(): void {
    if (this.#closing !== null) {
      throw new ImageError('invalid-argument', 'The disk is closed', {
        path: this.label,
        status: 'VERR_VD_NOT_OPENED',
      });
    }
  }

  #read(lock: RangeLock, offset: number, buffers: readonly Uint8Array[], length: number): Promise<ReadResult> {
    const done = this.#readRun(offset, buffers, length) ?? this.#readRuns(offset, buffers, length);
    return done.then(
      (result) => {
        lock.release();
        return result;
      },
      (error: unknown) => {
        lock.release();
        throw error;
      },
    );
  }

  /** The common case without a loop: one run covers the request. */
  #readRun(offset: number, buffers: readonly Uint8Array[], length: number): Promise<ReadResult> | null {
    if (length === 0) return Promise.resolve(NOTHING);
    if (this.#head.chain.filters.decodes || this.#head.chain.cache !== null) return null;
    try {
      const located = this.#head.chain.locate(this.#head.chain.top, offset, length);
      if (isPromise(located)) {
        // The loop asks again and reports a failure.
        void markHandled(located);
        return null;
      }
      if (located.mapping.length < length || located.mapping.kind !== 'data') return null;
      return located.mapping.storage.read(located.mapping.fileOffset, buffers).then(() => DATA);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async #readRuns(offset: number, buffers: readonly Uint8Array[], length: number): Promise<ReadResult> {
    const { chain } = this.#head;
    const unallocated = chain.filters.decodes
      ? await readFiltered(chain, offset, buffers, length)
      : await chain.read(chain.top, offset, buffers, length, { gaps: [], cached: true });
    return unallocated ? NOTHING : DATA;
  }

  /** What a request covers, as far as others must keep away: filters work on whole sectors. */
  #range(offset: number, length: number): { readonly start: number; readonly end: number } {
    return this.#head.chain.filters.active ? widened(offset, length) : { start: offset, end: offset + length };
  }

  /** Runs one change under its lock, after what must be durable before the first. */
  async #change(offset: number, length: number, run: () => Promise<void>): Promise<void> {
    this.#checkWritable();
    this.#requests.begin();
    try {
      await this.#changeLocked(offset, length, run);
    } finally {
      this.#requests.end();
    }
  }

  async #changeLocked(offset: number, length: number, run: () => Promise<void>): Promise<void> {
    const held = await this.#lockForChange(offset, length);
    try {
      this.#head.flusher.refuseAfterFailure(this.label);
      if (!this.#head.ready) await this.#head.begin();
      if (this.#head.flusher.overdue) await this.#head.flusher.flush();
      this.#head.noteChange(offset, length);
      this.#forget(offset, length);
      await run();
    } finally {
      // Also after a failure: some of it may have been done.
      await this.#merge?.relay(offset, length);
      this.#head.noteChange(offset, length);
      this.#forget(offset, length);
      held.release();
    }
  }

  /** The range is read anew from then on. Filters work on whole sectors. */
  #forget(offset: number, length: number): void {
    const { cache } = this.#head.chain;
    if (cache === null) return;
    const { start, end } = this.#range(offset, length);
    cache.drop(start, end - start);
  }

  /** A merge that begins while we wait may want a wider range. */
  async #lockForChange(offset: number, length: number): Promise<RangeLock> {
    for (;;) {
      const range = this.#range(offset, length);
      const [start, end] = this.#merge?.widen(range.start, range.end - range.start) ?? [range.start, range.end];
      const lock = this.#locks.acquire(start, end, true);
      const held = isPromise(lock) ? await lock : lock;
      const now = this.#range(offset, length);
      const [first, last] = this.#merge?.widen(now.start, now.end - now.start) ?? [now.start, now.end];
      if (first >= start && last <= end) return held;
      held.release();
    }
  }

  #checkWritable(): void {
    if (this.can.write) return;
    throw new ImageError('read-only', 'The disk is open for reading only', {
      path: this.label,
      hint: 'Open it with mode "write".',
    });
  }

  async #discardRange(start: number, end: number, options: OperationOptions): Promise<void> {
    for (let at = start; at < end; ) {
      throwIfAborted(options.signal, 'Discarding');
      const { blockSize } = this;
      const unit = blockSize === 0 ? RAW_DISCARD_BYTES : blockSize;
      const first = alignDown(at, unit);
      const unitEnd = Math.min(first + unit, this.size);
      const whole = at === first && unitEnd <= end;
      const stop = whole
        ? Math.min(end === this.size ? end : alignDown(end, unit), at + unit * DISCARD_UNITS)
        : Math.min(unitEnd, end);
      const from = at;
      await this.#change(first, (whole ? stop : unitEnd) - first, async () => {
        // While we waited the last image may have become another one, with other units: look again then.
        if (this.blockSize !== blockSize) return;
        await this.#discardPiece(from, stop, whole);
        at = stop;
      });
    }
  }

  #discardPiece(start: number, end: number, whole: boolean): Promise<void> {
    if (this.blockSize === 0) return this.#head.writes.punch(start, end - start);
    return whole ? this.#head.discards.whole(start, end) : this.#head.discards.part(start, end);
  }

  /** Pushes pending discards out while there are too many. */
  async #pushOut(all: boolean): Promise<void> {
    for (let first = this.#head.discards.next(all); first !== null; first = this.#head.discards.next(all)) {
      const unit = first;
      await this.#change(unit, Math.min(this.blockSize, this.size - unit), () => this.#head.discards.pushOut(unit));
    }
  }

  /**
   * Runs something that changes the content while no request does, after what must be durable before the first change.
   * Which ranges it changes it notes itself.
   */
  #changing(run: () => Promise<void>): Promise<void> {
    return this.#exclusive(async () => {
      if (!this.#head.ready) await this.#head.begin();
      this.#head.noteChange(0, 0);
      try {
        await run();
      } finally {
        this.#head.noteChange(0, 0);
      }
    });
  }

  async #runMerge(merge: Merge): Promise<void> {
    this.#merge = merge;
    try {
      await merge.run();
    } finally {
      this.#merge = null;
    }
  }

  /** Runs something while no request does. */
  async #exclusive<T>(run: () => Promise<T>): Promise<T> {
    const lock = this.#locks.acquire(0, Number.MAX_SAFE_INTEGER, true);
    const held = isPromise(lock) ? await lock : lock;
    try {
      this.#head.flusher.refuseAfterFailure(this.label);
      return await run();
    } finally {
      held.release();
    }
  }

  /** Runs something beside all requests, but not while anything has the disk to itself. */
  async #beside(run: () => Promise<void>): Promise<void> {
    // No request reaches so far.
    const lock = this.#locks.acquire(Number.MAX_SAFE_INTEGER - 1, Number.MAX_SAFE_INTEGER, false);
    const held = isPromise(lock) ? await lock : lock;
    try {
      await run();
    } finally {
      held.release();
    }
  }

  /** A head whose timer flushes beside requests, as long as it is the disk's. Closing flushes by itself. */
  #timed(head: ActiveImage): ActiveImage {
    head.flusher.runAlarms((flush) =>
      this.#beside(async () => {
        if (head === this.#head && this.#closing === null) await flush();
      }),
    );
    return head;
  }

  /** Whatever was read before is read anew afterwards. */
  async #afresh<T>(run: () => Promise<T>): Promise<T> {
    const { cache } = this.#head.chain;
    try {
      return await run();
    } finally {
      cache?.clear();
    }
  }

  /** Operations on the structure come one after another; a merge lets requests through, but none of these. */
  #structural<T>(run: () => Promise<T>): Promise<T> {
    return this.#inTurn(() => {
      this.#head.chain.cache?.noteStructure();
      return run();
    });
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const done = this.#structure.then(() => {
      this.#checkOpen();
      return run();
    });
    this.#structure = done.then(
      () => {},
      () => {},
    );
    return done;
  }

  /** The last image is as closing would leave it. */
  async #quiesce(): Promise<void> {
    await this.#head.quiesce();
    if (this.#head.ready) await tidy(this.#head);
    await this.#head.end();
  }

  #asHost(): DiskHost {
    const disk = this;
    return {
      get head() {
        return disk.#head;
      },
      tools: this.#tools,
      options: this.#options,
      lock: (start, end) => this.#locks.acquire(start, end, true),
      exclusive: (run) => this.#exclusive(() => this.#afresh(run)),
      changing: (run) => this.#changing(() => this.#afresh(run)),
      structural: async (run) => {
        this.#checkOpen();
        this.#checkWritable();
        return this.#structural(run);
      },
      reordering: async (run) => {
        this.#checkOpen();
        return this.#inTurn(run);
      },
      quiesce: () => this.#quiesce(),
      replaceHead: (head) => this.#replaceHead(head),
    };
  }

  #replaceHead(head: ActiveImage): void {
    this.#head.flusher.stop();
    head.chain.cache = this.#head.chain.cache;
    this.#head = this.#timed(head);
  }

  async #close(): Promise<void> {
    await this.#structure;
    // Requests that take one lock after another would go on in files that are closed.
    await this.#requests.whenIdle();
    // After all reads, and the flushes beside them.
    const lock = this.#locks.acquire(0, Number.MAX_SAFE_INTEGER, true);
    const held = isPromise(lock) ? await lock : lock;
    let durable = false;
    try {
      await this.#quiesce();
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

/** Options of a single request: checked without a kind, since they come so often. */
function signalOf(options: OperationOptions): AbortSignal | undefined {
  if (!isObject(options)) checkArguments('a request', { options: [options, OPTIONS] });
  return options.signal;
}
