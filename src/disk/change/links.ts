/** Links from images of a chain to their parents. */
import { assert } from '../../errors.ts';
import type { ParentLink } from '../../image/contract.ts';
import type { ChainImage } from '../path/chain.ts';

/** Link to an image, as its children store it. */
export function linkTo({ name, format, image }: ChainImage): ParentLink {
  const { uuid, modificationUuid, contentId } = image.info;
  return { name, format, uuid, modificationUuid, contentId };
}

/** Stores the link to the parent in the child, if its format can. */
export async function relink({ image }: ChainImage, parent: ParentLink | null): Promise<void> {
  if (image.relink === undefined) return;
  assert(image.can.write, 'a child that is linked again is open for writing');
  await image.relink(parent);
}
