import { describe, expect, it } from 'vitest';
import { isImageError } from '../../errors.ts';
import { checkRegions } from '../../image/regions.ts';
import { convert } from '../../operations/convert.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import type { Source } from '../../storage/contract.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { Random } from '../../testing/random.ts';

const ALLOW = { allow: ['same-directory'] } as const;

type Files = Readonly<Record<string, Uint8Array>>;

async function sheet(text: string | Uint8Array, files: Files): Promise<Source> {
  const provider = new MemoryProvider();
  const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : text;
  for (const [name, content] of Object.entries({ ...files, 'disc.cue': bytes })) {
    const storage = await provider.create(`/disc/${name}`);
    await storage.write(0, content);
    await storage.close();
  }
  return { provider, name: '/disc/disc.cue' };
}

async function bytesOf(source: Source, config?: Record<string, string | number>): Promise<Uint8Array> {
  await using disk = await openDisk(
    { image: source, format: 'cue', ...(config === undefined ? {} : { config }) },
    ALLOW,
  );
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

/** Sectors whose bytes tell their number; with sync, mode and submode where there are any. */
function sectors(size: number, first: number, count: number, mode = 0, submode = 0): Uint8Array {
  const bytes = new Uint8Array(size * count);
  for (let at = 0; at < count; at++) {
    const sector = bytes.subarray(at * size, (at + 1) * size).fill((first + at) & 0xff);
    if (mode === 0) continue;
    sector.set([0, ...new Array(10).fill(255), 0, 0, 2, at, mode]);
    if (mode === 2) sector.set([0, 0, submode, 0, 0, 0, submode, 0], 16);
  }
  return bytes;
}

const joined = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));

