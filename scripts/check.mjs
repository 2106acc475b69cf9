/** `npm run check`: everything that can be said about the sources without running the tests, within a minute. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { checkNode, ensureInstalled, ROOT } from './prepare.mjs';

checkNode();
ensureInstalled();

const bin = (name, path) => join(ROOT, 'node_modules', name, path);
const STEPS = [
  ['types', [bin('typescript', 'bin/tsc'), '-p', 'tsconfig.check.json']],
  ['lint and format', [bin('@biomejs/biome', 'bin/biome'), 'ci', '--colors=off', '--error-on-warnings', '.']],
  ['layering', ['scripts/layering.mjs']],
  ['spreads', ['scripts/spreads.mjs']],
  ['documentation', ['scripts/docs-check.mjs']],
  ['words', ['scripts/words-check.mjs']],
  ['package', ['scripts/package-check.mjs']],
  // Links between docstrings lead somewhere.
  ['reference', [bin('typedoc', 'bin/typedoc'), '--emit', 'none']],
];

const results = await Promise.all(STEPS.map(([name, args]) => runStep(name, args)));
const failed = results.filter((ok) => !ok).length;
console.log(failed === 0 ? 'check: all good' : `check: ${failed} of ${STEPS.length} failed`);
process.exitCode = failed === 0 ? 0 : 1;

/** Output is shown only for a step that failed. */
function runStep(name, args) {
  const started = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
      });
    }
    child.on('close', (status) => {
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      console.log(`${status === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`);
      if (status !== 0) console.log(output.trimEnd().replace(/^/gm, '  '));
      resolve(status === 0);
    });
  });
}
