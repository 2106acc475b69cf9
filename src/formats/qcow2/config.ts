/** Options of QCOW2 images: QEMU's names, and their values. */
import type { ConfigKey } from '../../image/contract.ts';

/** Names of the config keys: those of QEMU. */
export const CONFIG = {
  clusterSize: 'cluster_size',
  refcountBits: 'refcount_bits',
  compat: 'compat',
  lazyRefcounts: 'lazy_refcounts',
  extendedL2: 'extended_l2',
  compressionType: 'compression_type',
  preallocation: 'preallocation',
  dataFile: 'data_file',
  dataFileRaw: 'data_file_raw',
} as const;

/** Options that exist only for existing images, or concern the parent. */
export const BACKING_FILE = 'backing_file';
export const BACKING_FORMAT = 'backing_fmt';

/** Values of keys with a closed list, the default first. */
export const WORDS = {
  compat: ['1.1', '0.10', 'v3', 'v2'],
  compression: ['zlib', 'zstd'],
  preallocation: ['off', 'metadata', 'falloc', 'full'],
} as const;
export const FLAGS = ['off', 'on', '0', '1', 'false', 'true', 'no', 'yes'] as const;
const REFCOUNT_BITS = [1, 2, 4, 8, 16, 32, 64] as const;

/** Space allocated at creation. */
export type Preallocation = (typeof WORDS.preallocation)[number];

type Facts = Partial<Pick<ConfigKey, 'role' | 'values' | 'valueType' | 'default' | 'expert'>>;

/** Options of new images. */
export const CONFIG_KEYS: readonly ConfigKey[] = [
  newKey(CONFIG.clusterSize, 'Bytes of a cluster, a power of two from 512 to 2 MiB.', {
    ...{ valueType: 'integer', default: '65536', expert: false, role: 'unit' },
  }),
  newKey(CONFIG.compat, '1.1 for version 3, 0.10 for version 2.', { values: WORDS.compat, expert: false }),
  newKey(CONFIG.compressionType, 'How clusters are compressed: zlib or zstd.', {
    ...{ values: WORDS.compression, expert: false, role: 'compression' },
  }),
  newKey(CONFIG.preallocation, 'Space allocated at creation: off, metadata, falloc or full.', {
    ...{ values: WORDS.preallocation, expert: false, role: 'preallocation' },
  }),
  newKey(CONFIG.extendedL2, 'on: clusters have 32 subclusters each.', { values: FLAGS }),
  newKey(CONFIG.lazyRefcounts, 'on: other programs may postpone writing refcounts.', { values: FLAGS }),
  newKey(CONFIG.refcountBits, 'Width of a refcount, a power of two from 1 to 64.', {
    ...{ valueType: 'integer', default: '16', values: REFCOUNT_BITS },
  }),
  newKey(CONFIG.dataFile, 'Store guest data in this separate file.', { role: 'part' }),
  newKey(CONFIG.dataFileRaw, 'on: the data file is also a valid raw image.', { values: FLAGS }),
];

/** Options that can be changed. */
export const AMEND_KEYS: readonly ConfigKey[] = [
  amendKey(CONFIG.compat, '1.1 for version 3, 0.10 for version 2.'),
  amendKey(CONFIG.lazyRefcounts, 'on: other programs may postpone writing refcounts.'),
  amendKey(CONFIG.refcountBits, 'Width of a refcount, a power of two from 1 to 64.'),
  amendKey(CONFIG.compressionType, 'zlib or zstd, while no cluster is compressed.'),
  amendKey(CONFIG.dataFile, 'New name of the external data file, which is neither moved nor opened.'),
  amendKey(CONFIG.dataFileRaw, 'off: the data file is no longer kept a valid raw image.'),
  amendKey(BACKING_FILE, 'New name of the backing file, which is not opened; empty: none.'),
  amendKey(BACKING_FORMAT, 'Format of the backing file.'),
];

function newKey(name: string, description: string, facts: Facts): ConfigKey {
  const [usual = null] = facts.values ?? [];
  const shared = { name, mandatory: false, expert: true, createOnly: true, description } as const;
  return { ...shared, valueType: 'string', default: usual === null ? null : String(usual), ...facts };
}

/** The same option as for a new image, without a default: what is not named stays. */
function amendKey(name: string, description: string): ConfigKey {
  const { valueType = 'string', role, values } = CONFIG_KEYS.find((key) => key.name === name) ?? {};
  const shared = { name, mandatory: false, expert: false, createOnly: false, description } as const;
  return { ...shared, valueType, default: null, role, values };
}
