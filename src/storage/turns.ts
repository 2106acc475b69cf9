/**
 * Loops that may take long, in turns: a loop over tables that are in memory never waits, so neither timers nor signals
 * would be heard until it ends. One helper for all of them: it gives the event loop its turn every few milliseconds, and
 * ends the work when it was cancelled.
 */
import { throwIfAborted } from '../errors.ts';
import { afterEvents } from './after-events.ts';
import { nowMs } from './clock.ts';

/** Small steps between two looks at the clock. */
const STEPS = 256;
/** How long a turn lasts: a cancel is heard well before anybody notices the wait. */
const TURN_MS = 20;

/** The turns of one piece of work: `const turn = turns.take(); if (turn !== undefined) await turn;` in its loop. */
export class Turns {
  readonly #signal: AbortSignal | undefined;
  readonly #what: string;
  readonly #now: () => number;
  #left = STEPS;
  #began: number;

  /** `what`: for the error when it was cancelled, `The check`. */
  constructor(signal: AbortSignal | undefined, what: string, now: () => number = nowMs) {
    this.#signal = signal;
    this.#what = what;
    this.#now = now;
    this.#began = now();
  }

  /**
   * Notes that some steps are due; one that takes long counts as many. Undefined: go on. Otherwise wait for it: others have
   * their turn. Throws `aborted`.
   */
  take(steps = 1): Promise<void> | undefined {
    throwIfAborted(this.#signal, this.#what);
    this.#left -= steps;
    if (this.#left > 0) return undefined;
    this.#left = STEPS;
    if (this.#now() - this.#began < TURN_MS) return undefined;
    return this.#next();
  }

  async #next(): Promise<void> {
    await new Promise<void>(afterEvents);
    this.#began = this.#now();
    throwIfAborted(this.#signal, this.#what);
  }
}
