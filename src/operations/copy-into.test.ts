import { describe, expect, it } from 'vitest';
import { compare, convert, copyInto, createImage, Disk, inspect } from '../index.ts';
import { MemoryProvider } from '../storage/memory.ts';

const MIB = 1024 ** 2;
const SIZE = 8 * MIB;
const OPEN = { allow: ['same-directory'], flushAfterMs: 0 } as const;

/** A chain whose images each have two private blocks: at 0, 2, 4 MiB. */
async function chain(provider: MemoryProvider, name: string, images: number, size = SIZE): Promise<Disk> {
  const disk = await Disk.create({ provider, name: `/${name}0.vdi` }, { size, ...OPEN });
  for (let number = 0; number < images; number++) {
    if (number > 0) await disk.createDiff({ provider, name: `/${name}${number}.vdi` });
    await disk.write(2 * number * MIB, new Uint8Array(2 * MIB).fill(number + 1));
  }
  return disk;
}

async function expectSame(one: Disk, other: Disk): Promise<void> {
  expect(await compare(one, other)).toMatchObject({ same: true });
}

describe('copyInto', () => {
  it('makes a disk read what another reads at an image', async () => {
    const provider = new MemoryProvider();
    await using source = await chain(provider, 's', 3);
    for (const number of [0, 1, 'last'] as const) {
      await using target = await chain(provider, `t${number}-`, 2);
      await target.write(7 * MIB, new Uint8Array(MIB).fill(9));
      const progress: number[] = [];
      await copyInto(source, number, target, { onProgress: ({ done }) => progress.push(done) });
      await expectSame(source.layers(0, number === 'last' ? 2 : number), target);
      expect(progress).toEqual([...progress].sort((a, b) => a - b));
      expect(progress.at(-1)).toBe(SIZE);
    }
  });

  it('copies only what may differ when it is told what is the same', async () => {
    const provider = new MemoryProvider();
    await using source = await chain(provider, 's', 3);
    await using target = await chain(provider, 't', 1);
    const { written } = await copyInto(source, 'last', target, { fromSame: 0, toSame: 0 });
    expect(written).toBe(4 * MIB);
    await expectSame(source, target);
  });

  it('puts back what the target has above what is the same', async () => {
    const provider = new MemoryProvider();
    await using source = await chain(provider, 's', 2);
    await using target = await chain(provider, 't', 1);
    await target.createDiff({ provider, name: '/t1.vdi' });
    await target.write(MIB / 2, new Uint8Array(MIB).fill(77));
    await target.write(6 * MIB, new Uint8Array(MIB).fill(78));
    await copyInto(source, 'last', target, { fromSame: 0, toSame: 0 });
    await expectSame(source, target);
  });

  it('takes over the modification UUID and the geometry', async () => {
    const provider = new MemoryProvider();
    const geometry = {
      physical: { cylinders: 12, heads: 8, sectors: 63 },
      logical: { cylinders: 3, heads: 32, sectors: 63 },
    };
    await createImage({ provider, name: '/s.vdi' }, { size: SIZE, geometry });
    await using source = await Disk.open({ provider, name: '/s.vdi' });
    await using target = await chain(provider, 't', 1, 2 * SIZE);
    await copyInto(source, 'last', target);
    const uuid = source.images[0]?.info.modificationUuid;
    await target.close();
    expect(await inspect({ provider, name: '/t0.vdi' })).toMatchObject({
      modificationUuid: uuid,
      // Heads and sectors stay, and cylinders follow the size of the copy.
      geometry: { physical: geometry.physical, logical: { cylinders: 16, heads: 32, sectors: 63 } },
    });
  });

  it('resizes the target on the way, or copies as much as it is told', async () => {
    const provider = new MemoryProvider();
    await using source = await chain(provider, 's', 3);
    await using small = await chain(provider, 'a', 1, 4 * MIB);
    const cut = copyInto(source, 'last', small);
    await expect(cut).rejects.toMatchObject({ status: 'VERR_VD_SHRINK_NOT_SUPPORTED' });
    await copyInto(source, 'last', small, { length: 3 * MIB });
    const bytes = new Uint8Array(4 * MIB);
    await small.read(0, bytes);
    expect([bytes[0], bytes[2 * MIB], bytes[3 * MIB]]).toEqual([1, 2, 0]);
    await copyInto(source, 'last', small, { resize: true });
    expect(small.size).toBe(SIZE);
    await expectSame(source, small);
    // What lies beyond the source stays.
    await using large = await chain(provider, 'b', 1, 2 * SIZE);
    await large.write(SIZE, new Uint8Array(512).fill(5));
    await copyInto(source, 'last', large);
    await large.read(SIZE, bytes.subarray(0, 512));
    expect(bytes[0]).toBe(5);
  });

  it.each(['copyInto', 'convert'])(
    'goes between two images over the same base, but not into one that is read: %s',
    async (how) => {
      const provider = new MemoryProvider();
      const at = (name: string) => ({ provider, name: `/${name}.vdi` });
      const into = async (from: string, to: string): Promise<unknown> => {
        if (how === 'convert') return convert(at(from), at(to), { into: true, allow: ['/'] });
        await using source = await Disk.open(at(from), OPEN);
        await using target = await Disk.open(at(to), { ...OPEN, mode: 'write' });
        return await copyInto(source, 'last', target);
      };
      await createImage(at('base'), { size: SIZE });
      for (const [name, parent] of [
        ['a', 'base'],
        ['b', 'base'],
        ['c', 'a'],
      ] as const) {
        await createImage(at(name), { parent: at(parent), allow: ['/'] });
        await using disk = await Disk.open(at(name), { ...OPEN, mode: 'write' });
        await disk.write(0, new TextEncoder().encode(name));
      }
      // A disk that is open for reading keeps its images from others already.
      const kind = how === 'convert' ? 'invalid-argument' : 'locked';
      await expect(into('c', 'a')).rejects.toMatchObject({ kind });
      await into('c', 'b');
      await using source = await Disk.open(at('c'), OPEN);
      await using target = await Disk.open(at('b'), OPEN);
      await expectSame(source, target);
    },
  );

  it('refuses numbers that cannot be, and images that are read', async () => {
    const provider = new MemoryProvider();
    await using source = await chain(provider, 's', 2);
    await using target = await chain(provider, 't', 1);
    const notFound = { status: 'VERR_VD_IMAGE_NOT_FOUND' };
    await expect(copyInto(source, 2, target)).rejects.toMatchObject(notFound);
    await expect(copyInto(source, 1, target, { fromSame: 1, toSame: 0 })).rejects.toMatchObject(notFound);
    await expect(copyInto(source, 1, target, { fromSame: 0, toSame: 1 })).rejects.toMatchObject(notFound);
    await expect(copyInto(source, 1, target, { fromSame: 0 })).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(copyInto(source, 1, source)).rejects.toThrow('of the source');
    await expect(copyInto(source, 1, target, { length: SIZE + 1 })).rejects.toMatchObject({ kind: 'invalid-argument' });
  });

  it('can be cancelled, and run again', async () => {
    const provider = new MemoryProvider();
    await using source = await chain(provider, 's', 3);
    await using target = await chain(provider, 't', 2);
    const controller = new AbortController();
    const cancelled = copyInto(source, 'last', target, {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    await expect(cancelled).rejects.toMatchObject({ kind: 'aborted' });
    await copyInto(source, 'last', target);
    await expectSame(source, target);
  });
});
