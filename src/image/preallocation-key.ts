/** The option of formats that have fixed images: apart from what reads it, since all names are loaded always. */
import type { ConfigKey } from './facts.ts';

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
