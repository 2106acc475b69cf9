/**
 * Requests of a disk: reads, writes, zeroing and discards under range locks, what must be durable before the first
 * change, and turns for what needs the disk without any request.
 *
 * Requests that overlap are kept apart, everything else runs together. Only the last image is written.
 */
import { BYTES, checkArguments, isObject, NUMBER, OBJECT } from '../../arguments.ts';
import { alignDown, alignUp, SECTOR } from '../../binary/numbers.ts';
import { isZero } from '../../codec/bytes.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import { markHandled } from '../../storage/all-done.ts';
import {
  isPromise,
  type MaybePromise,
  type OperationOptions,
  type ReadTarget,
  type WriteSource,
} from '../../storage/contract.ts';
import { orAborted } from '../../storage/or-aborted.ts';
import type { CompressedWrite, DeviceCapabilities, Range, ReadResult, WriteOptions, ZeroOptions } from '../device.ts';
import type { DiskOpenOptions } from '../options.ts';
import type { ActiveImage, HeadOptions } from './active-image.ts';
import { bufferList, totalLength } from './buffers.ts';
import { compressUnits, encoderOf, type UnitTarget } from './compressed-writes.ts';
import { readFiltered, widened, writeFiltered, zeroFiltered } from './filtered.ts';
import { type RangeLock, RangeLocks } from './range-locks.ts';
import { RunningRequests } from './running-requests.ts';

const DATA: ReadResult = { unallocated: false };
const NOTHING: ReadResult = { unallocated: true };
/** Units discarded at a time, so that other requests get their turn. */
const DISCARD_UNITS = 1024;
/** Bytes of a parent that are looked at in one step. */
const SKIP_BYTES = 4 * 1024 * 1024;
/** The limit in bytes for images without units. */
const RAW_DISCARD_BYTES = 1024 * 1024;

/** A merge beside requests: it repeats in its target what they change. */
export interface Relay {
  /** The range that a change must lock, `[start, end]`. */
  widen(offset: number, length: number): readonly [start: number, end: number];
  /** Follows a change, also one that failed. */
  relay(offset: number, length: number): Promise<void>;
}

/** The data path of one disk. Public methods of the disk with the same names say what callers get. */
export class Requests {
  readonly locks = new RangeLocks();
  readonly running = new RunningRequests();
  /** The merge that runs. */
  relay: Relay | null = null;
  readonly #options: HeadOptions & Pick<DiskOpenOptions, 'infoOnly'>;
  #head: ActiveImage;
  #closed = false;

  constructor(head: ActiveImage, options: HeadOptions & Pick<DiskOpenOptions, 'infoOnly'>) {
    this.#options = options;
    this.#head = this.#timed(head);
  }

  /** The chain and its last image, as requests see them. */
  get head(): ActiveImage {
    return this.#head;
  }

  /** Another chain from now on, with the same cache. Nothing else runs meanwhile. */
  replaceHead(head: ActiveImage): void {
    this.#head.flusher.stop();
    head.chain.cache = this.#head.chain.cache;
    this.#head = this.#timed(head);
  }

  get label(): string {
    return this.#head.last.name;
  }

  get can(): DeviceCapabilities {
    return this.#head.can;
  }

  get blockSize(): number {
    return this.#head.blockSize;
  }

