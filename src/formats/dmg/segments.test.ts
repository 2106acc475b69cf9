/** DMG images of several files. */
import { describe, expect, it } from 'vitest';
import type { MadeTable } from '../../../test/formats/dmg/build.ts';
import { splitDmg } from '../../../test/formats/dmg/split.ts';
import { checkImage, Disk, inspect } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { TRAILER, TYPE } from './layout.ts';

const content = (sectors: number): Uint8Array => Uint8Array.from({ length: sectors * 512 }, (_, at) => (at * at) >> 5);
const TABLES: readonly MadeTable[] = [
  {
    name: 'whole disk',
    firstSector: 0,
    chunks: [
      { type: TYPE.raw, content: content(6) },
      { type: TYPE.zlib, content: content(8) },
      { type: TYPE.ignore, content: new Uint8Array(4 * 512) },
    ],
  },
];
const split = (cuts: readonly number[] = [1000, 3100]) => splitDmg({ tables: TABLES, sectors: 18, where: 'xml' }, cuts);

/** Files of a split image by name; `null` leaves one out. */
async function placed(files: readonly (Uint8Array | null)[]) {
  const provider = new MemoryProvider();
  for (const [index, bytes] of files.entries()) {
    if (bytes === null) continue;
    const file = await provider.create(index === 0 ? '/a.dmg' : `/a.00${index + 1}.dmgpart`);
    await file.write(0, bytes);
    await file.close();
  }
  return { provider, name: '/a.dmg' };
}

async function read(image: { provider: MemoryProvider; name: string }): Promise<Uint8Array> {
  await using disk = await Disk.open({ image });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

/** The files, with another value in the trailer of one of them. */
function lying(number: number, field: 'segment' | 'segments' | 'runningOffset' | 'dataLength', value: number) {
  const { segments } = split();
  return segments.map(({ bytes, trailerOffset }, index) => {
    if (index === number - 1) TRAILER.put(bytes, field, value, trailerOffset);
    return bytes;
  });
}

describe('a DMG of several files', () => {
  it('is read, with chunks that begin in one file and end in the next', async () => {
    for (const cuts of [[1000, 3100], [3072], [1, 2, 3, 3073, 3074]]) {
      const { segments, content: wanted } = split(cuts);
      const image = await placed(segments.map(({ bytes }) => bytes));
      expect(await read(image)).toEqual(wanted);
      const report = await inspect(image);
      expect(report.parts).toHaveLength(cuts.length);
      expect(report.details).toMatchObject({ segments: cuts.length + 1 });
      expect((await checkImage(image)).findings).toEqual([]);
    }
  });

  it('is checked by the checksums of its tables', async () => {
    const { segments } = split();
    const files = segments.map(({ bytes }) => bytes);
    const second = files[1] ?? new Uint8Array(0);
    second[5] = (second[5] ?? 0) ^ 1;
    const { findings } = await checkImage(await placed(files));
    expect(findings.map(({ code }) => code)).toEqual(['table-checksum']);
  });

  it('is not read where one is missing: the error names it', async () => {
    const { segments } = split();
    const files = segments.map(({ bytes }, index) => (index === 1 ? null : bytes));
    await expect(read(await placed(files))).rejects.toMatchObject({
      kind: 'not-found',
      context: { path: '/a.002.dmgpart', field: 'segment 2 of 3' },
    });
  });

  it.each([
    [
      'in another order',
      () => split().segments.map(({ bytes }, index, all) => all[[0, 2, 1][index] ?? 0]?.bytes ?? bytes),
    ],
    ['of another number', () => lying(2, 'segments', 4)],
    ['at another place', () => lying(3, 'runningOffset', 3099)],
    ['at another place, the first', () => lying(1, 'runningOffset', 1)],
    ['shorter than it says', () => lying(2, 'dataLength', 5000)],
    ['of another length', () => lying(2, 'dataLength', 2000)],
  ])('with one %s is refused', async (_, files) => {
    await expect(read(await placed(files()))).rejects.toMatchObject({ kind: 'corrupt' });
  });

  it('with more files than there can be is refused', async () => {
    await expect(read(await placed(lying(1, 'segments', 1000)))).rejects.toMatchObject({ kind: 'limit' });
  });

  it('is opened by its first file', async () => {
    const image = await placed(split().segments.map(({ bytes }) => bytes));
    await expect(read({ ...image, name: '/a.002.dmgpart' })).rejects.toMatchObject({
      kind: 'unsupported',
      hint: expect.stringContaining('first file'),
    });
  });
});
