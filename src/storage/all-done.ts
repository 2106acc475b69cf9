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

/**
 * Does the work for each item, begun in their order and for at most `limit` at a time. Results in their order. After a
 * failure no further work is begun; when nothing runs any more, the failure of the first item that has one is thrown.
 */
export async function someAtATime<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  const failures: { readonly index: number; readonly error: unknown }[] = [];
  const worker = async (): Promise<void> => {
    for (const [index, item] of queue) {
      try {
        results[index] = await work(item, index);
      } catch (error) {
        failures.push({ index, error });
      }
      if (failures.length > 0) return;
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  const [first] = failures.sort((one, other) => one.index - other.index);
  if (first !== undefined) throw first.error;
  return results;
}
