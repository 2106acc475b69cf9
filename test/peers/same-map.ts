/** The map of another program beside the one that vdkit makes of the same image. */
import { expect } from 'vitest';
import type { Extent } from '../../src/disk/device.ts';
import type { PeerRun } from '../formats/peer-kit.ts';

/** Compared fields of an extent. */
export type OurRun = Pick<Extent, 'offset' | 'length' | 'state' | 'depth' | 'compressed' | 'fileOffset'>;

/**
 * Run by run, wherever one of the two begins. `unmarked`: no zeroes are marked, so that what is zero for a program that
 * does not tell zeroes from what is not stored must be absent.
 */
export function expectSameMap(ours: readonly OurRun[], theirs: readonly PeerRun[], unmarked = false): void {
  let offset = 0;
  for (let [a, b] = [0, 0]; a < ours.length || b < theirs.length; ) {
    const [extent, run] = [ours[a], theirs[b]];
    if (extent === undefined || run === undefined) expect.fail(`one of the maps ends at ${offset}`);
    expectSameRun(extent, run, unmarked);
    const [extentEnd, runEnd] = [extent.offset + extent.length, run.start + run.length];
    offset = Math.min(extentEnd, runEnd);
    if (extentEnd === offset) a++;
    if (runEnd === offset) b++;
  }
}

function expectSameRun(extent: OurRun, run: PeerRun, unmarked: boolean): void {
  const what = `${JSON.stringify(extent)} and ${JSON.stringify(run)}`;
  const either = run.states.includes('absent') && run.states.includes('zero');
  expect(unmarked && either ? ['absent'] : run.states, what).toContain(extent.state);
  if (run.depth !== undefined && extent.state !== 'absent') expect(extent.depth, what).toBe(run.depth);
  if (extent.state !== 'data' || run.fileOffset === undefined) return;
  expect(extent.compressed, what).toBe(run.fileOffset === null);
  if (run.fileOffset === null) return;
  expect((extent.fileOffset ?? 0) - extent.offset, what).toBe(run.fileOffset - run.start);
}
