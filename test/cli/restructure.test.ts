/** `vdkit amend`, `vdkit rebase`, `vdkit commit`, and wrong commands of `vdkit merge`. */
import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compare, Disk } from '../../src/index.ts';
import { type Outcome, runCli } from './run-cli.ts';

let folder: string;
const at = (name: string): string => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-restructure-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const ok = async (...words: string[]): Promise<Outcome> => {
  const outcome = await runCli(words);
  expect({ status: outcome.status, stderr: outcome.stderr }).toMatchObject({ status: 0 });
  return outcome;
};
const fails = async (status: number, ...words: string[]): Promise<Outcome> => {
  const outcome = await runCli(words);
  expect({ status: outcome.status, stderr: outcome.stderr }).toMatchObject({ status });
  return outcome;
};
const info = async (name: string) => JSON.parse((await ok('info', at(name), '--json')).stdout);

const allow = ['same-directory'];
async function write(name: string, offset: number, byte: number): Promise<void> {
  await using disk = await Disk.open(at(name), { mode: 'write', allow });
  await disk.write(offset, new Uint8Array(70_000).fill(byte));
}
async function expectSame(one: string, other: string): Promise<void> {
  await using a = await Disk.open(at(one), { allow });
  await using b = await Disk.open(at(other), { allow });
  expect(await compare(a, b)).toMatchObject({ same: true });
}

describe('vdkit amend', () => {
  it('changes options, several at a time', async () => {
    await ok('create', at('disk.qcow2'), '1M');
    await ok('amend', at('disk.qcow2'), '-o', 'compat=0.10');
    expect(await info('disk.qcow2')).toMatchObject({ version: '2' });
    const { stdout } = await ok(
      'amend',
      at('disk.qcow2'),
      '--json',
      '-o',
      'compat=1.1,refcount_bits=64',
      '-o',
      'lazy_refcounts=on',
    );
    expect(JSON.parse(stdout)).toMatchObject({
      schema: 'vdkit/amend/1',
      version: '3',
      variant: expect.arrayContaining(['lazy-refcounts']),
    });
    expect((await ok('amend', at('disk.qcow2'), '-o', 'lazy_refcounts=off')).stdout).toContain('qcow2 3');
    expect((await ok('amend', at('disk.qcow2'), '-q', '-o', 'lazy_refcounts=on')).stdout).toBe('');
  });

  it('takes commas in names, doubled', async () => {
    await ok('create', at('base.qcow2'), '1M');
    await ok('create', at('disk.qcow2'), '--parent', at('base.qcow2'));
    await ok('amend', at('disk.qcow2'), '-o', 'backing_file=a,,b.qcow2,backing_fmt=qcow2');
    expect(await info('disk.qcow2')).toMatchObject({ parent: 'a,b.qcow2', parentFormat: 'qcow2' });
  });

  it('says what is wrong', async () => {
    await ok('create', at('disk.qcow2'), '1M');
    await ok('create', at('disk.vdi'), '1M');
    await fails(64, 'amend', at('disk.qcow2'));
    await fails(64, 'amend', at('disk.qcow2'), '-o', 'compat');
    await fails(64, 'amend', at('disk.qcow2'), '-o', 'refcount_bits=few');
    expect((await fails(1, 'amend', at('disk.qcow2'), '-o', 'colour=red')).stderr).toContain('no option "colour"');
    const fixed = await fails(1, 'amend', at('disk.qcow2'), '-o', 'cluster_size=4K');
    expect(fixed.stderr).toMatch(/cluster_size.*found 65536, expected 4096/);
    expect((await fails(1, 'amend', at('disk.vdi'), '-o', 'x=1')).stderr).toContain('no options to change');
    const { stdout } = await fails(1, 'amend', at('disk.qcow2'), '--json', '-o', 'compat=0.10,refcount_bits=1');
    expect(JSON.parse(stdout).error).toMatchObject({ kind: 'unsupported', context: { field: 'refcount_bits' } });
  });

  it('is listed with the formats', async () => {
    const { formats } = JSON.parse((await ok('formats', '--json')).stdout);
    const named = formats.map(({ name, amendKeys }: { name: string; amendKeys: unknown[] }) => [
      name,
      amendKeys.length,
    ]);
    expect(named).toContainEqual(['qcow2', 8]);
    expect(named).toContainEqual(['vdi', 0]);
  });
});

