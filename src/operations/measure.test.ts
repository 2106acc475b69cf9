import { describe, expect, it } from 'vitest';
import { MemoryProvider } from '../storage/memory.ts';
import { convert } from './convert.ts';
import { createImage } from './create.ts';
import { measure } from './measure.ts';
import { openDisk } from './open.ts';

const MIB = 2 ** 20;
const SIZE = 20 * MIB + 512;

interface At {
  readonly provider: MemoryProvider;
  readonly name: string;
}

/** Data in a few places, none of it zero. */
async function makeSource(): Promise<At> {
  const source = { provider: new MemoryProvider(), name: '/source.vdi' };
  await createImage(source, { size: SIZE, config: { AllocationBlockSize: 4096 } });
  await using disk = await openDisk(source, { mode: 'write' });
  for (const offset of [0, 64 * 1024, 5 * MIB - 4096, 5 * MIB, 12 * MIB]) {
    await disk.write(offset, new Uint8Array(8192).fill(3));
  }
  await disk.write(SIZE - 512, new Uint8Array(512).fill(4));
  return source;
}

async function fileSize({ provider, name }: At): Promise<number> {
  return (await provider.lookUp(name))?.size ?? -1;
}

describe('measure', () => {
  it.each([
    [['dynamic'], {}],
    [['dynamic'], { AllocationBlockSize: 65536, DataAlignment: 4096 }],
    [['fixed'], {}],
  ])('says how large convert makes a VDI: %j %j', async (variant, config) => {
    const source = await makeSource();
    const target = { provider: source.provider, name: '/target.vdi' };
    const { required, fullyAllocated, virtualSize } = await measure(source, { format: 'vdi', variant, config });
    await convert(source, target, { variant, config });
    expect({ required, virtualSize }).toEqual({ required: await fileSize(target), virtualSize: SIZE });
    const full = { provider: source.provider, name: '/full.vdi' };
    await createImage(full, { size: SIZE, variant: ['fixed'], config });
    expect(fullyAllocated).toBe(await fileSize(full));
  });

  it('says how much data a raw image will hold', async () => {
    const source = await makeSource();
    const { written } = await convert(source, { provider: source.provider, name: '/target.raw' });
    expect(await measure(source, { format: 'raw' })).toEqual({
      format: 'raw',
      virtualSize: SIZE,
      required: written,
      fullyAllocated: SIZE,
    });
    const { required } = await measure(source, { format: 'raw', variant: ['fixed'] });
    expect(required).toBe(SIZE);
  });

  it('measures an empty disk by its size, and a longer target', async () => {
    const provider = new MemoryProvider();
    for (const variant of ['dynamic', 'fixed']) {
      const empty = { provider, name: `/${variant}.vdi` };
      await createImage(empty, { size: SIZE, variant: [variant] });
      const { required } = await measure(SIZE, { format: 'vdi', variant: [variant] });
      expect(required).toBe(await fileSize(empty));
    }
    const source = await makeSource();
    const longer = await measure(source, { format: 'vdi', size: 2 * SIZE });
    expect(longer.virtualSize).toBe(2 * SIZE);
    await using disk = await openDisk(source);
    expect(await measure(disk, { format: 'vdi', size: 2 * SIZE })).toEqual(longer);
  });

  it('counts what the whole chain holds', async () => {
    const base = await makeSource();
    const diff = { provider: base.provider, name: '/diff.vdi' };
    await createImage(diff, { parent: base });
    {
      await using disk = await openDisk(diff, { mode: 'write', allow: ['/'] });
      await disk.write(8 * MIB, new Uint8Array(512).fill(9));
    }
    const alone = await measure(base, { format: 'vdi' });
    const both = await measure(diff, { format: 'vdi', allow: ['/'] });
    expect(both.required - alone.required).toBe(MIB);
  });

  it('refuses what create would refuse', async () => {
    const bad = { kind: 'invalid-argument' };
    await expect(measure(100, { format: 'vdi' })).rejects.toMatchObject(bad);
    await expect(measure(SIZE, { format: 'vdi', variant: ['nope'] })).rejects.toMatchObject(bad);
    await expect(measure(SIZE, { format: 'vdi', config: { nope: 1 } })).rejects.toMatchObject(bad);
    await expect(measure(SIZE, { format: 'cloop' })).rejects.toMatchObject({ kind: 'unsupported' });
    await expect(measure(SIZE, { format: 'nope' })).rejects.toMatchObject({ kind: 'not-found' });
  });
});
