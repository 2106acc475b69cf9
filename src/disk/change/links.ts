/** How images of a chain name the one below them. */
import { assert } from '../../errors.ts';
import type { ParentLink } from '../../image/contract.ts';
import type { ChainImage } from '../path/chain.ts';

/** An image, as its children name it. */
export function linkTo({ name, format, image }: ChainImage): ParentLink {
  const { uuid, modificationUuid } = image.info;
  return { name, format, uuid, modificationUuid };
}

/** Has the child name its parent, where its format has a place for that. */
export async function relink({ image }: ChainImage, parent: ParentLink | null): Promise<void> {
  if (image.relink === undefined) return;
  assert(image.can.write, 'a child that is linked anew is open for writing');
  await image.relink(parent);
}
