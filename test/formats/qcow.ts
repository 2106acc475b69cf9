/** QCOW version 1 for the test suites. */

import type { FormatKit } from './kit.ts';
import { way } from './peer-kit.ts';
import { hostile } from './qcow/hostile.ts';
import { models } from './qcow/models.ts';
import { ways } from './qcow/ways.ts';

export const kit: FormatKit = {
  format: 'qcow',
  units: (bytes) => ({ cluster_size: Math.min(Math.max(bytes, 512), 65_536) }),
  golden: { folder: 'qcow', facts: () => ({}) },
  hostile,
  tables: (size) => Math.ceil(size / 2 ** 21) * 4096,
  limits: async () => (await import('./qcow/limits.ts')).limits,
  ways,
  models,
  walk: async () => (await import('./qcow/walk.ts')).walk,
  crash: async () => (await import('./qcow/crash.ts')).makeCrash(),
  // QEMU looks at each cluster of 4 KiB when it compares.
  longest: 64 * 1024 ** 3,
  measured: [way('cluster_size=65536')],
  peers: async () => (await import('./qcow/peers.ts')).peers,
};
