/** Sparse extents at their bounds. */
import { expect, it } from 'vitest';
import { createImage, Disk } from '../../../index.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { SPARSE_HEADER } from '../layout.ts';

const MIB = 1024 * 1024;
const GRAIN = 2 * MIB;
const SECTOR = 512;
/** First byte that a sector number of 32 bits cannot name. */
const END = 2 ** 32 * SECTOR;

/** An image of which all grains are stored but the last four: its file ends just before places that no entry can name. */
async function nearlyFull(provider: MemoryProvider): Promise<{ readonly size: number; readonly first: number }> {
  const size = END + 8 * MIB;
  const source = { provider, name: '/a.vmdk' };
  await createImage(source, { format: 'vmdk', size, config: { grain_size: GRAIN } });
  const storage = await provider.open(source.name, 'write');
  const header = new Uint8Array(SECTOR);
  await storage.read(0, header);
  const { overhead, directoryOffset } = SPARSE_HEADER.decode(header);
  const grains = Math.floor((END - overhead * SECTOR) / GRAIN) - 1;
  const entries = Uint32Array.from({ length: grains }, (_, n) => overhead + (n * GRAIN) / SECTOR);
  for (const directory of [SPARSE_HEADER.get(header, 'redundantOffset'), directoryOffset]) {
    const first = new Uint8Array(4);
    await storage.read(Number(directory) * SECTOR, first);
    await storage.write((new Uint32Array(first.buffer)[0] ?? 0) * SECTOR, new Uint8Array(entries.buffer));
  }
  await storage.resize(overhead * SECTOR + grains * GRAIN);
  await storage.close();
  return { size, first: grains * GRAIN };
}

it('a grain that no entry can name is refused, and what stands at the start stays', async () => {
  const provider = new MemoryProvider();
  const { first } = await nearlyFull(provider);
  const source = { provider, name: '/a.vmdk' };
  {
    await using disk = await Disk.open(source, { mode: 'write' });
    await disk.write(0, new Uint8Array(SECTOR).fill(1));
    await disk.write(first, new Uint8Array(SECTOR).fill(2));
    await expect(disk.write(first + GRAIN, new Uint8Array(2 * GRAIN).fill(3))).rejects.toMatchObject({
      kind: 'no-space',
    });
    await disk.write(first + SECTOR, new Uint8Array(SECTOR).fill(4));
  }
  await using disk = await Disk.open(source);
  const bytes = new Uint8Array(2 * SECTOR);
  await disk.read(0, bytes);
  expect([bytes[0], bytes[SECTOR]]).toEqual([1, 0]);
  await disk.read(first, bytes);
  expect([bytes[0], bytes[SECTOR]]).toEqual([2, 4]);
  await disk.read(first + GRAIN, bytes);
  expect(bytes[0]).toBe(0);
});
