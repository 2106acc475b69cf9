/** VDI through power cuts: every kind of image under everything that can be done to it, every flush of which is needed. */
import { afterAll, describe, expect, it } from 'vitest';
import {
  type CrashCheckOptions,
  type CrashSuite,
  checkCrashRun,
  recordCrashRun,
  unmissedFlushes,
} from '../../src/testing/index.ts';
import { rounds } from '../conformance/random.ts';
import {
  compacted,
  covered,
  coveredCompact,
  coveredCut,
  coveredGrowth,
  damagedSuite,
  filledSuite,
  highSlotsSuite,
  isMetadata,
  isMovedMetadata,
  maintenance,
  scattered,
  traffic,
  vdiSuite,
} from './vdi-suite.ts';

/** States to aim for in each row. */
const STATES = rounds(500, 1000);
/** Seeds of each row. */
const SEEDS = rounds(1, 11);

type Row = readonly [title: string, suite: (seed: number) => CrashSuite, options: CrashCheckOptions];

const usual = { isMetadata };
const moved = { isMetadata: isMovedMetadata };
const busy = traffic(50, { discards: 0.15 });
const wide = [scattered(28), scattered(28)];
const ROWS: readonly Row[] = [
  ['dynamic: traffic', (seed) => vdiSuite('dynamic', { seed, sessions: [busy, busy] }), usual],
  ['dynamic: all of the map', (seed) => vdiSuite('dynamic', { seed, sessions: wide }), usual],
  ['fixed: traffic', (seed) => vdiSuite('fixed', { seed, sessions: [busy, scattered(6)] }), usual],
  ['differencing: traffic', (seed) => vdiSuite('diff', { seed, sessions: [busy, busy] }), usual],
  ['differencing: all of the map', (seed) => vdiSuite('diff', { seed, sessions: wide }), usual],
  ['dynamic: compact and resize', (seed) => filledSuite('dynamic', { seed, sessions: maintenance }), moved],
  ['differencing: compact and resize', (seed) => filledSuite('diff', { seed, sessions: maintenance }), moved],
  ['dynamic: cut to blocks in high slots', (seed) => highSlotsSuite({ seed }), usual],
  ['repair', (seed) => damagedSuite('both', { seed, sessions: [traffic(8), compacted] }), usual],
];

describe('a power cut', () => {
  let distinct = 0;
  afterAll(() => console.log(`VDI: ${distinct} states after a power cut that differ in their metadata`));

  describe.each(ROWS)('%s', (_, suite, options) => {
    it.each(Array.from({ length: SEEDS }, (__, index) => index + 1))(
      'leaves what the promise says (seed %i)',
      async (seed) => {
        const run = await recordCrashRun(suite(seed));
        const report = await checkCrashRun(run, { maxStates: STATES, everyCut: rounds(3, 1), seed, ...options });
        expect(report.violations.slice(0, 5)).toEqual([]);
        expect(report.pairsSplit).toBe(report.pairsTotal);
        distinct += report.distinct;
      },
    );
  });

  it('was tried in thousands of states that differ in their metadata', () => {
    expect(distinct).toBeGreaterThanOrEqual(rounds(2500, 100_000));
  });
});

/** Suite, and the numbers of the flushes that nothing would miss. */
type Needed = readonly [title: string, suite: CrashSuite, unmissed: readonly number[], options: CrashCheckOptions];

const twice = [covered(0), covered(300)];
const NEEDED: readonly Needed[] = [
  // Flush 2 makes the new modification UUID durable before the first change. In an image without data nobody can
  // tell: data shows up only with a map, and the count and another new UUID are durable before any map is.
  ['a dynamic image', vdiSuite('dynamic', { seed: 11, sessions: twice }), [2], usual],
  ['a fixed image', vdiSuite('fixed', { seed: 12, sessions: twice }), [], usual],
  ['a differencing image', vdiSuite('diff', { seed: 13, sessions: twice }), [2], usual],
  ['compacting', filledSuite('dynamic', { seed: 14, sessions: [coveredCompact] }), [], moved],
  // Every format may count on a resize finding all that came before durable. In a VDI image these flushes are
  // followed by others, before anything depends on what they cover.
  ['growing', filledSuite('dynamic', { seed: 14, sessions: [coveredGrowth] }), [2], moved],
  ['cutting', filledSuite('dynamic', { seed: 14, sessions: [coveredCut] }), [3, 8], moved],
  // And before the end of the file is cut off nothing refers to it any more, nor does growing find anything behind the
  // end: the entries were given up when the disk was cut.
  ['cutting to blocks in high slots', highSlotsSuite({ seed: 14 }), [2, 5, 9, 11, 12, 15, 19], usual],
  ['repairing a map', damagedSuite('entries', { seed: 14, sessions: [async () => {}] }), [], moved],
  ['repairing a count', damagedSuite('count', { seed: 14, sessions: [async () => {}] }), [], moved],
];

describe('a missing flush breaks the promise', () => {
  it.each(NEEDED)('of %s', async (_, suite, expected, options) => {
    const run = await recordCrashRun(suite);
    const unmissed = await unmissedFlushes(run, options);
    expect(unmissed.map(({ flush }) => flush.number)).toEqual(expected);
  });
});
