/** Space for tables longer than one refcount block covers, and for the refcount table itself. */
import { describe, expect, it } from 'vitest';
import { checkImage, createImage, Disk } from '../../../index.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { blocksFor } from './refcounts.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const TIB = 1024 * GIB;
const NAME = '/disk.qcow2';
const WRITE = { mode: 'write', flushAfterMs: 0, format: 'qcow2' } as const;

async function newDisk(size: number, config: Record<string, string | number>): Promise<[MemoryProvider, Disk]> {
  const provider = new MemoryProvider();
  await createImage({ provider, name: NAME }, { size, format: 'qcow2', config });
  return [provider, await Disk.open({ provider, name: NAME }, WRITE)];
}

async function fileSize(provider: MemoryProvider): Promise<number> {
  const storage = await provider.open(NAME, 'read');
  const { size } = storage;
  await storage.close();
  return size;
}

async function expectSound(provider: MemoryProvider): Promise<void> {
  const { findings } = await checkImage({ provider, name: NAME });
  expect(findings).toEqual([]);
}

/** Reads both ends of the disk. */
async function ends(provider: MemoryProvider, size: number, snapshot?: string): Promise<readonly [number, number]> {
  await using disk = await Disk.open({ provider, name: NAME }, snapshot === undefined ? {} : { snapshot });
  const bytes = new Uint8Array(1024);
  await disk.read(0, bytes.subarray(0, 512));
  await disk.read(size - 512, bytes.subarray(512));
  return [bytes[0] ?? 0, bytes[1023] ?? 0];
}

describe('a table that one refcount block cannot count', () => {
  it.each([
    [256 * KIB, 600 * MIB, { cluster_size: 512 }],
    [256 * KIB, 600 * MIB, { cluster_size: 512, refcount_bits: 64 }],
    [256 * KIB, 60 * GIB, { cluster_size: 512, refcount_bits: 1 }],
    [TIB, 3 * TIB, { cluster_size: 4096 }],
    [TIB, 8 * TIB, { cluster_size: 4096, refcount_bits: 64 }],
  ])('finds room when a disk of %d bytes grows to %d: %o', async (size, longer, config) => {
    const [provider, disk] = await newDisk(size, config);
    await disk.write(0, new Uint8Array(512).fill(1));
    await disk.resize(longer);
    await disk.write(longer - 512, new Uint8Array(512).fill(2));
    await disk.close();
    await expectSound(provider);
    expect(await ends(provider, longer)).toEqual([1, 2]);
  });

  it.each([{ cluster_size: 512 }, { cluster_size: 512, refcount_bits: 64 }, { cluster_size: 512, refcount_bits: 2 }])(
    'finds room for the copy that a snapshot keeps: %o',
    async (config) => {
      const [provider, disk] = await newDisk(GIB, config);
      await disk.write(0, new Uint8Array(512).fill(1));
      await disk.snapshots.create('one');
      await disk.write(0, new Uint8Array(512).fill(2));
      await disk.write(GIB - 512, new Uint8Array(512).fill(3));
      await disk.close();
      await expectSound(provider);
      expect(await ends(provider, GIB)).toEqual([2, 3]);
      expect(await ends(provider, GIB, 'one')).toEqual([1, 0]);
    },
  );

  it('takes room that earlier ones gave up', async () => {
    const [provider, disk] = await newDisk(GIB, { cluster_size: 512 });
    for (const _ of [1, 2, 3]) {
      await disk.snapshots.create('again');
      await disk.snapshots.delete('again');
    }
    const size = await fileSize(provider);
    for (let round = 0; round < 20; round++) {
      await disk.snapshots.create('again');
      await disk.snapshots.delete('again');
    }
    expect(await fileSize(provider)).toBe(size);
    await disk.close();
    await expectSound(provider);
  });
});

describe('the blocks of a run', () => {
  it.each([64, 128, 2048, 32_768, 16_777_216])('count the run and themselves wherever it begins, %i a block', (per) => {
    for (const length of [1, 2, per - 1, per, per + 1, 3 * per, 64 * per + 5]) {
      const blocks = blocksFor(length, per);
      for (const start of [0, 1, per - 1, per, 7 * per - 2]) {
        const last = Math.floor((start + length + blocks - 1) / per);
        expect(last - Math.floor(start / per) + 1).toBeLessThanOrEqual(blocks);
      }
      expect(blocks).toBeLessThanOrEqual(Math.ceil(length / (per - 1)) + 2);
    }
  });
});
