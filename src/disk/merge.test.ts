import { describe, expect, it } from 'vitest';
import { Disk } from '../index.ts';
import { MemoryProvider } from '../storage/memory.ts';

const MIB = 1024 ** 2;
const SIZE = 16 * MIB;

async function chainOf(layers: number, block: readonly number[] = []) {
  const provider = new MemoryProvider();
  const name = (n: number) => `/${n}.vdi`;
  const disk = await Disk.create(
    { provider, name: name(0) },
    { provider, size: SIZE, flushAfterMs: 0, config: { AllocationBlockSize: block[0] ?? MIB } },
  );
  const model = new Uint8Array(SIZE);
  let seed = 7;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const write = async () => {
    const offset = random(SIZE / 512 - 4000) * 512;
    const bytes = new Uint8Array(512 * (1 + random(3000))).fill(random(4));
    model.set(bytes, offset);
    await disk.write(offset, bytes);
  };
  for (let n = 0; n < layers; n++) {
    if (n > 0) await disk.createDiff({ provider, name: name(n) }, { config: { AllocationBlockSize: block[n] ?? MIB } });
    for (let k = 0; k < 6; k++) await write();
  }
  const check = async () => {
    const bytes = new Uint8Array(SIZE);
    await disk.read(0, bytes);
    expect(Buffer.compare(bytes, model)).toBe(0);
  };
  return { provider, disk, model, write, check };
}

const PAIRS = [
  [0, 1],
  [0, 3],
  [1, 3],
  [1, 2],
  [1, 0],
  [3, 0],
  [3, 1],
  [2, 1],
] as const;

describe('merge', () => {
  it.each(PAIRS)('%i to %i', async (from, to) => {
    for (const block of [
      [MIB, MIB, MIB, MIB],
      [64 * 1024, MIB, 4096, 2 * MIB],
      [2 * MIB, 4096, MIB, 64 * 1024],
    ]) {
      const { provider, disk, write, check } = await chainOf(4, block);
      await check();
      const merging = disk.merge(from, to);
      for (let k = 0; k < 8; k++) await write();
      await merging;
      expect(disk.images.length).toBe(4 - Math.abs(from - to));
      await check();
      await write();
      await check();
      const last = disk.label;
      const names = disk.images.map((image) => image.name);
      await disk.close();
      const again = await Disk.open({ provider, name: last }, { allow: ['same-directory'] });
      expect(again.warnings).toEqual([]);
      expect(again.images.map((image) => image.name)).toEqual(names);
      await again.close();
    }
  });
});
