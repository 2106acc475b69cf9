/** `--no-holes`: no command leaves a hole in a file that it writes. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Disk } from '../../src/index.ts';
import { runCli } from './run-cli.ts';

const MIB = 1024 * 1024;
const NONE = '--no-holes';

let folder: string;
const at = (name: string): string => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-holes-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function ok(...words: string[]): Promise<void> {
  const { status, stderr } = await runCli(words);
  expect({ status, stderr }).toMatchObject({ status: 0 });
}

async function write(name: string, offset: number): Promise<void> {
  await using disk = await Disk.open(at(name), { mode: 'write', format: extname(name).slice(1) });
  await disk.write(offset, new Uint8Array(MIB).fill(7));
}

/** A file whose disk is 24 MiB, most of it holes. */
async function sparse(name: string, ...words: string[]): Promise<void> {
  await ok('create', at(name), '24M', ...words);
  await write(name, 4 * MIB);
  await write(name, 20 * MIB);
}

/** Bytes of the file that are holes, at least. */
function holes(name: string): number {
  const { size, blocks } = statSync(at(name));
  return Math.max(size - blocks * 512, 0);
}

const TARGETS: readonly (readonly [name: string, ...words: string[]])[] = [
  ['fixed.vhd', '--variant', 'fixed'],
  ['azure.vhd', '--variant', 'azure'],
  ['dynamic.vhd'],
  ['fixed.vhdx', '--variant', 'fixed'],
  ['dynamic.vhdx'],
  ['disk.raw'],
];

it.each(TARGETS)('create and convert make a %s without holes', async (name, ...words) => {
  await sparse('source.raw');
  expect(holes('source.raw')).toBeGreaterThan(16 * MIB);
  await ok('create', at(`new-${name}`), '24M', ...words, NONE);
  expect(holes(`new-${name}`)).toBe(0);
  await ok('convert', at('source.raw'), at(name), '-f', 'raw', ...words, NONE, '--verify');
  expect(holes(name)).toBe(0);
  await ok('compare', at('source.raw'), at(name), '-f', 'raw', ...(name === 'disk.raw' ? ['-F', 'raw'] : []));
});

it.each(['fixed.vhd', 'dynamic.vhdx', 'disk.raw'])(
  'copy, resize and compact leave a %s without holes',
  async (name) => {
    const format = name === 'disk.raw' ? ['-f', 'raw'] : [];
    await sparse(name, ...(name === 'fixed.vhd' ? ['--variant', 'fixed'] : []));
    expect(holes(name)).toBeGreaterThan(MIB / 2);
    await ok('copy', at(name), at(`copy-of-${name}`), ...format, NONE);
    expect(holes(`copy-of-${name}`)).toBe(0);
    await ok('resize', at(`copy-of-${name}`), '40M', ...format, NONE);
    expect(holes(`copy-of-${name}`)).toBe(0);
    if (name !== 'dynamic.vhdx') return;
    await ok('compact', at(`copy-of-${name}`), NONE);
    expect(holes(`copy-of-${name}`)).toBe(0);
  },
);
