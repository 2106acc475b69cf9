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
    else signal.addEventListener('abort', stop);
    // A failure after the abort is ignored.
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}

/** Looks before a call starts. */
export function checkSignal(options: OperationOptions | undefined, what: string): void {
  if (options?.signal?.aborted === true) throwIfAborted(options.signal, what);
}
