/** Pages that name a test beside each thing they promise: the test must be there. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../scripts/prepare.mjs';

/** Problem of a cell that names a test, as `path`: title; null when the test exists. */
export function testProblem(cell: string): string | null {
  const [, path = '', title = ''] = /^`((?:test\/[\w./-]+\.test|src\/[\w./-]+)\.ts)`: (\S.*)$/.exec(cell) ?? [];
  if (title === '') return 'names no test';
  let text: string;
  try {
    text = readFileSync(join(ROOT, path), 'utf8');
  } catch {
    return `${path} is not there`;
  }
  // A long title stands on a separate line.
  const calls = text.replaceAll(/\(\n +/g, '(');
  const written = [`'${title}'`, `"${title}"`, `\`${title}\``];
  return written.some((quoted) => calls.includes(`(${quoted},`)) ? null : `no test "${title}" in ${path}`;
}

/** The cells of all table rows in a piece of a page; headings of tables left out. */
export function tableRows(text: string): string[][] {
  const lines = text.split('\n').filter((line) => line.startsWith('|'));
  const cells = lines.map((line) =>
    line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  );
  return cells.filter((row, at) => !row.every((cell) => /^-+$/.test(cell)) && !/^\|-/.test(lines[at + 1] ?? ''));
}