  get size(): number {
    return this.#head.chain.size;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Refuses everything that begins from now on. */
  refuseMore(): void {
    this.#closed = true;
  }

  /** Reads when everything is in memory. False: nothing was read, use `read`. */
  readNow(offset: number, target: Uint8Array): boolean {
    if (!(target instanceof Uint8Array)) checkArguments('disk.readNow', { target: [target, BYTES] });
    this.check(offset, target.length);
    if (!this.locks.isFree(offset, offset + target.length)) return false;
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

  /**
   * Fills the target from `offset` on. The whole range must lie inside the disk. After an abort the target is as it was:
   * the storage may still deliver, but not into memory of the caller.
   */
  read(offset: number, target: ReadTarget, options: OperationOptions = {}): Promise<ReadResult> {
    let length: number;
    try {
      length = totalLength(target);
      this.check(offset, length);
      throwIfAborted(signalOf(options), 'The read');
    } catch (error) {
      return Promise.reject(error);
    }
    const buffers = bufferList(target);
    return signalOf(options) === undefined
      ? this.#readInto(offset, buffers, length, options)
      : this.#readApart(offset, buffers, length, options);
  }

  /** Ends with the signal, whatever the storage does. Until that answers, the range stays locked. */
  async #readApart(
    offset: number,
    buffers: readonly Uint8Array[],
    length: number,
    options: OperationOptions,
  ): Promise<ReadResult> {
    const own = new Uint8Array(length);
    const result = await orAborted(this.#readInto(offset, [own], length, options), options, 'The read');
    let at = 0;
    for (const buffer of buffers) {
      buffer.set(own.subarray(at, at + buffer.length));
      at += buffer.length;
    }
    return result;
  }

  #readInto(
    offset: number,
    buffers: readonly Uint8Array[],
    length: number,
    options: OperationOptions,
  ): Promise<ReadResult> {
    const { start, end } = this.#range(offset, length);
    const lock = this.locks.acquire(start, end, false);
    return isPromise(lock)
      ? lockOrAborted(lock, options, 'The read').then((held) => this.#read(held, offset, buffers, length, options))
      : this.#read(lock, offset, buffers, length, options);
  }

  /** Writes the source at `offset`. Durable after the next `flush`. */
  write(offset: number, source: WriteSource, options: WriteOptions = {}): Promise<void> {
    try {
      const length = totalLength(source);
      this.check(offset, length);
      throwIfAborted(signalOf(options), 'The write');
      if (length === 0) return Promise.resolve();
      return this.#inOrder(offset, length, () => this.#write(offset, source, length, options), options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #write(offset: number, source: WriteSource, length: number, options: WriteOptions): Promise<void> {
    this.#head.discards.noteChange(offset, length);
    if (this.#head.chain.filters.active) return writeFiltered(this.#head, offset, bufferList(source), length, options);
    if (this.#head.last.image.encoder?.must === true) return this.#writeEncoded(offset, joinedBytes(source), options);
    return this.#head.writes.write(offset, length, bufferList(source), options);
  }

  /**
   * Compresses bytes for a write at `offset` in the format's stored form; `store` writes them. Several can be
   * compressed at a time and stored in order. The bytes must not change until then. Data that does not get smaller, or
   * is not a whole unit of the format, is written uncompressed. Throws `unsupported` for formats without compression.
   */
  async compress(offset: number, bytes: Uint8Array, options: WriteOptions = {}): Promise<CompressedWrite> {
    this.check(offset, bytes.length);
    throwIfAborted(options.signal, 'The write');
    this.checkWritable();
    // What a filter made of the bytes hardly gets smaller.
    if (this.#head.chain.filters.active) return { store: () => this.write(offset, bytes, options) };
    const pieces = await compressUnits(this.#units(), offset, bytes);
    const { length } = bytes;
    const write = (): Promise<void> => {
      this.#head.discards.noteChange(offset, length);
      return this.#head.writes.writePieces(pieces, options);
    };
    return { store: async () => this.#inOrder(offset, length, write, options) };
  }

  /** Makes a range read zero, giving its room back where that is possible. */
  async zero(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    this.check(offset, length);
    throwIfAborted(signalOf(options), 'The write');
    if (length === 0) return;
    const zero = (): Promise<void> => {
      this.#head.discards.noteChange(offset, length);
      const punch = options.punch ?? true;
      return this.#head.chain.filters.active
        ? zeroFiltered(this.#head, offset, length, punch, options)
        : this.#head.writes.zero(offset, length, punch, options);
    };
    await this.#inOrder(
      offset,
      length,
      this.#head.once === null ? zero : () => this.#skip(offset, length, options),
      options,
    );
  }

  /**
   * Marks the data in the ranges as unneeded. Afterwards they read as before or as zero, never as hidden parent data.
   * Whole sectors only: partly covered sectors are left alone.
   */
  async discard(ranges: readonly Range[], options: OperationOptions = {}): Promise<void> {
    if (!this.can.discard) this.checkWritable();
    for (const { offset, length } of ranges) this.check(offset, length);
    if (!this.can.discard) return;
    this.running.begin();
    try {
      for (const { offset, length } of ranges) {
        const end = offset + length === this.size ? this.size : alignDown(offset + length, SECTOR);
        await this.#discardRange(alignUp(offset, SECTOR), end, options);
      }
      await this.pushOut(false);
    } finally {
      this.running.end();
    }
  }

  check(offset: number, length: number): void {
    this.checkData();
    if (Number.isSafeInteger(offset) && Number.isSafeInteger(length)) {
      if (offset >= 0 && length >= 0 && offset + length <= this.size) return;
    } else {
      checkArguments('a request', { offset: [offset, NUMBER], length: [length, NUMBER] });
    }
    throw new ImageError('out-of-bounds', 'The request reaches beyond the end of the disk', {
      path: this.label,
      found: `${length} bytes at ${offset}`,
      expected: `up to ${this.size}`,
    });
  }

  checkData(): void {
    this.checkOpen();
    this.#head.chain.filters.check(this.label);
    if (this.#options.infoOnly !== true) return;
    throw new ImageError('unsupported', 'The disk was opened with infoOnly: no data can be read or written', {
      path: this.label,
      hint: 'Open it without infoOnly.',
    });
  }

  checkOpen(): void {
    if (this.#closed) {
      throw new ImageError('invalid-argument', 'The disk is closed', {
        path: this.label,
        status: 'VERR_VD_NOT_OPENED',
      });
    }
  }

  #read(
    lock: RangeLock,
    offset: number,
    buffers: readonly Uint8Array[],
    length: number,
    options: OperationOptions,
  ): Promise<ReadResult> {
    const done = this.#readRun(offset, buffers, length, options) ?? this.#readRuns(offset, buffers, length, options);
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
  #readRun(
    offset: number,
    buffers: readonly Uint8Array[],
    length: number,
    options: OperationOptions,
  ): Promise<ReadResult> | null {
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
      return located.mapping.storage.read(located.mapping.fileOffset, buffers, options).then(() => DATA);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async #readRuns(
    offset: number,
    buffers: readonly Uint8Array[],
    length: number,
    options: OperationOptions,
  ): Promise<ReadResult> {
    const { chain } = this.#head;
    const unallocated = chain.filters.decodes
      ? await readFiltered(chain, offset, buffers, length, options)
      : await chain.read(chain.top, offset, buffers, length, { gaps: [], cached: true }, options);
    return unallocated ? NOTHING : DATA;
  }

  /** Range that a request locks: filters work on whole sectors. */
  #range(offset: number, length: number): { readonly start: number; readonly end: number } {
    return this.#head.chain.filters.active ? widened(offset, length) : { start: offset, end: offset + length };
  }

  async #writeEncoded(offset: number, bytes: Uint8Array, options: WriteOptions): Promise<void> {
    const pieces = await compressUnits(this.#units(), offset, bytes);
    await this.#head.writes.writePieces(pieces, options);
  }

  #units(): UnitTarget {
    const { chain, last } = this.#head;
    const encoder = encoderOf(last.image, this.label);
    return { encoder, diskSize: this.size, hasParent: chain.hasParent(chain.top) };
  }

  /** Zeroes of an image that is written once: what was never written reads zero, unless a parent shows through. */
  async #skip(offset: number, length: number, options: OperationOptions): Promise<void> {
    const { chain, last } = this.#head;
    if (!chain.hasParent(chain.top)) return;
    if (last.image.encoder?.must !== true) return this.#head.writes.zero(offset, length, false, options);
    const { unit } = last.image.encoder;
    const shown = new Uint8Array(Math.max(unit, alignDown(SKIP_BYTES, unit)));
    const zeroes = new Uint8Array(shown.length);
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(alignDown(at, unit) + shown.length, offset + length);
      const part = shown.subarray(0, end - at);
      const unallocated = await chain.read(chain.top, at, [part], part.length, { gaps: [], cached: true }, options);
      if (!unallocated && !isZero(part)) await this.#writeEncoded(at, zeroes.subarray(0, part.length), options);
      at = end;
    }
  }

  /** Runs one change; on an image that is written once behind all before it. */
  #inOrder(offset: number, length: number, run: () => Promise<void>, options: OperationOptions): Promise<void> {
    const { once } = this.#head;
    if (once === null) return this.#change(offset, length, run, options);
    this.checkWritable();
    once.take(offset, length, this.label);
    return once.inOrder(() => this.#change(offset, length, run, options));
  }

  /** Runs one change under its lock, after making durable what must precede the first. */
  async #change(offset: number, length: number, run: () => Promise<void>, options?: OperationOptions): Promise<void> {
    this.checkWritable();
    this.running.begin();
    try {
      const lock = this.#lockForChange(offset, length, options);
      // Waiting for what is there already would cost as much as a small write.
      const held = isPromise(lock) ? await lock : lock;
      try {
        this.#head.flusher.refuseAfterFailure(this.label);
        if (!this.#head.ready) await this.#head.begin();
        if (this.#head.flusher.overdue) await this.#head.flusher.flush();
        this.#head.noteChange(offset, length);
        this.#forget(offset, length);
        await run();
      } finally {
        // Also after a failure: some of it may have been done.
        if (this.relay !== null) await this.relay.relay(offset, length);
        this.#head.noteChange(offset, length);
        this.#forget(offset, length);
        held.release();
      }
    } finally {
      this.running.end();
    }
  }

  /** Drops cached data of the range. Filters work on whole sectors. */
  #forget(offset: number, length: number): void {
    const { cache } = this.#head.chain;
    if (cache === null) return;
    const { start, end } = this.#range(offset, length);
    cache.drop(start, end - start);
  }

  #lockForChange(offset: number, length: number, options?: OperationOptions): MaybePromise<RangeLock> {
    const { start, end } = this.#rangeOfChange(offset, length);
    const lock = this.locks.acquire(start, end, true);
    if (!isPromise(lock)) return lock;
    return lockOrAborted(lock, options, 'The write').then((held) => {
      // A merge that begins during the wait may need a wider range.
      const now = this.#rangeOfChange(offset, length);
      if (now.start >= start && now.end <= end) return held;
      held.release();
      return this.#lockForChange(offset, length, options);
    });
  }

  #rangeOfChange(offset: number, length: number): { readonly start: number; readonly end: number } {
    const range = this.#range(offset, length);
    if (this.relay === null) return range;
    const [start, end] = this.relay.widen(range.start, range.end - range.start);
    return { start, end };
  }

  checkWritable(): void {
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

  /** Pushes out pending discards while there are too many. */
  async pushOut(all: boolean): Promise<void> {
    for (let first = this.#head.discards.next(all); first !== null; first = this.#head.discards.next(all)) {
      const unit = first;
      await this.#change(unit, Math.min(this.blockSize, this.size - unit), () => this.#head.discards.pushOut(unit));
    }
  }

  /** Runs a function while no request does. */
  async exclusive<T>(run: () => Promise<T>): Promise<T> {
    const lock = this.locks.acquire(0, Number.MAX_SAFE_INTEGER, true);
    const held = isPromise(lock) ? await lock : lock;
    try {
      this.#head.flusher.refuseAfterFailure(this.label);
      return await run();
    } finally {
      held.release();
    }
  }

  /** Runs a function concurrently with requests, but never during exclusive operations. */
  async beside(run: () => Promise<void>): Promise<void> {
    // No request reaches so far.
    const lock = this.locks.acquire(Number.MAX_SAFE_INTEGER - 1, Number.MAX_SAFE_INTEGER, false);
    const held = isPromise(lock) ? await lock : lock;
    try {
      await run();
    } finally {
      held.release();
    }
  }

  /**
   * A head whose timer flushes concurrently with requests, while it belongs to the disk. Closing flushes separately.
   */
  #timed(head: ActiveImage): ActiveImage {
    head.flusher.runAlarms((flush) =>
      this.beside(async () => {
        if (head === this.#head && !this.#closed) await flush();
      }),
    );
    head.flusher.runWhenIdle(() =>
      this.exclusive(async () => {
        if (head === this.#head && !this.#closed && head.flusher.isClean) await head.end();
      }),
    );
    return head;
  }
}

function joinedBytes(source: WriteSource): Uint8Array {
  if (source instanceof Uint8Array) return source;
  const bytes = new Uint8Array(totalLength(source));
  let at = 0;
  for (const part of source) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Waits for a lock; one that comes after the signal is given back. */
function lockOrAborted(
  lock: Promise<RangeLock>,
  options: OperationOptions | undefined,
  what: string,
): Promise<RangeLock> {
  return orAborted(lock, options, what).catch((error: unknown) => {
    void lock.then((late) => late.release());
    throw error;
  });
}

/** Options of a single request: checked without a kind, since they come so often. */
export function signalOf(options: OperationOptions): AbortSignal | undefined {
  if (!isObject(options)) checkArguments('a request', { options: [options, OBJECT] });
  return options.signal;
}
