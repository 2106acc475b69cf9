/**
 * The buffer manager: bounded, reusable memory for requests.
 *
 * A buffer is one of three kinds. *Pool*: its memory comes from the manager and counts against the limit. *Wrapped*:
 * the memory is the caller's. *Copied*: the caller's memory cannot be touched directly, so the manager's callbacks
 * carry the bytes between it and pool memory, unless they can lend the memory itself.
 *
 * A buffer is reference-counted: its maker holds one reference, a request that uses it another; the last one frees its
 * memory. Waiting allocations are served strictly in order of arrival.
 */
import { lockedMemory } from '#local-storage';
import { checkArguments, OBJECT } from '../arguments.ts';
import { bufferList, sliceBuffers, totalLength } from '../disk/path/buffers.ts';
import { ImageError, isImageError, throwIfAborted } from '../errors.ts';
import type { LockedMemory } from '../storage/contract.ts';
import { PIECE_MIN, type Piece, Pool } from './pool.ts';
import { stateError } from './states.ts';

/** Access to memory of the caller that the manager cannot touch itself. All callbacks are synchronous. */
export interface IoBufferCallbacks<P = unknown> {
  /**
   * After a read: copies bytes from the disk, which belong at `offset` of the buffer, to the caller's memory. Returns
   * the number of bytes copied; fewer than all fail the request with VERR_PDM_MEDIAEX_IOBUF_OVERFLOW.
   */
  copyFromBuffer(buffer: IoBuffer<P>, offset: number, source: readonly Uint8Array[]): number;
  /**
   * Before a write: fills the target from the caller's memory at `offset` of the buffer. Returns the number of bytes
   * copied; fewer than requested fail the request with VERR_PDM_MEDIAEX_IOBUF_UNDERRUN.
   */
  copyToBuffer(buffer: IoBuffer<P>, offset: number, target: readonly Uint8Array[]): number;
  /**
   * Lends the caller's own memory for `length` bytes at `offset` of the buffer, or for the first of them, which avoids
   * copying. Null, an empty array, or an error of kind `unsupported`: the copying callbacks are used. Called when the
   * buffer is allocated.
   */
  queryBuffer?(buffer: IoBuffer<P>, offset: number, length: number): Uint8Array | null;
}

/** Options for a buffer manager. */
export interface IoBufferManagerOptions<P = unknown> {
  /**
   * Maximum bytes of pool memory; 0, the default, for no limit. A buffer takes its length, rounded up to 4 KiB. Memory
   * in use and memory kept for reuse together never exceed the limit.
   */
  readonly limit?: number | undefined;
  /**
   * The memory may hold secrets: it is overwritten with zeroes when released, and kept out of swap where the system
   * permits it (`isLocked`), until `destroy`. Default false.
   */
  readonly notPageable?: boolean | undefined;
  readonly callbacks?: IoBufferCallbacks<P> | undefined;
}

/** Options for a buffer. */
export interface IoBufferOptions<P = unknown> {
  /** Arbitrary data of the caller: see `IoBuffer.userData`. */
  readonly userData?: P | undefined;
}

/** The manager, as its buffers see it. */
interface Home<P> {
  readonly callbacks: IoBufferCallbacks<P> | null;
  release(pieces: readonly Piece[]): void;
}

/** Bytes for requests. Made by an {@link IoBufferManager}; give it back with `release`, or bind it with `using`. */
export class IoBuffer<P = unknown> implements Disposable {
  /** Bytes. */
  readonly length: number;
  /** Arbitrary data of the caller, for use in the callbacks. */
  userData: P | undefined;
  readonly #home: Home<P>;
  #references = 1;
  #pieces: readonly Piece[] = [];
  #segments: readonly Uint8Array[] = [];
  #copied = false;

  /** Called by the manager only. */
  constructor(home: Home<P>, length: number, userData: P | undefined) {
    this.#home = home;
    this.length = length;
    this.userData = userData;
  }

  /** The memory, in order; `length` bytes in all. Must not be used after the last `release`. */
  get segments(): readonly Uint8Array[] {
    this.#checkAlive();
    return this.#segments;
  }

  /** Number of references; 0: the memory is released. */
  get references(): number {
    return this.#references;
  }

  /** Adds a reference. Returns the new count. Throws `invalid-argument` when the memory is already released. */
  retain(): number {
    this.#checkAlive();
    this.#references++;
    return this.#references;
  }

