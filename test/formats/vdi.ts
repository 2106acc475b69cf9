/** VDI for the test suites. */

import type { FormatKit } from './kit.ts';
import { hostile } from './vdi/hostile.ts';

export const kit: FormatKit = {
  format: 'vdi',
  units: (bytes) => ({ AllocationBlockSize: bytes, DataAlignment: 512 }),
  hostile,
  crash: async () => (await import('./vdi/crash.ts')).crash,
  // QEMU reads blocks of 1 MiB only, and no differencing images.
  peers: [
    { program: 'qemu-img', format: 'vdi', checks: true, reads: ({ golden, differencing }) => golden && !differencing },
  ],
};
