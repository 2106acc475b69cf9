/** VDI through power cuts: every kind of image under everything that can be done to it, every flush of which is needed. */
import { rounds } from '../../conformance/random.ts';
import { covered, scattered, traffic } from '../../faults/workloads.ts';
import type { CrashKit, CrashRow, NeededRow } from '../crash-kit.ts';
import {
  compacted,
  coveredCompact,
  coveredCut,
  coveredGrowth,
  damagedSuite,
  filledSuite,
  highSlotsSuite,
  isMetadata,
  isMovedMetadata,
  maintenance,
  vdiSuite,
} from './crash-images.ts';
import { MUTANTS } from './mutants.ts';

const usual = { isMetadata };
const moved = { isMetadata: isMovedMetadata };
/** A cut of these has many states, or states that take many times as long as others. */
const everyCut = rounds(16, 1);
const wideSeldom = { ...usual, everyCut };
const movedSeldom = { ...moved, everyCut };
const busy = traffic(50, { discards: 0.15 });
const wide = [scattered(28), scattered(28)];
const ROWS: readonly CrashRow[] = [
  {
    title: 'dynamic: traffic',
    suite: (seed) => vdiSuite('dynamic', { seed, sessions: [busy, busy] }),
    options: usual,
    allPairs: true,
  },
  {
    title: 'dynamic: all of the map',
    suite: (seed) => vdiSuite('dynamic', { seed, sessions: wide }),
    options: wideSeldom,
    allPairs: true,
  },
  {
    title: 'fixed: traffic',
    suite: (seed) => vdiSuite('fixed', { seed, sessions: [busy, scattered(6)] }),
    options: usual,
    allPairs: true,
  },
  {
    title: 'differencing: traffic',
    suite: (seed) => vdiSuite('diff', { seed, sessions: [busy, busy] }),
    options: usual,
    allPairs: true,
  },
  {
    title: 'differencing: all of the map',
    suite: (seed) => vdiSuite('diff', { seed, sessions: wide }),
    options: wideSeldom,
    allPairs: true,
  },
  {
    title: 'dynamic: compact and resize',
    suite: (seed) => filledSuite('dynamic', { seed, sessions: maintenance }),
    options: movedSeldom,
    allPairs: true,
  },
  {
    title: 'differencing: compact and resize',
    suite: (seed) => filledSuite('diff', { seed, sessions: maintenance }),
    options: movedSeldom,
    allPairs: true,
  },
  {
    title: 'dynamic: cut to blocks in high slots',
    suite: (seed) => highSlotsSuite({ seed }),
    options: usual,
    allPairs: true,
  },
  {
    title: 'repair',
    suite: (seed) => damagedSuite('both', { seed, sessions: [traffic(8), compacted] }),
    options: usual,
    allPairs: true,
  },
];

const twice = [covered(0), covered(300)];
const NEEDED: readonly NeededRow[] = [
  // Flush 2 makes the new modification UUID durable before the first change. In an image without data no test can
  // tell: data shows up only with a map, and the count and another new UUID are durable before any map is.
  {
    title: 'a dynamic image',
    suite: vdiSuite('dynamic', { seed: 11, sessions: twice }),
    unmissed: [2],
    options: usual,
  },
  { title: 'a fixed image', suite: vdiSuite('fixed', { seed: 12, sessions: twice }), unmissed: [], options: usual },
  {
    title: 'a differencing image',
    suite: vdiSuite('diff', { seed: 13, sessions: twice }),
    unmissed: [2],
    options: usual,
  },
  {
    title: 'compacting',
    suite: filledSuite('dynamic', { seed: 14, sessions: [coveredCompact] }),
    unmissed: [],
    options: moved,
  },
  // Every format may count on a resize finding all that came before durable. In a VDI image these flushes are
  // followed by others, before anything depends on what they cover.
  {
    title: 'growing',
    suite: filledSuite('dynamic', { seed: 14, sessions: [coveredGrowth] }),
    unmissed: [2],
    options: moved,
  },
  {
    title: 'cutting',
    suite: filledSuite('dynamic', { seed: 14, sessions: [coveredCut] }),
    unmissed: [3, 8],
    options: moved,
  },
  // And before the end of the file is cut off nothing refers to it any more, nor does growing find anything behind the
  // end: the entries were given up when the disk was cut.
  {
    title: 'cutting to blocks in high slots',
    suite: highSlotsSuite({ seed: 14 }),
    unmissed: [2, 5, 9, 11, 12, 15, 19],
    options: usual,
  },
  {
    title: 'repairing a map',
    suite: damagedSuite('entries', { seed: 14, sessions: [async () => {}] }),
    unmissed: [],
    options: moved,
  },
  {
    title: 'repairing a count',
    suite: damagedSuite('count', { seed: 14, sessions: [async () => {}] }),
    unmissed: [],
    options: moved,
  },
];

export const crash: CrashKit = {
  rows: ROWS,
  seeds: [1, 11],
  states: [370, 1000],
  atLeast: [600, 100_000],
  needed: NEEDED,
  // The map has six sectors.
  chains: {
    unit: 1024,
    count: 768,
    isMetadata: (_, offset) => offset < 512 + 4 * 768,
    everyCut: [48, 1],
    atLeast: [35, 50_000],
  },
  mutants: MUTANTS,
  options: moved,
};
