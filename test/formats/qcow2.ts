/** QCOW2 for the test suites. */

import type { FormatKit } from './kit.ts';
import { hostile } from './qcow2/hostile.ts';
import { models } from './qcow2/models.ts';

export const kit: FormatKit = {
  format: 'qcow2',
  units: (bytes) => ({ cluster_size: bytes }),
  hostile,
  models,
  crash: async () => (await import('./qcow2/crash.ts')).crash,
  // QEMU looks for data files from where it runs, not from where the image is.
  peers: [{ program: 'qemu-img', format: 'qcow2', checks: true, reads: ({ name }) => name !== 'external data file' }],
};
