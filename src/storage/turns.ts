/**
 * Turns for long loops: a loop over tables in memory never waits, so timers and signals would starve until it ends. One
 * helper yields to the event loop every few milliseconds, and ends cancelled work.
 */
import { throwIfAborted } from '../errors.ts';
import { afterEvents } from './after-events.ts';
import { nowMs } from './clock.ts';

/** Small steps between two looks at the clock. */
const STEPS = 256;
/** Length of a turn: short enough that a cancel is noticed before the user is. */
const TURN_MS = 20;

/** The turns of one task: `const turn = turns.take(); if (turn !== undefined) await turn;` in its loop. */
export class Turns {
  readonly #signal: AbortSignal | undefined;
  readonly #what: string;
  readonly #now: () => number;
  #left = STEPS;
  #began: number;

  /**
   * `what`: the task, for the error when cancelled, such as `The check`.
   */
  constructor(signal: AbortSignal | undefined, what: string, now: () => number = nowMs) {
    this.#signal = signal;
    this.#what = what;
    this.#now = now;
    this.#began = now();
  }

  /**
   * Counts steps; a long one counts as many. Undefined: go on. Otherwise wait for the promise: it yields to the event
   * loop. Throws `aborted`.
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
