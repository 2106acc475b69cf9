import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ImageError, isImageError } from '../../errors.ts';
import { inspect } from '../../operations/inspect.ts';
import { createIso } from '../../operations/iso/create.ts';
import { openDisk } from '../../operations/open.ts';
import { forwardedProvider, forwardedStorage } from '../../storage/forwarding.ts';
import { defaultProvider } from '../../storage/local/index.ts';
import { Random } from '../../testing/random.ts';
import { wordsOf } from './words.ts';

const UUID = '12345678-1234-1234-1234-123456789abc';
const MARKER = `--iprt-iso-maker-file-marker-bourne-sh ${UUID}`;
const ALLOW = { allow: ['same-directory'] } as const;
let folder = '';
const at = (name: string): string => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-viso-'));
  mkdirSync(at('tree/below'), { recursive: true });
  writeFileSync(at('tree/a file.txt'), 'hello');
  writeFileSync(at('tree/below/b.bin'), new Uint8Array(70_000).fill(7));
  symlinkSync('below/b.bin', at('tree/link'));
  writeFileSync(at('self.rsp'), '@self.rsp');
  mkdirSync(at('other'));
  writeFileSync(at('boot.img'), new Uint8Array(3000).fill(9));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function viso(text: string): string {
  writeFileSync(at('x.viso'), text);
  return at('x.viso');
}

