/** QCOW2 through power cuts: every kind of image under everything that can be done to it. */
import { scattered, traffic } from '../../faults/workloads.ts';
import type { CrashKit, CrashRow } from '../crash-kit.ts';
import { type Config, compressedSuite } from './crash-compressed.ts';
import { type Qcow2Kind, qcow2Suite } from './crash-images.ts';
import { MUTANTS } from './mutants.ts';

const small = { clusterSize: 512, clusters: 1200 };
const busy = traffic(50, { discards: 0.15 });
const KINDS: readonly (readonly [title: string, kind: Qcow2Kind, sessions: Parameters<typeof qcow2Suite>[2]])[] = [
  ['clusters of 512 bytes: traffic', small, [busy, busy]],
  ['clusters of 512 bytes: all tables', small, [scattered(20), scattered(20)]],
  ['wide refcounts, whose table grows', { ...small, config: { refcount_bits: 64 } }, [busy, scattered(16)]],
  ['refcounts of one bit', { ...small, config: { refcount_bits: 1 } }, [busy, scattered(12)]],
  ['clusters of 4 KiB', { clusterSize: 4096, clusters: 300 }, [busy, busy]],
  ['over a backing file: traffic', { ...small, diff: true }, [busy, busy]],
  ['over a backing file: all tables', { ...small, diff: true }, [scattered(16), scattered(16)]],
  ['version 2', { ...small, config: { compat: '0.10' } }, [busy, busy]],
  ['subclusters', { clusterSize: 16_384, clusters: 100, config: { extended_l2: 'on' } }, [busy, busy]],
  ['room taken at once', { ...small, config: { preallocation: 'metadata' } }, [busy]],
];

const ROWS: readonly CrashRow[] = KINDS.map(([title, kind, sessions]) => ({
  title,
  suite: (seed) => qcow2Suite(kind, seed, sessions),
  options: {},
}));

const COMPRESSED: readonly (readonly [title: string, clusters: number, config: Config])[] = [
  ['clusters of 1 KiB', 300, { cluster_size: 1024 }],
  ['clusters of 512 bytes, narrow counts', 300, { cluster_size: 512, refcount_bits: 2 }],
  ['clusters of 4 KiB', 90, { cluster_size: 4096, refcount_bits: 64 }],
  ['subclusters, zstd', 24, { cluster_size: 16_384, extended_l2: 'on', compression_type: 'zstd' }],
];

/**
 * Streams share sectors and clusters, so a write that adds one must leave those that were flushed as they are, whatever
 * of it is lost; and each cluster is counted at least as often as streams touch it.
 */
const COMPRESSED_ROWS: readonly CrashRow[] = COMPRESSED.map(([title, clusters, config]) => ({
  title: `compressed: ${title}`,
  suite: (seed) => compressedSuite(clusters, config, { seed }),
  options: {},
  seeds: [1, 15],
  states: [250, 400],
}));

export const crash: CrashKit = {
  rows: [...ROWS, ...COMPRESSED_ROWS],
  seeds: [1, 13],
  states: [330, 1000],
  atLeast: [1200, 100_000],
  needed: [],
  mutants: MUTANTS,
  options: {},
};
