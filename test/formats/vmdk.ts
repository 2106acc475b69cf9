/** VMDK for the test suites. */

import type { FormatKit } from './kit.ts';
import { hostile } from './vmdk/hostile.ts';
import { models } from './vmdk/models.ts';
import { measured, ways } from './vmdk/ways.ts';

export const kit: FormatKit = {
  format: 'vmdk',
  units: (bytes) => ({ grain_size: Math.min(Math.max(bytes, 4096), 2 ** 21) }),
  golden: {
    folder: 'vmdk',
    facts: ({ uuid, parentUuid, modificationUuid, parentModificationUuid }) => {
      return { uuid, parentUuid, modificationUuid, parentModificationUuid };
    },
  },
  fixedResizes: true,
  ways,
  measured,
  peers: async () => (await import('./vmdk/peers.ts')).peers,
  limits: async () => (await import('./vmdk/limits.ts')).limits,
  hostile,
  models,
  walk: async () => (await import('./vmdk/walk.ts')).walk,
  crash: async () => (await import('./vmdk/crash.ts')).makeCrash(),
};
