/** DMG images that are wrong or odd, and their checksums. */
import { deflateSync } from 'node:zlib';
import { zlibSync } from 'fflate';
import { describe, expect, it } from 'vitest';
import { buildDmg, type DmgRecipe, type MadeTable } from '../../../test/formats/dmg/build.ts';
import { describeWithPeers } from '../../../test/peers/peers.ts';
import { checkImage, convert, Disk, inspect } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { TYPE } from './layout.ts';

const NAME = '/a.dmg';
const content = (sectors: number): Uint8Array => Uint8Array.from({ length: sectors * 512 }, (_, at) => (at * at) >> 5);
const TABLES: readonly MadeTable[] = [
  {
    name: 'whole disk',
    firstSector: 0,
    chunks: [
      { type: TYPE.zlib, content: content(8) },
      { type: TYPE.raw, content: content(4) },
      { type: TYPE.zero, content: new Uint8Array(8 * 512) },
    ],
  },
];

async function placed(bytes: Uint8Array): Promise<{ provider: MemoryProvider; name: string }> {
  const provider = new MemoryProvider();
  const file = await provider.create(NAME);
  await file.write(0, bytes);
  await file.close();
  return { provider, name: NAME };
}

const made = (how: Partial<DmgRecipe>) => placed(buildDmg({ tables: TABLES, sectors: 20, where: 'xml', ...how }).bytes);

