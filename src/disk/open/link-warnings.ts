/** Links to parents that a format cannot store. */
import type { ParentLink } from '../../image/parent.ts';
import type { Registry } from '../../image/registry.ts';
import type { OpenedImage } from './image-file.ts';
import { isUnlinked } from './parents.ts';

/** Warnings about what a child cannot store of its parent, so that the caller has to name it. */
export function linkWarnings(
  child: Pick<OpenedImage, 'image'>,
  parent: Pick<ParentLink, 'name' | 'format'>,
  { fallback }: Registry,
): string[] {
  const whenever = 'whenever you open the image';
  if (isUnlinked(child)) {
    const lost = `${parent.name} has no UUID, so the link to it cannot be stored`;
    return [`${lost}; specify it with --parent ${whenever}.`];
  }
  const { parentUuid, parentFormat, parent: stored } = child.image.info;
  const isFound = parentUuid !== null || parentFormat !== null || stored?.formatDetected === true;
  if (isFound || stored?.member !== undefined || parent.format === fallback?.name) return [];
  return [
    `The image cannot store the format of its parent; specify it with --parent-format ${parent.format} ${whenever}.`,
  ];
}
