/** What a scheduler keeps of a request, and of a queue. Plain fields: this is the hot path. */
import type { Range } from '../disk/device.ts';
import type { ImageError } from '../errors.ts';
import type { IoBuffer } from './buffers.ts';

/** What a request does. `zero` makes a range read zero; vd.h has no such request. */
export type IoRequestType = 'read' | 'write' | 'flush' | 'discard' | 'zero';

/** Where a request is: `waiting` and `running` together are what vd.h calls active. */
export type IoRequestState = 'idle' | 'waiting' | 'running' | 'freed';

/** Somebody who waits until some jobs have ended. */
export interface Gathering {
  left: number;
  done: () => void;
}

/** A request, as a scheduler sees it: what to do, and where it stands. */
export class Job {
  readonly lane: Lane;
  /** Called once for each submission. The job may be submitted again from inside it. */
  readonly ended: (error: ImageError | null) => void;
  state: IoRequestState = 'idle';
  type: IoRequestType = 'read';
  /** One range, or several; of a flush, none. */
  offset = 0;
  length = 0;
  pieces: Iterable<Range> | null = null;
  /** Exactly as many bytes as the ranges have; null for what moves none. */
  memory: Uint8Array | readonly Uint8Array[] | null = null;
  /** Where the memory is from, held until the job ends. */
  buffer: IoBuffer | null = null;
  punch = true;
  isCancelled = false;
  /** For what may take long and looks at it. */
  abort: AbortController | null = null;
  /** Place in the order of submission, over all queues of a disk. */
  sequence = 0;
  previous: Job | null = null;
  next: Job | null = null;
  gatherings: Gathering[] | null = null;
  /** How the device tells of the end, made once. */
  readonly succeeded: () => void;
  readonly failed: (error: unknown) => void;

  constructor(lane: Lane, ended: (error: ImageError | null) => void) {
    this.lane = lane;
    this.ended = ended;
    this.succeeded = () => this.lane.finished(this, null);
    this.failed = (error) => this.lane.finished(this, error);
  }
}

/** Jobs in order, linked through themselves. */
export class JobList {
  first: Job | null = null;
  last: Job | null = null;

  append(job: Job): void {
    job.previous = this.last;
    job.next = null;
    if (this.last === null) this.first = job;
    else this.last.next = job;
    this.last = job;
  }

  remove(job: Job): void {
    if (job.previous === null) this.first = job.next;
    else job.previous.next = job.next;
    if (job.next === null) this.last = job.previous;
    else job.next.previous = job.previous;
    job.previous = null;
    job.next = null;
  }
}

/** A queue, as a scheduler sees it. */
export class Lane {
  readonly priority: number;
  /** Told when the requests that could end at once have ended. */
  readonly turnEnded: (() => void) | null;
  readonly waiting = new JobList();
  readonly running = new JobList();
  runningCount = 0;
  activeCount = 0;
  /** Something has ended since `turnEnded` was called last. */
  hasNews = false;
  /** Those who wait until nothing is active. */
  idle: (() => void)[] = [];
  /** The scheduler's, while it is attached. */
  finished: (job: Job, error: unknown) => void = () => {};

  constructor(priority: number, turnEnded: (() => void) | null) {
    this.priority = priority;
    this.turnEnded = turnEnded;
  }
}
