/** Refusals of a merge or a commit, before anything is changed: for what stands in the images themselves. */
import { ImageError } from '../../errors.ts';
import type { Chain } from '../path/chain.ts';

/** Images of a merge, by number. */
export interface MergePlan {
  readonly chain: Chain;
  readonly from: number;
  readonly to: number;
  /** Levels whose data moves. */
  readonly sources: readonly number[];
}

/** Links between an image of a directory and one outside of it cannot be changed. */
export function refuseMixed({ chain, from, to }: MergePlan): void {
  const inside = chain.images
    .slice(Math.min(from, to), Math.max(from, to) + 2)
    .map(({ image }) => image.member !== undefined);
  if (inside.every((one) => one === inside[0])) return;
  throw new ImageError('unsupported', 'Images inside a directory cannot be merged with images outside of it', {
    path: chain.last.name,
    hint: 'Convert the disk into a new image.',
  });
}

/**
 * For a commit: snapshots of the images above read the changed one where they are unallocated. And a snapshot of the
 * changed image is mostly made in order to go back to it, along with its children.
 */
export function refuseSnapshotsBelow({ chain, to, sources }: MergePlan): void {
  for (const number of [to, ...sources]) {
    const { image, name } = chain.at(number);
    const count = image.info.snapshots?.length ?? 0;
    if (count === 0) continue;
    const what = number === to ? 'that would be changed' : 'has a parent that would be changed, and';
    throw new ImageError('busy', `The image ${what} has internal snapshots`, {
      path: name,
      found: `${count} snapshots`,
      hint: 'Delete them first, or proceed with option force (on the command line: --force).',
    });
  }
}

/** Internal snapshots are deleted with the file, and read the images below it. `gone`: images that are deleted. */
export function refuseSnapshots({ chain, from, to }: MergePlan, gone: readonly number[]): void {
  const number = [...(from < to ? [to] : []), ...gone].find((one) => {
    return (chain.at(one).image.info.snapshots ?? []).length > 0;
  });
  if (number === undefined) return;
  const { name, image } = chain.at(number);
  throw new ImageError('unsupported', 'The image has internal snapshots, which a merge would delete or change', {
    path: name,
    found: `${image.info.snapshots?.length} snapshots`,
    hint: 'Delete them first (vdkit snapshot delete), or convert the disk and each snapshot into separate images.',
  });
}
