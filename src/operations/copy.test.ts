import { describe, expect, it } from 'vitest';
import { compare, copyChain, copyImage, Disk, inspect, moveImage } from '../index.ts';
import { MemoryProvider } from '../storage/memory.ts';

const MIB = 1024 ** 2;
const SIZE = 8 * MIB;
interface At {
  readonly provider: MemoryProvider;
  readonly name: string;
}

const OPEN = { allow: ['same-directory'], flushAfterMs: 0 } as const;

/** Three images, each with two private blocks; the last hides one of the base with zeroes. */
async function makeChain(provider = new MemoryProvider()): Promise<{ provider: MemoryProvider; disk: Disk }> {
  const disk = await Disk.create({ provider, name: '/0.vdi' }, { provider, size: SIZE, comment: 'the base', ...OPEN });
  for (const number of [0, 1, 2]) {
    if (number > 0) await disk.createDiff({ provider, name: `/${number}.vdi` });
    await disk.write(2 * number * MIB, new Uint8Array(2 * MIB).fill(number + 1));
  }
  await disk.zero(0, MIB);
  await disk.flush();
  return { provider, disk };
}

async function expectSame(one: Disk, other: Disk): Promise<void> {
  expect(await compare(one, other, { strict: true })).toMatchObject({ same: true });
}

describe('copyImage', () => {
  it('copies what the chain reads at an image into a base of any format', async () => {
    const { provider, disk } = await makeChain();
    for (const [number, target] of [
      [0, '/copy.vdi'],
      [1, '/copy.raw'],
      ['last', '/last.vdi'],
    ] as const) {
      await copyImage(disk, number, { provider, name: target });
      const copy = await Disk.open({ provider, name: target }, { ...OPEN, lock: false });
      await expectSame(copy, disk.layers(0, number === 'last' ? 2 : number));
      await copy.close();
    }
    const [original] = disk.images;
    expect(await inspect({ provider, name: '/copy.vdi' })).toMatchObject({
      comment: 'the base',
      modificationUuid: original?.info.modificationUuid,
    });
    await disk.close();
  });

  it('copies only what stands above images that are the same', async () => {
    const { provider, disk } = await makeChain();
    const base = { provider, name: '/base.vdi' };
    await copyImage(disk, 0, base);
    const options = { parent: base, verify: true } as const;
    const with0 = await copyImage(disk, 2, { provider, name: '/above.vdi' }, { ...options, fromSame: 0 });
    const without = await copyImage(disk, 2, { provider, name: '/whole.vdi' }, options);
    expect(with0.written).toBe(4 * MIB);
    expect(without.written).toBeGreaterThanOrEqual(with0.written);
    const [above, whole] = [
      await inspect({ provider, name: '/above.vdi' }),
      await inspect({ provider, name: '/whole.vdi' }),
    ];
    expect(above.fileSize).toBe(whole.fileSize);
    await disk.close();
  });

  it('refuses hints and numbers that cannot be, and copies onto the chain itself', async () => {
    const { provider, disk } = await makeChain();
    const target = { provider, name: '/copy.vdi' };
    await expect(copyImage(disk, 3, target)).rejects.toMatchObject({ status: 'VERR_VD_IMAGE_NOT_FOUND' });
    await expect(copyImage(disk, 2, target, { fromSame: 1 })).rejects.toMatchObject({ kind: 'invalid-argument' });
    const itself = { provider, name: '/1.vdi' };
    await expect(copyImage(disk, 2, itself, { force: true })).rejects.toMatchObject({ kind: 'invalid-argument' });
    expect(await provider.lookUp('/copy.vdi')).toBeNull();
    await disk.close();
  });
});

describe('copyChain', () => {
  it('makes a chain that reads the same at every image', async () => {
    const { disk } = await makeChain();
    const elsewhere = new MemoryProvider();
    const copied = await copyChain(disk, (name) => ({ provider: elsewhere, name }), { verify: true });
    expect(copied.map(({ to }) => to)).toEqual(['/0.vdi', '/1.vdi', '/2.vdi']);
    const copy = await Disk.open({ provider: elsewhere, name: '/2.vdi' }, OPEN);
    expect(copy.warnings).toEqual([]);
    for (const last of [0, 1, 2]) await expectSame(copy.layers(0, last), disk.layers(0, last));
    await copy.close();
    await disk.close();
  });

  it('takes back what it made when it is cancelled', async () => {
    const { disk } = await makeChain();
    const elsewhere = new MemoryProvider();
    const stop = new AbortController();
    let begun = 0;
    const copying = copyChain(
      disk,
      (name) => {
        if (++begun === 3) stop.abort();
        return { provider: elsewhere, name };
      },
      { signal: stop.signal },
    );
    await expect(copying).rejects.toMatchObject({ kind: 'aborted' });
    const left: string[] = [];
    for await (const name of elsewhere.list('/')) left.push(name);
    expect(left).toEqual([]);
    await disk.close();
  });
});

describe('moveImage', () => {
  it('copies, compares and removes where the name is not enough', async () => {
    const { provider, disk } = await makeChain();
    await copyImage(disk, 2, { provider, name: '/a.vdi' });
    const before = await inspect({ provider, name: '/a.vdi' });
    const elsewhere = new MemoryProvider();
    await moveImage({ provider, name: '/a.vdi' }, { provider: elsewhere, name: '/b.vdi' });
    expect(await provider.lookUp('/a.vdi')).toBeNull();
    const { uuid, modificationUuid } = before;
    expect(await inspect({ provider: elsewhere, name: '/b.vdi' })).toMatchObject({ uuid, modificationUuid });
    const moved = await Disk.open({ provider: elsewhere, name: '/b.vdi' });
    await expectSame(moved, disk);
    await moved.close();
    await disk.close();
  });

  it('leaves a file that nothing identifies where it is, unless its format is named', async () => {
    const provider = new MemoryProvider();
    const storage = await provider.create('/notes.txt');
    await storage.write(0, new Uint8Array(1024).fill(65));
    await storage.close();
    const [from, to] = ['/notes.txt', '/notes.vdi'].map((name) => ({ provider, name })) as [At, At];
    await expect(moveImage(from, to, { to: 'vdi' })).rejects.toMatchObject({ kind: 'denied' });
    expect(await provider.lookUp('/notes.txt')).not.toBeNull();
    expect(await provider.lookUp('/notes.vdi')).toBeNull();
    await moveImage(from, to, { to: 'vdi', format: 'raw' });
    expect(await provider.lookUp('/notes.txt')).toBeNull();
  });
});
