/** VMDK through power cuts: every way to create one, images of several extents, and all that can be done to them. */
import { commonCrashes } from '../../faults/common-crashes.ts';
import { WRITABLE, waysToMake } from '../../faults/ways.ts';
import { scattered, traffic } from '../../faults/workloads.ts';
import type { CrashKit, CrashRow } from '../crash-kit.ts';
import { cowdCrashes } from './crash-cowd.ts';
import { commentedSuite, compacted, GRAIN, splitSuite, tablelessSuite, vmdkSuite, vmdkWay } from './crash-images.ts';
import { resizeRows } from './crash-resize.ts';
import { MUTANTS } from './mutants.ts';

const busy = traffic(40, { discards: 0.25, unit: GRAIN });

const ROWS: readonly CrashRow[] = [
  {
    title: 'three extents: traffic',
    suite: (seed) => splitSuite({ seed, sessions: [busy, scattered(8)] }),
    options: {},
  },
  {
    title: 'three extents: compact and discard',
    suite: (seed) => splitSuite({ seed, sessions: [compacted] }),
    options: {},
  },
  {
    title: 'dynamic: compact and discard',
    suite: (seed) => vmdkSuite(vmdkWay('dynamic'), { seed, sessions: [compacted, busy] }),
    options: {},
  },
  {
    title: 'differencing: all of it',
    suite: (seed) => vmdkSuite(vmdkWay('diff', { diff: true }), { seed, sessions: [scattered(8), busy] }),
    options: {},
  },
  {
    title: 'tables among the grains: traffic',
    suite: (seed) => tablelessSuite({ seed, sessions: [busy, scattered(6)] }),
    options: {},
  },
  { title: 'comments', suite: (seed) => commentedSuite({ seed }), options: {} },
];

export function makeCrash(): CrashKit {
  const common = commonCrashes('vmdk');
  if (common === null) throw new Error('VMDK can be made and written');
  const ways = WRITABLE.filter(({ name }) => name === 'vmdk').flatMap(waysToMake);
  return {
    ...common,
    rows: [...common.rows, ...ROWS, ...resizeRows(ways), ...cowdCrashes.rows],
    seeds: [1, 9],
    // The rows are many: fewer of each are enough for the usual run.
    states: [Math.ceil(common.states[0] * 0.6), common.states[1]],
    everyCut: [13, 1],
    atLeast: [2400, 50_000],
    mutants: [...MUTANTS, ...cowdCrashes.mutants],
  };
}
