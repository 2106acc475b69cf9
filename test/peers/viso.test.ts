/** VISO files with all their options, and what other programs find in the images that they read as. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
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
import { describeWithPeers, type PeerProgram } from './peers.ts';

const MARKER = '--iprt-iso-maker-file-marker-bourne-sh 12345678-1234-1234-1234-123456789abc\n';
const SECONDS = 1_700_000_000;
const BOOT = randomBytes(new Random(1), 5001);
const WORDS = `
--volume-id "A DISC" --name-setup iso,joliet
/docs/a.txt='/docs/Another name.txt'=tree/plain.txt =/joliet.txt=tree/plain.txt /iso.txt==tree/plain.txt
--volume-id PRIMARY --name-setup joliet --volume-id Second
--name-setup iso+joliet --new-dir-mode 0700 /new/deep/run.sh=tree/run.sh
--strict-attribs /strict=tree --rational-attribs
--file-mode=0640 --dir-mode=0750 /forced=tree --no-file-mode --no-dir-mode
@more.rsp
--chmod 04711:/usual/run.sh --chown 1000:/usual/run.sh --chgrp 0x32:/usual/run.sh --chmod a+x:/usual/plain.txt
--eltorito-add-image /boot/bios.img=boot.img --boot-info-table --boot-load-size 8
--eltorito-new-entry --eltorito-platform-id efi -b /usual/below/efi.img
--eltorito-platform-id Mac --eltorito-add-image /boot/floppy.img=floppy.img --no-boot -c /boot/boot.cat
`;
let folder = '';
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-peer-viso-'));
  put('tree/plain.txt', new TextEncoder().encode('hello'), 0o604);
  put('tree/run.sh', new TextEncoder().encode('#!'), 0o751);
  put('tree/below/efi.img', randomBytes(new Random(2), 70_000), 0o600);
  put('tree/below/Ünï 日本 😀.bin', randomBytes(new Random(3), 2048), 0o444);
  put('boot.img', BOOT, 0o644);
  put('floppy.img', new Uint8Array(1_474_560).fill(5), 0o644);
  put('more.rsp', new TextEncoder().encode("'/usual'=tree"), 0o644);
  symlinkSync('below/efi.img', at('tree/link'));
  chmodSync(at('tree/below'), 0o1711);
  chmodSync(at('tree'), 0o755);
  for (const directory of ['tree/below', 'tree']) utimesSync(at(directory), SECONDS, SECONDS + 7);
  await save('image.iso', WORDS);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function put(name: string, bytes: Uint8Array, mode: number): void {
  mkdirSync(join(at(name), '..'), { recursive: true });
  writeFileSync(at(name), bytes);
  chmodSync(at(name), mode);
  utimesSync(at(name), SECONDS, SECONDS + name.length);
}

/** Reads a VISO file as an image, into a file. */
async function save(name: string, words: string): Promise<string> {
  writeFileSync(at('x.viso'), MARKER + words);
  await using disk = await openDisk(at('x.viso'), { allow: ['same-directory'] });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  writeFileSync(at(name), bytes);
  return at(name);
}

/** What the folder `tree` must be in the image, with modes by a rule. */
function treeAs(prefix: string, modeOf: (mode: number, kind: 'file' | 'directory') => number, owner: string) {
  const found: Record<string, string> = {};
  for (const path of ['', ...readdirSync(at('tree'), { recursive: true, encoding: 'utf8' })]) {
    const stat = lstatSync(join(at('tree'), path));
    const name = join(prefix, path);
    if (stat.isSymbolicLink()) found[name] = `777 ${owner}`;
    else if (stat.isDirectory()) found[name] = `${modeOf(stat.mode & 0o7777, 'directory').toString(8)} ${owner}`;
    else found[name] = `${modeOf(stat.mode & 0o7777, 'file').toString(8)} ${owner} ${stat.size}`;
  }
  return found;
}

