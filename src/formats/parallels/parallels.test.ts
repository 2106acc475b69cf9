/** Parallels images: the traps of the format, one by one. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { randomBytes } from '../../../test/conformance/random.ts';
import { bitmapSection, type Section, withExtension } from '../../../test/formats/parallels/extension.ts';
import { fileBytes } from '../../../test/model/extents.ts';
import { checkImage } from '../../operations/check.ts';
import { createImage } from '../../operations/create.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import type { Source } from '../../storage/contract.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { Random } from '../../testing/random.ts';
import { EXTENSION, HEADER, type Header, IN_USE, MAGIC, SECTION_NECESSARY, SECTION_TRANSIT } from './layout.ts';

const SECTOR = 512;
const CLUSTER = 63 * SECTOR;
const SIZE = 20 * CLUSTER;

async function fileOf(bytes: Uint8Array): Promise<Source> {
  const provider = new MemoryProvider();
  const storage = await provider.create('/disk.hdd');
  await storage.write(0, bytes);
  await storage.close();
  return { provider, name: '/disk.hdd' };
}

/** An image with two clusters. */
async function made(variant: readonly string[] = [], size = SIZE): Promise<{ source: Source; content: Uint8Array }> {
  const source = { provider: new MemoryProvider(), name: '/disk.hdd' };
  await createImage(source, { format: 'parallels', size, variant, config: { cluster_size: CLUSTER } });
  const content = new Uint8Array(size);
  content.set(randomBytes(new Random(1), CLUSTER + 1000), 3 * CLUSTER);
  await using disk = await openDisk(source, { mode: 'write' });
  await disk.write(3 * CLUSTER, content.subarray(3 * CLUSTER, 4 * CLUSTER + 1000));
  return { source, content };
}

/** The same bytes with other fields in the header, and other entries. */
async function changed(
  source: Source,
  header: Partial<Header>,
  entries: Readonly<Record<number, number>> = {},
): Promise<Source> {
  const bytes = await fileBytes(source);
  bytes.set(HEADER.encode({ ...HEADER.decode(bytes), ...header }));
  const view = new DataView(bytes.buffer);
  for (const [index, entry] of Object.entries(entries)) view.setUint32(HEADER.size + Number(index) * 4, entry, true);
  return fileOf(bytes);
}

