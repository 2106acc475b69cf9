/** Handles of the parts of an image. The pool is loaded when an image has more parts than stay open. */
import type { Storage } from './contract.ts';

/** Parts of an image that stay open: most images have no more, and a handle that never closes costs less. */
const KEPT_OPEN = 2;

/** Opens or makes part `number` of an image, from 0, so that images of many parts do not keep all of them open. */
export async function openPartOf(
  number: number,
  first: () => Promise<Storage>,
  again: () => Promise<Storage> = first,
): Promise<Storage> {
  if (number < KEPT_OPEN) return first();
  const { openPooled } = await import('./handle-pool.ts');
  return openPooled(first, again);
}
