/** QCOW2 for the test suites. */

import type { FormatKit } from './kit.ts';
import { hostile } from './qcow2/hostile.ts';
import { models } from './qcow2/models.ts';
import { measured, ways } from './qcow2/ways.ts';

export const kit: FormatKit = {
  format: 'qcow2',
  units: (bytes) => ({ cluster_size: bytes }),
  golden: { without: 'QEMU makes them as the suites of test/peers run' },
  hostile,
  limits: async () => (await import('./qcow2/limits.ts')).limits,
  models,
  crash: async () => (await import('./qcow2/crash.ts')).crash,
  ways,
  measured,
  peers: async () => (await import('./qcow2/peers.ts')).peers,
  walk: async () => (await import('./qcow2/walk.ts')).walk,
};
