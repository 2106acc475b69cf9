import { describe, expect, it } from 'vitest';
import type { ChainDisk } from '../disk/disk.ts';
import { vdi } from '../formats/vdi/index.ts';
import { HEADER } from '../formats/vdi/layout.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { checkWith } from '../testing/format-files.ts';
import { createImage } from './create.ts';
import { inspect } from './inspect.ts';
import { openDisk } from './open.ts';

const SMALL = { AllocationBlockSize: 4096, DataAlignment: 512 };
const BLOCK = 4096;

interface At {
  readonly provider: MemoryProvider;
  readonly name: string;
}

async function make(size: number, name = '/disk.vdi', parent?: At): Promise<At> {
  const provider = parent?.provider ?? new MemoryProvider();
  await createImage({ provider, name }, { config: SMALL, ...(parent === undefined ? { size } : { parent, size }) });
  return { provider, name };
}

function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** Every byte identifies its block. */
function pattern(size: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length: size }, (_, at) => (((at >>> 9) * 7 + seed) % 250) + 1);
}

async function contentOf(source: At): Promise<Uint8Array> {
  const disk = await openDisk(source, { allow: ['/'] });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  await disk.close();
  return bytes;
}

async function using(source: At, run: (disk: ChainDisk) => Promise<void>): Promise<void> {
  const disk = await openDisk(source, { mode: 'write', allow: ['/'] });
  try {
    await run(disk);
  } finally {
    await disk.close();
  }
  expect(await checkWith(vdi, source), 'a clean check').toEqual([]);
}

async function fileSize(source: At): Promise<number> {
  return (await source.provider.lookUp(source.name))?.size ?? -1;
}

function same(found: Uint8Array, expected: Uint8Array): void {
  expect(found.length).toBe(expected.length);
  const at = found.findIndex((byte, index) => byte !== expected[index]);
  expect(at, `first difference at ${at}`).toBe(-1);
}

describe('discard', () => {
  it('gives up whole blocks, and the file shrinks by them', async () => {
    const source = await make(16 * BLOCK);
    const content = pattern(16 * BLOCK);
    await using(source, (disk) => disk.write(0, content));
    const before = await fileSize(source);
    await using(source, (disk) => disk.discard([{ offset: 3 * BLOCK, length: 2 * BLOCK }]));
    content.fill(0, 3 * BLOCK, 5 * BLOCK);
    same(await contentOf(source), content);
    expect(await fileSize(source)).toBe(before - 2 * BLOCK);
  });

  it('remembers parts of blocks until they make a whole one', async () => {
    const source = await make(16 * BLOCK);
    const content = pattern(16 * BLOCK);
    await using(source, (disk) => disk.write(0, content));
    const before = await fileSize(source);
    await using(source, async (disk) => {
      await disk.discard([{ offset: BLOCK, length: 1024 }]);
      await disk.discard([
        { offset: BLOCK + 2048, length: 2048 },
        { offset: BLOCK + 1024, length: 1024 },
      ]);
    });
    content.fill(0, BLOCK, 2 * BLOCK);
    same(await contentOf(source), content);
    expect(await fileSize(source)).toBe(before - BLOCK);
  });

  it('never drops what was written after a discard, and zeroes the rest when it is pushed out', async () => {
    const source = await make(16 * BLOCK);
    const content = pattern(16 * BLOCK);
    await using(source, (disk) => disk.write(0, content));
    await using(source, async (disk) => {
      await disk.discard([{ offset: 0, length: 2048 }]);
      await disk.write(512, filled(512, 0xee));
      await disk.discard([{ offset: 2048, length: 2048 }]);
    });
    content.fill(0, 0, BLOCK);
    content.fill(0xee, 512, 1024);
    same(await contentOf(source), content);
  });

  it('hides the parent where the image hid it, and leaves the parent visible where it did not', async () => {
    const base = await make(16 * BLOCK, '/base.vdi');
    const below = pattern(16 * BLOCK, 3);
    await using(base, (disk) => disk.write(0, below));
    const diff = await make(16 * BLOCK, '/diff.vdi', base);
    await using(diff, async (disk) => {
      await disk.write(2 * BLOCK, filled(BLOCK, 9));
      await disk.discard([{ offset: BLOCK, length: 3 * BLOCK }]);
    });
    below.fill(0, 2 * BLOCK, 3 * BLOCK);
    same(await contentOf(diff), below);
  });

  it('is refused when the disk is open for reading', async () => {
    const source = await make(BLOCK);
    const disk = await openDisk(source);
    await expect(disk.discard([{ offset: 0, length: 512 }])).rejects.toMatchObject({ kind: 'read-only' });
    await disk.close();
  });
});

