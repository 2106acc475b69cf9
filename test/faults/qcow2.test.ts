/** QCOW2 through power cuts: every kind of image under everything that can be done to it. */
import { afterAll, describe, expect, it } from 'vitest';
import { checkCrashRun, recordCrashRun } from '../../src/testing/index.ts';
import { rounds } from '../conformance/random.ts';
import { type Qcow2Kind, qcow2Suite } from './qcow2-suite.ts';
import { scattered, traffic } from './vdi-suite.ts';

/** States to aim for in each row. */
const STATES = rounds(500, 1000);
/** Seeds of each row. */
const SEEDS = rounds(1, 13);

const small = { clusterSize: 512, clusters: 1200 };
const busy = traffic(50, { discards: 0.15 });
const ROWS: readonly (readonly [title: string, kind: Qcow2Kind, sessions: Parameters<typeof qcow2Suite>[2]])[] = [
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

describe('a power cut', () => {
  let distinct = 0;
  afterAll(() => console.log(`QCOW2: ${distinct} states after a power cut that differ`));

  describe.each(ROWS)('%s', (_, kind, sessions) => {
    it.each(Array.from({ length: SEEDS }, (__, index) => index + 1))(
      'leaves what the promise says (seed %i)',
      async (seed) => {
        const run = await recordCrashRun(qcow2Suite(kind, seed, sessions));
        const report = await checkCrashRun(run, { maxStates: STATES, everyCut: rounds(3, 1), seed });
        expect(report.violations.slice(0, 5)).toEqual([]);
        distinct += report.distinct;
      },
    );
  });

  it('was tried in thousands of states', () => {
    expect(distinct).toBeGreaterThanOrEqual(rounds(2500, 100_000));
  });
});
