/** The examples of docs/cli.md: each runs in a shell as it stands, beside the files that it names. */
import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';
import { convert, createImage, Disk } from '../../src/index.ts';
import { examplesOf, Workplace } from './workplace.ts';

const SAMPLE = join(ROOT, 'samples/disk.vdi');
const LINES = examplesOf('docs/cli.md', 'sh').flatMap(({ code }) => code.trim().split('\n'));
/** Folders and a device of the reader's machine: here they lie in the folder of the example. */
const PLACES = / \/(?=(ssd|net|backup|other|dev)\/)/g;

let place: Workplace;
beforeAll(() => {
  ensureBuilt();
  place = new Workplace();
  symlinkSync(join(ROOT, 'dist/cli/bin.js'), join(place.folder, 'vdkit'));
}, 120_000);
afterAll(() => place.remove());

it.each(LINES.map((line, index) => [line, index] as const))('%s', async (line, index) => {
  const folder = join(place.folder, String(index));
  const names = (name: string) => join(folder, name);
  for (const name of [
    'files',
    'ssd',
    'net',
    'backup',
    'other/disk',
    'dev',
    'moved',
    '.zfunc',
    '.config/fish/completions',
  ])
    mkdirSync(names(name), { recursive: true });
  for (const word of filesRead(line)) await make(names(word), line);
  const env = { ...process.env, HOME: folder, PATH: `${place.folder}:${process.env['PATH']}` };
  const run = promisify(execFile)('bash', ['-o', 'pipefail', '-c', line.replaceAll(PLACES, ' ')], { cwd: folder, env });
  await expect(run).resolves.toBeDefined();
});

it('makes the files of many examples', () => {
  expect(LINES.length).toBeGreaterThan(60);
  expect(LINES.filter((line) => filesRead(line).length > 0).length).toBeGreaterThan(45);
});

/** Names of files in a command, without the one that it creates. */
function filesRead(line: string): string[] {
  const [command = ''] = line.replaceAll(PLACES, ' ').split('  # ');
  const made =
    /(?:vdkit create|vdkit cache create|vdkit convert (?!.*--into)\S+|vdkit (?:rename|copy) \S+|--cache) (\S+)/.exec(
      command,
    )?.[1];
  const words = command.split(/[\s=,]+/).filter((word) => /\.(vdi|raw|qcow2|xz|vci)$|^stream\.vmdk$|^dev\//.test(word));
  return [...new Set(words)].filter((word) => word !== made);
}

/** An image as the example expects it. */
async function make(name: string, line: string): Promise<void> {
  const extension = name.slice(name.lastIndexOf('.'));
  if (existsSync(name)) return;
  const base = join(dirname(name), `base${extension}`);
  if (name.endsWith('.xz')) {
    await convert(SAMPLE, name.slice(0, -'.xz'.length));
    await promisify(execFile)('xz', [name.slice(0, -'.xz'.length)]);
  } else if (name.endsWith('.vci')) await makeCache(name);
  else if (/\/snapshot\.\w+$/.test(name))
    await makeChain(line.includes('disk.vdi') ? join(dirname(name), 'disk.vdi') : base, [name]);
  else if (/\/last\.\w+$/.test(name))
    await makeChain(base, [name.replace('last', 'one'), name.replace('last', 'two'), name]);
  else if (line.includes('-512M')) await createImage(name, { size: 2 ** 30 });
  else if (extension === '.vmdk') await convert(SAMPLE, name, { variant: ['stream'] });
  else if (extension === '.vdi') copyFileSync(SAMPLE, name);
  else await convert(SAMPLE, name, { format: extension === '.qcow2' ? 'qcow2' : 'raw' });
  if (extension === '.qcow2' && /snapshot|bitmap|--snapshot/.test(line)) await keepStates(name, line);
}

async function makeChain(base: string, names: readonly string[]): Promise<void> {
  await convert(SAMPLE, base, { force: true });
  for (const [index, name] of names.entries()) await createImage(name, { parent: names[index - 1] ?? base });
}

/** Internal snapshots and bitmaps that an example uses, but not those that it makes. */
async function keepStates(name: string, line: string): Promise<void> {
  await using disk = await Disk.open(name, { mode: 'write', allow: ['same-directory'] });
  if (/snapshot (apply|rename)|--snapshot-b/.test(line)) await disk.snapshots.create('monday');
  if (line.includes('--snapshot good')) await disk.snapshots.create('good');
  if (/bitmap (merge|remove)/.test(line))
    for (const bitmap of ['week', 'monday', 'tuesday', 'since-monday']) await disk.bitmaps.add(bitmap);
}

/** A cache file with some data. */
async function makeCache(file: string): Promise<void> {
  await using disk = await Disk.open(SAMPLE, { cache: { file, size: 2 ** 22 } });
  await disk.read(0, new Uint8Array(65_536));
}
