/** ISO 9660 images of directories, and what other programs find in them. */
import { createHash } from 'node:crypto';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createIso } from '../../src/operations/iso/create.ts';
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import { describeWithPeers } from './peers.ts';

let folder = '';
let tree = '';
let image = '';
let boot: Uint8Array;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-iso-'));
  tree = join(folder, 'tree');
  image = join(folder, 'image.iso');
  makeTree();
  const options = { label: 'A_LABEL', boot: 'boot/loader.bin', bootInfoTable: true, bootEfi: 'boot/efi.img' };
  await createIso(image, tree, options);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Names that are long, deep, alike in capitals, of other scripts; files of all lengths; links. */
function makeTree(): void {
  boot = randomBytes(new Random(1), 5001);
  put('boot/loader.bin', boot);
  put('boot/efi.img', randomBytes(new Random(2), 70_000));
  put('empty', new Uint8Array(0));
  put('block', randomBytes(new Random(3), 2048));
  put('one/two/three/four/five/six/seven/eight/nine/ten/deep.txt', text('deep'));
  put('Case.txt', text('capital'));
  put('case.txt', text('small'));
  put('.hidden', text('dot'));
  put('two.dots.tar.gz', text('dots'));
  put(`${'n'.repeat(250)}.txt`, text('long'));
  put('Ünï cödé/日本語 😀', text('unicode'));
  for (let number = 0; number < 120; number++)
    put(`many/a common beginning of a name ${number}.text`, text(`${number}`));
  symlinkSync('Case.txt', join(tree, 'link'));
  symlinkSync('../../nowhere', join(tree, 'many', 'dangling'));
  symlinkSync('/etc/hostname', join(tree, 'absolute'));
}

function put(name: string, bytes: Uint8Array): void {
  const path = join(tree, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, bytes);
  utimesSync(path, 1_700_000_000, 1_700_000_000 + name.length);
}

const text = (words: string): Uint8Array => new TextEncoder().encode(words);

/** Everything below a folder: kind, content or target, time. */
function listing(root: string, replaced: ReadonlyMap<string, Uint8Array> = new Map()): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const name = relative(root, path);
    const { mtimeMs } = lstatSync(path);
    if (entry.isSymbolicLink()) found[name] = `link ${readlinkSync(path)}`;
    else if (entry.isDirectory()) found[name] = 'directory';
    else {
      const bytes = replaced.get(name) ?? readFileSync(path);
      found[name] = `${bytes.length} ${createHash('sha256').update(bytes).digest('hex')} ${Math.floor(mtimeMs / 1000)}`;
    }
  }
  return found;
}

/** The boot image as it stands in the image: with a table whose place only the image tells. */
function expected(found: string): Record<string, string> {
  const patched = readFileSync(join(found, 'boot/loader.bin'));
  const [before, after] = [patched.subarray(0, 8), patched.subarray(64)];
  expect([...before, ...after]).toEqual([...boot.subarray(0, 8), ...boot.subarray(64)]);
  const words = new DataView(patched.buffer, patched.byteOffset);
  expect([words.getUint32(8, true), words.getUint32(16, true)]).toEqual([16, boot.length]);
  return listing(tree, new Map([['boot/loader.bin', patched]]));
}

describeWithPeers(['xorriso'], 'xorriso', (xorriso) => {
  it('finds every file with its name, content and time, and every link', async () => {
    const target = join(folder, 'by-xorriso');
    await xorriso.run('-osirrox', 'on', '-indev', image, '-extract', '/', target);
    expect(listing(target)).toEqual(expected(target));
  });

  it('lists the boot images for BIOS and UEFI, and the boot information table', async () => {
    const report = await xorriso.run('-indev', image, '-report_el_torito', 'plain');
    expect(report).toMatch(/boot img : +1 +BIOS +y +none +0x07c0 +0x00 +4 /);
    expect(report).toMatch(/boot img : +2 +UEFI +y +none /);
    expect(report).toMatch(/img path : +1 +\/boot\/loader\.bin/);
    expect(report).toMatch(/img opts : +1 +boot-info-table/);
    expect(report).toMatch(/img path : +2 +\/boot\/efi\.img/);
  });

  it('reads a file of more than 4 GiB whole', { timeout: 120_000 }, async () => {
    const large = join(folder, 'large');
    mkdirSync(large);
    const length = 2 ** 32 + 5000;
    const ends = [
      { offset: 0, bytes: randomBytes(new Random(4), 70_000) },
      // Over the end of the first extent, and up to the end of the file.
      { offset: 0xffff_f800 - 1000, bytes: randomBytes(new Random(5), length - 0xffff_f800 + 1000) },
    ];
    const file = openSync(join(large, 'large.bin'), 'w');
    for (const { offset, bytes } of ends) writeSync(file, bytes, 0, bytes.length, offset);
    closeSync(file);
    const target = join(folder, 'large.iso');
    await createIso(target, large);
    expect(await xorriso.run('-indev', target, '-find', '/', '-exec', 'lsdl')).toContain(` ${length} `);
    // Its cuts read the file from its beginning; so it only tells where the file lies, in one piece or several.
    const report = await xorriso.run('-indev', target, '-find', '/', '-exec', 'report_lba');
    const pieces = [...report.matchAll(/^File data lba: +(\d+) , +(\d+) , +(\d+) , +(\d+) , '\/large\.bin'/gm)];
    const starts = pieces.map(([, , block]) => Number(block) * 2048);
    expect(starts.map((start) => start - (starts[0] ?? 0))).toEqual([0, 0xffff_f800]);
    const made = openSync(target, 'r');
    for (const { offset, bytes } of ends) {
      const found = new Uint8Array(bytes.length);
      readSync(made, found, 0, found.length, (starts[0] ?? 0) + offset);
      expect(Buffer.from(found).equals(bytes)).toBe(true);
    }
    closeSync(made);
    rmSync(target);
  });
});

describeWithPeers(['bsdtar'], 'bsdtar', (bsdtar) => {
  it('finds every file with its name, content and time, and every link', async () => {
    const target = join(folder, 'by-bsdtar');
    mkdirSync(target);
    await bsdtar.run('-x', '-f', image, '-C', target);
    expect(listing(target)).toEqual(expected(target));
  });
});

describeWithPeers(['7zip'], '7-Zip', (sevenZip) => {
  it('finds every file by its Joliet name', async () => {
    const target = join(folder, 'by-7zip');
    await sevenZip.run('x', `-o${target}`, image);
    const found = Object.values(listing(target)).map((line) => line.split(' ').slice(0, 2).join(' '));
    const wanted = Object.values(expected(target)).filter((line) => !line.startsWith('link'));
    expect(found).toEqual(expect.arrayContaining(wanted.map((line) => line.split(' ').slice(0, 2).join(' '))));
  });
});

describeWithPeers(['isoinfo'], 'isoinfo', (isoinfo) => {
  it('finds as many names in each name space', async () => {
    const count = Object.keys(listing(tree)).length;
    for (const space of [['-R'], ['-J'], []]) {
      const names = (await isoinfo.run('-f', ...space, '-i', image)).split('\n').filter((line) => line.startsWith('/'));
      expect(new Set(names).size, space.join()).toBe(count);
    }
    expect(await isoinfo.run('-d', '-i', image)).toContain('Volume id: A_LABEL');
  });
});
