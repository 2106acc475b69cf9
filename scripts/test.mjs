/**
 * `npm test [-- vitest arguments]`: installs what the tests need, builds, runs them all and ends with one line
 * `N passed, N failed`. `--long` (`npm run test:long`) runs the same suites with bigger numbers.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { installHint, missingPeers } from './peers.mjs';
import { checkNode, ensureBuilt, ensureInstalled, ROOT } from './prepare.mjs';

/** Several times what all budgets allow together. */
const RUN_MAX_MS = 60 * 60_000;

checkNode();
// Whatever ends this process early must not look like a run without failures.
let last = '0 passed, 1 failed';
process.on('exit', () => console.log(last));

const args = process.argv.slice(2);
const long = args.includes('--long');
ensureInstalled();
installPeers();
ensureBuilt();
runTests(args.filter((arg) => arg !== '--long'));

/** Debian's own packages when we may install them; otherwise says what is missing and goes on without. */
function installPeers() {
  const missing = missingPeers();
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((peer) => peer.debianPackage))];
  if (process.getuid?.() === 0 && existsSync('/etc/debian_version')) {
    console.error(`Installing ${packages.join(' ')} (apt-get) …`);
    const how = { stdio: ['ignore', 'ignore', 2], env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
    spawnSync('apt-get', ['update', '-qq'], how);
    spawnSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages], how);
  }
  for (const peer of missingPeers()) {
    const then = process.env.CI ? 'its tests fail' : 'its tests are skipped';
    console.error(`warning: ${peer.name} is not installed, ${then} (${installHint(peer)})`);
  }
}

function runTests(filters) {
  const cache = join(ROOT, '.cache');
  const summaryFile = join(cache, `test-summary-${process.pid}.json`);
  mkdirSync(cache, { recursive: true });
  const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
  const reporters = ['--reporter=default', `--reporter=${join(ROOT, 'scripts', 'suite-reporter.mjs')}`];
  const done = spawnSync(process.execPath, [vitest, 'run', ...reporters, ...filters], {
    cwd: ROOT,
    stdio: 'inherit',
    // A test that blocks its process cannot be timed out from inside.
    ...(long ? {} : { timeout: RUN_MAX_MS }),
    env: { ...process.env, VDKIT_TEST_SUMMARY: summaryFile, ...(long ? { VDKIT_LONG: '1' } : {}) },
  });
  if (done.error?.code === 'ETIMEDOUT')
    console.error(`error: the tests did not end within ${RUN_MAX_MS / 60_000} minutes`);
  const { passed, failed } = existsSync(summaryFile)
    ? JSON.parse(readFileSync(summaryFile, 'utf8'))
    : { passed: 0, failed: 1 };
  rmSync(summaryFile, { force: true });
  const trouble = done.status !== 0 || failed > 0;
  last = `${passed} passed, ${trouble ? Math.max(failed, 1) : 0} failed`;
  process.exitCode = trouble ? done.status || 1 : 0;
}
