/**
 * Compressed clusters of QCOW2 through power cuts. Streams share sectors and clusters, so a write that adds one must
 * leave those that were flushed as they are, whatever of it is lost; and each cluster is counted at least as often as
 * streams touch it.
 */
import { describe, expect, it } from 'vitest';
import { checkCrashRun, recordCrashRun } from '../../src/testing/index.ts';
import { rounds } from '../conformance/random.ts';
import { type Config, compressedSuite } from './qcow2-compressed-suite.ts';

const SEEDS = rounds(2, 15);
const STATES = 400;

const ROWS: readonly (readonly [title: string, clusters: number, config: Config])[] = [
  ['clusters of 1 KiB', 300, { cluster_size: 1024 }],
  ['clusters of 512 bytes, narrow counts', 300, { cluster_size: 512, refcount_bits: 2 }],
  ['clusters of 4 KiB', 90, { cluster_size: 4096, refcount_bits: 64 }],
  ['subclusters, zstd', 24, { cluster_size: 16_384, extended_l2: 'on', compression_type: 'zstd' }],
];

describe('a power cut while clusters are compressed', () => {
  describe.each(ROWS)('%s', (_, clusters, config) => {
    it.each(Array.from({ length: SEEDS }, (__, index) => index + 1))(
      'leaves what the promise says (seed %i)',
      async (seed) => {
        const run = await recordCrashRun(compressedSuite(clusters, config, { seed }));
        const report = await checkCrashRun(run, { maxStates: STATES, everyCut: rounds(3, 1), seed });
        expect(report.violations.slice(0, 5)).toEqual([]);
      },
    );
  });
});
