/** Ways to the bounds of Parallels images. */
import { HEADER, IN_USE, MAGIC, VERSION } from '../../../src/formats/parallels/layout.ts';
import { PARALLELS_LIMITS } from '../../../src/formats/parallels/limits.ts';
import { openDisk } from '../../../src/operations/open.ts';
import type { Source } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { LimitKit } from '../limit-kit.ts';

const SECTOR = 512;

/** Fields of a header that differ. */
interface Wanted {
  readonly tracks: number;
  readonly entries: number;
}

/** A header in a file of that length; the rest is a hole. */
async function headerOnly({ tracks, entries }: Wanted, length: number): Promise<Source> {
  const provider = new MemoryProvider();
  const source = { provider, name: '/image.hdd' };
  const storage = await provider.create(source.name);
  const header = HEADER.encode({
    magic: MAGIC.extended,
    version: VERSION,
    heads: 16,
    cylinders: 1,
    tracks,
    entries,
    sectors: (entries * tracks) % 2 ** 32,
    sectorsHigh: Math.floor((entries * tracks) / 2 ** 32),
    inUse: IN_USE.closed,
    dataOffset: 0,
    flags: 0,
    extensionOffset: 0n,
  });
  await storage.resize(length);
  await storage.write(0, header);
  await storage.close();
  return source;
}

/** Reads the last cluster. */
async function readLast(entries: number): Promise<number> {
  const end = Math.ceil((HEADER.size + entries * 4) / SECTOR) * SECTOR;
  await using disk = await openDisk(await headerOnly({ tracks: 1, entries }, end));
  const bytes = new Uint8Array(SECTOR).fill(1);
  await disk.read(disk.size - SECTOR, bytes);
  if (bytes.some((byte) => byte !== 0)) throw new Error('a free cluster holds data');
  return disk.size / SECTOR;
}

export const limits: LimitKit<typeof PARALLELS_LIMITS> = {
  bounds: PARALLELS_LIMITS,
  tests: {
    entries: { reach: readLast },
  },
};
