/** Raw disks for the test suites. */
import type { FormatKit } from './kit.ts';

export const kit: FormatKit = {
  format: 'raw',
  hostile: { without: 'no byte of a raw file means anything to vdkit: there is nothing to be wrong' },
};
