/**
 * The package as its users get it: packed in a fresh clone, installed in an empty project, used from JavaScript,
 * TypeScript and a bundle.
 */
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageProblems } from '../../scripts/package-check.mjs';
import { ROOT } from '../../scripts/prepare.mjs';

/** Folders of a working copy that a fresh clone lacks. */
const LOCAL = ['.cache', '.git', 'api', 'dist', 'node_modules'];

let clone: string;
let folder: string;
let project: string;
let packed: { readonly files: readonly { readonly path: string; readonly size: number }[]; readonly filename: string };

/** npm as a person starts it: without the settings that the npm around this test passes on. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
const npm = (words: readonly string[], cwd: string): string =>
  execFileSync('npm', words, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const node = (words: readonly string[]): string =>
  execFileSync(process.execPath, words, { cwd: project, encoding: 'utf8' });
const put = (name: string, text: string): string => {
  writeFileSync(join(project, name), text);
  return join(project, name);
};

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-package-'));
  project = join(folder, 'project');
  mkdirSync(project);
  clone = makeClone();
  [packed] = JSON.parse(npm(['pack', '--json', '--pack-destination', folder], clone));
  put('package.json', '{ "name": "empty", "version": "1.0.0", "type": "module", "private": true }');
  const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
  npm(['install', ...quiet, join(folder, packed.filename)], project);
}, 180_000);
afterAll(() => {
  for (const name of [folder, clone]) rmSync(name, { recursive: true, force: true });
});

/** A copy of the sources with the packages installed, on the same file system, so that packages cost no space. */
function makeClone(): string {
  mkdirSync(join(ROOT, '.cache'), { recursive: true });
  const copy = mkdtempSync(join(ROOT, '.cache', 'clone-'));
  for (const name of readdirSync(ROOT).filter((name) => !LOCAL.includes(name)))
    cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  linkTree(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

function linkTree(from: string, to: string): void {
  mkdirSync(to);
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) linkTree(source, target);
    else if (entry.isSymbolicLink()) symlinkSync(readlinkSync(source), target);
    else linkOrCopy(source, target);
  }
}

function linkOrCopy(source: string, target: string): void {
  try {
    linkSync(source, target);
  } catch {
    copyFileSync(source, target);
  }
}

describe('npm pack in a fresh clone', () => {
  it('builds first, and packs all that package.json names', () => {
    expect(packed.files.map(({ path }) => path)).toContain('dist/cli/program.js');
    expect(problemsOf({})).toEqual([]);
  });

  it('fails when a file that package.json names is missing', () => {
    const program = join(clone, 'dist/cli/bin.js');
    expect(existsSync(program)).toBe(true);
    rmSync(program);
    expect(() => npm(['pack', '--pack-destination', clone], clone)).toThrow(/names dist\/cli\/bin\.js, which was not/);
    expect(readdirSync(clone).filter((name) => name.endsWith('.tgz'))).toEqual([]);
  });

  it.each([
    ['a file', { without: /^dist\/formats\/\w+\/index\.d\.ts$/ }, 'npm pack leaves out dist/formats/*/index.d.ts'],
    ['the program', { without: /^dist\/cli\/bin\.js$/ }, 'npm pack leaves out dist/cli/bin.js'],
    ['scripts', { ignoreScripts: true }, '.npmrc turns scripts off'],
    ['prepack', { scripts: {} }, 'package.json has no prepack script'],
  ])('is checked by npm run check: %s', (_, change, problem) => {
    expect(problemsOf(change)).toEqual([expect.stringContaining(problem)]);
  });

  function problemsOf(change: { without?: RegExp; ignoreScripts?: boolean; scripts?: object }): string[] {
    const { without, ignoreScripts = false, scripts } = change;
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    const paths = packed.files.map(({ path }) => path).filter((path) => without?.test(path) !== true);
    return packageProblems({ manifest: { ...manifest, scripts: scripts ?? manifest.scripts }, ignoreScripts, paths });
  }
});