async function bytesOf(text: string): Promise<Buffer> {
  await using disk = await openDisk(viso(text), ALLOW);
  const bytes = Buffer.alloc(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

describe('a VISO file', () => {
  it('reads as the image of the same files that is created', async () => {
    await createIso(at('tree.iso'), at('tree'), { label: 'LABEL' });
    await using created = await openDisk(at('tree.iso'), { format: 'raw' });
    const bytes = Buffer.alloc(created.size);
    await created.read(0, bytes);
    expect((await bytesOf(`${MARKER}\n-V LABEL /=tree`)).equals(bytes)).toBe(true);
    const report = await inspect(viso(`${MARKER} /=tree`), ALLOW);
    expect(report).toMatchObject({
      format: 'viso',
      type: 'optical',
      uuid: UUID,
      virtualSize: created.size,
      sectorSize: 2048,
    });
  });

  it('adds, renames and takes out, and has texts and boot images', async () => {
    const text = `${MARKER} --volume-id="A DISC" '/new/a b=tree/a file.txt' /t=tree /t/below=:remove: /none=:remove: boot.img -b boot.img --boot-info-table --no-pad`;
    const bytes = await bytesOf(text);
    expect(bytes.toString('latin1', 0x8028, 0x802e)).toBe('A_DISC');
    expect(bytes.toString('latin1')).toContain('EL TORITO SPECIFICATION');
    expect(bytes.includes('hello')).toBe(true);
    expect(bytes.includes(Buffer.alloc(100, 7))).toBe(false);
    const boot = bytes.indexOf(Buffer.from([9, 9, 9, 9, 9, 9, 9, 9, 16, 0, 0, 0]));
    expect(boot % 2048).toBe(0);
    expect(bytes.readUInt32LE(boot + 12)).toBe(boot / 2048);
  });

  it.each([
    ['shrinks', () => writeFileSync(at('tree/a file.txt'), 'h')],
    ['grows', () => writeFileSync(at('tree/a file.txt'), 'hello, world')],
    ['changes', () => writeFileSync(at('tree/a file.txt'), 'HELLO')],
    [
      'is replaced',
      () => {
        rmSync(at('tree/a file.txt'));
        writeFileSync(at('tree/a file.txt'), 'hello');
      },
    ],
    ['vanishes', () => rmSync(at('tree/a file.txt'))],
  ])('refuses to read a file that %s while it is open', async (_what, change) => {
    writeFileSync(at('tree/a file.txt'), 'hello');
    utimesSync(at('tree/a file.txt'), 1_700_000_000, 1_700_000_000);
    await using disk = await openDisk(viso(`${MARKER} /=tree --no-pad`), ALLOW);
    const bytes = new Uint8Array(disk.size);
    change();
    await expect(disk.read(0, bytes)).rejects.toMatchObject({ kind: expect.stringMatching(/^(io|not-found)$/) });
    writeFileSync(at('tree/a file.txt'), 'hello');
  });

  it.each<[string, string, string]>([
    ['no files', '', 'invalid-format'],
    ['a file without a name', '/=boot.img tree', 'invalid-format'],
    ['more names than name spaces', '/x=/y=boot.img', 'invalid-format'],
    ['no name at all', '--name-setup iso,joliet ==boot.img', 'invalid-format'],
    ['Joliet names alone', '--name-setup joliet boot.img', 'unsupported'],
    ['a name space twice', 'boot.img --name-setup iso,iso', 'unsupported'],
    ['Rock Ridge names of their own', 'boot.img --name-setup iso,rock', 'unsupported'],
    ['tables in Joliet', 'boot.img --name-setup iso+joliet+trans-tbl', 'unsupported'],
    ['a Joliet level that there is not', 'boot.img --joliet-level 9', 'unsupported'],
    ['no primary name space', 'boot.img --iso-level 0', 'unsupported'],
    ['a level of other makers', 'boot.img --iso-level=4', 'unsupported'],
    ['a mode that is none', 'boot.img --file-mode 999', 'invalid-format'],
    ['a mode of five digits', 'boot.img --dir-mode 17777', 'invalid-format'],
    ['a mode for a name that is not there', 'boot.img --chmod 0644:/x', 'not-found'],
    ['a mode without a name', 'boot.img --chmod 0644', 'invalid-format'],
    ['a mode in words', 'boot.img --chmod u=rw:/boot.img', 'unsupported'],
    ['a mode of a Joliet name', 'boot.img --name-setup joliet --chmod 0644:/boot.img', 'unsupported'],
    ['an owner by name', 'boot.img --chown root:/boot.img', 'invalid-format'],
    ['a catalog without a boot image', 'boot.img -c boot.cat', 'invalid-format'],
    ['two boot images for one entry', 'boot.img -b boot.img -b boot.img', 'invalid-format'],
    ['the catalog as its boot image', 'boot.img -c boot.cat -b boot.cat', 'not-found'],
    ['a directory as a boot image', '--eltorito-add-image tree', 'not-found'],
    ['too many boot images', `boot.img ${'-b boot.img --eltorito-new-entry '.repeat(33)} -b boot.img`, 'limit'],
    ['a platform that is none', 'boot.img --eltorito-platform-id 256 -b boot.img', 'invalid-format'],
    ['a link without Rock Ridge', '/=tree --no-rock-ridge', 'unsupported'],
    ['a link with limited Rock Ridge', '/=tree --limited-rock-ridge', 'unsupported'],
    ['a file with the name of the table', '/TRANS.tbl=boot.img --name-setup iso+trans-tbl', 'invalid-format'],
    ['a value for an option without one', 'boot.img --joliet=1', 'unsupported'],
    ['boot options without a boot image', 'boot.img --boot-load-size 8', 'invalid-format'],
    ['an entry without a boot image', 'boot.img -b boot.img --eltorito-new-entry', 'invalid-format'],
    ['an open quote', "'x", 'invalid-format'],
    ['an option without its value', 'boot.img -V', 'invalid-format'],
    ['an output', 'boot.img -o /x', 'unsupported'],
    ['an unknown option', 'boot.img --udf', 'unsupported'],
    ['the name of a method', 'boot.img --constructor', 'unsupported'],
    ['another name space', 'boot.img --name-setup hfs', 'unsupported'],
    ['more words that are not there', '@args', 'not-found'],
    ['more words elsewhere', '@/etc/hostname', 'denied'],
    ['more words that name themselves', '@self.rsp', 'limit'],
    ['a file that is not there', 'nothing', 'not-found'],
    ['a file elsewhere', '/x=/etc/hostname', 'denied'],
    ['a directory elsewhere', '/x=/etc', 'denied'],
    ['the directory above', '/x=..', 'denied'],
    ['a name with ..', '/../x=boot.img', 'invalid-format'],
    ['a name through a file', '/x=boot.img /x/y=boot.img', 'invalid-format'],
    ['a name to remove that is not there', 'boot.img /x=:must-remove:', 'not-found'],
    ['a boot image that is not there', 'boot.img -b none', 'not-found'],
    ['a number that is none', 'boot.img -b boot.img --boot-load-size=many', 'invalid-format'],
    ['a name of 256 bytes', `/${'n'.repeat(256)}=boot.img`, 'invalid-format'],
    ['a name of 86 letters of three bytes', `/${'日'.repeat(86)}=boot.img`, 'invalid-format'],
    ['a name in 129 directories', `${'/d'.repeat(129)}=boot.img`, 'invalid-format'],
    ['a long list of files that are not there', '/a/b=nothing '.repeat(20_000), 'not-found'],
  ])('is refused with %s', async (_what, text, kind) => {
    await expect(bytesOf(`${MARKER} ${text}`)).rejects.toMatchObject({ kind });
  });

  it('is refused with a pipe in a directory, which no image can have', async () => {
    mkdirSync(at('special'));
    execFileSync('mkfifo', [at('special/pipe')]);
    await expect(bytesOf(`${MARKER} /=special`)).rejects.toMatchObject({ kind: 'unsupported' });
    await expect(bytesOf(`${MARKER} special/pipe`)).rejects.toMatchObject({ kind: 'denied' });
  });

  it('reads the same bytes from any place, in any pieces, several at a time', async () => {
    const whole = await bytesOf(`${MARKER} /=tree boot.img`);
    await using disk = await openDisk(viso(`${MARKER} /=tree boot.img`), ALLOW);
    const random = new Random(7);
    const reads = Array.from({ length: 200 }, async () => {
      const offset = random.below(whole.length);
      const bytes = Buffer.alloc(Math.min(1 + random.below(5000), whole.length - offset));
      await disk.read(offset, bytes);
      expect(bytes.equals(whole.subarray(offset, offset + bytes.length))).toBe(true);
    });
    await Promise.all(reads);
  });

  it('gives an error where a file of the host cannot be read, and reads it when that is over', async () => {
    const local = defaultProvider();
    let fails = false;
    const provider = forwardedProvider(local, {
      open: async (name, mode) => {
        const storage = await local.open(name, mode);
        if (!name.endsWith('b.bin')) return storage;
        const read: typeof storage.read = (offset, target, options) =>
          fails ? Promise.reject(new ImageError('io', 'a medium fails')) : storage.read(offset, target, options);
        return forwardedStorage(storage, { read });
      },
    });
    await using disk = await openDisk({ provider, name: viso(`${MARKER} /=tree`) }, ALLOW);
    const bytes = Buffer.alloc(disk.size);
    fails = true;
    await expect(disk.read(0, bytes)).rejects.toMatchObject({ kind: 'io', message: 'a medium fails' });
    fails = false;
    await disk.read(0, bytes);
    expect(bytes.includes(Buffer.alloc(70_000, 7))).toBe(true);
  });

  it('has names of 255 bytes, and files 128 directories deep', async () => {
    const bytes = await bytesOf(`${MARKER} /${'n'.repeat(255)}=boot.img '${'/d'.repeat(127)}/x'='tree/a file.txt'`);
    expect(bytes.includes('n'.repeat(200))).toBe(true);
    expect(bytes.includes('hello')).toBe(true);
  });

  it('does not follow links that lie in a directory, wherever they lead', async () => {
    const outside = mkdtempSync(join(tmpdir(), 'vdkit-viso-outside-'));
    writeFileSync(join(outside, 'file'), 'bytes of another folder');
    mkdirSync(at('links'));
    symlinkSync(outside, at('links/directory'));
    symlinkSync(join(outside, 'file'), at('links/file'));
    symlinkSync('.', at('links/self'));
    const bytes = await bytesOf(`${MARKER} /=links --no-pad`);
    await expect(bytesOf(`${MARKER} /x=links/file`)).rejects.toMatchObject({ kind: 'denied' });
    await expect(bytesOf(`${MARKER} /x=links/directory`)).rejects.toMatchObject({ kind: 'denied' });
    rmSync(outside, { recursive: true });
    expect(bytes.includes('vdkit-viso-outside-')).toBe(true);
    expect(bytes.includes('bytes of another folder')).toBe(false);
  });

  it('reads more files than it keeps open, and tells of one that vanished', async () => {
    mkdirSync(at('many'));
    for (let number = 0; number < 200; number++) writeFileSync(at(`many/${number}`), `content of file ${number}`);
    const bytes = await bytesOf(`${MARKER} /=many`);
    for (let number = 0; number < 200; number++) expect(bytes.includes(`content of file ${number}`)).toBe(true);
    await using disk = await openDisk(viso(`${MARKER} /=many`), ALLOW);
    rmSync(at('many/150'));
    await expect(disk.read(0, new Uint8Array(disk.size))).rejects.toMatchObject({ kind: 'not-found' });
    await expect(disk.read(0, new Uint8Array(disk.size))).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('opens no file unless the caller allows it', async () => {
    await expect(openDisk(viso(`${MARKER} boot.img`), {})).rejects.toMatchObject({ kind: 'denied' });
    await expect(
      openDisk(viso(`${MARKER} /=tree`), {}).then((disk) => disk.read(0, new Uint8Array(disk.size))),
    ).rejects.toMatchObject({ kind: 'denied' });
  });

  it('whatever is wrong with it gives an image or an ImageError', async () => {
    const words = [
      '-b',
      '--volid',
      '=',
      '/',
      "'",
      '"',
      '\\',
      'boot.img',
      'tree',
      ':remove:',
      '-J',
      '--no-joliet',
      '--rock-ridge',
      '99999',
      '-G',
      '\0',
      '@self.rsp',
      '/../',
      '--chmod',
      '0755:/a',
      '--name-setup',
      'iso,joliet',
      '--import-iso',
      '--pop',
      '--iso-level',
      'n'.repeat(300),
    ];
    const kinds = new Set<string>();
    for (let seed = 0; seed < 300; seed++) {
      const random = new Random(seed);
      const text = `${MARKER} /a=boot.img -b a /t=tree --volid X --boot-load-size 4`.split(/([ =])/);
      for (let left = 1 + random.below(3); left > 0; left--) {
        text.splice(random.below(text.length), random.below(2), random.pick(words as [string, ...string[]]));
      }
      try {
        const bytes = await bytesOf(text.join(''));
        kinds.add(bytes.length > 0 ? 'read' : 'empty');
      } catch (error) {
        if (!isImageError(error)) throw error;
        kinds.add(error.kind);
      }
    }
    expect([...kinds]).toEqual(expect.arrayContaining(['read', 'not-found', 'unsupported']));
  });
});

describe('words', () => {
  it.each([
    ['bourne', `a 'b c' "d\\"e" f\\ g h'i'"j" ''`, ['a', 'b c', 'd"e', 'f g', 'hij', '']],
    ['bourne', `"a\\b" 'c\\d'\ne`, ['a\\b', 'c\\d', 'e']],
    ['ms', `a "b c" d\\e f\\\\"g h" i\\"j "k""l"`, ['a', 'b c', 'd\\e', 'f\\g h', 'i"j', 'k"l']],
  ] as const)('by the rules of %s: %s', (rules, text, words) => {
    expect(wordsOf(text, rules, 'x')).toEqual(words);
  });
});
