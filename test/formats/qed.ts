/** QED for the test suites. */

import type { FormatKit } from './kit.ts';
import { way } from './peer-kit.ts';
import { hostile } from './qed/hostile.ts';
import { models } from './qed/models.ts';
import { ways } from './qed/ways.ts';

export const kit: FormatKit = {
  format: 'qed',
  units: (bytes) => ({ cluster_size: Math.max(bytes, 4096), table_size: 2 }),
  golden: { folder: 'qed', facts: () => ({}) },
  hostile,
  tables: (size) => Math.ceil(size / 2 ** 31) * 4 * 65_536,
  ways,
  models,
  walk: async () => (await import('./qed/walk.ts')).walk,
  crash: async () => (await import('./qed/crash.ts')).makeCrash(),
  measured: [way('cluster_size=4096')],
  peers: async () => (await import('./qed/peers.ts')).peers,
};
