/** Builds the package and checks it from its users' point of view: publint, and the files that npm would pack. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { missingFiles } from './package-files.mjs';
import { ensureBuilt, ROOT } from './prepare.mjs';

/** All problems of a package as npm sees it, one sentence each. */
export function packageProblems({ manifest, ignoreScripts, paths }) {
  const missing = missingFiles(manifest, paths).map((file) => `npm pack leaves out ${file}`);
  if (ignoreScripts) missing.push('.npmrc turns scripts off, so npm pack in a fresh clone would not build');
  if (manifest.scripts?.prepack !== 'node scripts/prepack.mjs')
    missing.push('package.json has no prepack script, so npm pack in a fresh clone would not build');
  return missing;
}

async function findProblems() {
  ensureBuilt();
  const { messages, pkg } = await publint({ pkgDir: ROOT, pack: false, strict: true });
  const found = messages.filter(({ type }) => type !== 'suggestion').map((message) => formatMessage(message, pkg));
  const [packed] = JSON.parse(npm(['pack', '--dry-run', '--json', '--silent']));
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const ignoreScripts = npm(['config', 'get', 'ignore-scripts']).trim() !== 'false';
  return [...found, ...packageProblems({ manifest, ignoreScripts, paths: packed.files.map(({ path }) => path) })];
}

/** Standard output of npm, with the settings of this clone and not those of the npm that runs this. */
function npm(args) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
  const done = spawnSync('npm', args, { cwd: ROOT, env, encoding: 'utf8', shell: process.platform === 'win32' });
  if (done.status !== 0) throw new Error(`npm ${args.join(' ')} failed: ${done.error?.message ?? done.stderr}`);
  return done.stdout;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const problems = await findProblems();
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
