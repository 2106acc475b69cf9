/** VDI for the test suites. */

import type { FormatKit } from './kit.ts';
import { way } from './peer-kit.ts';
import { hostile } from './vdi/hostile.ts';
import { ways } from './vdi/ways.ts';

export const kit: FormatKit = {
  format: 'vdi',
  units: (bytes) => ({ AllocationBlockSize: bytes, DataAlignment: 512 }),
  golden: {
    folder: 'vdi',
    facts: ({ uuid, parentUuid, modificationUuid, parentModificationUuid }) => {
      return { uuid, parentUuid, modificationUuid, parentModificationUuid };
    },
  },
  hostile,
  limits: async () => (await import('./vdi/limits.ts')).limits,
  crash: async () => (await import('./vdi/crash.ts')).crash,
  ways,
  measured: [way('AllocationBlockSize=65536')],
  peers: async () => (await import('./vdi/peers.ts')).peers,
  walk: async () => (await import('./vdi/walk.ts')).walk,
};
