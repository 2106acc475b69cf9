/** VHDX through power cuts: every kind of image under traffic, and what changes its structure. */
import type { CrashSession } from '../../../src/testing/index.ts';
import { scattered, traffic } from '../../faults/workloads.ts';
import type { CrashKit, CrashRow } from '../crash-kit.ts';
import { BLOCK, damaged, SECTORS, vhdxSuite } from './crash-images.ts';
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

/** Longer inside of the last block and behind it, shorter, and again. */
async function resized(session: CrashSession): Promise<void> {
  await session.write(session.sectors - 9, 9);
  await session.resize(SECTORS + 2);
  await session.write(SECTORS - 2, 4);
  await session.flush();
  await session.resize(BLOCK + 701);
  await small(session);
  await session.resize(9 * BLOCK - 5);
  await session.write(9 * BLOCK - 15, 10);
  await session.flush();
  await session.resize(2 * BLOCK);
  await session.resize(SECTORS);
  await session.write(1, 2);
}

/** Holes are made and filled, bitmaps stay. */
async function compacted(session: CrashSession): Promise<void> {
  await scattered(2)(session);
  await session.discard(0, 2 * BLOCK);
  await session.compact();
  await session.write(3, 4);
  await session.zero(2 * BLOCK, BLOCK);
  await session.compact();
  await session.write(BLOCK + 43, 2);
}

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
  row('dynamic: repair', (seed) => damaged(vhdxSuite('dynamic', seed, [busy, small]))),
  row('differencing: repair', (seed) => damaged(vhdxSuite('diff', seed, [busy, small]))),
];

export const crash: CrashKit = {
  rows: ROWS,
  seeds: [1, 11],
  states: [80, 2000],
  everyCut: [16, 1],
  atLeast: [600, 20_000],
  needed: [],
  mutants: MUTANTS,
  options: {},
};
