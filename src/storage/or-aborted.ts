/** Waiting that a signal ends, for work whose result is not needed then. */
import { throwIfAborted } from '../errors.ts';
import type { OperationOptions } from './contract.ts';

/**
 * The result of the promise, or `aborted` as soon as the signal fires. The work itself continues: only for work that
 * does not touch buffers of the caller. `what`: subject of the error, `The read`.
 */
export function orAborted<T>(work: Promise<T>, options: OperationOptions | undefined, what: string): Promise<T> {
  const signal = options?.signal;
  if (signal === undefined) return work;
  return new Promise<T>((resolve, reject) => {
    const stop = (): void => {
      try {
        throwIfAborted(signal, what);
      } catch (error) {
        reject(error);
      }
    };
    if (signal.aborted) stop();
    else addWaiter(signal, stop);
    // A failure after the abort is ignored.
    work.then(resolve, reject).finally(() => removeWaiter(signal, stop));
  });
}

/** Those who wait with a signal: one listener serves all, since the platform warns of a leak where there are many. */
interface Waiters {
  readonly stops: Set<() => void>;
  readonly listener: () => void;
}

const waiters = new WeakMap<AbortSignal, Waiters>();

function addWaiter(signal: AbortSignal, stop: () => void): void {
  const known = waiters.get(signal);
  if (known !== undefined) {
    known.stops.add(stop);
    return;
  }
  const stops = new Set([stop]);
  const listener = (): void => {
    for (const one of [...stops]) one();
  };
  waiters.set(signal, { stops, listener });
  signal.addEventListener('abort', listener);
}

function removeWaiter(signal: AbortSignal, stop: () => void): void {
  const known = waiters.get(signal);
  if (known === undefined || !known.stops.delete(stop) || known.stops.size > 0) return;
  waiters.delete(signal);
  signal.removeEventListener('abort', known.listener);
}

/** Looks before a call starts. */
export function checkSignal(options: OperationOptions | undefined, what: string): void {
  if (options?.signal?.aborted === true) throwIfAborted(options.signal, what);
}
