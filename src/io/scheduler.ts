/**
 * The request scheduler: one for each disk, serving all queues attached to it.
 *
 * - The queue with the smallest priority number goes first; among equals, and inside a queue, what was submitted first.
 * - To prevent starvation, every 64th start goes to the oldest request of all queues.
 * - A flush starts when everything submitted to its queue before it has ended; later requests start after it has
 *   started, and does not wait for its end.
 * - A bounded number of requests runs at a time. The others cost what their objects cost.
 *
 * Work is done in turns. A submission only asks for a turn, which comes when the caller's code has run to its end: so
 * requests that are submitted together compete by priority, and no callback runs inside a submission. In a turn
 * whatever the device answers at once is done without a promise. After some requests or bytes the next turn waits for
 * the event loop, so that sockets and timers are served however fast new requests come.
 */

import type { BlockDevice } from '../disk/device.ts';
import { assert, ImageError, isImageError } from '../errors.ts';
import { afterEvents } from '../storage/after-events.ts';
import { isPromise } from '../storage/contract.ts';
import { type Gathering, type Job, JobList, type Lane } from './job.ts';
import { cancelledError } from './states.ts';
import { transfer } from './transfer.ts';

/** Default limit of running requests for all queues of a disk. */
export const REQUESTS_AT_ONCE = 64;
/** Starts by priority after which the oldest request has its turn. */
const STARTS_BEFORE_OLDEST = 64;
/** Work per turn of the event loop, in requests; each 32 KiB of a request counts as one more. */
const TURN_COST = 256;
const COST_BYTES = 32 * 1024;

const schedulers = new WeakMap<BlockDevice, Scheduler>();

/** The scheduler of a device. */
export function schedulerOf(device: BlockDevice): Scheduler {
  const known = schedulers.get(device);
  if (known !== undefined) return known;
  const made = new Scheduler(device);
  schedulers.set(device, made);
  return made;
}

/** All queues of one device. */
export class Scheduler {
  readonly device: BlockDevice;
  /** Maximum number of running requests. */
  depth = REQUESTS_AT_ONCE;
  /** In order of priority. */
  #lanes: Lane[] = [];
  /** Cancelled before they started; completion not yet reported. */
  readonly #cancelled = new JobList();
  #running = 0;
  #sequence = 0;
  /** Starts since the oldest waiting request had its turn. */
  #passedOver = 0;
  #cost = 0;
  #turn: 'none' | 'asked' | 'running' | 'later' = 'none';
  /** Lanes with completions to report at the end of the turn. */
  #news: Lane[] = [];
  readonly #runTurn = () => this.#takeTurn();

  constructor(device: BlockDevice) {
    this.device = device;
  }

  attach(lane: Lane): void {
    lane.finished = (job, error) => {
      this.#finishRunning(job, error);
      this.#takeTurn();
    };
    this.#lanes = [...this.#lanes, lane].sort((a, b) => a.priority - b.priority);
  }

