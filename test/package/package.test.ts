/** The package as its users get it: packed, installed in an empty project, used from JavaScript, TypeScript and a bundle. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';

let folder: string;
let project: string;
let packed: { readonly files: readonly { readonly path: string; readonly size: number }[]; readonly filename: string };

const npm = (words: readonly string[], cwd: string): string =>
  execFileSync('npm', [...words, '--ignore-scripts', '--no-audit', '--no-fund'], { cwd, encoding: 'utf8' });
const node = (words: readonly string[]): string =>
  execFileSync(process.execPath, words, { cwd: project, encoding: 'utf8' });
const put = (name: string, text: string): string => {
  writeFileSync(join(project, name), text);
  return join(project, name);
};

beforeAll(() => {
  ensureBuilt();
  folder = mkdtempSync(join(tmpdir(), 'vdkit-package-'));
  project = join(folder, 'project');
  mkdirSync(project);
  [packed] = JSON.parse(npm(['pack', '--json', '--pack-destination', folder], ROOT));
  put('package.json', '{ "name": "empty", "version": "1.0.0", "type": "module", "private": true }');
  npm(['install', '--prefer-offline', join(folder, packed.filename)], project);
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the packed package', () => {
  it('has what a user needs and nothing else', () => {
    const places = new Set(packed.files.map(({ path }) => (path.includes('/') ? `${path.split('/')[0]}/` : path)));
    expect([...places].sort()).toEqual(['LICENSE', 'README.md', 'dist/', 'docs/', 'package.json']);
    const odd = packed.files.filter(({ path }) => /\.test\.|\.map$|\.tsbuildinfo$|^dist\/test\//.test(path));
    expect(odd).toEqual([]);
    const bytes = packed.files.reduce((sum, { size }) => sum + size, 0);
    expect(bytes).toBeLessThan(5_000_000);
  });

  it('brings few packages with it, and none that runs code while it is installed', () => {
    const installed = readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'));
    expect(installed.sort()).toEqual(['@foxglove', '@koromix', 'fflate', 'koffi', 'vdkit', 'zstddec']);
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