describe.each(['qcow2', 'vdi'])('vdkit rebase, %s', (extension) => {
  const [base, other, child] = [`base.${extension}`, `other.${extension}`, `child.${extension}`];
  beforeEach(async () => {
    for (const [index, name] of [base, other].entries()) {
      await ok('create', at(name), '4M');
      await write(name, 1_000_000 * (index + 1), index + 1);
    }
    await ok('create', at(child), '--parent', at(base));
    await write(child, 0, 7);
    await ok('convert', at(child), at('before.raw'));
  });

  it('moves an image onto another parent, and makes a base of it', async () => {
    expect((await ok('rebase', at(child), '--to', at(other))).stderr).toContain(`is a child of ${at(other)} now`);
    rmSync(at(base));
    await expectSame(child, 'before.raw');
    const { stdout } = await ok('rebase', at(child), '--to', 'none', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ schema: 'vdkit/rebase/1', parent: null, parentUuid: null });
    rmSync(at(other));
    await expectSame(child, 'before.raw');
    await ok('check', at(child));
  });

  it('only changes the link, unsafely', async () => {
    await ok('rebase', at(child), '--to', at(other), '--unsafe');
    await using disk = await Disk.open(at(child), { allow });
    const bytes = new Uint8Array(1);
    await disk.read(2_000_000, bytes);
    expect(bytes[0]).toBe(2);
  });

  it('says what is wrong', async () => {
    await fails(64, 'rebase', at(child));
    await fails(64, 'rebase', at(child), '--to', at(other), '--to-format', 'wax');
    expect((await fails(1, 'rebase', at(child), '--to', at(child))).stderr).toContain('its own parent');
    await fails(1, 'rebase', at(child), '--to', at('missing'));
    await fails(1, 'rebase', at(child), '--to', at(other), '--allow', 'none');
    await expectSame(child, 'before.raw');
  });
});

describe.each(['qcow2', 'vdi'])('vdkit commit, %s', (extension) => {
  const [base, middle, last] = [`base.${extension}`, `middle.${extension}`, `last.${extension}`];
  beforeEach(async () => {
    await ok('create', at(base), '4M');
    await ok('create', at(middle), '--parent', at(base));
    await write(middle, 0, 1);
    await ok('create', at(last), '--parent', at(middle));
    await write(last, 2_000_000, 2);
    await ok('convert', at(last), at('before.raw'));
  });

  it('puts an image into its parent', async () => {
    expect((await ok('commit', at(last))).stderr).toContain(`was committed to ${at(middle)} and emptied`);
    await expectSame(middle, 'before.raw');
    await expectSame(last, 'before.raw');
    await ok('check', at(middle));
    await ok('check', at(last));
    const { stdout } = await ok('commit', at(last), '--json', '-d');
    const document = { schema: 'vdkit/commit/1', file: at(last), base: at(middle), emptied: false, left: [] };
    expect(JSON.parse(stdout)).toEqual(document);
  });

  it.each(['0', 'name'])('puts it further down, named by its %s', async (how) => {
    const { stdout, stderr } = await ok('commit', at(last), '--json', '--base', how === 'name' ? at(base) : how);
    expect(JSON.parse(stdout)).toMatchObject({ base: at(base), emptied: true, left: [at(middle)] });
    expect(stderr).toContain('is no longer a parent of');
    rmSync(at(middle));
    await expectSame(base, 'before.raw');
    await expectSame(last, 'before.raw');
  });

  it('says what is wrong', async () => {
    await fails(64, 'commit', at(base));
    await fails(64, 'commit', at(last), '--base', '2');
    await fails(64, 'commit', at(last), '--base', at('before.raw'));
    await ok('create', at(`sibling.${extension}`), '--parent', at(middle));
    expect((await fails(1, 'commit', at(last))).stderr).toContain('depends on it');
    await ok('commit', at(last), '--force');
  });
});

