/** Names of bytes that are not UTF-8. */
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { printable } from '../../errors.ts';
import { createImage } from '../../operations/create.ts';
import { removeImage, renameImage } from '../../operations/files.ts';
import { childrenOf } from '../../operations/siblings.ts';
import { decodeName, encodeName, workingDirectory } from './names.ts';
import { localFiles } from './provider.ts';

const SIZE = 64 * 1024;

describe('a name as text', () => {
  it.each([
    ['UTF-8', 'ä\u{1f4be}.vdi', 'ä\u{1f4be}.vdi'],
    ['a byte alone', [0xff], '\\xff'],
    ['Latin-1', [0x63, 0xe9, 0x2e], 'c\\xe9.'],
    ['a character cut off', [0xf0, 0x9f, 0x92], '\\xf0\\x9f\\x92'],
    ['an encoded surrogate', [0xed, 0xa0, 0x80], '\\xed\\xa0\\x80'],
    ['bytes among characters', [0xc3, 0xa4, 0xff, 0xc3, 0xa4], 'ä\\xffä'],
  ])('becomes the same bytes again: %s', (_, bytes, printed) => {
    const given = Buffer.from(bytes as string);
    const name = decodeName(given);
    expect(Buffer.from(encodeName(name))).toEqual(given);
    expect(printable(name)).toBe(printed);
  });
});

describe.runIf(process.platform === 'linux')('files with such names', () => {
  let folder: string;

  beforeEach(() => {
    folder = fs.mkdtempSync(join(tmpdir(), 'vdkit-names-'));
  });
  afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));

  const named = (text: string): string => decodeName(Buffer.from(join(folder, text), 'latin1'));
  const inFolder = (): string[] => fs.readdirSync(folder, { encoding: 'latin1' }).sort();

  it('are made, listed, found, renamed and removed', async () => {
    const files = localFiles();
    const name = named('\xff.vdi');
    await createImage(name, { size: SIZE });
    expect(inFolder()).toEqual(['\xff.vdi']);
    const listed: string[] = [];
    for await (const one of files.list(folder)) listed.push(one);
    expect(listed).toEqual([name]);
    expect(await files.realName(name)).toBe(name);
    await renameImage(name, named('c\xe9.vdi'));
    expect(inFolder()).toEqual(['c\xe9.vdi']);
    await removeImage(named('c\xe9.vdi'));
    expect(inFolder()).toEqual([]);
  });

  it('are children like others', async () => {
    const parent = join(folder, 'base.qcow2');
    await createImage(parent, { size: SIZE });
    await createImage(named('\xff.qcow2'), { parent });
    expect((await childrenOf(parent)).names).toEqual([named('\xff.qcow2')]);
    await expect(removeImage(parent)).rejects.toMatchObject({ kind: 'busy' });
  });

  it('are refused as a parent where the image would have to store the name, and nothing is left', async () => {
    const parent = named('\xff.qcow2');
    await createImage(parent, { size: SIZE });
    const refused = { kind: 'unsupported', hint: expect.stringContaining('another name') };
    await expect(createImage(join(folder, 'child.qcow2'), { parent })).rejects.toMatchObject(refused);
    expect(inFolder()).toEqual(['\xff.qcow2']);
  });

  it('are not the new name of a parent, which keeps its old one', async () => {
    const parent = join(folder, 'base.qcow2');
    await createImage(parent, { size: SIZE });
    await createImage(join(folder, 'child.qcow2'), { parent });
    await expect(renameImage(parent, named('\xff.qcow2'))).rejects.toMatchObject({ kind: 'unsupported' });
    expect(inFolder()).toEqual(['base.qcow2', 'child.qcow2']);
  });
});

it('a deleted working directory fails names that are relative to it only', () => {
  const cwd = process.cwd;
  process.cwd = () => {
    throw Object.assign(new Error('ENOENT: no such file or directory, uv_cwd'), { code: 'ENOENT' });
  };
  try {
    expect(() => workingDirectory()).toThrow('The working directory does not exist any more');
    expect(() => localFiles().resolve('disk.vdi', '')).toThrow('working directory');
    expect(localFiles().resolve('/disk.vdi', '')).toBe('/disk.vdi');
  } finally {
    process.cwd = cwd;
  }
  expect(workingDirectory()).toBe(cwd.call(process));
});
