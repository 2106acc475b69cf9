/** Space of fixed images at creation: their files are sparse, as those of QEMU, unless all of it is asked for. */
import { ImageError } from '../errors.ts';
import type { FormatCreateOptions } from './contract.ts';
import type { ConfigKey } from './facts.ts';
import { wantsVariant } from './variants.ts';

/** Values of the option `preallocation`; without it files are sparse. */
export const PREALLOCATION = ['off', 'falloc', 'full'] as const;

/** The option of formats with a variant `fixed`. */
export const PREALLOCATION_KEY: ConfigKey = {
  name: 'preallocation',
  role: 'preallocation',
  valueType: 'string',
  default: PREALLOCATION[0],
  mandatory: false,
  expert: false,
  createOnly: true,
  description: 'Space of a fixed image taken at creation: off (sparse files), falloc or full.',
  values: PREALLOCATION,
};

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
