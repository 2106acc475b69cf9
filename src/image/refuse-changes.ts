/** Changes of metadata that a format has no field for. */
import { ImageError } from '../errors.ts';
import type { ImageChanges } from './contract.ts';

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
