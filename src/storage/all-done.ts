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

/** Does the work for each item, for at most `limit` at a time, as {@link allDone} does for all. Results in their order. */
export async function someAtATime<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  const workers = Array.from({ length: Math.min(limit, items.length) }, async () => {
    for (const [index, item] of queue) results[index] = await work(item);
  });
  await allDone(workers);
  return results;
}
