/**
 * Every format that can be written through power cuts, the toys too, by its kit: what the promise says holds in every state, every
 * flush that a workload needs is missed when it is left out, and mutants of the code are caught.
 */
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { checkCrashRun, recordCrashRun, unmissedFlushes } from '../../src/testing/index.ts';
import { KITS, TOY_KITS } from '../conformance/kits.ts';
import { rounds } from '../conformance/random.ts';
import type { CrashKit, CrashRow, Mutation } from '../formats/crash-kit.ts';
import { USUAL } from '../formats/usual.ts';
import { commonCrashes } from './common-crashes.ts';

/** Test files that share the formats, so that two workers end together. */
const SHARES = 2;

/** The formats of one share that can be written. */
async function crashKits(share: number): Promise<{ readonly format: string; readonly kit: CrashKit }[]> {
  const kits = await Promise.all(
    [...KITS, ...TOY_KITS].map(async ({ format, crash }) => ({
      format,
      kit: (await crash?.()) ?? commonCrashes(format),
    })),
  );
  return kits.flatMap(({ format, kit }, index) => (kit === null || index % SHARES !== share ? [] : [{ format, kit }]));
}

/** Rows and flushes of the formats of one share. */
export async function describePowerCuts(share: number): Promise<void> {
  describe.each(await crashKits(share))('$format', ({ format, kit }) => {
    let distinct = 0;
    afterAll(() => console.log(`${format}: ${distinct} states after a power cut that differ in their metadata`));

    describe.each(kit.rows)('a power cut: $title', (row) => {
      it.each(seedsOf(kit, row))('leaves what the promise says (seed %i)', async (seed) => {
        const run = await recordCrashRun(row.suite(seed));
        const maxStates = rounds(...(row.states ?? kit.states));
        const everyCut = rounds(...(kit.everyCut ?? [USUAL.everyCut, 1]));
        const report = await checkCrashRun(run, { maxStates, everyCut, seed, ...row.options });
        expect(report.violations.slice(0, 5)).toEqual([]);
        if (row.allPairs === true) expect(report.pairsSplit).toBe(report.pairsTotal);
        distinct += report.distinct;
      });
    });

    it('was tried in thousands of states that differ in their metadata', () => {
      expect(distinct).toBeGreaterThanOrEqual(rounds(...kit.atLeast));
    });

    it.each(kit.needed)('a missing flush breaks the promise of $title', async ({ suite, unmissed, options }) => {
      const run = await recordCrashRun(suite);
      const found = await unmissedFlushes(run, { everyCut: rounds(3, 1), ...options });
      expect(found.map(({ flush }) => flush.number)).toEqual(unmissed);
    });
  });
}

function seedsOf(kit: CrashKit, row: CrashRow): number[] {
  return Array.from({ length: rounds(...(row.seeds ?? kit.seeds)) }, (_, index) => index + 1);
}

/** Mutants of the formats of one share. */
export async function describeMutants(share: number): Promise<void> {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  describe.each(await crashKits(share))('$format', ({ kit }) => {
    const problemsOf = async (kind: (mutation: Mutation) => ReturnType<CrashRow['suite']>, mutation?: Mutation) => {
      const run = await recordCrashRun(kind(mutation ?? {}));
      const problemsAt = async (everyCut: number, maxStates: number): Promise<string[]> => {
        const how = { maxStates, stopAfter: rounds(1, 3), everyCut, ...kit.options };
        return (await checkCrashRun(run, how)).violations.map(({ problem }) => problem);
      };
      // To find nothing, all states are needed, of which the usual run plays some.
      if (mutation === undefined) return problemsAt(rounds(2 * USUAL.everyCut, 1), rounds(80, 600));
      // What is wrong is wrong after many cuts: a few of them, all over the run, come before all from its beginning on.
      const early = await problemsAt(USUAL.everyCut, 100);
      return early.length > 0 ? early : problemsAt(1, 600);
    };

    it.each([...new Set(kit.mutants.map(({ suite }) => suite))])('the code as it is survives (%#)', async (suite) => {
      expect(await problemsOf(suite)).toEqual([]);
    });

    it.each(kit.mutants)('a mutant is caught: $name', async ({ mutate, suite }) => {
      expect(await problemsOf(suite, mutate())).not.toEqual([]);
    });
  });
}
