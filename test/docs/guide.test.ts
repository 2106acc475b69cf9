/** The examples of the guide, on the built package: each is run, and prints what it says where it says so. */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import ts from 'typescript';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';
import { createImage, Disk } from '../../src/index.ts';

const GUIDE = readFileSync(join(ROOT, 'docs/guide.md'), 'utf8');
const MIB = 1024 ** 2;

let folder: string;
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  ensureBuilt();
  await mkdir(join(ROOT, '.cache'), { recursive: true });
}, 120_000);
beforeEach(() => {
  // Inside the package, so that `import 'vdkit'` finds it by its own name.
  folder = mkdtempSync(join(ROOT, '.cache', 'guide-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
afterAll(() => expect(used).toEqual(new Set(Object.keys(NEEDS))));

/** Files prepared in the folder of an example. */
const FILES: Readonly<Record<string, () => Promise<void> | void>> = {
  'disk.vdi': () => makeImage('disk.vdi', {}),
  'snapshot.vdi': async () => {
    await makeImage('base.vdi', {});
    await makeImage('snapshot.vdi', { parent: at('base.vdi') });
  },
  'disk.raw': () => writeFileSync(at('disk.raw'), new Uint8Array(MIB).fill(7)),
  'base.raw': () => writeFileSync(at('base.raw'), new Uint8Array(MIB).fill(7)),
  'over.vdi': async () => {
    await createImage(at('over.vdi'), { parent: at('base.raw'), parentFormat: 'raw' });
  },
  'VDPluginBoxes.mjs': () => copyFileSync(join(ROOT, 'examples/VDPluginBoxes.mjs'), at('VDPluginBoxes.mjs')),
};

/** The headings whose examples need some of them. */
const NEEDS: Readonly<Record<string, readonly string[]>> = {
  'Disks, images, chains': ['snapshot.vdi'],
  'Creating, converting, comparing': ['disk.raw'],
  Maintaining: ['disk.vdi'],
  'Snapshots and chains': ['disk.vdi', 'base.raw', 'over.vdi'],
  'Filters and caches': ['disk.vdi'],
  'Files and streams': ['disk.vdi'],
  'Plugging in': ['VDPluginBoxes.mjs'],
};
const used = new Set<string>();

async function makeImage(name: string, options: { parent?: string }): Promise<void> {
  await createImage(at(name), options.parent === undefined ? { size: 4 * MIB } : options);
  await using disk = await Disk.open(at(name), { mode: 'write', allow: ['same-directory'] });
  await disk.write(0, new Uint8Array(2 * MIB).fill(1));
}

interface Example {
  readonly heading: string;
  readonly number: number;
  readonly code: string;
}

function examples(): Example[] {
  return GUIDE.split(/^## /m)
    .slice(1)
    .flatMap((section) => {
      const heading = section.slice(0, section.indexOf('\n'));
      const blocks = [...section.matchAll(/```ts\n([\s\S]*?)```/g)];
      return blocks.map(([, code = ''], index) => ({ heading, number: index + 1, code }));
    });
}

async function run(code: string): Promise<{ readonly stdout: string; readonly stderr: string }> {
  // What Node 20 does not know yet, such as `await using`, is written out.
  const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022 };
  const { outputText } = ts.transpileModule(code, { compilerOptions: options });
  writeFileSync(at('example.mjs'), outputText);
  return promisify(execFile)(process.execPath, ['example.mjs'], { cwd: folder });
}

it.each(examples())('the example $number of "$heading" runs', async ({ heading, code }) => {
  const needs = NEEDS[heading] ?? [];
  if (needs.length > 0) used.add(heading);
  for (const name of needs) await FILES[name]?.();
  const { stderr } = await run(code);
  expect(stderr).toBe('');
});

it('the example about queues prints what it says', async () => {
  const { code } = examples().find(({ heading }) => heading === 'Queues') ?? { code: '' };
  const { stdout } = await run(code);
  const promised = [...code.matchAll(/console\.log\(.*\/\/ (.*)$/gm)].map(([, text]) => text);
  expect(promised).toEqual(['aborted', '2 1536 7', '0']);
  expect(stdout.trim().split('\n')).toEqual(promised);
});
