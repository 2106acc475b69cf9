/**
 * Resizing that is cancelled, or runs into a full medium, at every step: the image opens, has the size of before or of
 * after with its content, has no files that nothing names, and takes the same command again.
 */
import { describe, expect, it } from 'vitest';
import { rounds } from '../../../test/conformance/random.ts';
import {
  CASES,
  type Case,
  contentOf,
  type Ends,
  endsOf,
  NAME,
  namesIn,
  Reserving,
  resize,
  start,
} from '../../../test/formats/vmdk/resized.ts';
import { checkImage } from '../../index.ts';
import type { MemoryProvider } from '../../storage/memory.ts';
import { type FaultPlan, type FaultPoint, FaultProvider } from '../../testing/index.ts';

/** Aborts a signal at the n-th operation, and fails as planned. */
class Cancelling extends FaultProvider {
  #left = Number.POSITIVE_INFINITY;
  #controller = new AbortController();

  cancelAt(count: number): AbortSignal {
    this.#left = count;
    this.#controller = new AbortController();
    return this.#controller.signal;
  }

  override check(point: FaultPoint, path: string, half?: () => Promise<void>): Promise<void> {
    if (this.#left-- === 0) this.#controller.abort();
    return super.check(point, path, half);
  }
}

/** Cancels, and ways to run full: for a moment or for good, when a file becomes longer or at any write. */
const FAULTS: readonly (readonly [title: string, plan: ((step: number) => FaultPlan) | null])[] = [
  ['it is cancelled', null],
  ['the medium is full', (growth) => ({ fail: { growth }, forGood: true, half: true, kind: 'no-space' })],
  ['the medium is full for a moment', (growth) => ({ fail: { growth }, kind: 'no-space' })],
  ['no room is left for a write', (write) => ({ fail: { write }, forGood: ['write', 'growth'], kind: 'no-space' })],
  ['a write finds no room for a moment', (write) => ({ fail: { write }, half: true, kind: 'no-space' })],
];

/** Codes of what a check finds, but for lost room. */
async function findingsOf(files: MemoryProvider): Promise<{ code: string; severity: string }[]> {
  const { findings } = await checkImage({ provider: files, name: NAME }, { allow: ['/'] });
  return findings.map(({ code, severity }) => ({ code, severity })).filter(({ severity }) => severity !== 'leak');
}

/** Disturbs a resize at one step. False: it ended before. */
async function disturb(
  { one, grows, ends, plan }: { one: Case; grows: boolean; ends: Ends; plan: (typeof FAULTS)[number][1] },
  step: number,
): Promise<boolean> {
  const files = new Reserving();
  await start(files, one, grows);
  const provider = new Cancelling(files);
  const signal = plan === null ? provider.cancelAt(step) : undefined;
  if (plan !== null) provider.plan(plan(step));
  const error = await resize(provider, ends.to, signal).then(
    () => null,
    (failure: unknown) => failure,
  );
  if (error !== null) {
    const kinds = expect.stringMatching(plan === null ? /^aborted$/ : /^(no-space|io)$/);
    expect({ step, error }).toMatchObject({ step, error: { kind: kinds } });
  }
  const { size, found } = await contentOf(files, one);
  const state = ends.states.get(size);
  expect({ step, size, found, names: await namesIn(files) }).toEqual({
    step,
    size,
    found: state?.content,
    names: state?.names,
  });
  const harm = (await findingsOf(files)).filter(({ severity }) => severity === 'corruption');
  expect({ step, harm }).toEqual({ step, harm: [] });
  await resize(files, ends.to);
  const again = await contentOf(files, one);
  const wanted = ends.states.get(ends.to);
  expect({ step, found: again.found, names: await namesIn(files), findings: await findingsOf(files) }).toEqual({
    step,
    found: wanted?.content,
    names: wanted?.names,
    findings: [],
  });
  return plan === null ? signal?.aborted === true : provider.fired;
}

describe.each(CASES)('$title', (one) => {
  describe.each([true, false])('grows: %s', (grows) => {
    it.each(FAULTS)('whenever %s', async (_, plan) => {
      const ends = await endsOf(one, grows);
      const every = plan === null ? rounds(30, 1) : rounds(9, 1);
      let steps = 0;
      while (await disturb({ one, grows, ends, plan }, steps * every)) steps++;
      // Not every resize makes a file longer.
      if (plan?.(0).fail?.growth === undefined) expect(steps).toBeGreaterThan(0);
    });
  });
});
