/** VISO files that take the files of ISO images, which other programs made. */
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openDisk } from '../../src/operations/open.ts';
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import { describeWithPeers } from './peers.ts';

const MARKER = '--iprt-iso-maker-file-marker-bourne-sh 12345678-1234-1234-1234-123456789abc\n';
const NAMES = [
  'isolinux.bin',
  'fd.img',
  'a/b/c/d/e/f/g/h/i/j/deep',
  `${'long '.repeat(45)}name`,
  'Ünï 日本 😀.bin',
  'one/two.tar.gz',
];
const BOOT = ['-b', 'isolinux.bin', '-c', 'boot.cat', '-no-emul-boot', '-boot-load-size', '4', '-boot-info-table'];
const EFI = ['-eltorito-alt-boot', '-e', 'fd.img', '-no-emul-boot'];
let folder = '';
const at = (name: string): string => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-peer-import-'));
  for (const [index, name] of NAMES.entries()) {
    mkdirSync(join(at('tree'), name, '..'), { recursive: true });
    writeFileSync(join(at('tree'), name), randomBytes(new Random(index), 3000 + index * 5000), { mode: 0o604 + index });
    utimesSync(join(at('tree'), name), 1_700_000_000, 1_700_000_000 + index);
  }
  const target = `${'x'.repeat(180)}/../${'y'.repeat(200)}/./z`;
  symlinkSync(target, at('tree/long-link'));
  symlinkSync('/etc/hostname', at('tree/absolute'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Reads a VISO file as an image, into a file. */
async function save(name: string, words: string): Promise<string> {
  writeFileSync(at('x.viso'), MARKER + words);
  await using disk = await openDisk(at('x.viso'), { allow: ['same-directory'] });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  writeFileSync(at(name), bytes);
  return at(name);
}

/** Everything in a folder: content or target, mode and time. What tells its own place in the image is left out. */
function listing(root: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    const path = join(root, name);
    const stat = lstatSync(path);
    if (stat.isSymbolicLink()) found[name] = readlinkSync(path);
    else if (stat.isDirectory()) found[name] = 'directory';
    else {
      const bytes = readFileSync(path);
      if (name === 'isolinux.bin') bytes.fill(0, 8, 64);
      const hash = createHash('sha256').update(bytes).digest('hex');
      found[name] = name === 'boot.cat' ? 'catalog' : `${hash} ${(stat.mode & 0o7777).toString(8)} ${stat.mtimeMs}`;
    }
  }
  return found;
}

describeWithPeers(['xorriso', 'genisoimage'], 'an image of xorriso or genisoimage', (xorriso, genisoimage) => {
  const extracted = async (image: string): Promise<Record<string, string>> => {
    const target = `${image}.extracted`;
    await xorriso.run('-osirrox', 'on', '-indev', image, '-extract', '/', target);
    return listing(target);
  };

  it.each([
    [
      'xorriso',
      () =>
        xorriso.run('-as', 'mkisofs', '-R', '-J', ...BOOT, ...EFI, '-V', 'MADE', '-o', at('xorriso.iso'), at('tree')),
    ],
    [
      'genisoimage',
      () =>
        genisoimage.run(
          '-quiet',
          '-m',
          'long-link',
          '-R',
          '-J',
          ...BOOT,
          ...EFI,
          '-V',
          'MADE',
          '-o',
          at('genisoimage.iso'),
          at('tree'),
        ),
    ],
  ])('of %s is imported with all files and boot images', async (name, make) => {
    await make();
    const image = await save(`${name}-imported.iso`, `--import-iso ${name}.iso --volid OTHER`);
    expect(await extracted(image)).toEqual(await extracted(at(`${name}.iso`)));
    const report = await xorriso.run('-indev', image, '-report_el_torito', 'plain');
    expect(report).toMatch(/cat path : +\/boot\.cat/);
    expect(report).toMatch(/boot img : +1 +BIOS +y +none +0x0000 +0x00 +4 /);
    expect(report).toMatch(/img path : +1 +\/isolinux\.bin/);
    expect(report).toMatch(/img opts : +1 +boot-info-table/);
    expect(report).toMatch(/img path : +2 +\/fd\.img/);
    expect(readFileSync(image).toString('latin1', 0x8028, 0x8030)).toBe('OTHER   ');
  });

  it('gives files by their names in each name space', async () => {
    await xorriso.run('-as', 'mkisofs', '-R', '-J', '-o', at('both.iso'), at('tree'));
    const names = async (words: string): Promise<string[]> => {
      const image = await save('names.iso', words);
      const output = await xorriso.run('-indev', image, '-find', '/', '-type', 'f');
      return [...output.matchAll(/^'\/(.*)'$/gm)].map(([, name = '']) => name).sort();
    };
    expect(await names('--push-iso both.iso /=/one')).toEqual(['two.tar.gz']);
    expect(await names('--push-iso both.iso /dir=/one --pop /two=tree/one/two.tar.gz')).toEqual([
      'dir/two.tar.gz',
      'two',
    ]);
    expect(await names('--push-iso-no-rock both.iso /=/one')).toEqual(['two.tar.gz']);
    expect(await names('--push-iso-no-rock-no-joliet both.iso /=/ONE')).toEqual(['TWO_TAR.GZ']);
    expect(await names('--push-iso-no-joliet both.iso /=/a/b/c')).toEqual(['d/e/f/g/h/i/j/deep']);
  });
});
