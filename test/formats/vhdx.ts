/** VHDX for the test suites. */

import type { FormatKit } from './kit.ts';
import { way } from './peer-kit.ts';
import { hostile } from './vhdx/hostile.ts';
import { models } from './vhdx/models.ts';
import { ways } from './vhdx/ways.ts';

const MIB = 1024 * 1024;

export const kit: FormatKit = {
  format: 'vhdx',
  fixedResizes: true,
  units: (bytes) => ({ block_size: Math.max(bytes, MIB) }),
  golden: { folder: 'vhdx', facts: () => ({ sectorSize: 512, differencing: false }) },
  hostile,
  limits: async () => (await import('./vhdx/limits.ts')).limits,
  // 7-Zip takes disks of eight sectors each alone, and there are sectors of 4096 bytes.
  sizeUnit: 8 * 4096,
  ways,
  measured: [way(`block_size=${MIB}`)],
  models,
  crash: async () => (await import('./vhdx/crash.ts')).crash,
  peers: async () => (await import('./vhdx/peers.ts')).peers,
};
