/** Links from images of a chain to their parents. */
import { assert } from '../../errors.ts';
import type { ParentLink } from '../../image/contract.ts';
import type { Chain, ChainImage } from '../path/chain.ts';
import { type ChainServices, reopen } from './stack.ts';

/** Link to an image, as its children store it. */
export function linkTo({ name, format, image }: ChainImage): ParentLink {
  const { uuid, modificationUuid, contentId } = image.info;
  return { name, format, uuid, modificationUuid, contentId, member: image.member?.id };
}

/** Stores the link to the parent in the child, if its format can. */
export async function relink({ image }: ChainImage, parent: ParentLink | null): Promise<void> {
  if (image.relink === undefined) return;
  assert(image.can.write, 'a child that is linked again is open for writing');
  await image.relink(parent);
}

/**
 * Tells the child of an image, where it is to be told, that the content of that changes: before the first change. Nothing
 * else may run at the same time, and everything must be flushed.
 */
export async function expectChange(tools: ChainServices, chain: Chain, number: number): Promise<void> {
  const { nextContentId: next, info } = chain.at(number).image;
  const current = info.contentId ?? null;
  const above = number + 1;
  if (next === undefined || current === null || above > chain.top) return;
  if (chain.at(above).image.expectParent === undefined) return;
  const isLast = above === chain.top;
  if (!isLast) await reopen(tools, chain, above, 'write');
  try {
    await chain.at(above).image.expectParent?.({ current, next });
  } finally {
    if (!isLast) await reopen(tools, chain, above, 'read');
  }
}
