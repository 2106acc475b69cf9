/** Blocks in slots that the header cannot count: their origin, and their repair by every operation. */
import { describe, expect, it } from 'vitest';
import { checkImage, createImage, Disk } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const BLOCK = 4096;
const NAME = '/disk.vdi';
const ORDER = [15, 14, 13, 12, 11, 10, 9, 8, 0, 1];

const open = (provider: MemoryProvider, mode: 'read' | 'write' = 'write'): Promise<Disk> =>
  Disk.open({ provider, name: NAME }, { mode, format: 'vdi', flushAfterMs: 0 });

/** Blocks 0 and 1 are in the last slots. */
async function made(): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const config = { AllocationBlockSize: BLOCK, DataAlignment: 512 };
  await createImage({ provider, name: NAME }, { size: 16 * BLOCK, format: 'vdi', config });
  await using disk = await open(provider);
  for (const block of ORDER) await disk.write(block * BLOCK, new Uint8Array(BLOCK).fill(block + 1));
  return provider;
}

/** State left by a resize to two blocks that was cut after the header switch. */
async function cutHalfway(): Promise<MemoryProvider> {
  const provider = await made();
  await patch(provider, 0x170, 2 * BLOCK);
  await patch(provider, 0x180, 2);
  await patch(provider, 0x184, 2);
  return provider;
}

async function patch(provider: MemoryProvider, offset: number, value: number): Promise<void> {
  const storage = await provider.open(NAME, 'write');
  await storage.write(offset, new Uint8Array(new Uint32Array([value]).buffer));
  await storage.close();
}

async function headerOf(provider: MemoryProvider) {
  const storage = await provider.open(NAME, 'read');
  const view = new DataView(new ArrayBuffer(512));
  await storage.read(0, new Uint8Array(view.buffer));
  await storage.close();
  return { blocks: view.getUint32(0x180, true), count: view.getUint32(0x184, true) };
}

const codesOf = async (provider: MemoryProvider, repair = false): Promise<string[]> =>
  (await checkImage({ provider, name: NAME }, { format: 'vdi', repair })).findings.map(({ code }) => code);

async function expectWhole(provider: MemoryProvider, size: number): Promise<void> {
  expect(await codesOf(provider)).toEqual([]);
  const blocks = size / BLOCK;
  expect(await headerOf(provider)).toEqual({ blocks, count: 2 });
  await using disk = await open(provider, 'read');
  const bytes = new Uint8Array(size);
  await disk.read(0, bytes);
  const expected = Uint8Array.from({ length: size }, (_, at) => (at < 2 * BLOCK ? 1 + Math.floor(at / BLOCK) : 0));
  expect(Buffer.compare(bytes, expected)).toBe(0);
}

describe('blocks in slots beyond those of a smaller disk', () => {
  it('move down when the disk is cut', async () => {
    const provider = await made();
    {
      await using disk = await open(provider);
      await disk.resize(2 * BLOCK, { shrink: true });
    }
    await expectWhole(provider, 2 * BLOCK);
  });

  it('are a corruption that a repair mends at once', async () => {
    const provider = await cutHalfway();
    expect(await codesOf(provider)).toContain('slot-beyond-count');
    expect(await codesOf(provider, true)).toEqual([]);
    await expectWhole(provider, 2 * BLOCK);
  });

  it.each([
    ['a resize to the size that there is', 2, (disk: Disk) => disk.resize(2 * BLOCK)],
    ['a resize to more', 3, (disk: Disk) => disk.resize(3 * BLOCK)],
    ['compacting', 2, (disk: Disk) => disk.compact()],
  ])('are mended by %s', async (_, blocks, run) => {
    const provider = await cutHalfway();
    {
      await using disk = await open(provider);
      await run(disk);
    }
    await expectWhole(provider, blocks * BLOCK);
  });

  it('and a size that is not whole sectors, with blocks to spare: a resize leaves an image that opens', async () => {
    const provider = await made();
    await patch(provider, 0x170, 2 * BLOCK + 1);
    const disk = await open(provider);
    expect(disk.size).toBe(2 * BLOCK);
    await disk.resize(20 * BLOCK);
    await disk.close();
    await using again = await open(provider, 'read');
    expect(again.size).toBe(20 * BLOCK);
    const bytes = new Uint8Array(2 * BLOCK);
    await again.read(0, bytes);
    expect([bytes[0], bytes[BLOCK]]).toEqual([1, 2]);
  });

  it('and a map that is longer than the disk: a resize to the size that there is ends what was cut', async () => {
    const provider = await made();
    await patch(provider, 0x170, 2 * BLOCK);
    expect(await codesOf(provider)).toEqual([]);
    {
      await using disk = await open(provider);
      await disk.resize(2 * BLOCK);
    }
    await expectWhole(provider, 2 * BLOCK);
  });

  it('leave a disk alone that has its size', async () => {
    const provider = await made();
    const before = await headerOf(provider);
    {
      await using disk = await open(provider);
      await disk.resize(16 * BLOCK);
    }
    expect(await headerOf(provider)).toEqual(before);
  });
});
