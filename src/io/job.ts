/** State of requests and queues in a scheduler. Plain fields: this is the hot path. */
import type { Range } from '../disk/device.ts';
import type { ImageError } from '../errors.ts';
import type { IoBuffer } from './buffers.ts';

/** Type of a request. `zero` makes a range read as zero; vd.h has no such request. */
export type IoRequestType = 'read' | 'write' | 'flush' | 'discard' | 'zero';

/** State of a request: `waiting` and `running` together are "active" in vd.h. */
export type IoRequestState = 'idle' | 'waiting' | 'running' | 'freed';

/** A caller that waits until some jobs have ended. */
export interface Gathering {
  left: number;
  done: () => void;
}

/** A request as the scheduler sees it. */
export class Job {
  readonly lane: Lane;
  /** Called once for each submission. The job may be submitted again from inside it. */
  readonly ended: (error: ImageError | null) => void;
  state: IoRequestState = 'idle';
  type: IoRequestType = 'read';
  /** One range or several; unused for a flush. */
  offset = 0;
  length = 0;
  pieces: Iterable<Range> | null = null;
  /** Exactly as many bytes as the ranges have; null for requests without data. */
  memory: Uint8Array | readonly Uint8Array[] | null = null;
  /** Buffer that the memory belongs to, referenced until the job ends. */
  buffer: IoBuffer | null = null;
  punch = true;
  isCancelled = false;
  /** Passed to long operations. */
  abort: AbortController | null = null;
  /** Place in the order of submission, over all queues of a disk. */
  sequence = 0;
  previous: Job | null = null;
  next: Job | null = null;
  gatherings: Gathering[] | null = null;
  /** Completion callback for the device, made once. */
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

/** A queue as the scheduler sees it. */
export class Lane {
  readonly priority: number;
  /** Called when all requests that can end at once have ended. */
  readonly turnEnded: (() => void) | null;
  readonly waiting = new JobList();
  readonly running = new JobList();
  runningCount = 0;
  activeCount = 0;
  /** Something has ended since `turnEnded` was called last. */
  hasNews = false;
  /** Callers that wait until nothing is active. */
  idle: (() => void)[] = [];
  /** Set by the scheduler while the lane is attached. */
  finished: (job: Job, error: unknown) => void = () => {};

  constructor(priority: number, turnEnded: (() => void) | null) {
    this.priority = priority;
    this.turnEnded = turnEnded;
  }
}