const BITS = ['x', 'w', 'r'];
/** The octal mode and the rest of lines, in which `e` is the boot catalog, such as `-rwsr-xr-x 1 1000 50 2 Nov 14 2023 '/name'`. */
function listed(output: string): Record<string, string> {
  const found: Record<string, string> = {};
  const lines = output.matchAll(/^([dle-])([rwxsStT-]{9})\s+\d+ (\d+) +(\d+) +(\d+) .*? '\/(.*?)'(?: -> .*)?$/gm);
  for (const [, kind, letters = '', user, group, size, name = ''] of lines) {
    let mode = 0;
    for (const [index, letter] of [...letters].entries()) {
      const bit = 8 - index;
      if (letter === BITS[bit % 3] || letter === 's' || letter === 't') mode |= 1 << bit;
      if ('sStT'.includes(letter)) mode |= 0o1000 << (bit / 3);
    }
    found[name] = `${mode.toString(8)} ${user} ${group}${'-e'.includes(kind ?? '') ? ` ${size}` : ''}`;
  }
  return found;
}

function usualMode(mode: number, kind: 'file' | 'directory'): number {
  return kind === 'directory' ? 0o555 | (mode & 0o1000) : mode & 0o111 ? 0o555 : 0o444;
}

describeWithPeers(['xorriso'], 'xorriso', (xorriso) => {
  it('lists every file with its mode, owner and size', async () => {
    const output = await xorriso.run('-indev', at('image.iso'), '-find', '/', '-exec', 'lsdl');
    const { uid, gid } = lstatSync(at('tree'));
    expect(listed(output)).toEqual({
      '': '555 0 0',
      ...treeAs('strict', (mode) => mode, `${uid} ${gid}`),
      ...treeAs('forced', (_mode, kind) => (kind === 'file' ? 0o640 : 0o750), '0 0'),
      ...treeAs('usual', usualMode, '0 0'),
      'usual/run.sh': '4711 1000 50 2',
      'usual/plain.txt': '555 0 0 5',
      docs: '555 0 0',
      'docs/a.txt': '444 0 0 5',
      'iso.txt': '444 0 0 5',
      new: '700 0 0',
      'new/deep': '700 0 0',
      'new/deep/run.sh': '555 0 0 2',
      boot: '700 0 0',
      'boot/bios.img': '444 0 0 5001',
      'boot/floppy.img': '444 0 0 1474560',
      'boot/boot.cat': '444 0 0 2048',
    });
  });

  it('finds the content and times of files, and links', async () => {
    const target = at('extracted');
    await xorriso.run('-osirrox', 'on:o_excl_off', '-indev', at('image.iso'), '-extract', '/', target);
    for (const path of readdirSync(at('tree'), { recursive: true, encoding: 'utf8' })) {
      const [found, wanted] = [join(target, 'usual', path), join(at('tree'), path)];
      const stat = lstatSync(wanted);
      if (stat.isSymbolicLink()) expect(readlinkSync(found)).toBe(readlinkSync(wanted));
      else if (stat.isFile()) expect(hash(readFileSync(found)), path).toBe(hash(readFileSync(wanted)));
      if (!stat.isSymbolicLink()) expect(lstatSync(found).mtimeMs, path).toBe(stat.mtimeMs);
    }
    const catalog = readFileSync(join(target, 'boot/boot.cat'));
    expect([catalog[0], catalog[30], catalog[31], catalog[32]]).toEqual([1, 0x55, 0xaa, 0x88]);
    const boot = readFileSync(join(target, 'boot/bios.img'));
    expect(boot.subarray(64).equals(BOOT.subarray(64))).toBe(true);
  });

  it('lists the boot images', async () => {
    const report = await xorriso.run('-indev', at('image.iso'), '-report_el_torito', 'plain');
    expect(report).toMatch(/cat path : +\/boot\/boot\.cat/);
    expect(report).toMatch(/boot img : +1 +BIOS +y +none +0x07c0 +0x00 +8 /);
    expect(report).toMatch(/boot img : +2 +UEFI +y +none /);
    expect(report).toMatch(/boot img : +3 +Mac +n +fd1\.4 /);
    expect(report).toMatch(/img path : +1 +\/boot\/bios\.img/);
    expect(report).toMatch(/img opts : +1 +boot-info-table/);
    expect(report).toMatch(/img path : +2 +\/usual\/below\/efi\.img/);
  });

  it('leaves Rock Ridge aside where it is limited', async () => {
    const words = '/name.txt=tree/plain.txt --limited-rock-ridge --no-joliet';
    const limited = await save('limited.iso', words);
    expect(await xorriso.run('-indev', limited, '-find', '/')).toContain("'/NAME.TXT'");
    expect(readFileSync(limited).includes('name.txt')).toBe(true);
    const none = await save('none.iso', words.replace('limited', 'no'));
    expect(readFileSync(none).includes('name.txt')).toBe(false);
  });
});