describe('the packed package', () => {
  it('has what a user needs and nothing else', () => {
    const places = new Set(packed.files.map(({ path }) => (path.includes('/') ? `${path.split('/')[0]}/` : path)));
    expect([...places].sort()).toEqual(['LICENSE', 'README.md', 'dist/', 'docs/', 'package.json']);
    const odd = packed.files.filter(({ path }) => /\.test\.|\.map$|\.tsbuildinfo$|^dist\/test\//.test(path));
    expect(odd).toEqual([]);
    const bytes = packed.files.reduce((sum, { size }) => sum + size, 0);
    expect(bytes).toBeLessThan(6_000_000);
  });

  it('brings few packages with it, and none that runs code while it is installed', () => {
    const installed = readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'));
    expect(installed.sort()).toEqual([
      '@foxglove',
      '@koromix',
      '@noble',
      '@rgrove',
      'fflate',
      'koffi',
      'vdkit',
      'xz-decompress',
      'zstddec',
    ]);
    const manifest = JSON.parse(readFileSync(join(project, 'node_modules/vdkit/package.json'), 'utf8'));
    expect(Object.keys(manifest.scripts).filter((name) => /^(pre|post)?install$/.test(name))).toEqual([]);
  });

  it('works from JavaScript, with all its entries', () => {
    const script = put(
      'use.js',
      `import { Disk, convert, Plugins, defaultRegistry } from 'vdkit';
       import { MemoryProvider } from 'vdkit/storage';
       import { recordCrashRun } from 'vdkit/testing';
       import { vdi } from 'vdkit/formats/vdi';
       const provider = new MemoryProvider();
       const disk = await Disk.create({ provider, name: '/a.vdi' }, { size: 2 ** 20 });
       await disk.write(1000, Uint8Array.of(1, 2, 3));
       await disk.close();
       await convert({ provider, name: '/a.vdi' }, { provider, name: '/a.qcow2' }, { compress: 'zstd' });
       const again = await Disk.open({ provider, name: '/a.qcow2' });
       const bytes = new Uint8Array(4);
       await again.read(999, bytes);
       await again.close();
       for (const name of ['recognised', 'vci']) {
         const code = await import('vdkit/formats/' + name).catch((error) => error.code);
         if (code !== 'ERR_PACKAGE_PATH_NOT_EXPORTED') throw new Error(name + ' is not a format, and is exported');
       }
       console.log([...bytes].join(), typeof recordCrashRun, vdi.name, new Plugins(defaultRegistry()).list.length);`,
    );
    expect(node([script]).trim()).toBe('0,1,2,3 function vdi 0');
  });

  it('works as a command', () => {
    const command = join(project, 'node_modules/.bin/vdkit');
    expect(node([command, '--version']).trim()).toBe(
      JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version,
    );
    node([command, 'create', 'a.qcow2', '1M']);
    expect(node([command, 'info', 'a.qcow2'])).toMatch(/qcow2/);
  });

  it('has types that a strict project takes', () => {
    put(
      'use.ts',
      `import { Disk, type DiskOpenOptions, type Filter, type PluginRegister, IoQueue } from 'vdkit';
       import { MemoryProvider, type StorageProvider } from 'vdkit/storage';
       import { recordCrashRun } from 'vdkit/testing';
       export const provider: StorageProvider = new MemoryProvider();
       export const record = recordCrashRun;
       const options: DiskOpenOptions = { mode: 'write', allow: ['same-directory'] };
       export async function first(name: string): Promise<number> {
         await using disk = await Disk.open(name, options);
         const sector = new Uint8Array(512);
         const { unallocated } = await disk.read(0, sector);
         return unallocated ? 0 : (sector[0] ?? 0);
       }
       export const filter: Filter = {
         name: 'none', title: 'none', configKeys: [],
         open: () => ({ encode: (_: number, bytes: Uint8Array) => bytes, decode: (_: number, bytes: Uint8Array) => bytes, close() {} }),
       };
       export function VDPluginLoad(register: PluginRegister): void { register.registerFilter(filter); }
       export const queue = IoQueue;
       // @ts-expect-error There is no such option.
       export const wrong: DiskOpenOptions = { mode: 'sideways' };`,
    );
    const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
    const flags = [
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2022',
      '--lib',
      'es2023,esnext.disposable,dom',
    ];
    node([compiler, ...flags, 'use.ts']);
  });

  it('becomes part of a page without anything of Node', async () => {
    const entry = put(
      'page.js',
      `import { Disk } from 'vdkit';
       import { MemoryProvider } from 'vdkit/storage';
       globalThis.run = () => Disk.create({ provider: new MemoryProvider(), name: '/a.vdi' }, { size: 2 ** 20 });`,
    );
    const { outputFiles, warnings } = await build({
      entryPoints: [entry],
      bundle: true,
      format: 'esm',
      platform: 'browser',
      write: false,
      logLevel: 'silent',
      external: ['@foxglove/wasm-zstd'],
    });
    expect(warnings).toEqual([]);
    const text = outputFiles[0]?.text ?? '';
    expect(text).not.toMatch(/["']node:/);
    expect(text).not.toMatch(/koffi/);
    expect(text.length).toBeGreaterThan(50_000);
  });
});
