/** Ways to make a QCOW2 image: every option with every value, and some together. */
import { type MakeWay, way } from '../peer-kit.ts';

const CLUSTERS = Array.from({ length: 13 }, (_, index) => 2 ** (9 + index));
const PREALLOCATIONS = ['metadata', 'falloc', 'full'];

const OPTIONS = [
  ...CLUSTERS.map((size) => `cluster_size=${size}`),
  'compat=0.10',
  'compat=0.10,cluster_size=4096',
  ...[1, 2, 4, 8, 32, 64].map((bits) => `refcount_bits=${bits}`),
  ...[1, 2, 4, 8, 16, 32, 64].map((bits) => `refcount_bits=${bits},cluster_size=512`),
  'lazy_refcounts=on',
  'compression_type=zstd',
  ...PREALLOCATIONS.map((how) => `preallocation=${how}`),
  'extended_l2=on',
  'extended_l2=on,cluster_size=16384',
  'extended_l2=on,cluster_size=2097152',
  'extended_l2=on,preallocation=metadata',
  'data_file=data.raw',
  'data_file=data.raw,extended_l2=on',
  'data_file=data.raw,data_file_raw=on',
];
const OVER = ['cluster_size=512', 'cluster_size=65536', 'compat=0.10', 'extended_l2=on', 'data_file=data.raw'];

export const ways: readonly MakeWay[] = [
  ...OPTIONS.map((options) => way(options)),
  ...OVER.map((options) => way(options, { over: true })),
];

/** Ways that differ in how much room they take. */
export const measured: readonly MakeWay[] = [
  ...[512, 1024, 4096, 16_384, 262_144, 2_097_152].map((size) => `cluster_size=${size}`),
  ...[1, 8, 64].map((bits) => `cluster_size=512,refcount_bits=${bits}`),
  'compat=0.10',
  'extended_l2=on',
  'extended_l2=on,cluster_size=16384',
  'lazy_refcounts=on,compression_type=zstd',
  ...PREALLOCATIONS.map((how) => `preallocation=${how}`),
  'preallocation=metadata,cluster_size=512,refcount_bits=64',
  'preallocation=metadata,extended_l2=on',
  'data_file=data.raw',
  'data_file=data.raw,data_file_raw=on',
  'data_file=data.raw,preallocation=metadata,cluster_size=4096',
].map((options) => way(options));
