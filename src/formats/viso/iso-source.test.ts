import {
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isImageError } from '../../errors.ts';
import { inspect } from '../../operations/inspect.ts';
import { createIso } from '../../operations/iso/create.ts';
import { openDisk } from '../../operations/open.ts';
import { Random } from '../../testing/random.ts';

const MARKER = '--iprt-iso-maker-file-marker-bourne-sh 12345678-1234-1234-1234-123456789abc';
const ALLOW = { allow: ['same-directory'] } as const;
const BLOCK = 2048;
let folder = '';
let sound: Buffer;
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-viso-iso-'));
  mkdirSync(at('tree/below/deeper'), { recursive: true });
  writeFileSync(at('tree/a.txt'), 'content of a');
  writeFileSync(at('tree/boot.bin'), new Uint8Array(3000).fill(9));
  writeFileSync(at(`tree/below/${'long '.repeat(45)}`), 'content of a long name');
  symlinkSync('below/deeper', at('tree/link'));
  for (const name of ['', ...readdirSync(at('tree'), { recursive: true, encoding: 'utf8' })]) {
    lutimesSync(at(join('tree', name)), 1_700_000_000, 1_700_000_000);
  }
  writeFileSync(at('plain.txt'), 'plain');
  await createIso(at('made.iso'), at('tree'), { boot: 'boot.bin', bootInfoTable: true, label: 'MADE' });
  sound = readFileSync(at('made.iso'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function bytesOf(words: string): Promise<Buffer> {
  writeFileSync(at('x.viso'), `${MARKER} ${words}`);
  await using disk = await openDisk(at('x.viso'), ALLOW);
  const bytes = Buffer.alloc(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

describe('an ISO image in a VISO file', () => {
  it('is the same image again when it is all that is named', async () => {
    expect((await bytesOf('--import-iso made.iso')).equals(sound)).toBe(true);
    expect((await bytesOf('--import-iso made.iso --name-setup-from-import')).equals(sound)).toBe(true);
  });

  it('tells what of it is left out', async () => {
    const bytes = Buffer.from(sound);
    bytes[100] = 1;
    writeFileSync(at('system.iso'), bytes);
    writeFileSync(at('x.viso'), `${MARKER} --import-iso system.iso`);
    expect((await inspect(at('x.viso'), ALLOW)).warnings.join()).toContain('system.iso');
    expect((await bytesOf('--import-iso system.iso')).equals(sound)).toBe(true);
  });

  it('keeps a boot image that no name leads to', async () => {
    const bytes = Buffer.from(sound);
    const record = bytes.indexOf('BOOT.BIN;1', 0, 'latin1') - 33;
    const [block, catalog] = [bytes.readUInt32LE(record + 2), bytes.readUInt32LE(17 * BLOCK + 71) * BLOCK];
    // The catalog leads to the second block of the file.
    bytes.writeUInt32LE(block + 1, catalog + 40);
    bytes.writeUInt16LE(1, catalog + 38);
    writeFileSync(at('hidden.iso'), bytes);
    const made = await bytesOf('--import-iso hidden.iso /boot.bin=:remove:');
    const hidden = made.readUInt32LE(made.readUInt32LE(17 * BLOCK + 71) * BLOCK + 40) * BLOCK;
    expect(made.subarray(hidden, hidden + 512).equals(Buffer.alloc(512, 9))).toBe(true);
  });

  it.each<[string, string, string]>([
    ['one that is not there', '--import-iso none.iso', 'not-found'],
    ['one elsewhere', '--import-iso /etc/hostname', 'denied'],
    ['a file that is none', '--push-iso plain.txt /a.txt --pop', 'corrupt'],
    ['a name that it lacks', '--push-iso made.iso /b.txt', 'not-found'],
    ['a file of the host behind it', '--push-iso made.iso plain.txt', 'not-found'],
    ['a path through a file', '--push-iso made.iso /a.txt/x', 'not-found'],
    ['nothing to end', 'plain.txt --pop', 'invalid-format'],
    ['a name setup from nothing', 'plain.txt --name-setup-from-import', 'invalid-format'],
    ['too many of them', '--import-iso made.iso '.repeat(17), 'limit'],
    ['too many inside of each other', `${'--push-iso made.iso '.repeat(6)} /a.txt`, 'limit'],
    ['links of it without Rock Ridge', '--import-iso made.iso --no-rock-ridge', 'unsupported'],
  ])('is refused with %s', async (_what, words, kind) => {
    await expect(bytesOf(words)).rejects.toMatchObject({ kind });
  });

  it('is what a map of the image leads to', async () => {
    writeFileSync(at('x.viso'), `${MARKER} --push-iso made.iso /a.txt`);
    await using disk = await openDisk(at('x.viso'), ALLOW);
    const files: string[] = [];
    for await (const { file, fileOffset } of disk.extents())
      if (file?.endsWith('made.iso')) files.push(`${fileOffset}`);
    expect(files).toEqual([`${sound.indexOf('content of a')}`]);
  });

  it('must not change while it is read', async () => {
    writeFileSync(at('changing.iso'), sound);
    writeFileSync(at('x.viso'), `${MARKER} --import-iso changing.iso`);
    await using disk = await openDisk(at('x.viso'), ALLOW);
    writeFileSync(at('changing.iso'), sound.subarray(0, sound.length - BLOCK));
    await expect(disk.read(0, new Uint8Array(disk.size))).rejects.toMatchObject({ kind: 'io' });
  });

  it('whatever is wrong with it gives an image or an ImageError', { timeout: 60_000 }, async () => {
    const kinds = new Set<string>();
    const end = sound.indexOf('content of a');
    const values = [0, 1, 2, 0x7f, 0x80, 0xff];
    for (let seed = 0; seed < 250; seed++) {
      const random = new Random(seed);
      const bytes = Buffer.from(sound);
      for (let left = 1 + random.below(3); left > 0; left--) {
        // Descriptors, path tables, directories, continuation areas and the catalog.
        const offset = 16 * BLOCK + random.below(end - 16 * BLOCK);
        // Somewhere behind it there are bytes with a meaning.
        let place = offset;
        while (place < end - 1 && bytes[place] === 0) place++;
        bytes[place + random.below(2)] = random.pick(values as [number, ...number[]]);
      }
      const cut = seed % 10 === 0 ? random.below(bytes.length) : bytes.length;
      writeFileSync(at('wrong.iso'), bytes.subarray(0, cut));
      try {
        const words = seed % 2 === 0 ? '--import-iso wrong.iso' : '--push-iso-no-rock wrong.iso /=/';
        kinds.add((await bytesOf(words)).length > 0 ? 'read' : 'empty');
      } catch (error) {
        if (!isImageError(error)) throw error;
        kinds.add(error.kind);
      }
    }
    expect([...kinds]).toEqual(expect.arrayContaining(['read', 'corrupt']));
  });

  it('ends where directories or continuation areas lead in circles', async () => {
    const circle = Buffer.from(sound);
    // Path tables have the name, too, before the directory.
    const record = circle.lastIndexOf('BELOW', undefined, 'latin1') - 33;
    circle.writeUInt32LE(circle.readUInt32LE(16 * BLOCK + 156 + 2), record + 2);
    writeFileSync(at('circle.iso'), circle);
    await expect(bytesOf('--import-iso circle.iso'), 'circle').rejects.toMatchObject({ kind: 'corrupt' });
    const area = Buffer.from(sound);
    const reference = area.lastIndexOf(Buffer.from([0x43, 0x45, 28, 1]));
    const [block, offset] = [area.readUInt32LE(reference + 4), area.readUInt32LE(reference + 12)];
    area.copy(area, block * BLOCK + offset, reference, reference + 28);
    area.writeUInt32LE(28, block * BLOCK + offset + 20);
    writeFileSync(at('area.iso'), area);
    await expect(bytesOf('--import-iso area.iso'), 'area').rejects.toMatchObject({ kind: 'corrupt' });
  });
});
