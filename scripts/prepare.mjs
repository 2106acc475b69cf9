/**
 * Preparation for every command in a fresh clone: installed packages and a built `dist/`. Node's own modules only,
 * since this runs before anything is installed. All output goes to stderr: stdout belongs to the command itself.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder that holds package.json. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Written last by a build; holds the fingerprint of what was built. */
export const STAMP = join(ROOT, 'dist', '.built');

/** Says so and ends the process when this Node is too old for what follows. */
export function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  console.error(`error: vdkit needs Node 20.19 or newer; this is ${process.versions.node}`);
  process.exit(1);
}

/** Runs `npm ci` when a package of the lock file is missing or has another version. */
export function ensureInstalled() {
  const lockFile = join(ROOT, 'package-lock.json');
  if (!existsSync(lockFile) || matchesLock(lockFile, join(ROOT, 'node_modules', '.package-lock.json'))) return;
  console.error('Installing npm packages (npm ci) …');
  const npm = process.env.npm_execpath;
  // Options of the npm that runs this command, such as `npm pack --dry-run`, would reach this one too.
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--include=dev', '--no-dry-run'];
  const how = { cwd: ROOT, stdio: ['ignore', 2, 2] };
  const done = npm?.endsWith('.js')
    ? spawnSync(process.execPath, [npm, ...args], how)
    : spawnSync('npm', args, { ...how, shell: process.platform === 'win32' });
  if (done.status !== 0) fail('npm ci failed', done);
}

/** Builds when a source is newer than `dist/`, or another one than was built. */
export function ensureBuilt() {
  if (!existsSync(join(ROOT, 'src')) || isBuilt()) return;
  console.error('Building …');
  const done = spawnSync(process.execPath, [join(ROOT, 'scripts', 'build.mjs')], {
    cwd: ROOT,
    stdio: ['ignore', 2, 2],
  });
  if (done.status !== 0) fail('the build failed', done);
}

/** True when `dist/` was made from the sources as they are now. */
export function isBuilt() {
  return existsSync(STAMP) && readFileSync(STAMP, 'utf8') === fingerprint();
}

/** Changes whenever a build would come out differently. */
export function fingerprint() {
  // The command line is compiled for the engine that builds it.
  const hash = createHash('sha256').update(`${process.versions.v8} ${process.arch}\n`);
  const top = [
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'tsconfig.build.json',
    'scripts/build.mjs',
    'scripts/bundle.mjs',
  ];
  for (const name of [...top, ...sources('src')]) {
    const path = join(ROOT, name);
    if (!existsSync(path)) continue;
    const { size, mtimeMs } = statSync(path);
    hash.update(`${name} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex');
}

function sources(folder) {
  const entries = readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length))
    .sort();
}

/** Compares contents, not times: a checkout or an edit of package.json must not reinstall everything. */
function matchesLock(lockFile, installedFile) {
  if (!existsSync(installedFile)) return false;
  const wanted = JSON.parse(readFileSync(lockFile, 'utf8')).packages;
  const installed = JSON.parse(readFileSync(installedFile, 'utf8')).packages;
  return Object.entries(wanted).every(([path, { version, optional, link }]) => {
    if (path === '' || link === true) return true;
    const found = installed[path];
    return found === undefined ? optional === true : found.version === version;
  });
}

function fail(what, done) {
  console.error(`error: ${what}${done.error === undefined ? '' : `: ${done.error.message}`}`);
  process.exit(done.status || 1);
}
