/** Progress on stderr: a bar for people, JSON lines for programs. */
import type { Progress } from '../image/contract.ts';
import { nowMs } from '../storage/clock.ts';
import { formatSize } from './size.ts';

/**
 * `total` is null if the end cannot be foreseen.
 */
export interface ProgressEvent extends Omit<Progress, 'total'> {
  readonly total: number | null;
}

/** Style of progress output. */
export type ProgressStyle = 'bar' | 'json' | 'none';

/** Milliseconds between two outputs. */
const INTERVAL = { bar: 100, json: 250, none: Number.POSITIVE_INFINITY } as const;
/** After this time the older half of the measurements counts half. */
const HALF_LIFE_MS = 3000;
/** Below this a rate is meaningless. */
const SHORTEST_MS = 50;

/** Smoothed speed: every three seconds the weight of older measurements halves. */
export class RateMeter {
  #lastMs: number;
  #lastDone: number;
  #rate: number | null = null;

  constructor(nowMs: number, done = 0) {
    this.#lastMs = nowMs;
    this.#lastDone = done;
  }

  /** Bytes a second; null while it is too early to say. */
  update(nowMs: number, done: number): number | null {
    const elapsed = nowMs - this.#lastMs;
    if (elapsed < SHORTEST_MS) return this.#rate;
    const current = ((done - this.#lastDone) / elapsed) * 1000;
    const weight = 1 - 0.5 ** (elapsed / HALF_LIFE_MS);
    this.#rate = this.#rate === null ? current : this.#rate + (current - this.#rate) * weight;
    this.#lastMs = nowMs;
    this.#lastDone = done;
    return this.#rate;
  }
}

/** Environment of a reporter. */
export interface ProgressOptions {
  readonly style: ProgressStyle;
  readonly write: (text: string) => void;
  readonly columns?: (() => number) | undefined;
  /** Milliseconds; from any start. */
  readonly now?: (() => number) | undefined;
}

/** Shows progress at a rate that suits people and programs. */
export class ProgressReporter {
  readonly #options: ProgressOptions;
  #meter: RateMeter | null = null;
  #event: ProgressEvent | null = null;
  #rate: number | null = null;
  #shownMs = Number.NEGATIVE_INFINITY;
  #barShown = false;

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  /** Pass this to long operations. Undefined when nothing is shown, so that they need not look ahead. */
  get report(): ((event: ProgressEvent) => void) | undefined {
    return this.#options.style === 'none' ? undefined : this.#report;
  }

  readonly #report = (event: ProgressEvent): void => {
    const { style } = this.#options;
    const now = this.#now();
    if (this.#event?.operation !== event.operation) this.#begin(event, now);
    const done = Math.max(event.done, this.#event?.done ?? 0);
    this.#event = { ...event, done };
    if (now - this.#shownMs < INTERVAL[style]) return;
    this.#show(now);
  };

  /** Ends the report and removes the bar. `complete`: everything was done; programs are told so. */
  finish(complete: boolean): void {
    const last = this.#event;
    if (complete && last !== null && this.#options.style === 'json') {
      const total = last.data?.total ?? last.data?.done ?? 0;
      const data = last.data === undefined ? undefined : { done: total, total };
      this.#event = { ...last, done: last.total ?? last.done, data };
      this.#show(this.#now());
    }
    this.clear();
    this.#event = null;
  }

  /** Removes the bar so that something else can be printed. */
  clear(): void {
    if (this.#barShown) this.#options.write('\r\u001b[K');
    this.#barShown = false;
  }

  #begin(event: ProgressEvent, now: number): void {
    if (this.#event !== null) this.finish(true);
    this.#meter = new RateMeter(now, moved(event).done);
    this.#rate = null;
    this.#shownMs = Number.NEGATIVE_INFINITY;
  }

  #show(now: number): void {
    if (this.#event === null) return;
    this.#rate = this.#meter?.update(now, moved(this.#event).done) ?? this.#rate;
    this.#shownMs = now;
    if (this.#options.style === 'json') {
      this.#options.write(`${jsonLine(this.#event, this.#rate)}\n`);
      return;
    }
    const columns = this.#options.columns?.() ?? 80;
    this.#options.write(`\r${barLine(this.#event, this.#rate, columns)}\u001b[K`);
    this.#barShown = true;
  }

  #now(): number {
    return this.#options.now?.() ?? nowMs();
  }
}

/** Bytes that take time: those of data where they are known, otherwise all. */
function moved(event: ProgressEvent): { readonly done: number; readonly total: number | null } {
  return event.data ?? event;
}

/** Seconds until the end; null when it cannot be estimated. */
export function etaSeconds(event: ProgressEvent, rate: number | null): number | null {
  const { done, total } = moved(event);
  if (total === null || rate === null) return null;
  const left = Math.max(total - done, 0);
  if (left === 0) return 0;
  return rate <= 0 ? null : left / rate;
}

function jsonLine(event: ProgressEvent, rate: number | null): string {
  const eta = etaSeconds(event, rate);
  return JSON.stringify({
    operation: event.operation,
    done: event.done,
    total: event.total,
    bytesPerSecond: rate === null ? null : Math.round(rate),
    etaSeconds: eta === null ? null : Math.round(eta * 10) / 10,
  });
}

/** One line, at most `columns` wide. */
export function barLine(event: ProgressEvent, rate: number | null, columns: number): string {
  const { operation, done, total } = event;
  const speed = rate === null ? '' : `  ${formatSize(rate)}/s`;
  if (total === null) return `${operation}  ${formatSize(done)}${speed}`.slice(0, columns - 1);
  const part = total === 0 ? 1 : Math.min(done / total, 1);
  const eta = etaSeconds(event, rate);
  const rest = eta === null ? '' : `  ${formatDuration(eta)} left`;
  const facts = `  ${String(Math.floor(part * 100)).padStart(3)}%  ${formatSize(done)} of ${formatSize(total)}${speed}${rest}`;
  const width = Math.min(columns - 1 - operation.length - facts.length - 4, 40);
  if (width < 5) return `${operation}${facts}`.slice(0, columns - 1);
  const filled = Math.round(part * width);
  return `${operation}  [${'#'.repeat(filled)}${'.'.repeat(width - filled)}]${facts}`;
}

/** `0:07`, `12:30`, `3:00:00`. */
export function formatDuration(seconds: number): string {
  const all = Math.ceil(seconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  const hours = Math.floor(all / 3600);
  const minutes = Math.floor((all % 3600) / 60);
  return hours > 0 ? `${hours}:${two(minutes)}:${two(all % 60)}` : `${minutes}:${two(all % 60)}`;
}
