/** Facts that a format has no field for, in a new image or in one that exists. */
import { ImageError } from '../errors.ts';
import type { FormatCreateOptions, ImageChanges } from './contract.ts';
import { wantsVariant } from './variants.ts';

/** Throws `unsupported` for a change that stores a comment, a UUID or a geometry; removing one that is not there is none. */
export function refuseChanges(changes: ImageChanges, format: string, path: string): void {
  const { comment, geometry, uuid, modificationUuid, parentUuid, parentModificationUuid } = changes;
  const refused = [
    [typeof comment === 'string' && comment !== '', 'comment'],
    [typeof uuid === 'string', 'UUID'],
    [typeof modificationUuid === 'string', 'modification UUID'],
    [typeof parentUuid === 'string', 'parent UUID'],
    [typeof parentModificationUuid === 'string', 'modification UUID of the parent'],
    [(geometry?.physical ?? geometry?.logical ?? null) !== null, 'geometry'],
  ].find(([given]) => given);
  if (refused === undefined) return;
  throw new ImageError('unsupported', `${format} images cannot store a ${refused[1]}`, { path });
}

/**
 * The same for a new image, with `invalid-argument`; also for a differencing image without a parent. A geometry comes along
 * with every copy, which reports that it is lost.
 */
export function refuseNewFacts(options: FormatCreateOptions, format: string): void {
  const { comment = '', uuid, parent } = options;
  const refused: readonly (readonly [is: boolean, reason: string])[] = [
    [comment !== '', `${format} images cannot store a comment`],
    [uuid !== undefined, `${format} images cannot store a UUID`],
    [wantsVariant(options, 'diff') && parent === undefined, 'A differencing image needs a parent'],
  ];
  const [, reason] = refused.find(([is]) => is) ?? [];
  if (reason !== undefined) throw new ImageError('invalid-argument', reason);
}