describe('a missing parent', () => {
  beforeEach(async () => {
    await ok('create', at('base.qcow2'), '1M');
    await ok('create', at('child.qcow2'), '--parent', at('base.qcow2'));
    await ok('create', at('grandchild.qcow2'), '--parent', at('child.qcow2'));
    mkdirSync(at('moved'));
    renameSync(at('base.qcow2'), at('moved/base.qcow2'));
  });

  it('is reported for the child, with the name looked for and both remedies', async () => {
    const { stderr } = await fails(1, 'map', at('child.qcow2'));
    expect(stderr).toContain(
      `${at('child.qcow2')}: The parent of this image is missing: there is no ${at('base.qcow2')}`,
    );
    expect(stderr).toMatch(/hint: .*--parent\b.*vdkit rebase IMAGE --unsafe --to PARENT/);
    expect((await fails(1, 'convert', at('child.qcow2'), at('out.raw'))).stderr).toContain('--source-parent');
    expect((await fails(1, 'map', at('grandchild.qcow2'))).stderr).toMatch(/child\.qcow2: .*\n.*--chain/);
  });

  it('is found again by either of them', async () => {
    await ok('map', at('child.qcow2'), '--parent', at('moved/base.qcow2'));
    await ok('rebase', at('child.qcow2'), '--unsafe', '--to', at('moved/base.qcow2'));
    await ok('map', at('grandchild.qcow2'));
  });
});

describe('warnings of children', () => {
  it('come when a change shows in them', async () => {
    await ok('create', at('base.qcow2'), '1M');
    // The link is stored, by name: there is nothing to warn of.
    expect((await ok('create', at('child.qcow2'), '--parent', at('base.qcow2'))).stderr).not.toContain('warning');
    expect((await ok('resize', at('base.qcow2'), '2M')).stderr).toContain('child.qcow2');
    expect((await ok('compact', at('base.qcow2'))).stderr).not.toContain('warning');
  });
});

it('names the file as typed, and the remedy, when images cannot be merged or committed', async () => {
  await ok('create', at('base.vdi'), '1M');
  await ok('create', at('last.vdi'), '--parent', at('base.vdi'));
  const [base, last] = [`${folder}/./base.vdi`, `${folder}/./last.vdi`];
  const rows: readonly (readonly [words: readonly string[], problem: string, hint: string])[] = [
    [['merge', base], `${base}: The image has no parent`, 'Name the last image of a chain'],
    [['commit', base], `${base}: The image has no parent`, 'Name the last image of a chain'],
    [
      ['merge', last, '--from', '1', '--to-image', '1'],
      `${last}: An image cannot be merged with itself`,
      'from 0 to 1',
    ],
    [['merge', last, '--from', '9'], '--from is out of range', 'from 0 to 1'],
    [['merge', last, '--from', 'x'], '--from takes a whole number', 'from 0 to 1'],
    [['commit', last, '--base', 'no.vdi'], `"no.vdi" is not an image below ${last}`, at('base.vdi')],
  ];
  for (const [words, problem, hint] of rows) {
    const { stderr } = await fails(64, ...words);
    expect(stderr).toContain(problem);
    expect(stderr).toMatch(new RegExp(`hint: .*${hint}`));
  }
});

describe('names in messages', () => {
  it('of files given by options are as typed, not whole paths', async () => {
    await ok('create', at('base.vdi'), '1M');
    await ok('create', at('last.qcow2'), '--parent', at('base.vdi'), '--parent-format', 'vdi');
    const missing = `${folder}/./no.qcow2`;
    const rows: readonly (readonly [words: readonly string[], typed: string])[] = [
      [['rebase', at('last.qcow2'), '--to', missing], missing],
      [['rebase', at('last.qcow2'), '--to', missing, '--unsafe'], missing],
      [['rebase', at('last.qcow2'), '--to', `${folder}/.`], `${folder}/.`],
      [['create', at('new.qcow2'), '--parent', missing], missing],
      [['compare', at('base.vdi'), at('base.vdi'), '--parent-b', missing], missing],
    ];
    for (const [words, typed] of rows) expect((await runCli(words)).stderr).toContain(`error: ${typed}: `);
  });

  it('of images beside the one that was typed are like that one', async () => {
    await ok('create', at('base.vdi'), '1M');
    await ok('create', at('last.vdi'), '--parent', at('base.vdi'));
    const [base, last] = [`${folder}/./base.vdi`, `${folder}/./last.vdi`];
    expect((await ok('commit', last)).stderr).toContain(`${last} was committed to ${base} and emptied`);
    expect((await ok('merge', last)).stderr).toContain(`${last} merged into ${base}; `);
  });
});
