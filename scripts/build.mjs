/**
 * Makes `dist/`: the library file by file with its types (tsc), and the command line as one small bundle with a lazy
 * chunk for each heavy part (esbuild), because loading less code is what makes a start fast.
 *
 * Everything is built in a folder of its own and takes the place of the old `dist/` at the end, so that a failed or
 * interrupted build leaves the old one as it was.
 */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
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
  const { warnings, metafile } = await build({
    metafile: true,
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
    legalComments: 'none',
    alias: {
      '#local-storage': join(ROOT, 'src/storage/local/index.ts'),
      '#compress': join(ROOT, 'src/codec/compress.ts'),
      '#decompress': join(ROOT, 'src/codec/decompress.ts'),
    },
    external: ['koffi', '@foxglove/wasm-zstd'],
    // Bundled CommonJS packages ask for Node's modules through `require`.
    banner: {
      js: "import{createRequire as __makeRequire}from'node:module';const require=__makeRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
  if (warnings.length > 0) throw new Error('esbuild printed warnings');
  chmodSync(join(output, 'cli', 'bin.js'), 0o755);
  writeFileSync(join(output, 'cli', 'LICENSES.txt'), licencesOf(Object.keys(metafile.inputs)));
}

/** The licences of the packages that became part of the bundle: they must go where the code goes. */
function licencesOf(inputs) {
  const packages = inputs.map((input) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1]);
  const names = [...new Set(packages.filter((name) => name !== undefined))].sort();
  return names
    .map((name) => {
      const folder = join(ROOT, 'node_modules', name);
      const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
      if (file === undefined) throw new Error(`${name} is bundled but has no licence file`);
      return `${name}\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
    })
    .join('\n');
}

function replaceFolder(from, to) {
  const old = `${from}-old`;
  if (existsSync(to)) renameSync(to, old);
  renameSync(from, to);
  rmSync(old, { recursive: true, force: true });
}