  /** Drops a reference; the last one releases the memory. Returns the new count. Throws `invalid-argument`. */
  release(): number {
    this.#checkAlive();
    this.#references--;
    if (this.#references > 0) return this.#references;
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#segments = [];
    this.#home.release(pieces);
    return 0;
  }

  [Symbol.dispose](): void {
    this.release();
  }

  /** For the manager only: sets the underlying memory. */
  provide(segments: readonly Uint8Array[], pieces: readonly Piece[]): void {
    this.#pieces = pieces;
    this.#segments = segments;
    this.#copied = pieces.length > 0 && this.#home.callbacks !== null;
  }

  /** For queues only, before a write: copies the first bytes from the caller. Throws `out-of-bounds`. */
  fill(length: number): void {
    if (!this.#copied) return;
    const copied = this.#home.callbacks?.copyToBuffer(this, 0, bufferList(sliceBuffers(this.segments, 0, length))) ?? 0;
    if (copied >= length) return;
    throw stateError('underrun', 'out-of-bounds', 'The data is shorter than the buffer', {
      found: copied,
      expected: length,
    });
  }

  /** For queues only, after a read: copies the first bytes to the caller. Throws `out-of-bounds`. */
  drain(length: number): void {
    if (!this.#copied) return;
    const source = bufferList(sliceBuffers(this.segments, 0, length));
    const copied = this.#home.callbacks?.copyFromBuffer(this, 0, source) ?? 0;
    if (copied >= length) return;
    throw stateError('overflow', 'out-of-bounds', 'The target is shorter than the buffer', {
      found: copied,
      expected: length,
    });
  }

  #checkAlive(): void {
    if (this.#references > 0) return;
    throw stateError('handle', 'invalid-argument', 'The buffer was released');
  }
}

/** An allocation that waits for memory. */
interface Waiter<P> {
  readonly buffer: IoBuffer<P>;
  readonly grant: () => void;
}

/** Allocates buffers and reuses their memory. */
export class IoBufferManager<P = unknown> implements Disposable {
  /** Bytes of pool memory at a time; 0: no limit. */
  readonly limit: number;
  readonly notPageable: boolean;
  readonly #pool: Pool;
  readonly #home: Home<P>;
  /** A set keeps the order, and removing an entry is cheap. */
  readonly #waiters = new Set<Waiter<P>>();
  #buffers = 0;
  #isDestroyed = false;

  /** Throws `invalid-argument` for a limit that is neither 0 nor at least 4 KiB. */
  constructor(options: IoBufferManagerOptions<P> = {}) {
    checkArguments('IoBufferManager', { options: [options, OBJECT] });
    const { limit = 0, notPageable = false, callbacks = null } = options;
    if (!Number.isSafeInteger(limit) || limit < 0 || (limit > 0 && limit < PIECE_MIN)) {
      throw new ImageError('invalid-argument', 'The limit of the buffer manager is not valid', {
        found: limit,
        expected: `0, or at least ${PIECE_MIN}`,
      });
    }
    this.limit = limit;
    this.notPageable = notPageable;
    const capacity = limit === 0 ? Number.POSITIVE_INFINITY : limit - (limit % PIECE_MIN);
    this.#pool = new Pool(capacity, notPageable ? lockedMemory : plainMemory);
    this.#home = { callbacks, release: (pieces) => this.#release(pieces) };
  }

  /** Bytes of pool memory in use. */
  get usedBytes(): number {
    return this.#pool.usedBytes;
  }

  /** Bytes of pool memory in use or kept for reuse. */
  get heldBytes(): number {
    return this.#pool.heldBytes;
  }

  /** Buffers that have not been released. */
  get bufferCount(): number {
    return this.#buffers;
  }

  /** Allocations that wait for memory. */
  get waitingCount(): number {
    return this.#waiters.size;
  }

  /** True when all current pool memory is kept out of swap. */
  get isLocked(): boolean {
    return this.#pool.isLocked;
  }

  /**
   * Allocates a buffer of `length` bytes of pool memory, or of the caller's memory if the callbacks lend it; waits
   * until there is room. The content is undefined. Rejects with `limit` (VERR_NO_MEMORY) when the limit is smaller,
   * with `aborted`.
   */
  async allocate(
    length: number,
    options: IoBufferOptions<P> & { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<IoBuffer<P>> {
    throwIfAborted(options.signal, 'The allocation');
    const buffer = this.#make(length, options);
    if (this.#borrow(buffer) || this.#take(buffer)) return buffer;
    await this.#wait(buffer, options.signal);
    return buffer;
  }

  /** Like `allocate`, but throws `limit` (VERR_NO_MEMORY) instead of waiting, also if others are waiting. */
  allocateNow(length: number, options: IoBufferOptions<P> = {}): IoBuffer<P> {
    const buffer = this.#make(length, options);
    if (this.#borrow(buffer) || this.#take(buffer)) return buffer;
    throw this.#noMemory(length);
  }

  /**
   * Makes a buffer over memory of the caller, which must outlive the buffer; it does not count against the limit. With
   * `length` only its first bytes. Throws `invalid-argument` when there are fewer.
   */
  wrap(
    memory: Uint8Array | readonly Uint8Array[],
    options: IoBufferOptions<P> & { readonly length?: number | undefined } = {},
  ): IoBuffer<P> {
    const room = totalLength(memory);
    const { length = room } = options;
    this.#check(length);
    if (length > room) {
      throw new ImageError('invalid-argument', 'The buffer is larger than the memory of its manager', {
        found: room,
        expected: length,
      });
    }
    const buffer = new IoBuffer(this.#home, length, options.userData);
    return this.#provide(buffer, bufferList(sliceBuffers(bufferList(memory), 0, length)), []);
  }

  /** Frees all memory. Throws `busy` (VERR_INVALID_STATE) while there are buffers. */
  destroy(): void {
    if (this.#buffers > 0) {
      throw stateError('state', 'busy', 'The buffer manager has buffers that were not released', {
        found: this.#buffers,
      });
    }
    this.#isDestroyed = true;
    this.#pool.clear();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  #check(length: number): void {
    if (this.#isDestroyed) throw stateError('handle', 'invalid-argument', 'The buffer manager was destroyed');
    if (Number.isSafeInteger(length) && length > 0) return;
    throw new ImageError('invalid-argument', 'A buffer has at least one byte', { found: length });
  }

  #make(length: number, { userData }: IoBufferOptions<P>): IoBuffer<P> {
    this.#check(length);
    return new IoBuffer(this.#home, length, userData);
  }

  /** Tries to use the caller's memory. */
  #borrow(buffer: IoBuffer<P>): boolean {
    const { callbacks } = this.#home;
    if (callbacks?.queryBuffer === undefined) return false;
    const lent: Uint8Array[] = [];
    for (let at = 0; at < buffer.length; ) {
      const wanted = buffer.length - at;
      const part = this.#query(callbacks, buffer, at, wanted);
      if (part === null || part.length === 0) return false;
      lent.push(part.length > wanted ? part.subarray(0, wanted) : part);
      at += Math.min(part.length, wanted);
    }
    this.#provide(buffer, lent, []);
    return true;
  }

  #query(callbacks: IoBufferCallbacks<P>, buffer: IoBuffer<P>, at: number, length: number): Uint8Array | null {
    try {
      return callbacks.queryBuffer?.(buffer, at, length) ?? null;
    } catch (error) {
      if (isImageError(error) && error.kind === 'unsupported') return null;
      throw error;
    }
  }

  /** Takes pool memory now. False if there is no room or others are waiting. */
  #take(buffer: IoBuffer<P>): boolean {
    const { length } = buffer;
    if (length > this.#pool.capacity) throw this.#noMemory(length);
    if (this.#waiters.size > 0 || !this.#pool.fits(length)) return false;
    this.#fill(buffer);
    return true;
  }

  #fill(buffer: IoBuffer<P>): void {
    const pieces = this.#pool.take(buffer.length);
    const memory = pieces.map(({ bytes }) => bytes);
    this.#provide(buffer, bufferList(sliceBuffers(memory, 0, buffer.length)), pieces);
  }

  #provide(buffer: IoBuffer<P>, segments: readonly Uint8Array[], pieces: readonly Piece[]): IoBuffer<P> {
    buffer.provide(segments, pieces);
    this.#buffers++;
    return buffer;
  }

  #wait(buffer: IoBuffer<P>, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const giveUp = () => {
        this.#waiters.delete(waiter);
        // It may have been the one that the others waited for.
        this.#serve();
        reject(new ImageError('aborted', 'The allocation was cancelled', { cause: signal?.reason }));
      };
      const grant = () => {
        signal?.removeEventListener('abort', giveUp);
        resolve();
      };
      const waiter: Waiter<P> = { buffer, grant };
      this.#waiters.add(waiter);
      signal?.addEventListener('abort', giveUp, { once: true });
    });
  }

  #release(pieces: readonly Piece[]): void {
    if (this.notPageable) for (const { bytes } of pieces) bytes.fill(0);
    this.#pool.give(pieces);
    this.#buffers--;
    this.#serve();
  }

  /** Gives room to waiting allocations, in order, while the first of them fits. */
  #serve(): void {
    for (const waiter of this.#waiters) {
      if (!this.#pool.fits(waiter.buffer.length)) return;
      this.#waiters.delete(waiter);
      this.#fill(waiter.buffer);
      waiter.grant();
    }
  }

  #noMemory(length: number): ImageError {
    return stateError('noMemory', 'limit', 'The buffer manager has no free memory for the buffer', {
      found: length,
      expected: `up to ${this.#pool.capacity - this.#pool.usedBytes}`,
    });
  }
}

function plainMemory(length: number): LockedMemory {
  return { bytes: new Uint8Array(length), locked: false, unlock() {} };
}
