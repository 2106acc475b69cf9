/** Links to parents: what an image stores of its parent, and the comparison with an image that may be it. */
import type { Image, ImageInfo, ParentIdentity, ParentReference, ParentVerdict } from './contract.ts';

type Links = Pick<ImageInfo, 'parent' | 'parentUuid' | 'parentModificationUuid' | 'parentName' | 'parentFormat'>;

/** What an image of any format stores of its parent; the rest is null. */
export function parentReference(own: Partial<ParentReference>): ParentReference {
  return { names: [], uuid: null, modificationUuid: null, format: null, contentId: null, ...own };
}

/** Members of `ImageInfo` about the parent, from what the image stores of it. */
export function parentLinks(parent: ParentReference | null): Links {
  return {
    parent,
    parentUuid: parent?.uuid ?? null,
    parentModificationUuid: parent?.modificationUuid ?? null,
    parentName: parent?.names[0] ?? null,
    parentFormat: parent?.format ?? null,
  };
}

/** Names of the parent, in the order in which they are tried. */
export function parentNames({ parent }: Pick<ImageInfo, 'parent'>): readonly string[] {
  return parent?.names ?? [];
}

/** Verdict about one of several candidates: without the UUID that the child stores an image is another one. */
export function judgeCandidate(child: Pick<Image, 'info' | 'judgeParent'>, found: ParentIdentity): ParentVerdict {
  if (child.judgeParent !== undefined) return child.judgeParent(found);
  const { parentUuid, parentModificationUuid } = child.info;
  if (found.uuid === null || found.uuid !== parentUuid) return 'other';
  return parentModificationUuid === null || parentModificationUuid === found.modificationUuid ? 'same' : 'changed';
}

/** Verdict about the image that was opened as the parent: what one of the two does not store does not count. */
export function judgeParent(child: Pick<Image, 'info' | 'judgeParent'>, found: ParentIdentity): ParentVerdict {
  if (child.judgeParent !== undefined) return child.judgeParent(found);
  const { parentUuid, parentModificationUuid, parent } = child.info;
  if (differ(parentUuid, found.uuid)) return 'other';
  const sameUuid = parentUuid !== null && found.uuid !== null;
  if (sameUuid && differ(parentModificationUuid, found.modificationUuid)) return 'changed';
  return differ(parent?.contentId, found.contentId) ? 'changed' : 'same';
}

function differ(stored: string | null | undefined, found: string | null | undefined): boolean {
  return typeof stored === 'string' && typeof found === 'string' && stored !== found;
}