describe('compact', () => {
  it('drops zero blocks, packs the rest and changes nothing that is read', async () => {
    const source = await make(64 * BLOCK + 512);
    const content = pattern(64 * BLOCK + 512);
    const disk = await openDisk(source, { mode: 'write', honourZeroes: true });
    for (const block of [3, 4, 5, 17, 40]) content.fill(0, block * BLOCK, (block + 1) * BLOCK);
    await disk.write(32 * BLOCK, content.subarray(32 * BLOCK));
    await disk.write(0, content.subarray(0, 32 * BLOCK));
    await disk.close();
    const before = await fileSize(source);
    await using(source, (one) => one.compact());
    same(await contentOf(source), content);
    expect(await fileSize(source)).toBe(before - 5 * BLOCK);
  });

  it('drops blocks that the parent reads the same, but marks zero ones', async () => {
    const base = await make(8 * BLOCK, '/base.vdi');
    const below = pattern(8 * BLOCK, 3);
    await using(base, (disk) => disk.write(0, below));
    const diff = await make(8 * BLOCK, '/diff.vdi', base);
    const disk = await openDisk(diff, { mode: 'write', allow: ['/'], honourSame: true, honourZeroes: true });
    await disk.write(0, below.subarray(0, 3 * BLOCK));
    await disk.write(3 * BLOCK, filled(BLOCK, 0));
    await disk.write(4 * BLOCK, filled(BLOCK, 7));
    await disk.close();
    await using(diff, (one) => one.compact());
    below.fill(0, 3 * BLOCK, 4 * BLOCK);
    below.fill(7, 4 * BLOCK, 5 * BLOCK);
    same(await contentOf(diff), below);
    const storage = await diff.provider.open(diff.name, 'read');
    const sector = new Uint8Array(512);
    await storage.read(0, sector);
    expect(HEADER.decode(sector).blocksAllocated).toBe(1);
  });

  it('makes any image of a chain smaller, and all of them read as before', async () => {
    const base = await make(8 * BLOCK, '/base.vdi');
    const content = pattern(8 * BLOCK, 3);
    content.fill(0, 0, 3 * BLOCK);
    const disk = await openDisk(base, { mode: 'write', allow: ['/'], honourZeroes: true });
    await disk.write(0, content);
    for (const name of ['/1.vdi', '/2.vdi']) {
      await disk.createDiff({ provider: base.provider, name }, { config: SMALL });
    }
    await disk.write(0, filled(BLOCK, 9));
    const read = async (number: number) => {
      const bytes = new Uint8Array(8 * BLOCK);
      await disk.layers(0, number).read(0, bytes);
      return bytes;
    };
    const before = [await read(0), await read(1), await read(2)];
    const size = await fileSize(base);
    await disk.compact({ image: 0 });
    expect(await fileSize(base)).toBe(size - 3 * BLOCK);
    expect([await read(0), await read(1), await read(2)]).toEqual(before);
    expect(disk.images.map(({ mode }) => mode)).toEqual(['read', 'read', 'write']);
    await expect(disk.compact({ image: 3 })).rejects.toMatchObject({ status: 'VERR_VD_IMAGE_NOT_FOUND' });
    await disk.write(BLOCK, filled(BLOCK, 8));
    await disk.close();
    expect(await checkWith(vdi, base)).toEqual([]);
  });

  it('keeps the modification UUID when the content stays the same', async () => {
    const source = await make(8 * BLOCK);
    await using(source, async (disk) => {
      await disk.write(0, pattern(8 * BLOCK));
      await disk.discard([{ offset: 0, length: BLOCK / 2 }]);
    });
    const uuid = async () => (await inspect(source, { lock: false })).modificationUuid;
    const before = await uuid();
    await using(source, (disk) => disk.compact());
    expect(await uuid()).toBe(before);
    await using(source, (disk) => disk.compact({ inUse: () => false }));
    expect(await uuid()).not.toBe(before);
    const after = await uuid();
    await using(source, (disk) => disk.resize(16 * BLOCK));
    expect(await uuid()).not.toBe(after);
    const resized = await uuid();
    await using(source, (disk) => disk.discard([{ offset: 8 * BLOCK, length: BLOCK }]));
    expect(await uuid()).not.toBe(resized);
  });

  it('asks the caller what stands below an image that is open alone', async () => {
    const base = await make(8 * BLOCK, '/base.vdi');
    const below = pattern(8 * BLOCK, 3);
    await using(base, (disk) => disk.write(0, below));
    const diff = await make(8 * BLOCK, '/diff.vdi', base);
    const alone = { mode: 'write', allow: ['/'], honourSame: true, withoutParents: true } as const;
    const disk = await openDisk(diff, alone);
    await disk.write(0, below.subarray(0, 3 * BLOCK));
    await disk.write(3 * BLOCK, filled(BLOCK, 7));
    const before = await fileSize(diff);
    await disk.compact();
    expect(await fileSize(diff)).toBe(before);
    await disk.compact({
      parentState: async (offset, target) => target.set(below.subarray(offset, offset + target.length)),
    });
    await disk.close();
    expect(await fileSize(diff)).toBe(before - 3 * BLOCK);
    below.fill(7, 3 * BLOCK, 4 * BLOCK);
    same(await contentOf(diff), below);
  });

  it('gives up what a file system does not use', async () => {
    const source = await make(8 * BLOCK);
    await using(source, (disk) => disk.write(0, pattern(8 * BLOCK)));
    await using(source, (disk) => disk.compact({ inUse: (offset) => offset < 2 * BLOCK }));
    const content = pattern(8 * BLOCK);
    content.fill(0, 2 * BLOCK);
    same(await contentOf(source), content);
  });

  it('leaves a whole image when it is cancelled, and can be run again', async () => {
    const source = await make(64 * BLOCK);
    const content = pattern(64 * BLOCK);
    await using(source, (disk) => disk.write(0, content));
    await using(source, async (disk) => {
      await disk.discard(Array.from({ length: 20 }, (_, n) => ({ offset: n * 2 * BLOCK, length: BLOCK })));
      const controller = new AbortController();
      const run = disk.compact({ signal: controller.signal, onProgress: () => controller.abort() });
      await expect(run).rejects.toMatchObject({ kind: 'aborted' });
      await disk.compact();
    });
    for (let n = 0; n < 20; n++) content.fill(0, n * 2 * BLOCK, (n * 2 + 1) * BLOCK);
    same(await contentOf(source), content);
  });
});

