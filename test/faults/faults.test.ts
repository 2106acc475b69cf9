/**
 * A medium that fails, runs full, turns read-only or reads short, at every point of the life of an image of every
 * format that can be written: the failure is told, nothing is written that could do harm, and what was flushed is there.
 */
import { describe, expect, it } from 'vitest';
import type { ErrorKind } from '../../src/errors.ts';
import type { FaultPlan } from '../../src/testing/index.ts';
import { oneIn, rounds } from '../conformance/random.ts';
import { runFaults } from './fault-run.ts';
import { type Way, WRITABLE, waysToMake } from './ways.ts';

type Plan = (turn: number) => FaultPlan;

const io: ErrorKind = 'io';
const PLANS: readonly (readonly [title: string, plan: Plan])[] = [
  ['a read fails', (read) => ({ fail: { read }, kind: io })],
  ['a read is short', (read) => ({ fail: { read }, half: true, kind: io })],
  ['nothing can be read any more', (read) => ({ fail: { read }, forGood: true, kind: io })],
  ['a write fails', (write) => ({ fail: { write }, kind: io })],
  ['a write is torn', (write) => ({ fail: { write }, half: true, kind: io })],
  ['a flush fails', (flush) => ({ fail: { flush }, kind: io })],
  ['the medium is gone', (write) => ({ fail: { write }, forGood: ['read', 'write', 'flush', 'names'], kind: io })],
  ['no flush succeeds any more', (flush) => ({ fail: { flush }, forGood: true, kind: io })],
  ['a change of names fails', (names) => ({ fail: { names }, kind: io })],
  ['the medium is full', (growth) => ({ fail: { growth }, forGood: true, half: true, kind: 'no-space' })],
  ['the medium is full for a moment', (growth) => ({ fail: { growth }, kind: 'no-space' })],
  ['the medium turns read-only', (write) => ({ fail: { write }, forGood: ['write', 'names'], kind: 'read-only' })],
];

/** From one turn to the next: a format with many ways plays fewer of each. Every turn in the long run. */
function stepOf(ways: readonly Way[]): number {
  return rounds(9 + 5 * ways.length, 1);
}

/** Runs the plan for the turns that the workload reaches. Where `first` is behind all of them, earlier ones. */
async function problemsOf(
  way: Way,
  plan: Plan,
  { first, step }: { readonly first: number; readonly step: number },
): Promise<{ fired: number; problems: string[] }> {
  const problems: string[] = [];
  for (let turn = first, fired = 0; ; turn += step, fired++) {
    const outcome = await runFaults(way, plan(turn));
    problems.push(...outcome.problems.map((problem) => `turn ${turn}: ${problem}`));
    if (!outcome.fired && fired === 0 && first > 0) return problemsOf(way, plan, { first: first >> 1, step });
    if (!outcome.fired || problems.length > 50) return { fired, problems };
  }
}

describe.each(WRITABLE)('$name', (format) => {
  const ways = waysToMake(format);
  const step = stepOf(ways);
  describe.each(ways)('$title', (way) => {
    // In the usual run the ways of a format take turns with the plans, where there are several.
    const plans = oneIn(Math.min(ways.length, 2), PLANS, ways.indexOf(way));
    it.each(plans)('whenever %s', async (title, plan) => {
      // The plans begin at different turns, and so do the ways.
      const first = (PLANS.findIndex(([other]) => other === title) + ways.indexOf(way)) % step;
      const { fired, problems } = await problemsOf(way, plan, { first, step });
      expect(problems.slice(0, 8)).toEqual([]);
      expect(fired).toBeGreaterThan(0);
    });
  });
});
