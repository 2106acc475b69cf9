/**
 * Large writes to one file take turns. The system admits one at a time into a file and lets the others spin on a
 * processor that is needed elsewhere, so they wait here instead. The end of one starts the next before its caller is
 * notified, so that the file never idles.
 */

/** Smaller writes cost less than waking a thread for each: they may wait in threads. */
export const TURN_BYTES = 1024 * 1024;

/** The turns of one file. */
export class WriteTurns {
  #busy = false;
  readonly #waiting: (() => void)[] = [];

  /** Calls `begin` when no other write runs. Each start must be followed by one `leave`. */
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