describe('a cue sheet', () => {
  it('with mixed sector sizes in one file has each track in its place', async () => {
    const [data, gap, audio] = [sectors(2048, 1, 10), sectors(2048, 50, 4), sectors(2352, 100, 6)];
    const text =
      'FILE "a b.bin" BINARY\n TRACK 01 MODE1/2048\n INDEX 01 00:00:00\n TRACK 02 AUDIO\n INDEX 00 00:00:10\n INDEX 01 00:00:14\n';
    const source = await sheet(text, { 'a b.bin': joined(data, gap, audio) });
    expect(await bytesOf(source)).toEqual(joined(data, gap, audio));
    expect(await bytesOf(source, { track: 1 })).toEqual(data);
    expect(await bytesOf(source, { track: 2 })).toEqual(audio);
    const report = await inspect(source, ALLOW);
    expect(report).toMatchObject({
      type: 'optical',
      tracks: [
        { number: 1, form: 'mode1-2048', fileOffset: 0, address: 0, frames: 10, gapFrames: 0 },
        { number: 2, form: 'audio', fileOffset: 14 * 2048, address: 14, frames: 6, gapFrames: 4, blockSize: 2352 },
      ],
    });
    checkRegions(report.regions);
    expect(report.regions.regions.map(({ blockSize, dataForm }) => [blockSize, dataForm])).toEqual([
      [2048, 'mode1-2048'],
      [2048, 'mode1-2048'],
      [2352, 'cdda'],
    ]);
  });

  it.each([
    ['MODE1/2352', 2352, 1, 16],
    ['MODE2/2352', 2352, 2, 24],
    ['CDI/2352', 2352, 2, 24],
    ['MODE2/2336', 2336, 0, 8],
    ['CDI/2336', 2336, 0, 8],
    ['MODE2/2048', 2048, 0, 0],
  ])('gives the user data of %s', async (word, size, mode, offset) => {
    const stored = sectors(size, 0x40, 9, mode);
    if (size === 2336) for (let at = 0; at < 9; at++) stored.fill(0, at * size, at * size + 8);
    const source = await sheet(`file x.bin binary\ntrack 1 ${word.toLowerCase()}\nindex 1 0:0:0\n`, {
      'x.bin': stored,
    });
    const expected = joined(
      ...Array.from({ length: 9 }, (_, at) => stored.slice(at * size + offset, at * size + offset + 2048)),
    );
    expect(await bytesOf(source, { track: 1 })).toEqual(expected);
    expect(await bytesOf(source, { sectors: 'data' })).toEqual(expected);
    expect(await bytesOf(source, { track: 1, sectors: 'raw' })).toEqual(stored);
    const target = { provider: new MemoryProvider(), name: '/x.iso' };
    await convert(source, target, { ...ALLOW, sourceConfig: { track: 1 } });
    const iso = await target.provider.open(target.name, 'read');
    const bytes = new Uint8Array(iso.size);
    await iso.read(0, bytes);
    expect(bytes).toEqual(expected);
  });

  it('keeps every byte of a disc whose size is no multiple of 512', async () => {
    const stored = sectors(2352, 9, 3);
    const source = await sheet('FILE x.bin BINARY\nTRACK 1 AUDIO\nINDEX 1 0:0:0\n', { 'x.bin': stored });
    const target = { provider: new MemoryProvider(), name: '/x.raw' };
    await convert(source, target, ALLOW);
    expect((await target.provider.lookUp('/x.raw'))?.size).toBe(3 * 2352);
    await expect(convert(source, { ...target, name: '/x.vdi' }, ALLOW)).rejects.toMatchObject({
      kind: 'invalid-argument',
    });
  });

  it('swaps the samples of MOTOROLA files, and nothing else', async () => {
    const text = 'FILE m.bin MOTOROLA\nTRACK 1 MODE1/2352\nINDEX 1 0:0:0\nTRACK 2 AUDIO\nINDEX 1 0:0:2\n';
    const data = sectors(2352, 1, 2, 1);
    const audio = Uint8Array.from({ length: 2352 * 2 }, (_, at) => at & 0xff);
    const swapped = audio.map((_, at) => audio[at ^ 1] ?? 0);
    const source = await sheet(text, { 'm.bin': joined(data, audio) });
    expect(await bytesOf(source)).toEqual(joined(data, swapped));
    await using disk = await openDisk(source, ALLOW);
    const odd = new Uint8Array(5);
    await disk.read(data.length + 1, odd);
    expect(odd).toEqual(swapped.slice(1, 6));
  });

  it.each([
    ['a sector of form 2', 'MODE2/2352', 2, 0x20, 'unsupported'],
    ['a sector of mode 2 in a track of mode 1', 'MODE1/2352', 2, 0, 'corrupt'],
  ])('refuses to pass off %s as user data', async (_what, word, mode, submode, kind) => {
    const source = await sheet(`FILE x BINARY\nTRACK 1 ${word}\nINDEX 1 0:0:0\n`, {
      x: sectors(2352, 3, 2, mode, submode),
    });
    await expect(bytesOf(source, { track: 1 })).rejects.toMatchObject({ kind });
    expect((await bytesOf(source)).length).toBe(2 * 2352);
  });

  it('counts silence that no file has for addresses only', async () => {
    const text =
      '\ufeffCATALOG 0123456789012\r\nFILE "a "b".bin" BINARY\r\n\u00a0TRACK 01 AUDIO\r\n\tPREGAP 00:02:00\r\nINDEX 01 00:00:00\r\nPOSTGAP 00:01:00\r\nFLAGS DCP\r\nTRACK 03 AUDIO\r\nINDEX 01 00:00:02\r\n';
    const source = await sheet(text, { 'a "b".bin': sectors(2352, 1, 5) });
    expect((await inspect(source, ALLOW)).tracks).toMatchObject([
      { number: 1, address: 150, frames: 2, silentFrames: 225 },
      { number: 3, address: 150 + 2 + 75, frames: 3 },
    ]);
  });

  it.each<[string, string, string, string]>([
    ['no tracks', 'FILE x BINARY\n', 'invalid-format', 'no tracks'],
    ['no start of a track', 'FILE x BINARY\nTRACK 1 AUDIO\nINDEX 0 0:0:0\n', 'invalid-format', 'no start'],
    ['a track before its file', 'TRACK 1 AUDIO\nINDEX 1 0:0:0\n', 'invalid-format', 'invalid'],
    [
      'tracks that do not ascend',
      'FILE x BINARY\nTRACK 2 AUDIO\nINDEX 1 0:0:0\nTRACK 2 AUDIO\n',
      'invalid-format',
      'invalid',
    ],
    ['track 0', 'FILE x BINARY\nTRACK 0 AUDIO\n', 'invalid-format', 'invalid'],
    ['track 100', 'FILE x BINARY\nTRACK 100 AUDIO\n', 'invalid-format', 'invalid'],
    [
      'times that do not ascend',
      'FILE x BINARY\nTRACK 1 AUDIO\nINDEX 1 0:0:3\nTRACK 2 AUDIO\nINDEX 1 0:0:2\n',
      'invalid-format',
      'ascend',
    ],
    ['a second of 60', 'FILE x BINARY\nTRACK 1 AUDIO\nINDEX 1 0:60:0\n', 'invalid-format', 'invalid'],
    ['a frame of 75', 'FILE x BINARY\nTRACK 1 AUDIO\nINDEX 1 0:0:75\n', 'invalid-format', 'invalid'],
    ['a start beyond the file', 'FILE x BINARY\nTRACK 1 AUDIO\nINDEX 1 0:1:0\n', 'corrupt', 'beyond'],
    ['a part of a sector', 'FILE x BINARY\nTRACK 1 MODE1/2048\nINDEX 1 0:0:0\n', 'corrupt', 'whole sector'],
    ['a kind of track that there is not', 'FILE x BINARY\nTRACK 1 MODE3/2352\n', 'unsupported', 'unknown type'],
    ['a compressed file', 'FILE x FLAC\nTRACK 1 AUDIO\nINDEX 1 0:0:0\n', 'unsupported', 'compressed'],
    ['a file that is not there', 'FILE y BINARY\nTRACK 1 AUDIO\nINDEX 1 0:0:0\n', 'not-found', ''],
    ['a file elsewhere', 'FILE ../etc/y BINARY\nTRACK 1 AUDIO\nINDEX 1 0:0:0\n', 'denied', ''],
    ['a name of another scheme', 'FILE nbd://host/x BINARY\nTRACK 1 AUDIO\nINDEX 1 0:0:0\n', 'denied', ''],
    ['a long line', `REM ${'x'.repeat(9000)}\n`, 'limit', 'too long'],
    ['too many files', 'FILE x BINARY\n'.repeat(199), 'limit', 'too many files'],
    ['another line', 'FILE x BINARY\nTRACK 1 AUDIO\nHELLO\n', 'invalid-format', 'invalid'],
  ])('is refused with %s', async (_what, text, kind, words) => {
    const source = await sheet(text, { x: sectors(2352, 0, 7) });
    await expect(bytesOf(source)).rejects.toMatchObject({ kind, message: expect.stringContaining(words) });
  });

  it('names the tracks that there are when another one is asked for', async () => {
    const source = await sheet('FILE x BINARY\nTRACK 1 AUDIO\nINDEX 1 0:0:0\n', { x: sectors(2352, 0, 7) });
    await expect(bytesOf(source, { track: 2 })).rejects.toMatchObject({
      kind: 'not-found',
      context: { expected: '1 (audio)' },
    });
  });

  it('whatever is wrong with it gives bytes of its files or an ImageError', async () => {
    const words = [
      'FILE',
      'TRACK',
      'INDEX',
      'PREGAP',
      'x',
      '"x"',
      'BINARY',
      'AUDIO',
      'MODE1/2048',
      '0:0:1',
      '9',
      '75',
      '99:59:74',
      '\n',
      '\n',
      '01',
      '\0',
      '"',
    ];
    const good =
      'FILE "x" BINARY\nTRACK 01 MODE1/2352\nINDEX 01 00:00:00\nTRACK 02 AUDIO\nINDEX 00 00:00:02\nINDEX 01 00:00:04\n'.split(
        /([\s:])/,
      );
    const kinds = new Set<string>();
    for (let seed = 0; seed < 300; seed++) {
      const random = new Random(seed);
      const text = [...good];
      if (seed % 2 === 1) text[text.length - 3] = String(random.below(12));
      for (let left = 1 + random.below(3); left > 0; left--) {
        text.splice(random.below(text.length), random.below(3), random.pick(words as [string, ...string[]]));
      }
      const source = await sheet(text.join(''), { x: sectors(2352, 0, 7) });
      try {
        expect((await bytesOf(source)).length % 2048).toBeOneOf([0, (7 * 2352) % 2048]);
        kinds.add('read');
      } catch (error) {
        if (!isImageError(error)) throw error;
        kinds.add(error.kind);
      }
    }
    expect([...kinds]).toEqual(expect.arrayContaining(['read', 'invalid-format', 'corrupt']));
  });
});
