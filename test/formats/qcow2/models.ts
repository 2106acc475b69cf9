/** QCOW2 images of all options for the model suite: which ones a seed has. */

import { defaultRegistry } from '../../../src/formats/index.ts';
import type { Config } from '../../../src/image/contract.ts';
import type { Random } from '../../../src/testing/random.ts';
import { DATA_FILE } from '../../model/data-file.ts';
import type { SetUp, Shape } from '../../model/scenario.ts';
import type { ModelKit } from '../kit.ts';

const SECTOR = 512;
const KIB = 1024;
/** Small ones more often: they have more tables, and quicker runs. */
const CLUSTERS = [
  ...[512, 512, 512, 512, 1024, 2048, 4096, 4096, 4096, 8192],
  ...[16_384, 16_384, 16_384, 32_768, 65_536, 65_536, 131_072, 262_144, 524_288, 1_048_576, 2_097_152],
] as const;
const CLUSTER_SIZES: readonly number[] = [...new Set(CLUSTERS)];
const REFCOUNT_BITS = [1, 2, 4, 8, 16, 32, 64] as const;
const PREALLOCATIONS = ['metadata', 'falloc', 'full'] as const;

/** Relations of images: alone, over others, with internal snapshots, and in changing chains. */
export function qcow2Shapes(): Shape[] {
  const [format, raw] = [defaultRegistry().find('qcow2'), defaultRegistry().find('raw')];
  const shape = (title: string, below: Shape['below'], inner: boolean): Shape => ({
    title,
    format,
    variant: [],
    below,
    suite: 'test/model/options',
    setUp: (random) => setUpOf(random, below, inner),
  });
  return [
    shape('alone', [], true),
    shape('over QCOW2', [format], true),
    shape('over raw', [raw], true),
    shape('alone, version 3, whatever is inside', [], true),
    shape('a chain that changes', [format, format], false),
  ];
}

function setUpOf(random: Random, below: Shape['below'], inner: boolean): SetUp {
  const clusterSize = CLUSTERS[random.below(CLUSTERS.length)] ?? 4096;
  const top = sizeFor(random, clusterSize);
  const configs = [...below, null].map((format, level) => {
    if (format?.name === 'raw') return {};
    if (format === null)
      return configOf(random, clusterSize, { parent: level > 0, dataFile: inner ? DATA_FILE : null });
    return configOf(random, CLUSTERS[random.below(14)] ?? 4096, { parent: level > 0, dataFile: null });
  });
  return {
    unit: Math.min(clusterSize, 256 * KIB),
    sizes: [...below.map(() => (random.chance(0.4) ? top : sizeFor(random, clusterSize))), top],
    configs,
    most: Math.max(1024 * KIB, top + 600 * KIB),
    start: random.pick(['empty', 'empty', 'converted', 'compressed']),
    inner,
    other: (chance) => otherConfig(chance),
  };
}

/** Some hundred KiB, or more than an L1 table of one cluster can say, or a few clusters; the last is seldom whole. */
function sizeFor(random: Random, clusterSize: number): number {
  if (clusterSize === 512 && random.chance(0.12)) return SECTOR * (4096 - random.below(300));
  const sectors = Math.max(
    400 + random.below(800),
    (clusterSize / SECTOR) * (1 + random.below(2)) + random.below(4000),
  );
  return SECTOR * (clusterSize < 128 * KIB ? Math.min(sectors, 900) : sectors);
}

function otherConfig(random: Random): Config {
  const clusterSize = random.pick([512, 4096, 16_384, 65_536, 65_536, 524_288]);
  const { preallocation: _none, ...rest } = configOf(random, clusterSize, { parent: false, dataFile: null });
  return rest;
}

function configOf(
  random: Random,
  clusterSize: number,
  { parent, dataFile }: { readonly parent: boolean; readonly dataFile: string | null },
): Config {
  const config: Record<string, string | number> = { cluster_size: clusterSize };
  if (!parent && random.chance(0.25)) config['preallocation'] = random.pick([...PREALLOCATIONS]);
  if (random.chance(0.15)) return { ...config, compat: '0.10' };
  if (random.chance(0.6)) config['refcount_bits'] = random.pick([...REFCOUNT_BITS]);
  if (clusterSize >= 16 * KIB && random.chance(0.5)) config['extended_l2'] = 'on';
  if (random.chance(0.2)) config['lazy_refcounts'] = 'on';
  if (random.chance(0.3)) config['compression_type'] = 'zstd';
  if (dataFile !== null && random.chance(0.12)) {
    config['data_file'] = dataFile;
    if (!parent && random.chance(0.5)) config['data_file_raw'] = 'on';
  }
  return config;
}

const INNER = [
  ...['create', 'apply', 'delete', 'rename'].map((act) => `snapshot ${act}`),
  ...['add', 'remove', 'clear', 'enable', 'disable', 'merge'].map((act) => `bitmap ${act}`),
];

/** Random options, against plain byte arrays for the disk and for each snapshot. */
export const models: ModelKit = {
  shapes: qcow2Shapes,
  inspect: async (...how) => (await import('./inspect.ts')).inspect(...how),
  seeds: [100, 3000],
  operations: [
    ...['read', 'write', 'zero', 'discard', 'flush', 'resize', 'compact', 'check', 'reopen', 'compress'],
    ...INNER,
    ...['start converted', 'start compressed', 'convert', 'convert compressed'],
    ...['stack', 'merge forward', 'merge backward'],
  ],
  options: [
    ...CLUSTER_SIZES.map((size) => `cluster_size=${size}`),
    ...REFCOUNT_BITS.map((bits) => `refcount_bits=${bits}`),
    ...PREALLOCATIONS.map((word) => `preallocation=${word}`),
    ...['compat=0.10', 'extended_l2=on', 'lazy_refcounts=on', 'compression_type=zstd', 'data_file_raw=on'],
    'data_file=image.data',
  ],
};
