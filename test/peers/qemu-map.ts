/** `qemu-img map --output=json` beside what vdkit says of the same image. */
import { expect } from 'vitest';
import type { Extent } from '../../src/disk/device.ts';

/** One run of `qemu-img map --output=json`. */
export interface QemuRun {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset?: number;
}

/** Compared fields of an extent. */
export type OurRun = Pick<Extent, 'offset' | 'length' | 'state' | 'depth' | 'compressed' | 'fileOffset'>;

/**
 * Run by run, wherever one of the two begins. QEMU does not look for holes inside placed clusters, vdkit does and calls
 * them zero: they are data for QEMU.
 */
export function expectSameMap(ours: readonly OurRun[], theirs: readonly QemuRun[]): void {
  let offset = 0;
  for (let [a, b] = [0, 0]; a < ours.length || b < theirs.length; ) {
    const [extent, run] = [ours[a], theirs[b]];
    if (extent === undefined || run === undefined) expect.fail(`one of the maps ends at ${offset}`);
    const what = `${JSON.stringify(extent)} and ${JSON.stringify(run)}`;
    const [extentEnd, runEnd] = [extent.offset + extent.length, run.start + run.length];
    if (!run.present) expect(extent.state, what).toBe('absent');
    else expect(extent.depth, what).toBe(run.depth);
    if (run.present && !run.data) expect(extent.state, what).toBe('zero');
    if (run.data && !run.zero) expect(['data', 'zero'], what).toContain(extent.state);
    if (extent.state === 'data') {
      expect(run.data, what).toBe(true);
      expect(extent.compressed, what).toBe(run.offset === undefined);
      if (!extent.compressed)
        expect((extent.fileOffset ?? 0) - extent.offset, what).toBe((run.offset ?? 0) - run.start);
    }
    offset = Math.min(extentEnd, runEnd);
    if (extentEnd === offset) a++;
    if (runEnd === offset) b++;
  }
}
