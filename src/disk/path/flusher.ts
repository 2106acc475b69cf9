/**
 * Scheduling of flushes: on request, when dirty metadata reaches its bound, and some seconds after the first unflushed
 * change. Flushes run one after another; callers that arrive during one share the next.
 *
 * A flush runs under a lock of the disk: a range, all of it, or at least the place that `ChainDisk.flush` locks. So
 * during an exclusive operation only its own flushes run. The timer has no lock: it goes through `runAlarms`.
 */

import { ImageError } from '../../errors.ts';
import type { Image } from '../../image/contract.ts';
import { flushImage } from '../../image/flush.ts';
import { LIMITS } from '../../limits.ts';
import type { Timers } from '../options.ts';

/** A clock made of the platform's timers. */
export const systemTimers: Timers = {
  set: (milliseconds, run) => setTimeout(run, milliseconds),
  clear: (handle) => clearTimeout(handle as ReturnType<typeof setTimeout>),
};

/** Options for a flusher. */
export interface FlusherOptions {
  readonly ignoreFlush: boolean;
  /** 0: no automatic flush. */
  readonly afterMs: number;
  readonly timers: Timers;
  /** Called when an automatic flush failed. */
  readonly onFailure?: ((error: unknown) => void) | undefined;
}

/** The flushes of one image. */
export class Flusher {
  readonly #image: Image;
  readonly #options: FlusherOptions;
  #changed: boolean;
  #running: Promise<void> | null = null;
  #next: Promise<void> | null = null;
  #timer: unknown = null;
  #idleTimer: unknown = null;
  /** The failed flush. Its changes will never be durable, so no later flush may resolve. */
  #failed: { readonly error: unknown } | null = null;
  #alarm: (flush: () => Promise<void>) => Promise<void> = (flush) => flush();
  #idle: (() => Promise<void>) | null = null;

  constructor(image: Image, options: FlusherOptions) {
    this.#image = image;
    this.#options = options;
    // Whatever wrote to the image before may have left something for the next flush, such as counts to be lowered.
    this.#changed = image.dirtyBytes > 0;
  }

  /** Sets the way the timer flushes: by the disk, which takes a lock for it. Default: at once. */
  runAlarms(how: (flush: () => Promise<void>) => Promise<void>): void {
    this.#alarm = how;
  }

  /** Sets the way the session of the image ends when nothing has changed for as long as a flush waits. */
  runWhenIdle(end: () => Promise<void>): void {
    this.#idle = end;
  }

  /** True when no change waits for a flush, and none runs. */
  get isClean(): boolean {
    return !this.#changed && this.#running === null;
  }

  /** Records a change that a flush must make durable. */
  noteChange(): void {
    this.#changed = true;
    this.#stopIdle();
    if (this.#timer !== null || this.#options.afterMs === 0) return;
    this.#timer = this.#options.timers.set(this.#options.afterMs, () => {
      this.#timer = null;
      // A failure is remembered as well: the next write, flush or close reports it to a caller.
      this.#alarm(() => this.flush()).catch((error: unknown) => this.#options.onFailure?.(error));
    });
  }

  /** Throws after a failed flush: its changes will never be durable, so none may be added. */
  refuseAfterFailure(label: string): void {
    if (this.#failed === null) return;
    throw new ImageError('io', 'An earlier flush of this disk failed, so it can no longer be changed', {
      path: label,
      hint: 'Close it and open it again: data flushed before is safe.',
      cause: this.#failed.error,
    });
  }

  /** True when there is so much dirty metadata that writers should wait for a flush. */
  get overdue(): boolean {
    return this.#image.dirtyBytes >= LIMITS.dirtyMetadataBytes;
  }

  /** Resolves when every change that ended before this call is durable. */
  flush(): Promise<void> {
    if (this.#failed !== null) return Promise.reject(this.#failed.error);
    // It starts some turns after the running one ended; starting another in between would make two run at once.
    if (this.#next !== null) return this.#next;
    if (this.#running === null) return this.#changed ? this.#start() : Promise.resolve();
    if (!this.#changed) return this.#running;
    this.#next = this.#running.then(
      () => this.#start(),
      () => this.#start(),
    );
    return this.#next;
  }

  /** Stops the timers. */
  stop(): void {
    this.#stopIdle();
    if (this.#timer !== null) this.#options.timers.clear(this.#timer);
    this.#timer = null;
  }

  #stopIdle(): void {
    if (this.#idleTimer !== null) this.#options.timers.clear(this.#idleTimer);
    this.#idleTimer = null;
  }

  #waitIdle(): void {
    const [end, { afterMs, timers, onFailure }] = [this.#idle, this.#options];
    if (end === null || afterMs === 0 || this.#changed || this.#image.endsWhenIdle !== true) return;
    this.#stopIdle();
    this.#idleTimer = timers.set(afterMs, () => {
      this.#idleTimer = null;
      end().catch((error: unknown) => onFailure?.(error));
    });
  }

  #start(): Promise<void> {
    this.#next = null;
    this.stop();
    this.#changed = false;
    const running = flushImage(this.#image, { skipStorageFlush: this.#options.ignoreFlush })
      .then(() => {
        // What could only change after this flush, such as counts of what it gave up, is for the next one.
        if (this.#image.dirtyBytes > 0) this.noteChange();
        this.#waitIdle();
      })
      .catch((error: unknown) => {
        this.#failed = { error };
        throw error;
      })
      .finally(() => {
        if (this.#running === running) this.#running = null;
      });
    this.#running = running;
    return running;
  }
}
