/** Space of fixed images at creation: their files are sparse, as those of QEMU, unless all of it is asked for. */
import { ImageError } from '../errors.ts';
import type { FormatCreateOptions } from './contract.ts';
import { PREALLOCATION, PREALLOCATION_KEY } from './preallocation-key.ts';
import { wantsVariant } from './variants.ts';

/** True when a fixed image gets all its space at creation. */
export function wantsSpace({ config }: Pick<FormatCreateOptions, 'config'>): boolean {
  return (config?.[PREALLOCATION_KEY.name] ?? PREALLOCATION[0]) !== PREALLOCATION[0];
}

/** True for an image that is fixed by its variant, or since it gets all its space. Throws `invalid-argument`. */
export function wantsFixed(options: FormatCreateOptions): boolean {
  const fixed = wantsVariant(options, 'fixed');
  if (fixed || !wantsSpace(options)) return fixed;
  const other = ['dynamic', 'diff'].find((word) => wantsVariant(options, word));
  if (other === undefined && options.parent === undefined) return true;
  throw new ImageError('invalid-argument', 'Only a fixed image gets all its space at creation', {
    field: PREALLOCATION_KEY.name,
    found: `${String(options.config?.[PREALLOCATION_KEY.name])} with ${other ?? 'a parent'}`,
    hint: 'Choose variant fixed (on the command line: --variant fixed), or preallocation off.',
  });
}