describe('resize', () => {
  it('lets the cylinders of a geometry follow the size, as far as they can be counted', async () => {
    const provider = new MemoryProvider();
    const source = { provider, name: '/disk.vdi' };
    const geometry = {
      physical: { cylinders: 7, heads: 16, sectors: 63 },
      logical: { cylinders: 3, heads: 255, sectors: 63 },
    };
    await createImage(source, { size: 32 * 2 ** 20, geometry });
    const disk = await openDisk(source, { mode: 'write' });
    await disk.resize(2 ** 30);
    expect((await inspect(source, { lock: false })).geometry).toEqual({
      physical: { cylinders: 2080, heads: 16, sectors: 63 },
      logical: { cylinders: 130, heads: 255, sectors: 63 },
    });
    await disk.resize(20 * 2 ** 30);
    expect((await inspect(source, { lock: false })).geometry.physical?.cylinders).toBe(16_383);
    await disk.close();
  });

  it('gives the image the geometry that it is told', async () => {
    const source = await make(8 * BLOCK);
    const geometry = { physical: { cylinders: 9, heads: 4, sectors: 17 }, logical: null };
    await using(source, async (disk) => {
      await disk.resize(80 * BLOCK, { geometry });
      expect(disk.geometry).toEqual(geometry);
      await expect(
        disk.resize(90 * BLOCK, { geometry: { physical: { ...geometry.physical, heads: 17 } } }),
      ).rejects.toThrow('geometry is not valid');
      expect(disk.size).toBe(80 * BLOCK);
    });
    expect((await inspect(source, { lock: false })).geometry).toEqual(geometry);
  });

  it.each([
    ['where the map still fits', 16 * BLOCK, 40 * BLOCK + 512],
    ['where the map must move', 100 * BLOCK + 1024, 1000 * BLOCK],
    ['where the map must move past many blocks', 130 * BLOCK, 40_000 * BLOCK],
    ['of an empty image', 4 * BLOCK, 5000 * BLOCK],
  ])('grows %s', async (what, from, to) => {
    const source = await make(from);
    const content = new Uint8Array(to);
    if (!what.includes('empty')) content.set(pattern(from));
    await using(source, (disk) => disk.write(0, content.subarray(0, from)));
    await using(source, async (disk) => {
      await disk.resize(to);
      expect(disk.size).toBe(to);
      await disk.write(to - 700, filled(700, 5));
      content.fill(5, to - 700);
      const tail = new Uint8Array(700);
      await disk.read(to - 700, tail);
      expect(tail).toEqual(filled(700, 5));
    });
    same(await contentOf(source), content);
  });

  it('refuses to cut data off unless told to, and shows zeroes when grown again', async () => {
    const source = await make(16 * BLOCK);
    const content = pattern(16 * BLOCK);
    await using(source, (disk) => disk.write(0, content));
    await using(source, async (disk) => {
      await expect(disk.resize(5 * BLOCK + 512)).rejects.toMatchObject({ status: 'VERR_VD_SHRINK_NOT_SUPPORTED' });
      await disk.resize(5 * BLOCK + 512, { shrink: true });
      await expect(disk.read(6 * BLOCK, new Uint8Array(1))).rejects.toMatchObject({ kind: 'out-of-bounds' });
    });
    same(await contentOf(source), content.slice(0, 5 * BLOCK + 512));
    await using(source, (disk) => disk.resize(16 * BLOCK));
    content.fill(0, 5 * BLOCK + 512);
    same(await contentOf(source), content);
  });

  it.each([
    ['whole blocks', 12 * BLOCK, 2 * BLOCK],
    ['a part of a block', 12 * BLOCK, 11 * BLOCK + 1024],
  ])('refuses to cut %s off before it changes a byte', async (_, filledTo, to) => {
    const source = await make(16 * BLOCK);
    await using(source, (disk) => disk.write(0, pattern(filledTo)));
    const before = await inspect(source);
    await using(source, async (disk) => {
      await expect(disk.resize(to)).rejects.toMatchObject({ status: 'VERR_VD_SHRINK_NOT_SUPPORTED' });
      await expect(disk.resize(to + 1)).rejects.toMatchObject({ kind: 'invalid-argument' });
    });
    expect(await inspect(source)).toEqual(before);
  });

  it('cuts off what holds nothing, in the middle of a block too', async () => {
    const source = await make(16 * BLOCK);
    const content = pattern(11 * BLOCK + 1024);
    await using(source, (disk) => disk.write(0, content));
    await using(source, (disk) => disk.resize(11 * BLOCK + 1024));
    same(await contentOf(source), content);
  });

  it('grows a child over a longer parent without showing it', async () => {
    const base = await make(40 * BLOCK, '/base.vdi');
    const below = pattern(40 * BLOCK, 3);
    await using(base, (disk) => disk.write(0, below));
    await createImage(
      { provider: base.provider, name: '/diff.vdi' },
      { config: SMALL, parent: base, size: 10 * BLOCK + 1024 },
    );
    const diff = { provider: base.provider, name: '/diff.vdi' };
    same(await contentOf(diff), below.slice(0, 10 * BLOCK + 1024));
    await using(diff, (disk) => disk.resize(30 * BLOCK));
    const expected = new Uint8Array(30 * BLOCK);
    expected.set(below.subarray(0, 10 * BLOCK + 1024));
    same(await contentOf(diff), expected);
  });
});
