/** The fuzzer as a command. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const SCRIPT = fileURLToPath(new URL('../../scripts/fuzz.mjs', import.meta.url));

it('runs for as long as it is told and says what it did', { timeout: 60_000 }, () => {
  const { status, stdout } = fuzz('--format', 'vdi', '--seconds', '1', '--seed', '7');
  expect(stdout).toMatch(/^fuzzing vdi for 1 s, seed 7, corpus \d+\n/);
  expect(stdout).toMatch(/\d+ executions, \d+\/s, corpus \d+, \d+ branches, 0 findings\n$/);
  expect(status).toBe(0);
});

it.each([[], ['--format', 'raw'], ['--format', 'vdi', '--seconds', 'x'], ['--nonsense']].map((args) => ({ args })))(
  'refuses $args',
  { timeout: 30_000 },
  ({ args }) => {
    const { status, stderr } = fuzz(...args);
    expect(stderr).toContain('usage: npm run fuzz');
    expect(status).toBe(2);
  },
);

function fuzz(...args: readonly string[]) {
  return spawnSync(process.execPath, [SCRIPT, ...args], { encoding: 'utf8' });
}
