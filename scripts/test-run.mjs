/** Installs and builds what the tests need, then runs vitest in this very process. Started by `test.mjs`. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { installHint, missingPeers } from './peers.mjs';
import { ensureBuilt, ensureInstalled, ROOT } from './prepare.mjs';

// When the watching process is killed, nothing of this group goes on. The listener alone keeps no process running.
process.on('disconnect', () => process.kill(-process.pid, 'SIGKILL'));
process.channel?.unref();

ensureInstalled();
installPeers();
ensureBuilt();
const reporters = ['--reporter=default', `--reporter=${join(ROOT, 'scripts', 'suite-reporter.mjs')}`];
process.argv.splice(2, Number.POSITIVE_INFINITY, 'run', ...reporters, ...process.argv.slice(2));
await import(pathToFileURL(join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')).href);

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
