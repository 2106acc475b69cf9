/** Images that a conversion by filters has changed in part: they have a record beside them. */
import { ImageError } from '../../errors.ts';
import { companionName } from '../../storage/companion.ts';
import type { Source } from '../../storage/contract.ts';

/** Place of an image's record. */
export function recordOf({ provider, name }: Source): Source {
  return { provider, name: companionName(name, '.vdkit-filters') };
}

/** True when the conversion of an image is incomplete. */
export async function isHalfConverted(source: Source): Promise<boolean> {
  const { provider, name } = recordOf(source);
  return (await provider.lookUp(name)) !== null;
}

/** Throws for a partly converted image, whose data would be a mixture. */
export async function refuseHalfConverted(source: Source): Promise<void> {
  if (!(await isHalfConverted(source))) return;
  throw new ImageError('busy', 'A conversion of this image by filters is running or was interrupted', {
    path: source.name,
    found: recordOf(source).name,
    hint: 'Open it with resumeFilters, add the same filters, and run filters.prepare to its end.',
  });
}
