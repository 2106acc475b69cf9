/** VHD for the test suites. */

import type { FormatKit } from './kit.ts';
import { way } from './peer-kit.ts';
import { hostile } from './vhd/hostile.ts';
import { models } from './vhd/models.ts';
import { ways } from './vhd/ways.ts';

export const kit: FormatKit = {
  format: 'vhd',
  units: (bytes) => ({ block_size: Math.max(bytes, 4096) }),
  golden: {
    folder: 'vhd',
    facts: ({ uuid, parentUuid }) => ({ uuid, parentUuid }),
  },
  hostile,
  fixedResizes: true,
  longest: 2040 * 1024 ** 3,
  ways,
  measured: [way('block_size=524288')],
  limits: async () => (await import('./vhd/limits.ts')).limits,
  models,
  walk: async () => (await import('./vhd/walk.ts')).walk,
  crash: async () => (await import('./vhd/crash.ts')).makeCrash(),
  peers: async () => (await import('./vhd/peers.ts')).peers,
};