  /** The lane must have no active requests. */
  detach(lane: Lane): void {
    assert(lane.activeCount === 0, 'a queue is idle when it leaves');
    this.#lanes = this.#lanes.filter((other) => other !== lane);
    if (this.#lanes.length === 0) this.depth = REQUESTS_AT_ONCE;
  }

  submit(job: Job): void {
    this.#sequence++;
    job.sequence = this.#sequence;
    job.isCancelled = false;
    job.state = 'waiting';
    job.lane.activeCount++;
    job.lane.waiting.append(job);
    this.#askForTurn();
  }

  /** Removes a waiting job, or marks a running one. No effect on a cancelled job. */
  cancel(job: Job): void {
    if (job.isCancelled) return;
    job.isCancelled = true;
    if (job.state === 'waiting') {
      job.lane.waiting.remove(job);
      this.#cancelled.append(job);
      this.#askForTurn();
    }
    job.abort?.abort();
  }

  /** Cancels all jobs of a lane. Resolves when all active ones have ended. */
  purge(lane: Lane): Promise<void> {
    return new Promise((resolve) => {
      const gathering: Gathering = { left: 0, done: resolve };
      // Those that were cancelled before are active until they have been told, but in no list of the lane any more.
      for (let job = this.#cancelled.first; job !== null; job = job.next) if (job.lane === lane) gather(job, gathering);
      for (const list of [lane.running, lane.waiting]) {
        for (let job = list.first; job !== null; ) {
          const { next } = job;
          gather(job, gathering);
          this.cancel(job);
          job = next;
        }
      }
      if (gathering.left === 0) resolve();
    });
  }

  #askForTurn(): void {
    if (this.#turn !== 'none') return;
    this.#turn = 'asked';
    queueMicrotask(this.#runTurn);
  }

  #takeTurn(): void {
    // A turn that runs sees what is new by itself; one that was put off must not come early.
    if (this.#turn === 'running' || this.#turn === 'later') return;
    this.#turn = 'running';
    this.#work();
    this.#tellNews();
    this.#turn = 'none';
    if (!this.#hasWork()) return;
    if (this.#cost < TURN_COST) {
      this.#askForTurn();
      return;
    }
    this.#turn = 'later';
    afterEvents(() => {
      this.#cost = 0;
      this.#turn = 'none';
      this.#takeTurn();
    });
  }

  #work(): void {
    while (this.#cost < TURN_COST) {
      const cancelled = this.#cancelled.first;
      if (cancelled !== null) {
        this.#cancelled.remove(cancelled);
        this.#cost++;
        this.#end(cancelled, cancelledError());
        continue;
      }
      const job = this.#running < this.depth ? this.#choose() : null;
      if (job === null) return;
      this.#start(job);
    }
  }

  #hasWork(): boolean {
    if (this.#cancelled.first !== null) return true;
    return this.#running < this.depth && this.#lanes.some((lane) => readyJob(lane) !== null);
  }

  /** The job to start now; null if none may start. */
  #choose(): Job | null {
    let urgent: Job | null = null;
    let oldest: Job | null = null;
    for (const lane of this.#lanes) {
      const job = readyJob(lane);
      if (job === null) continue;
      if (urgent === null || (lane.priority === urgent.lane.priority && job.sequence < urgent.sequence)) urgent = job;
      if (oldest === null || job.sequence < oldest.sequence) oldest = job;
    }
    if (urgent !== oldest) {
      this.#passedOver++;
      if (this.#passedOver < STARTS_BEFORE_OLDEST) return urgent;
    }
    this.#passedOver = 0;
    return oldest;
  }

  #start(job: Job): void {
    const { lane } = job;
    lane.waiting.remove(job);
    lane.running.append(job);
    lane.runningCount++;
    this.#running++;
    this.#cost += 1 + job.length / COST_BYTES;
    job.state = 'running';
    try {
      if (job.type === 'write') job.buffer?.fill(job.length);
      const work = transfer(this.device, job);
      if (isPromise(work)) work.then(job.succeeded, job.failed);
      else this.#finishRunning(job, null);
    } catch (error) {
      this.#finishRunning(job, error);
    }
  }

  #finishRunning(job: Job, failure: unknown): void {
    const { lane } = job;
    lane.running.remove(job);
    lane.runningCount--;
    this.#running--;
    this.#end(job, this.#outcome(job, failure));
  }

  #outcome(job: Job, failure: unknown): ImageError | null {
    if (job.isCancelled) return cancelledError(failure ?? undefined);
    if (failure !== null) return asImageError(failure, this.device);
    try {
      if (job.type === 'read') job.buffer?.drain(job.length);
      return null;
    } catch (error) {
      return asImageError(error, this.device);
    }
  }

  #end(job: Job, error: ImageError | null): void {
    const { lane, buffer, gatherings } = job;
    job.state = 'idle';
    job.isCancelled = false;
    job.pieces = null;
    job.memory = null;
    job.buffer = null;
    job.abort = null;
    job.gatherings = null;
    lane.activeCount--;
    if (lane.turnEnded !== null && !lane.hasNews) {
      lane.hasNews = true;
      this.#news.push(lane);
    }
    // From here on the job may be submitted again. Its callback still sees the bytes.
    try {
      job.ended(error);
      buffer?.release();
    } catch (thrown) {
      surface(thrown);
    }
    for (const gathering of gatherings ?? []) if (--gathering.left === 0) gathering.done();
    if (lane.activeCount > 0 || lane.idle.length === 0) return;
    const { idle } = lane;
    lane.idle = [];
    for (const resolve of idle) resolve();
  }

  #tellNews(): void {
    const lanes = this.#news;
    if (lanes.length === 0) return;
    this.#news = [];
    for (const lane of lanes) {
      lane.hasNews = false;
      try {
        lane.turnEnded?.();
      } catch (thrown) {
        surface(thrown);
      }
    }
  }
}

/** The first waiting job of a lane, if it may start. */
function readyJob(lane: Lane): Job | null {
  const job = lane.waiting.first;
  return job !== null && job.type === 'flush' && lane.runningCount > 0 ? null : job;
}

function gather(job: Job, gathering: Gathering): void {
  gathering.left++;
  job.gatherings ??= [];
  job.gatherings.push(gathering);
}

/** Exceptions of the caller's functions must not stop the queues: they surface as uncaught errors. */
function surface(thrown: unknown): void {
  queueMicrotask(() => {
    throw thrown;
  });
}

function asImageError(error: unknown, device: BlockDevice): ImageError {
  if (isImageError(error)) return error;
  return new ImageError('io', 'The device failed', { path: device.label, cause: error });
}
