/**
 * I/O queues: requests with priorities that can be cancelled. The scheduler decides their order.
 *
 * A request is a reusable object: allocated, submitted, completed, submitted again, freed. Completions arrive through a
 * callback, called exactly once for each submission and never inside it; for simple use every kind of request is also a
 * method of the queue that returns a promise.
 *
 * Errors found before a request is accepted are thrown by the submitting call; later errors are reported on completion.
 */
import { checkArguments, OBJECT } from '../arguments.ts';
import type { BlockDevice, Range } from '../disk/device.ts';
import { DEVICE } from '../disk/kinds.ts';
import { bufferList, sliceBuffers, totalLength } from '../disk/path/buffers.ts';
import { ImageError } from '../errors.ts';
import type { OperationOptions, ReadTarget, WriteSource } from '../storage/contract.ts';
import { IoBuffer } from './buffers.ts';
import type { IoIterator } from './iterator.ts';
import { type IoRequestState, type IoRequestType, Job, Lane } from './job.ts';
import { type Scheduler, schedulerOf } from './scheduler.ts';
import { stateError } from './states.ts';

/** Identifies a request so that it can be cancelled: 0 to 2^64 - 1. */
export type IoRequestId = number | bigint;

/** Memory of a request: from a buffer manager, or any bytes. */
export type IoMemory = IoBuffer | Uint8Array | readonly Uint8Array[];

/** Options for a queue. */
export interface IoQueueOptions<P = unknown> {
  /** 0 to 2^32 - 1; the smaller number goes first. Default 0. */
  readonly priority?: number | undefined;
  /**
   * Called exactly once for each submission of a request of `allocate`, with null or the error. The request may be
   * submitted again or freed from inside the call. `error.kind` is `aborted` (VERR_PDM_MEDIAEX_IOREQ_CANCELED) for a
   * cancelled request. An exception from the callback surfaces as an uncaught error.
   */
  readonly onComplete?: ((request: IoRequest<P>, error: ImageError | null) => void) | undefined;
  /**
   * Called after all requests that could complete together have completed: the place to send collected answers. Comes
   * after `onComplete` of at least one request, or after a promise was settled.
   */
  readonly onTurnEnd?: (() => void) | undefined;
}

/** Options for attaching a queue to a device. */
export interface AttachOptions {
  /**
   * Maximum number of running requests for all queues of the device, at least 1; default 64. Applies to the device,
   * from the last attachment that sets it until its last queue is detached.
   */
  readonly atOnce?: number | undefined;
}

/** Options for a request. */
export interface AllocateOptions<P = unknown> {
  /** Unique among the active requests of a queue. */
  readonly id?: IoRequestId | undefined;
  /** Arbitrary data of the caller: see `IoRequest.userData`. */
  readonly userData?: P | undefined;
}

/** Options for the methods with promises. */
export interface QueuedOptions extends OperationOptions {
  readonly id?: IoRequestId | undefined;
}

/** The queue, as its requests see it. */
interface Port<P> {
  readonly lane: Lane;
  /** Throws when the request cannot be submitted in its current state. */
  check(job: Job, id: IoRequestId | null): BlockDevice;
  submit(job: Job, id: IoRequestId | null): void;
  cancel(job: Job): void;
  ended(request: IoRequest<P>, error: ImageError | null): void;
  freed(): void;
}

/**
 * A reusable request, made by `IoQueue.allocate`. Its memory must not change until it completes; an `IoBuffer` is
 * referenced until then.
 *
 * Submitting throws `busy` (VERR_PDM_MEDIAEX_IOREQ_INVALID_STATE) while it is active, `exists`
 * (VERR_PDM_MEDIAEX_IOREQID_CONFLICT) while another request with its id is, and `invalid-argument` when it was freed,
 * when the queue is not attached, or for arguments that do not fit together.
 */
export class IoRequest<P = unknown> {
  readonly queue: IoQueue<P>;
  readonly id: IoRequestId | null;
  /** Arbitrary data of the caller, for use on completion. */
  userData: P | undefined;
  readonly #port: Port<P>;
  readonly #job: Job;

