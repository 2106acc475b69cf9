/** VHDX through power cuts: every kind of image under traffic, and what changes its structure. */
import { type Parents, relinked } from '../../faults/relinking.ts';
import { scattered, traffic } from '../../faults/workloads.ts';
import type { CrashKit, CrashRow } from '../crash-kit.ts';
import { BLOCK, CONFIG, damaged, PARENT, vhdxSuite } from './crash-images.ts';
import { MUTANTS } from './mutants.ts';
import { again, compacted, resized, small } from './workloads.ts';

const busy = traffic(40, { discards: 0.25, unit: BLOCK });

const PARENTS: Parents = { format: 'vhdx', config: CONFIG, first: PARENT, between: traffic(8, { flushes: 0.3 }) };

const row = (title: string, suite: CrashRow['suite']): CrashRow => ({ title, suite, options: {} });

const ROWS: readonly CrashRow[] = [
  row('dynamic: traffic', (seed) => vhdxSuite('dynamic', seed, [busy, small])),
  row('fixed: traffic', (seed) => vhdxSuite('fixed', seed, [small])),
  row('differencing: traffic', (seed) => vhdxSuite('diff', seed, [busy, small])),
  row('differencing: all of it', (seed) => vhdxSuite('diff', seed, [scattered(6), scattered(6)])),
  row('differencing: again', (seed) => vhdxSuite('diff', seed, [again, again])),
  row('dynamic: resize', (seed) => vhdxSuite('dynamic', seed, [resized, small])),
  row('fixed: resize', (seed) => vhdxSuite('fixed', seed, [resized])),
  row('differencing: resize', (seed) => vhdxSuite('diff', seed, [resized, small])),
  row('dynamic: compact', (seed) => vhdxSuite('dynamic', seed, [compacted, busy])),
  row('differencing: compact', (seed) => vhdxSuite('diff', seed, [compacted, compacted])),
  row('differencing: other parents', (seed) => relinked(vhdxSuite('diff', seed, []), PARENTS)),
  row('dynamic: repair', (seed) => damaged(vhdxSuite('dynamic', seed, [busy, small]))),
  row('differencing: repair', (seed) => damaged(vhdxSuite('diff', seed, [busy, small]))),
];

export const crash: CrashKit = {
  rows: ROWS,
  seeds: [1, 11],
  states: [80, 2000],
  everyCut: [21, 1],
  atLeast: [350, 20_000],
  needed: [],
  mutants: MUTANTS,
  options: {},
};