function hash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

describeWithPeers(['7zip'], '7-Zip', (sevenZip) => {
  it('lists every file by its Joliet name, with its size', async () => {
    const output = await sevenZip.run('l', '-slt', '-ba', at('image.iso'));
    const found = [...output.matchAll(/^Path = (.*)\nFolder = -\nSize = (\d+)/gm)].map(
      ([, name, size]) => `${name} ${size}`,
    );
    const files = readdirSync(at('tree'), { recursive: true, encoding: 'utf8' })
      .map((path) => [path, lstatSync(join(at('tree'), path))] as const)
      .filter(([, stat]) => !stat.isDirectory());
    const wanted = ['strict', 'forced', 'usual'].flatMap((prefix) =>
      files.map(([path, stat]) => `${prefix}/${path} ${stat.isSymbolicLink() ? 0 : stat.size}`),
    );
    wanted.push('docs/Another name.txt 5', 'joliet.txt 5', 'new/deep/run.sh 2');
    wanted.push('boot/bios.img 5001', 'boot/floppy.img 1474560', 'boot/boot.cat 2048');
    expect(found.filter((line) => !line.startsWith('[')).sort()).toEqual(wanted.sort());
  });
});

/** Names that isoinfo lists. */
async function namesOf(isoinfo: PeerProgram, image: string, ...space: string[]): Promise<string[]> {
  const output = await isoinfo.run('-f', ...space, '-i', image);
  return output.split('\n').filter((line) => line.startsWith('/'));
}

describeWithPeers(['isoinfo'], 'isoinfo', (isoinfo) => {
  it('finds names of level 1, and the tables that translate them', async () => {
    put('many/A long name.text', new TextEncoder().encode('1'), 0o644);
    put('many/A long name, too.text', new TextEncoder().encode('2'), 0o644);
    const words = '--iso-level 1 --name-setup iso+rock+trans-tbl,joliet /many=many --joliet-ucs-level 1';
    const image = await save('level.iso', words);
    const table = '/MANY/TRANS.TBL;1';
    expect((await namesOf(isoinfo, image)).sort()).toEqual([
      '/MANY',
      '/MANY/A_LONG_1.TEX;1',
      '/MANY/A_LONG_N.TEX;1',
      table,
      '/TRANS.TBL;1',
    ]);
    expect(await namesOf(isoinfo, image, '-J')).toHaveLength(3);
    expect(await isoinfo.run('-x', table, '-i', image)).toBe(
      `${['F A_LONG_1.TEX;1'.padEnd(36), 'A long name.text'].join('\t')}\n${['F A_LONG_N.TEX;1'.padEnd(36), 'A long name, too.text'].join('\t')}\n`,
    );
    const report = await isoinfo.run('-d', '-i', image);
    expect(report).toContain('Joliet with UCS level 1 found');
  });

  it('finds the texts of each name space', async () => {
    expect(await isoinfo.run('-d', '-i', at('image.iso'))).toContain('Volume id: PRIMARY');
    // isoinfo prints those of the first one alone.
    const joliet = readFileSync(at('image.iso')).subarray(18 * 2048, 19 * 2048);
    expect([joliet[0], joliet.subarray(40, 72).swap16().toString('utf16le').trimEnd()]).toEqual([2, 'Second']);
  });
});
