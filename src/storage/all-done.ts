/**
 * Waits for all promises, then throws the first failure. Unlike with `Promise.all` nothing is still running afterwards,
 * so buffers, locks and handles may be released.
 */
export async function allDone(work: readonly Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(work);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** The same promise, marked as handled: its failure is collected later and must not count as unhandled until then. */
export function markHandled<T>(work: Promise<T>): Promise<T> {
  work.catch(() => {});
  return work;
}
