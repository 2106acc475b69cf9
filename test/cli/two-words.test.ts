/** VMDK variants of two words, and the words that do not go together, from the library and the command line. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkImage, compare, convert, createImage, inspect, measure } from '../../src/index.ts';
import { runCli } from './run-cli.ts';

const MIB = 2 ** 20;
const PAIRS = [
  ['fixed,split', 'twoGbMaxExtentFlat', ['fixed', 'split'], ['a-f001.vmdk']],
  ['split,fixed', 'twoGbMaxExtentFlat', ['fixed', 'split'], ['a-f001.vmdk']],
  ['dynamic,split', 'twoGbMaxExtentSparse', ['dynamic', 'split'], ['a-s001.vmdk']],
  ['dynamic,esx', 'vmfsSparse', ['dynamic', 'esx'], ['a-delta.vmdk']],
  ['fixed,esx', 'vmfs', ['fixed', 'esx'], ['a-flat.vmdk']],
  ['dynamic,stream', 'streamOptimized', ['stream'], []],
] as const;
const WRONG = ['dynamic,fixed', 'fixed,stream', 'split,stream', 'esx,stream', 'split,esx', 'dynamic,fixed,split'];

let folder = '';
let image = '';
let raw = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-two-words-'));
  image = join(folder, 'a.vmdk');
  raw = join(folder, 's.raw');
  const bytes = new Uint8Array(2 * MIB);
  for (const at of [0, 700_000, 2 * MIB - 512]) bytes.fill((at % 251) | 1, at, at + 512);
  writeFileSync(raw, bytes);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe.each(PAIRS)('variant %s', (words, createType, variant, parts) => {
  const fixed = variant[0] === ('fixed' as string);
  const facts = { format: 'vmdk', variant, allocation: fixed ? 'fixed' : 'dynamic', virtualSize: 2 * MIB };
  const files = ['a.vmdk', ...parts, 's.raw'].sort();

  it('is made, converted to, measured, reported and checked by the library', async () => {
    const chosen = words.split(',');
    const made = await createImage(image, { size: 2 * MIB, variant: chosen });
    expect(made).toMatchObject({ ...facts, details: { 'create type': createType } });
    expect(readdirSync(folder).sort()).toEqual(files);
    const { required } = await measure(raw, { format: 'vmdk', variant: chosen, sourceFormat: 'raw' });
    await convert(raw, image, { force: true, variant: chosen, sourceFormat: 'raw' });
    const report = await inspect(image);
    expect(report).toMatchObject({ ...facts, details: { 'create type': createType } });
    expect(required).toBeGreaterThanOrEqual(report.fileSize);
    expect(await checkImage(image)).toMatchObject({ clean: true, findings: [] });
    expect(await compare(image, raw)).toMatchObject({ same: true });
  });

  it('is made, converted to, reported and checked by the command line', async () => {
    const run = async (...line: string[]) => {
      const { status, stdout, stderr } = await runCli(line);
      expect({ line, status, stderr: /error:.*/.exec(stderr)?.[0] ?? '' }).toEqual({ line, status: 0, stderr: '' });
      return stdout;
    };
    await run('create', image, '2M', '--variant', words);
    await run('convert', raw, image, '--format', 'raw', '--variant', words, '--force');
    expect(JSON.parse(await run('info', '--json', image))).toMatchObject({
      ...facts,
      details: { 'create type': createType },
      parts: parts.map((part) => ({ file: join(folder, part) })),
    });
    expect(readdirSync(folder).sort()).toEqual(files);
    await run('check', image);
    await run('compare', image, raw);
  });
});

describe('words that do not go together', () => {
  it.each(WRONG)('%s are refused, and nothing is left', async (words) => {
    const refusal = { kind: 'invalid-argument', context: { found: expect.any(String) } };
    const variant = words.split(',');
    await expect(createImage(image, { size: MIB, variant })).rejects.toMatchObject(refusal);
    await expect(convert(raw, image, { variant, sourceFormat: 'raw' })).rejects.toMatchObject(refusal);
    for (const line of [
      ['create', image, '2M', '--variant', words],
      ['convert', raw, image, '--format', 'raw', '--variant', words],
    ]) {
      const { status, stderr } = await runCli(line);
      expect({ line, status }).not.toMatchObject({ status: 0 });
      expect(stderr).toMatch(/^error: .*\b(There is no such VMDK image|cannot be both)\b/);
    }
    expect(readdirSync(folder)).toEqual(['s.raw']);
  });

  it('are refused as a subformat with another word, too', async () => {
    for (const config of [{ subformat: 'monolithicFlat' }, { subformat: 'vmfs' }]) {
      const made = createImage(image, { size: MIB, variant: ['dynamic'], config });
      await expect(made).rejects.toMatchObject({ kind: 'invalid-argument' });
    }
    expect(readdirSync(folder)).toEqual(['s.raw']);
  });
});
