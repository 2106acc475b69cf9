/**
 * Makes `dist/`: the library file by file with its types (tsc), and the command line as one small bundle with a lazy
 * chunk for each heavy part (esbuild), because loading less code is what makes a start fast.
 *
 * Everything is built in a folder of its own and takes the place of the old `dist/` at the end, so that a failed or
 * interrupted build leaves the old one as it was.
 */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { fingerprint, ROOT } from './prepare.mjs';

const made = fingerprint();
const output = join(ROOT, '.cache', `build-${process.pid}`);

try {
  mkdirSync(output, { recursive: true });
  await Promise.all([buildLibrary(), buildCommandLine()]);
  writeFileSync(join(output, '.built'), made);
  replaceFolder(output, join(ROOT, 'dist'));
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
} finally {
  rmSync(output, { recursive: true, force: true });
}

function buildLibrary() {
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const args = [compiler, '-p', join(ROOT, 'tsconfig.build.json'), '--outDir', output];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 2, 2] });
    child.on('error', reject);
    child.on('exit', (status) => (status === 0 ? resolve() : reject(new Error('tsc found errors'))));
  });
}

async function buildCommandLine() {
  const { warnings } = await build({
    absWorkingDir: ROOT,
    entryPoints: { bin: 'src/cli/bin.ts' },
    outdir: join(output, 'cli'),
    chunkNames: 'chunks/[name]-[hash]',
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'linked',
    alias: { '#local-storage': join(ROOT, 'src/storage/local/index.ts') },
    external: ['koffi'],
    // Bundled CommonJS packages ask for Node's modules through `require`.
    banner: {
      js: "import{createRequire as __makeRequire}from'node:module';const require=__makeRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
  if (warnings.length > 0) throw new Error('esbuild printed warnings');
  chmodSync(join(output, 'cli', 'bin.js'), 0o755);
}

function replaceFolder(from, to) {
  const old = `${from}-old`;
  if (existsSync(to)) renameSync(to, old);
  renameSync(from, to);
  rmSync(old, { recursive: true, force: true });
}