async function contentOf(source: Source): Promise<Uint8Array> {
  await using disk = await openDisk(source);
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

const headerOf = async (source: Source): Promise<Header> => HEADER.decode(await fileBytes(source));
const codes = async (source: Source, repair = false): Promise<string[]> => {
  const { findings, repairs } = await checkImage(source, { repair });
  return (repair ? repairs : findings).map(({ code }) => code);
};

describe('new images', () => {
  it('are classic up to where entries of 32 bits reach, and extended behind that', async () => {
    const gib = 1024 ** 3;
    for (const [size, magic] of [
      [2 ** 30, MAGIC.classic],
      [2047 * gib, MAGIC.classic],
      [2048 * gib, MAGIC.extended],
    ] as const) {
      const source = { provider: new MemoryProvider(), name: '/disk.hdd' };
      await createImage(source, { format: 'parallels', size });
      const header = await headerOf(source);
      expect(header.magic).toBe(magic);
      expect(header.dataOffset % 2048).toBe(0);
      expect(header.inUse).toBe(IN_USE.closed);
    }
  });

  it('have the extended signature where it is asked for', async () => {
    const { source } = await made(['ext']);
    expect((await headerOf(source)).magic).toBe(MAGIC.extended);
    expect((await inspect(source)).variant).toEqual(['dynamic', 'ext']);
  });
});

describe('the mark of use', () => {
  it('is set while an image is changed, and names a closed one afterwards', async () => {
    const { source } = await made();
    const disk = await openDisk(source, { mode: 'write' });
    await disk.write(0, new Uint8Array(SECTOR).fill(1));
    expect((await headerOf(source)).inUse).toBe(IN_USE.open);
    await disk.close();
    expect((await headerOf(source)).inUse).toBe(IN_USE.closed);
  });

  it('of an image that was not closed is reported, and goes with the next session', async () => {
    const { source, content } = await made();
    const left = await changed(source, { inUse: IN_USE.open });
    expect(await inspect(left)).toMatchObject({ dirty: true });
    expect(await codes(left)).toEqual(['not-closed']);
    const disk = await openDisk(left, { mode: 'write' });
    await disk.write(0, new Uint8Array(SECTOR).fill(1));
    await disk.close();
    content.fill(1, 0, SECTOR);
    expectSameBytes(await contentOf(left), content);
    expect(await inspect(left)).toMatchObject({ dirty: false });
  });

  it('with another value is ignored with a warning', async () => {
    const { source, content } = await made();
    const odd = await changed(source, { inUse: 77 });
    expect((await inspect(odd)).warnings).toHaveLength(1);
    expectSameBytes(await contentOf(odd), content);
    expect(await codes(odd, true)).toEqual(['unknown-mark']);
    expect(await codes(odd)).toEqual([]);
  });
});

describe('where the data begins', () => {
  /** The clusters directly behind the table, at another distance than whole lengths from the start of the file. */
  async function placeless(): Promise<{ source: Source; content: Uint8Array; first: number }> {
    const { source, content } = await made();
    const bytes = await fileBytes(source);
    const header = HEADER.decode(bytes);
    const shift = header.dataOffset - 1;
    const moved = new Uint8Array(bytes.length - shift * SECTOR);
    moved.set(bytes.subarray(0, SECTOR));
    moved.set(bytes.subarray(header.dataOffset * SECTOR), SECTOR);
    const view = new DataView(moved.buffer);
    for (const index of [3, 4]) {
      view.setUint32(HEADER.size + 4 * index, view.getUint32(HEADER.size + 4 * index, true) - shift, true);
    }
    moved.set(HEADER.encode({ ...header, dataOffset: 0, inUse: IN_USE.unaware, sectorsHigh: 0xdead_beef }));
    return { source: await fileOf(moved), content, first: 1 };
  }

  it('is stored in a classic image that leaves it open, and new clusters keep their distances', async () => {
    const { source, content, first } = await placeless();
    const disk = await openDisk(source, { mode: 'write' });
    await disk.write(9 * CLUSTER, new Uint8Array(100).fill(7));
    await disk.close();
    content.fill(7, 9 * CLUSTER, 9 * CLUSTER + 100);
    expectSameBytes(await contentOf(source), content);
    const bytes = await fileBytes(source);
    expect(HEADER.decode(bytes).dataOffset).toBe(first);
    expect(new DataView(bytes.buffer).getUint32(HEADER.size + 9 * 4, true)).toBe(first + 2 * 63);
    expect(await codes(source)).toEqual([]);
  });

  it('cannot be inside the table', async () => {
    const { source } = await made();
    const bytes = await fileBytes(source);
    bytes.set(HEADER.encode({ ...HEADER.decode(bytes), entries: 300, dataOffset: 2 }));
    await expectKind(async () => openDisk(await fileOf(bytes)), 'corrupt');
  });

  it('is the rule for all clusters: others make an image read-only until a repair', async () => {
    const { source, content } = await made();
    const { dataOffset } = await headerOf(source);
    const bytes = await fileBytes(source);
    // The second cluster lies a sector further.
    const second = (dataOffset + 63) * SECTOR;
    const longer = new Uint8Array(bytes.length + SECTOR);
    longer.set(bytes);
    longer.copyWithin(second + SECTOR, second, second + CLUSTER);
    const odd = await changed(await fileOf(longer), {}, { 4: dataOffset + 64 });
    expectSameBytes(await contentOf(odd), content);
    await expectKind(() => openDisk(odd, { mode: 'write' }), 'read-only');
    expect(await codes(odd, true)).toEqual(['cluster-misaligned']);
    expect(await codes(odd)).toEqual([]);
    expectSameBytes(await contentOf(odd), content);
    await using disk = await openDisk(odd, { mode: 'write' });
    await disk.write(0, new Uint8Array(SECTOR));
  });
});

describe('the format extension', () => {
  async function extended(sections: readonly Section[], header: Partial<Header> = {}): Promise<Source> {
    const { source } = await made(['ext']);
    return changed(await fileOf(withExtension(await fileBytes(source), sections)), header);
  }

  it('is checked with the MD5 of other programs', async () => {
    const bytes = await fileBytes(await extended([bitmapSection(SIZE)]));
    const place = Number(HEADER.decode(bytes).extensionOffset) * SECTOR;
    const rest = bytes.subarray(place + EXTENSION.size, place + CLUSTER);
    const sum = createHash('md5').update(rest).digest('hex');
    expect(Buffer.from(EXTENSION.get(bytes, 'md5', place)).toString('hex')).toBe(sum);
  });

  it('with a dirty bitmap is shown, kept while nothing changes, and dropped before the first change', async () => {
    const source = await extended([bitmapSection(SIZE)]);
    const { details } = await inspect(source);
    expect(details).toMatchObject({ 'format extension': 'sound', 'bytes for each bit of the bitmap': 4096 });
    expect(await codes(source)).toEqual([]);
    const before = await fileBytes(source);
    await (await openDisk(source, { mode: 'write' })).close();
    expectSameBytes(await fileBytes(source), before);
    const content = await contentOf(source);
    const disk = await openDisk(source, { mode: 'write' });
    await disk.write(0, new Uint8Array(SECTOR).fill(1));
    expect((await headerOf(source)).extensionOffset).toBe(0n);
    await disk.close();
    content.fill(1, 0, SECTOR);
    expectSameBytes(await contentOf(source), content);
    expect(await codes(source)).toEqual([]);
  });

  it.each([SECTION_NECESSARY, SECTION_TRANSIT])('with a section of flags %s forbids changes', async (flags) => {
    const source = await extended([{ id: 0x77n, flags, data: new Uint8Array(5) }]);
    const before = await fileBytes(source);
    await expectKind(() => openDisk(source, { mode: 'write' }), 'read-only');
    await checkImage(source, { repair: true });
    expectSameBytes(await fileBytes(source), before);
  });

  it('that is damaged makes an image read-only until a repair drops it', async () => {
    const bytes = await fileBytes(await extended([bitmapSection(SIZE)]));
    const place = Number(HEADER.decode(bytes).extensionOffset) * SECTOR;
    bytes[place + 1000] = 1;
    const source = await fileOf(bytes);
    const content = await contentOf(source);
    expect((await inspect(source)).warnings).toHaveLength(1);
    await expectKind(() => openDisk(source, { mode: 'write' }), 'read-only');
    expect(await codes(source, true)).toEqual(['extension-damaged']);
    expect(await codes(source)).toEqual([]);
    expect((await headerOf(source)).extensionOffset).toBe(0n);
    expectSameBytes(await contentOf(source), content);
  });

  it('is not trusted once a program without it has written', async () => {
    const source = await extended([bitmapSection(SIZE)], { inUse: IN_USE.unaware });
    expect((await inspect(source)).details).toMatchObject({ 'format extension': 'outdated' });
    expect(await codes(source, true)).toEqual(['extension-outdated']);
    expect((await headerOf(source)).extensionOffset).toBe(0n);
  });
});

describe('check and repair', () => {
  it('gives the second owner of a cluster a copy, and clears entries that lead nowhere', async () => {
    const { source, content } = await made();
    const { dataOffset } = await headerOf(source);
    const bad = await changed(source, {}, { 9: dataOffset, 10: 0xffff_ffff, 11: 1, 19: dataOffset });
    const first = content.subarray(3 * CLUSTER, 4 * CLUSTER);
    content.set(first, 9 * CLUSTER);
    content.set(first, 19 * CLUSTER);
    const found = ['cluster-shared', 'cluster-beyond-end', 'cluster-in-metadata', 'cluster-shared'];
    expect(await codes(bad)).toEqual(found);
    await expectKind(() => openDisk(bad, { mode: 'write' }), 'read-only');
    await expectKind(() => contentOf(bad), 'corrupt');
    expect(await codes(bad, true)).toEqual(found);
    expect(await codes(bad)).toEqual([]);
    expectSameBytes(await contentOf(bad), content);
  });

  it('takes what follows the last cluster for lost room, and completes one that was cut off', async () => {
    const { source, content } = await made();
    const bytes = await fileBytes(source);
    const long = new Uint8Array(bytes.length + 5000);
    long.set(bytes);
    expect(await codes(await fileOf(long), true)).toEqual(['file-too-long']);
    const short = await fileOf(bytes.subarray(0, bytes.length - CLUSTER + 500));
    content.fill(0, 4 * CLUSTER + 500);
    expectSameBytes(await contentOf(short), content);
    expect(await codes(short, true)).toEqual(['cluster-cut-off']);
    expect(await codes(short)).toEqual([]);
    expectSameBytes(await contentOf(short), content);
  });

  it('counts on as many entries as the disk has clusters', async () => {
    const { source } = await made();
    await expectKind(async () => openDisk(await changed(source, { entries: 19 })), 'corrupt');
    await expectKind(async () => openDisk(await changed(source, { tracks: 0 })), 'corrupt');
  });
});

describe('resize', () => {
  it.each([[[]], [['ext']]])('moves clusters out of the way of a longer table: %j', async (variant) => {
    const { source, content } = await made(variant);
    const clusters = 20_000;
    await using disk = await openDisk(source, { mode: 'write' });
    await disk.resize(clusters * CLUSTER);
    const bytes = new Uint8Array(SIZE);
    await disk.read(0, bytes);
    expectSameBytes(bytes, content);
    await disk.write(disk.size - SECTOR, new Uint8Array(SECTOR).fill(9));
    await disk.flush();
    const { dataOffset, entries } = await headerOf(source);
    expect(entries).toBe(clusters);
    expect(dataOffset * SECTOR).toBeGreaterThanOrEqual(HEADER.size + 4 * clusters);
  });

  it('refuses a classic disk of 2 TiB', async () => {
    const { source } = await made();
    await using disk = await openDisk(source, { mode: 'write' });
    await expectKind(() => disk.resize(2 ** 41), 'limit');
  });
});
