/** The test suites and their time budgets, read from the table in `docs/testing.md`: one place for people and machine. */
import { readFileSync } from 'node:fs';

/**
 * @typedef {object} Suite
 * @property {string} name
 * @property {RegExp[]} patterns What belongs to it; see {@link suiteOf}.
 * @property {number} budgetSeconds
 */

/**
 * Reads the table whose first two headings are `suite` and `tests`. The rows are in order of precedence.
 * @param {string} [text] The page; by default the one in `docs/`.
 * @returns {Suite[]}
 */
export function readSuites(text = readFileSync(new URL('../docs/testing.md', import.meta.url), 'utf8')) {
  const lines = text.split('\n');
  const start = lines.findIndex((line) => /^\|\s*suite\s*\|\s*tests\s*\|/i.test(line));
  if (start < 0) throw new Error('docs/testing.md has no table of suites');
  const suites = [];
  for (const line of lines.slice(start + 2)) {
    if (!line.startsWith('|')) break;
    const [name = '', tests = '', budget = ''] = line
      .split('|')
      .slice(1)
      .map((cell) => cell.trim());
    const patterns = [...tests.matchAll(/`([^`]+)`/g)].map((match) => toExpression(match[1] ?? ''));
    const budgetSeconds = Number(budget);
    if (patterns.length === 0 || !(budgetSeconds > 0)) throw new Error(`docs/testing.md: row "${name}" is incomplete`);
    suites.push({ name, patterns, budgetSeconds });
  }
  return suites;
}

/**
 * The first suite that claims a test: `path` is relative to the package; `group` the title of its outermost `describe`,
 * since one file may hold the same scenarios for every format.
 * @param {readonly Suite[]} suites
 * @param {string} path
 * @param {string} group
 * @returns {Suite | undefined}
 */
export function suiteOf(suites, path, group) {
  return suites.find(({ patterns }) => patterns.some((pattern) => pattern.test(`${path}#${group}`)));
}

/** `*` stands for anything inside one folder, `**` for anything; a pattern without `#` means all groups of its files. */
function toExpression(pattern) {
  const full = pattern.includes('#') ? pattern : `${pattern}#**`;
  const source = full
    .replace(/[.+^${}()|[\]\\?]/g, '\\$&')
    .replace(/\*\*|\*/g, (stars) => (stars === '**' ? '.*' : '[^/#]*'));
  return new RegExp(`^${source}$`);
}
