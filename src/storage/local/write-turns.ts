/**
 * Large writes to one file take turns. The system lets one at a time into a file, and who waits for it does so spinning,
 * on a processor that others need. So they wait here. The next one is started by the end of the last, before anybody
 * hears of that, so that the file never rests.
 */

/** Smaller ones cost less than waking a thread for each: they may as well wait on threads. */
export const TURN_BYTES = 1024 * 1024;

/** The turns of one file. */
export class WriteTurns {
  #busy = false;
  readonly #waiting: (() => void)[] = [];

  /** Calls `begin` when nobody else writes. Whoever began says `leave` once. */
  enter(begin: () => void): void {
    if (this.#busy) {
      this.#waiting.push(begin);
      return;
    }
    this.#busy = true;
    begin();
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#busy = false;
    else next();
  }
}
