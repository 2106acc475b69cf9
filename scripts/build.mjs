/**
 * Makes `dist/`: the library file by file with its types (tsc), and the command line as one file (esbuild) with the
 * form that this Node makes of it, because not compiling is what makes a start fast.
 *
 * Everything is built in a separate folder and takes the place of the old `dist/` at the end, so that a failed or
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
import { bundleCommandLine, bundlePrecompiler } from './bundle.mjs';
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

async function buildLibrary() {
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const args = [compiler, '-p', join(ROOT, 'tsconfig.build.json'), '--outDir', output];
  if ((await run(args)) !== 0) throw new Error('tsc found errors');
}

function run(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 2, 2] });
    child.on('error', reject);
    child.on('exit', resolve);
  });
}

async function buildCommandLine() {
  const folder = join(output, 'cli');
  const { inputs } = await bundleCommandLine(folder, { minify: true });
  // What the package says of its files, which are modules, is not true of these.
  writeFileSync(join(folder, 'package.json'), '{ "type": "commonjs" }\n');
  writeFileSync(join(folder, 'LICENSES.txt'), licencesOf(inputs));
  chmodSync(join(folder, 'bin.js'), 0o755);
  await precompile(folder);
}

/** Makes the compiled form for the Node that runs this. It only saves time, so there is none where that fails. */
async function precompile(folder) {
  const tool = join(output, 'precompile.mjs');
  await bundlePrecompiler(tool);
  const done = await run([tool, join(folder, 'program.js'), join(folder, 'program.cache')]);
  rmSync(tool);
  if (done !== 0)
    console.error('warning: the command line could not be compiled beforehand; it starts a little slower');
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