  /** Called by the queue only. */
  constructor(queue: IoQueue<P>, port: Port<P>, options: AllocateOptions<P>) {
    this.queue = queue;
    this.#port = port;
    this.id = options.id === undefined ? null : normalId(options.id);
    this.userData = options.userData;
    this.#job = new Job(port.lane, (error) => port.ended(this, error));
  }

  /** State; a completed request is `idle` again. */
  get state(): IoRequestState {
    return this.#job.state;
  }

  /**
   * Submits the request: reads and writes need an iterator and memory, `discard` and `zero` an iterator, a flush
   * neither. Memory may be larger than the iterator; the rest is not touched. Throws `out-of-bounds` if it is smaller.
   */
  submit(type: IoRequestType, iterator: IoIterator | null = null, memory: IoMemory | null = null): void {
    const job = this.#job;
    aimAt(job, this.#port.check(job, this.id), type, iterator, memory);
    this.#port.submit(job, this.id);
  }

  /** Fills the target from `offset` on. */
  read(offset: number, target: ReadTarget): void {
    this.#port.check(this.#job, this.id);
    aim(this.#job, 'read', offset, totalLength(target), target);
    this.#port.submit(this.#job, this.id);
  }

  /** Writes the bytes of the source at `offset`. */
  write(offset: number, source: WriteSource): void {
    this.#port.check(this.#job, this.id);
    aim(this.#job, 'write', offset, totalLength(source), source);
    this.#port.submit(this.#job, this.id);
  }

  /** Makes a range read as zero; unless `punch` is false, its space is freed if the device can. */
  zero(offset: number, length: number, options: { readonly punch?: boolean | undefined } = {}): void {
    this.#port.check(this.#job, this.id);
    aim(this.#job, 'zero', offset, length, null);
    this.#job.punch = options.punch ?? true;
    this.#port.submit(this.#job, this.id);
  }

  /** Marks the range as no longer needed. */
  discard(offset: number, length: number): void {
    this.#port.check(this.#job, this.id);
    aim(this.#job, 'discard', offset, length, null);
    this.#port.submit(this.#job, this.id);
  }

  /** Makes durable all requests completed earlier, in any queue, and all requests submitted earlier to this queue. */
  flush(): void {
    this.#port.check(this.#job, this.id);
    aim(this.#job, 'flush', 0, 0, null);
    this.#port.submit(this.#job, this.id);
  }

  /**
   * Cancels the request. A waiting request completes soon, without any effect; a running one completes when the device
   * has finished with it, and may have taken effect in part. Either way it completes as cancelled. Throws
   * `invalid-argument` (VERR_PDM_MEDIAEX_IOREQ_INVALID_STATE) when it is not active.
   */
  cancel(): void {
    const { state } = this.#job;
    if (state !== 'waiting' && state !== 'running') {
      throw stateError('requestState', 'invalid-argument', 'The request is not active', { found: state });
    }
    this.#port.cancel(this.#job);
  }

  /** Frees the request. Throws `busy` (VERR_PDM_MEDIAEX_IOREQ_INVALID_STATE) while it is active. */
  free(): void {
    refuseActive(this.#job);
    this.#job.state = 'freed';
    this.#port.freed();
  }
}

/** A request behind a promise. */
interface Promised {
  readonly job: Job;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** Promised requests kept for reuse. */
const SPARE = 64;

/** A queue of requests, attached to one device at a time. */
export class IoQueue<P = unknown> implements AsyncDisposable {
  readonly priority: number;
  readonly #onComplete: ((request: IoRequest<P>, error: ImageError | null) => void) | null;
  readonly #lane: Lane;
  readonly #port: Port<P>;
  /** Active requests with an id. */
  readonly #byId = new Map<IoRequestId, Job>();
  readonly #spare: Promised[] = [];
  #scheduler: Scheduler | null = null;
  #leaving: Promise<void> | null = null;
  #requests = 0;
  #isDestroyed = false;

  /** Throws `invalid-argument` for a priority that does not fit in 32 bits. */
  constructor(options: IoQueueOptions<P> = {}) {
    checkArguments('IoQueue', { options: [options, OBJECT] });
    const { priority = 0, onComplete = null, onTurnEnd = null } = options;
    if (!Number.isInteger(priority) || priority < 0 || priority >= 2 ** 32) {
      throw new ImageError('invalid-argument', 'The priority is not valid', {
        found: priority,
        expected: '0 to 4294967295',
      });
    }
    this.priority = priority;
    this.#onComplete = onComplete;
    this.#lane = new Lane(priority, onTurnEnd);
    this.#port = {
      lane: this.#lane,
      check: (job, id) => this.#check(job, id),
      submit: (job, id) => this.#submit(job, id),
      cancel: (job) => this.#scheduler?.cancel(job),
      ended: (request, error) => {
        if (request.id !== null) this.#byId.delete(request.id);
        this.#onComplete?.(request, error);
      },
      freed: () => {
        this.#requests--;
      },
    };
  }

  /** The device that it is attached to; null: none. */
  get device(): BlockDevice | null {
    return this.#scheduler?.device ?? null;
  }

  /** Requests allocated and not freed. */
  get requestCount(): number {
    return this.#requests;
  }

  /** Requests submitted and not completed. */
  get activeCount(): number {
    return this.#lane.activeCount;
  }

  /** Attaches the queue to a device. Throws `busy` (VERR_INVALID_STATE) while it is attached. */
  attach(device: BlockDevice, options: AttachOptions = {}): void {
    checkArguments('queue.attach', { device: [device, DEVICE], options: [options, OBJECT] });
    this.#checkAlive();
    if (this.#scheduler !== null) throw stateError('state', 'busy', 'The queue is already attached');
    const { atOnce } = options;
    if (atOnce !== undefined && !(Number.isSafeInteger(atOnce) && atOnce > 0)) {
      throw new ImageError('invalid-argument', 'At least one request runs at once', { found: atOnce });
    }
    this.#scheduler = schedulerOf(device);
    this.#scheduler.attach(this.#lane);
    if (atOnce !== undefined) this.#scheduler.depth = atOnce;
  }

  /**
   * Detaches the queue when all active requests have completed; with `purge` they are cancelled first. No request can
   * be submitted from the call on. Rejects with `invalid-argument` (VERR_INVALID_STATE) when the queue is not attached.
   */
  async detach(options: { readonly purge?: boolean | undefined } = {}): Promise<void> {
    checkArguments('queue.detach', { options: [options, OBJECT] });
    const scheduler = this.#attached();
    this.#leaving ??= this.#leave(scheduler);
    if (options.purge === true) await scheduler.purge(this.#lane);
    await this.#leaving;
  }

  /**
   * Cancels all active requests. Resolves when they have completed. Rejects with `invalid-argument` when the queue is
   * not attached.
   */
  async purge(): Promise<void> {
    await this.#attached().purge(this.#lane);
  }

  /**
   * Destroys the queue. Throws `busy` (VERR_INVALID_STATE) while it is attached or has requests that were not freed.
   */
  destroy(): void {
    if (this.#scheduler !== null)
      throw stateError('state', 'busy', 'The queue is attached', { hint: 'Detach it first.' });
    if (this.#requests > 0) {
      throw stateError('state', 'busy', 'The queue has requests that were not freed', { found: this.#requests });
    }
    this.#isDestroyed = true;
  }

  /** Cancels active requests and detaches; its remaining requests can no longer be submitted. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#scheduler !== null) await this.detach({ purge: true });
    this.#isDestroyed = true;
  }

  /**
   * Allocates a request whose completion goes to `onComplete`. Throws `exists` (VERR_PDM_MEDIAEX_IOREQID_CONFLICT) when
   * an active request has the id, `invalid-argument` when the queue has no callback.
   */
  allocate(options: AllocateOptions<P> = {}): IoRequest<P> {
    checkArguments('queue.allocate', { options: [options, OBJECT] });
    this.#checkAlive();
    if (this.#onComplete === null) {
      throw new ImageError('invalid-argument', 'The queue has no completion callback', {
        hint: 'Create it with onComplete, or use the methods that return promises.',
      });
    }
    const request = new IoRequest(this, this.#port, options);
    this.#checkId(request.id);
    this.#requests++;
    return request;
  }

  /**
   * Cancels the active request with this id; see `IoRequest.cancel`. Throws `not-found`
   * (VERR_PDM_MEDIAEX_IOREQID_NOT_FOUND) when there is none.
   */
  cancel(id: IoRequestId): void {
    const job = this.#byId.get(normalId(id));
    if (job === undefined) {
      throw stateError('idNotFound', 'not-found', 'No active request has this id', { found: String(id) });
    }
    this.#scheduler?.cancel(job);
  }

  /** Like `IoRequest.submit`, with a promise. Rejects with the error, `aborted` when cancelled. */
  run(
    type: IoRequestType,
    iterator: IoIterator | null = null,
    memory: IoMemory | null = null,
    options: QueuedOptions = {},
  ): Promise<void> {
    return this.#promise(options, (job, device) => aimAt(job, device, type, iterator, memory));
  }

  /** Fills the target from `offset` on. */
  read(offset: number, target: ReadTarget, options: QueuedOptions = {}): Promise<void> {
    return this.#promise(options, (job) => aim(job, 'read', offset, totalLength(target), target));
  }

  /** Writes the source at `offset`. */
  write(offset: number, source: WriteSource, options: QueuedOptions = {}): Promise<void> {
    return this.#promise(options, (job) => aim(job, 'write', offset, totalLength(source), source));
  }

  /** Makes a range read as zero; unless `punch` is false, its space is freed if the device can. */
  zero(
    offset: number,
    length: number,
    options: QueuedOptions & { readonly punch?: boolean | undefined } = {},
  ): Promise<void> {
    return this.#promise(options, (job) => {
      aim(job, 'zero', offset, length, null);
      job.punch = options.punch ?? true;
    });
  }

  /** Marks the ranges as no longer needed. */
  discard(ranges: readonly Range[], options: QueuedOptions = {}): Promise<void> {
    return this.#promise(options, (job) => {
      aim(job, 'discard', 0, 0, null);
      job.pieces = [...ranges];
    });
  }

  /**
   * Resolves when all requests completed earlier, in any queue, and all submitted earlier to this queue are durable.
   */
  flush(options: QueuedOptions = {}): Promise<void> {
    return this.#promise(options, (job) => aim(job, 'flush', 0, 0, null));
  }

  #promise(options: QueuedOptions, prepare: (job: Job, device: BlockDevice) => void): Promise<void> {
    const { id = null, signal } = options;
    return new Promise((resolve, reject) => {
      const promised = this.#spare.pop() ?? this.#makePromised();
      const { job } = promised;
      try {
        const key = id === null ? null : normalId(id);
        const device = this.#check(job, key);
        prepare(job, device);
        const scheduler = this.#submit(job, key);
        const cancel = signal === undefined ? null : () => scheduler.cancel(job);
        const settle = () => {
          if (key !== null) this.#byId.delete(key);
          if (cancel !== null) signal?.removeEventListener('abort', cancel);
        };
        promised.resolve = id === null && cancel === null ? resolve : () => resolve(settle());
        promised.reject = (error) => {
          settle();
          reject(error);
        };
        if (cancel === null) return;
        if (signal?.aborted === true) cancel();
        else signal?.addEventListener('abort', cancel, { once: true });
      } catch (error) {
        this.#keep(promised);
        reject(error);
      }
    });
  }

  #makePromised(): Promised {
    const job = new Job(this.#lane, (error) => {
      const { resolve, reject } = promised;
      this.#keep(promised);
      if (error === null) resolve();
      else reject(error);
    });
    const promised: Promised = { job, resolve: nothing, reject: nothing };
    return promised;
  }

  #keep(promised: Promised): void {
    promised.resolve = nothing;
    promised.reject = nothing;
    if (this.#spare.length < SPARE) this.#spare.push(promised);
  }

  #check(job: Job, id: IoRequestId | null): BlockDevice {
    const { device } = this.#attached();
    if (this.#leaving !== null) throw stateError('state', 'invalid-argument', 'The queue is being detached');
    refuseActive(job);
    this.#checkId(id);
    return device;
  }

  #checkId(id: IoRequestId | null): void {
    if (id === null || !this.#byId.has(id)) return;
    throw stateError('idConflict', 'exists', 'The request id is already in use', { found: String(id) });
  }

  #submit(job: Job, id: IoRequestId | null): Scheduler {
    const scheduler = this.#attached();
    job.buffer?.retain();
    if (id !== null) this.#byId.set(id, job);
    scheduler.submit(job);
    return scheduler;
  }

  async #leave(scheduler: Scheduler): Promise<void> {
    // Waits a turn in any case: who called has yet to note that the queue is leaving.
    await (this.#lane.activeCount > 0 ? new Promise<void>((resolve) => this.#lane.idle.push(resolve)) : null);
    scheduler.detach(this.#lane);
    this.#scheduler = null;
    this.#leaving = null;
  }

  #attached(): Scheduler {
    this.#checkAlive();
    if (this.#scheduler !== null) return this.#scheduler;
    throw stateError('state', 'invalid-argument', 'The queue is not attached to a disk', { hint: 'Attach it first.' });
  }

  #checkAlive(): void {
    if (this.#isDestroyed) throw stateError('handle', 'invalid-argument', 'The queue was destroyed');
  }
}

/** Sets the operation and memory of a request; `buffer` is the owner of the memory. */
function aim(
  job: Job,
  type: IoRequestType,
  offset: number,
  length: number,
  memory: Uint8Array | readonly Uint8Array[] | null,
): void {
  job.type = type;
  job.offset = offset;
  job.length = length;
  job.memory = memory;
}

/** Sets the operation of a request from an iterator, with all checks. */
function aimAt(
  job: Job,
  device: BlockDevice,
  type: IoRequestType,
  iterator: IoIterator | null,
  memory: IoMemory | null,
): void {
  const moves = type === 'read' || type === 'write';
  const isKnown = moves || type === 'discard' || type === 'zero' || type === 'flush';
  if (!isKnown || (type !== 'flush') !== (iterator !== null) || moves !== (memory !== null)) {
    throw new ImageError('invalid-argument', 'The arguments of the request do not match its kind', {
      found: [type, iterator === null ? 'no iterator' : 'an iterator', memory === null ? 'no memory' : 'memory'].join(
        ', ',
      ),
      hint: 'Reads and writes take an iterator and memory, discard and zero an iterator, a flush neither.',
    });
  }
  if (iterator === null) {
    aim(job, type, 0, 0, null);
    return;
  }
  if (iterator.device !== device) {
    throw new ImageError('invalid-argument', 'The iterator belongs to another device than the queue', {
      path: device.label,
      found: iterator.device.label,
    });
  }
  const { contiguous, totalBytes } = iterator;
  const bytes = memory === null ? null : memoryOf(type, memory, totalBytes);
  aim(job, type, contiguous?.offset ?? 0, totalBytes, bytes);
  job.pieces = contiguous === null ? iterator : null;
  job.punch = true;
  job.buffer = memory instanceof IoBuffer ? memory : null;
}

/** The first bytes of the memory, as many as the request transfers. */
function memoryOf(type: IoRequestType, memory: IoMemory, length: number): Uint8Array | readonly Uint8Array[] {
  const list = memory instanceof IoBuffer ? memory.segments : bufferList(memory);
  const room = totalLength(list);
  if (room >= length) return sliceBuffers(list, 0, length);
  throw stateError(
    type === 'read' ? 'overflow' : 'underrun',
    'out-of-bounds',
    'The memory is smaller than the request',
    {
      found: room,
      expected: length,
    },
  );
}

function refuseActive({ state }: Job): void {
  if (state === 'idle') return;
  const kind = state === 'freed' ? 'invalid-argument' : 'busy';
  throw stateError('requestState', kind, state === 'freed' ? 'The request was freed' : 'The request is active');
}

/** One form for each id, given as a number or a bigint. */
function normalId(id: IoRequestId): IoRequestId {
  const isValid = typeof id === 'bigint' ? id >= 0n && id < 2n ** 64n : Number.isSafeInteger(id) && id >= 0;
  if (!isValid) {
    throw new ImageError('invalid-argument', 'The request id is not valid', {
      found: String(id),
      expected: '0 to 2^64 - 1; above 2^53 - 1 as a bigint',
    });
  }
  return typeof id === 'bigint' && id <= Number.MAX_SAFE_INTEGER ? Number(id) : id;
}

function nothing(): void {}