async function read(source: { provider: MemoryProvider; name: string }): Promise<Uint8Array> {
  await using disk = await Disk.open({ image: source, format: 'dmg' });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

describe('a property list', () => {
  it.each([
    [
      'entities',
      '<!DOCTYPE plist [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><plist><dict>&b;</dict></plist>',
      'unsupported',
    ],
    ['an entity behind the type', '<!DOCTYPE plist><!ENTITY a "b"><plist></plist>', 'unsupported'],
    ['elements inside each other', `<plist>${'<array>'.repeat(100)}${'</array>'.repeat(100)}</plist>`, 'limit'],
    ['many thousands of them', `<plist>${'<array>'.repeat(50_000)}${'</array>'.repeat(50_000)}</plist>`, 'limit'],
    ['no end', '<plist><dict>', 'corrupt'],
    ['no tables', '<plist><dict></dict></plist>', 'corrupt'],
    ['another document', '<html></html></plist>', 'corrupt'],
    [
      'data that is not base64',
      '<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>!</data></dict></array></dict></dict></plist>',
      'corrupt',
    ],
  ])('with %s is refused', async (_, xml, kind) => {
    await expect(read(await made({ xml }))).rejects.toMatchObject({ name: 'ImageError', kind });
  });
});

describe('chunks that are decoded in JavaScript', () => {
  /** ADC: literals of one byte, and matches of 67 that repeat it. */
  function longAdc(bytes: number): Uint8Array {
    const matches = Math.floor((bytes - 1) / 67);
    const rest = bytes - 1 - matches * 67;
    const stored = [0x80, 7];
    for (let n = 0; n < matches; n++) stored.push(0x7f, 0, 0);
    for (let n = 0; n < rest; n++) stored.push(0x80, 7);
    return Uint8Array.from(stored);
  }

  it('let others run while they are decoded', async () => {
    const sectors = 120_000;
    const content = new Uint8Array(sectors * 512).fill(7);
    const table = { name: 'a', firstSector: 0, chunks: [{ type: TYPE.adc, content, stored: longAdc(content.length) }] };
    const source = await placed(buildDmg({ tables: [table], sectors, where: 'xml' }).bytes);
    await using disk = await Disk.open({ image: source, format: 'dmg' });
    const last = new Uint8Array(512);
    let turns = 0;
    const timer = setInterval(() => void turns++, 1);
    await disk.read(disk.size - last.length, last);
    clearInterval(timer);
    expect(last).toEqual(new Uint8Array(512).fill(7));
    expect(turns).toBeGreaterThan(2);
  });
});

describe('large chunks', () => {
  const SECTORS = 40_000;
  const data = Buffer.alloc(SECTORS * 512);
  for (let at = 0; at < data.length; at += 512) data.writeUInt32LE(at ^ 0x5a5a, at);
  const forms: readonly (readonly [string, number, Uint8Array])[] = [['zlib', TYPE.zlib, deflateSync(data)]];

  async function opened(stored: Uint8Array, type: number, sectors = SECTORS) {
    const table = { name: 'a', firstSector: 0, chunks: [{ type, content: data.subarray(0, sectors * 512), stored }] };
    const { bytes } = buildDmg({ tables: [table], sectors, where: 'xml' });
    return { bytes, source: await placed(bytes) };
  }

  it.each(forms)('of %s are decoded in pieces, forwards and backwards', async (_, type, stored) => {
    const { source } = await opened(stored, type);
    await using disk = await Disk.open({ image: source, format: 'dmg' });
    const piece = Buffer.alloc(1_000_000);
    for (const at of [0, 5_000_000, 9_000_512, 1_000_000, data.length - piece.length, 0]) {
      await disk.read(at, piece);
      expect(piece.equals(data.subarray(at, at + piece.length)), `at ${at}`).toBe(true);
    }
    const target = { provider: source.provider, name: '/out' };
    await convert(source, target, { format: 'raw', sourceFormat: 'dmg' });
    await using out = await Disk.open({ image: target, format: 'raw' });
    const all = Buffer.alloc(out.size);
    await out.read(0, all);
    expect(all.equals(data)).toBe(true);
    expect((await checkImage(source, { format: 'dmg' })).findings).toEqual([]);
  });

  it.each(forms)('of %s that are damaged give nothing, and are listed as a whole', async (_, type, stored) => {
    const damaged = Uint8Array.from(stored);
    damaged.fill(0xff, stored.length >> 1, (stored.length >> 1) + 64);
    const { source } = await opened(damaged, type);
    await using disk = await Disk.open({ image: source, format: 'dmg' });
    for (const at of [0, 19_000_000]) {
      await expect(disk.read(at, Buffer.alloc(512))).rejects.toMatchObject({ kind: 'corrupt' });
    }
    const target = { provider: source.provider, name: '/out' };
    const { unreadable } = await convert(source, target, { format: 'raw', sourceFormat: 'dmg', salvage: true });
    expect(unreadable).toMatchObject([{ offset: 0, length: data.length }]);
    const { findings } = await checkImage(source, { format: 'dmg' });
    expect(findings.map(({ severity }) => severity)).toContain('corruption');
  });

  it.each([
    ['shorter', data.subarray(512)],
    ['longer', Buffer.concat([data, Buffer.alloc(512)])],
  ])('that are %s than their part of the disk are damaged', async (_, other) => {
    const { source } = await opened(deflateSync(other), TYPE.zlib);
    await using disk = await Disk.open({ image: source, format: 'dmg' });
    await expect(disk.read(0, Buffer.alloc(512))).rejects.toMatchObject({ kind: 'corrupt' });
  });

  it('may have more than 256 MiB', async () => {
    const sectors = 600_000;
    const stored = deflateSync(Buffer.alloc(sectors * 512));
    const whole = new Uint8Array(sectors * 512);
    const table = { name: 'a', firstSector: 0, chunks: [{ type: TYPE.zlib, content: whole, stored }] };
    const source = await placed(buildDmg({ tables: [table], sectors, where: 'xml' }).bytes);
    await using disk = await Disk.open({ image: source, format: 'dmg' });
    const last = new Uint8Array(512).fill(1);
    await disk.read(disk.size - last.length, last);
    expect(last).toEqual(new Uint8Array(512));
  });

  describeWithPeers(['xz', 'bzip2'], 'of other codecs', (...programs) => {
    it.each([
      ['LZMA', TYPE.lzma],
      ['bzip2', TYPE.bzip2],
    ])('are decoded in pieces: %s', async (_, type) => {
      const [xz, bzip2] = programs;
      const stored = (type === TYPE.lzma ? xz : bzip2)?.filter(data, '-1c') ?? data;
      const { source } = await opened(stored, type);
      await using disk = await Disk.open({ image: source, format: 'dmg' });
      const bytes = Buffer.alloc(disk.size);
      await disk.read(0, bytes);
      expect(bytes.equals(data)).toBe(true);
    });
  });
});

describe('chunks', () => {
  it('are read in every form, with bytes before and behind them', async () => {
    const { content: wanted } = buildDmg({ tables: TABLES, sectors: 20, where: 'xml' });
    for (const how of [{}, { where: 'fork' as const }, { dataOffset: 700 }, { behind: 300 }]) {
      expect(await read(await made(how))).toEqual(wanted);
    }
  });

  it.each([
    ['that overlap', { sector: 4 }, 'corrupt'],
    ['outside the file', { offset: 2 ** 40 }, 'corrupt'],
    ['of more than the disk has', { sectorCount: 2 ** 44, sector: 2 ** 44 }, 'corrupt'],
    ['shorter than their part of the disk', { length: 512 }, 'corrupt'],
    ['of an unknown kind', { type: 0x8000_0009 }, 'corrupt'],
    ['too long to decode', { type: TYPE.adc, sectorCount: 2 ** 20, sector: 2 ** 20 }, 'limit'],
  ])('%s are refused', async (_, lie, kind) => {
    const source = await made({ lie: (chunk, number) => (number === 1 ? { ...chunk, ...lie } : chunk) });
    const reading = (async () => {
      await using disk = await Disk.open({ image: source, format: 'dmg' });
      const bytes = new Uint8Array(1024 * 1024);
      for (let at = 0; at < disk.size && at < 2 ** 31; at += 2 ** 29) {
        await disk.read(at, bytes.subarray(0, Math.min(bytes.length, disk.size - at)));
      }
    })();
    await expect(reading).rejects.toMatchObject({ name: 'ImageError', kind });
  });

  it('that make more than their part of the disk are refused', async () => {
    const stored = zlibSync(new Uint8Array(2 ** 26), { level: 9 });
    const tables = [{ name: '', firstSector: 0, chunks: [{ type: TYPE.zlib, content: content(8), stored }] }];
    await expect(read(await made({ tables, sectors: 8 }))).rejects.toMatchObject({ kind: 'corrupt' });
  });
});

describe('check', () => {
  it('finds nothing in a sound image', async () => {
    expect((await checkImage(await made({}))).findings).toEqual([]);
  });

  it('finds changed bytes by the checksums', async () => {
    const { bytes } = buildDmg({ tables: TABLES, sectors: 20, where: 'xml' });
    const raw = zlibSync(content(8)).length;
    bytes[raw + 5] = (bytes[raw + 5] ?? 0) ^ 1;
    const { findings } = await checkImage(await placed(bytes));
    expect(findings.map(({ code }) => code)).toEqual(['table-checksum', 'data-checksum']);
  });

  it('finds chunks that do not decode', async () => {
    const { bytes } = buildDmg({ tables: TABLES, sectors: 20, where: 'xml' });
    bytes[40] = (bytes[40] ?? 0) ^ 0xff;
    const { findings } = await checkImage(await placed(bytes));
    expect(findings.map(({ code }) => code)).toEqual(['chunk', 'data-checksum']);
  });
});

it('lists its tables', async () => {
  const report = await inspect(await made({}));
  expect(report).toMatchObject({ format: 'dmg', virtualSize: 20 * 512 });
  expect(report.details).toMatchObject({ 'table 0': 'whole disk: sectors 0 to 20' });
});
