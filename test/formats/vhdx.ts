/** VHDX for the test suites. */

import type { FormatKit } from './kit.ts';
import { way } from './peer-kit.ts';
import { hostile } from './vhdx/hostile.ts';
import { ways } from './vhdx/ways.ts';

const MIB = 1024 * 1024;

export const kit: FormatKit = {
  format: 'vhdx',
  units: (bytes) => ({ block_size: Math.max(bytes, MIB) }),
  golden: { without: 'only QEMU makes VHDX images here, and the suites of peers have it make them afresh' },
  hostile,
  limits: async () => (await import('./vhdx/limits.ts')).limits,
  ways,
  measured: [way(`block_size=${MIB}`)],
  crash: async () => (await import('./vhdx/crash.ts')).crash,
  peers: async () => (await import('./vhdx/peers.ts')).peers,
};
