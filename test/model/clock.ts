/** A clock that stands still until a test turns it. */
import type { Timers } from '../../src/disk/options.ts';

interface Alarm {
  readonly at: number;
  readonly run: () => void;
}

/** Timers for a disk. */
export class FakeClock implements Timers {
  #now = 0;
  readonly #alarms = new Set<Alarm>();

  set(milliseconds: number, run: () => void): unknown {
    const alarm: Alarm = { at: this.#now + milliseconds, run };
    this.#alarms.add(alarm);
    return alarm;
  }

  clear(handle: unknown): void {
    this.#alarms.delete(handle as Alarm);
  }

  /** Lets time pass; what is due runs, earliest first. */
  advance(milliseconds: number): void {
    this.#now += milliseconds;
    const due = [...this.#alarms].filter(({ at }) => at <= this.#now).sort((a, b) => a.at - b.at);
    for (const alarm of due) if (this.#alarms.delete(alarm)) alarm.run();
  }
}
