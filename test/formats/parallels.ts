/** Parallels for the test suites. */

import type { FormatKit } from './kit.ts';
import { hostile } from './parallels/hostile.ts';
import { models } from './parallels/models.ts';
import { ways } from './parallels/ways.ts';
import { way } from './peer-kit.ts';

export const kit: FormatKit = {
  format: 'parallels',
  units: (bytes) => ({ cluster_size: bytes }),
  golden: { folder: 'parallels', facts: () => ({}), namesParents: false },
  hostile,
  // The place of the first cluster leaves room for a longer table.
  tables: (size) => Math.ceil((64 + 4 * Math.ceil(size / 2 ** 20)) / 2 ** 20) * 2 ** 20,
  ways,
  limits: async () => (await import('./parallels/limits.ts')).limits,
  models,
  walk: async () => (await import('./parallels/walk.ts')).walk,
  crash: async () => (await import('./parallels/crash.ts')).makeCrash(),
  measured: [way('cluster_size=32256')],
  peers: async () => (await import('./parallels/peers.ts')).peers,
};
