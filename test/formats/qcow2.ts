/** QCOW2 for the test suites. */

import type { FormatKit } from './kit.ts';
import { hostile } from './qcow2/hostile.ts';

export const kit: FormatKit = {
  format: 'qcow2',
  hostile,
  crash: async () => (await import('./qcow2/crash.ts')).crash,
};
