/** VHD through power cuts: every way to create one, and all that can be done to them. */
import { rounds } from '../../conformance/random.ts';
import { commonCrashes } from '../../faults/common-crashes.ts';
import { relinked } from '../../faults/relinking.ts';
import { compacted, resized } from '../../faults/resizing.ts';
import { type Way, WRITABLE, waysToMake } from '../../faults/ways.ts';
import { scattered, traffic } from '../../faults/workloads.ts';
import type { CrashKit, CrashRow } from '../crash-kit.ts';
import { BLOCK, brokenRules, CHILD, DYNAMIC, damagedFooter, PARENTS, vhdSuite } from './crash-images.ts';
import { MUTANTS } from './mutants.ts';

const busy = traffic(40, { discards: 0.25, unit: BLOCK });

/** Rows beside those of all formats. */
function rowsOf(ways: readonly Way[]): CrashRow[] {
  return ways.map((way): CrashRow => {
    const fixed = way.variant.includes('fixed');
    const sessions = fixed ? resized : [...resized, compacted];
    return {
      title: `${way.title}: resize and compact`,
      suite: (seed) => vhdSuite(way, seed, sessions),
      options: { everyCut: rounds(fixed ? 13 : 48, 1) },
      states: [100, 1000],
      seeds: [1, 3],
    };
  });
}

export function makeCrash(): CrashKit {
  const common = commonCrashes('vhd');
  if (common === null) throw new Error('VHD can be made and written');
  const ways = WRITABLE.filter(({ name }) => name === 'vhd').flatMap(waysToMake);
  const checked = common.rows.map((row): CrashRow => {
    const suite: CrashRow['suite'] = (seed) => ({ ...row.suite(seed), check: brokenRules });
    return { ...row, suite, options: { everyCut: rounds(8, 1) } };
  });
  const whole: CrashRow = {
    title: 'differencing: whole blocks',
    suite: (seed) => vhdSuite(CHILD, seed, [scattered(8), busy]),
    options: { everyCut: rounds(10, 1) },
    states: [100, 1000],
  };
  const damaged = (['last', 'copy'] as const).flatMap((which) =>
    [DYNAMIC, CHILD].map((way): CrashRow => {
      return {
        title: `${way.title}: traffic after damage to the ${which === 'copy' ? 'copy of the footer' : 'footer'}`,
        suite: (seed) => damagedFooter(vhdSuite(way, seed, [busy, scattered(3)]), which),
        options: { everyCut: rounds(19, 1) },
        states: [60, 1000],
        seeds: [1, 3],
      };
    }),
  );
  const other: CrashRow = {
    title: 'differencing: other parents',
    suite: (seed) => relinked(vhdSuite(CHILD, seed, []), PARENTS),
    options: { everyCut: rounds(19, 1) },
    states: [100, 1000],
    seeds: [1, 3],
  };
  return {
    ...common,
    rows: [...checked, whole, other, ...damaged, ...rowsOf(ways)],
    seeds: [1, 9],
    states: [100, 1000],
    atLeast: [550, 20_000],
    mutants: MUTANTS,
  };
}
