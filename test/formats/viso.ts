/** VISO files for the test suites: what they are made of is in `src/formats/viso/viso.test.ts`. */
import type { FormatKit } from './kit.ts';

export const kit: FormatKit = {
  format: 'viso',
  golden: { without: 'an image has the times of the files beside it' },
  hostile: { without: 'an image has the times of the files beside it: wrong texts are tried in its own test' },
  limits: async () => (await import('./viso/limits.ts')).limits,
};
