/**
 * `npm test [-- vitest arguments]`: installs what the tests need, builds, runs them all and ends with one line
 * `N passed, N failed`. `--long` (`npm run test:long`) runs the same suites with bigger numbers.
 */
import { join } from 'node:path';
import { checkNode, ROOT } from './prepare.mjs';
import { supervise } from './supervise.mjs';

checkNode();
const args = process.argv.slice(2);
const long = args.includes('--long');
const filters = args.filter((arg) => arg !== '--long');
process.exitCode = await supervise([join(ROOT, 'scripts', 'test-run.mjs'), ...filters], {
  cwd: ROOT,
  folder: join(ROOT, '.cache', `test-run-${process.pid}`),
  env: long ? { VDKIT_LONG: '1' } : {},
});
