/** docs/scenarios.md says of each scenario of the reference where it is played, or why not yet. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../../scripts/prepare.mjs';
import { tableRows, testProblem } from './named-test.ts';

const PAGE = readFileSync(join(ROOT, 'docs/scenarios.md'), 'utf8');
/** The tables of the sections; the first table of the page lists files. */
const rows = PAGE.split(/^## /m)
  .slice(1)
  .flatMap((section) => tableRows(section));

describe('docs/scenarios.md', () => {
  it('names tests that are there, or says what is missing', () => {
    expect(rows.length).toBeGreaterThan(60);
    const problems = rows.map(([scenario = '', where = '']) => {
      if (/^(not built yet|unreachable): \S/.test(where)) return null;
      const problem = testProblem(where);
      return problem === null ? null : `${scenario}: ${problem}`;
    });
    expect(problems.filter((problem) => problem !== null)).toEqual([]);
  });

  it('has every invariant of disks, chains and files over them, in order', () => {
    const numbers = rows.flatMap(([first = '']) => /^(\d+): [a-z]/.exec(first)?.slice(1, 2) ?? []).map(Number);
    expect(numbers.slice(0, 18)).toEqual(Array.from({ length: 18 }, (_, n) => n + 1));
  });
});
