/** VHDX through power cuts: every kind of image under traffic, and what changes its structure. */
import type { CrashSession } from '../../../src/testing/index.ts';
import { scattered, traffic } from '../../faults/workloads.ts';
import type { CrashKit, CrashRow } from '../crash-kit.ts';
import { BLOCK, vhdxSuite } from './crash-images.ts';
import { MUTANTS } from './mutants.ts';

const busy = traffic(40, { discards: 0.25, unit: BLOCK });
const small = traffic(40, { discards: 0.15 });

/** Whole blocks of a child that are given up and written in part again before a flush. */
async function again(session: CrashSession): Promise<void> {
  for (let round = 0; round < 4; round++) {
    await session.write(round * 7, 3);
    await session.write(BLOCK + round * 11, 2);
    await session.flush();
    await session.zero(0, BLOCK);
    await session.write(100 + round, 2);
    await session.discard(BLOCK, BLOCK);
    await session.write(BLOCK + 200, 1);
    if (round % 2 === 0) await session.flush();
  }
}

const row = (title: string, suite: CrashRow['suite']): CrashRow => ({ title, suite, options: {} });

const ROWS: readonly CrashRow[] = [
  row('dynamic: traffic', (seed) => vhdxSuite('dynamic', seed, [busy, small])),
  row('fixed: traffic', (seed) => vhdxSuite('fixed', seed, [small])),
  row('differencing: traffic', (seed) => vhdxSuite('diff', seed, [busy, small])),
  row('differencing: all of it', (seed) => vhdxSuite('diff', seed, [scattered(6), scattered(6)])),
  row('differencing: again', (seed) => vhdxSuite('diff', seed, [again, again])),
];

export const crash: CrashKit = {
  rows: ROWS,
  seeds: [1, 11],
  states: [150, 2000],
  atLeast: [300, 20_000],
  needed: [],
  mutants: MUTANTS,
  options: {},
};
