/** Ways to the bounds of Parallels images. */
import { md5 } from '@noble/hashes/legacy.js';
import { EXTENSION, EXTENSION_MAGIC, HEADER, IN_USE, MAGIC, VERSION } from '../../../src/formats/parallels/layout.ts';
import { PARALLELS_LIMITS } from '../../../src/formats/parallels/limits.ts';
import { inspect } from '../../../src/operations/inspect.ts';
import { openDisk } from '../../../src/operations/open.ts';
import type { Source } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { LimitKit } from '../limit-kit.ts';

const SECTOR = 512;

/** Fields of a header that differ. */
interface Wanted {
  readonly tracks: number;
  readonly entries: number;
  readonly extension?: number;
}

/** A header in a file of that length; the rest is a hole. */
async function headerOnly({ tracks, entries, extension = 0 }: Wanted, length: number): Promise<Source> {
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
    extensionOffset: BigInt(extension / SECTOR),
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

/** An extension without sections in a cluster of that size. */
async function readExtension(clusterSize: number): Promise<number> {
  const source = await headerOnly(
    { tracks: clusterSize / SECTOR, entries: 1, extension: clusterSize },
    2 * clusterSize,
  );
  const storage = await source.provider.open(source.name, 'write');
  const sum = md5(new Uint8Array(clusterSize - EXTENSION.size));
  await storage.write(clusterSize, EXTENSION.encode({ magic: EXTENSION_MAGIC, md5: sum }));
  await storage.close();
  const { warnings } = await inspect(source);
  if (warnings.length > 0) throw new Error(warnings.join());
  return clusterSize;
}

export const limits: LimitKit<typeof PARALLELS_LIMITS> = {
  bounds: PARALLELS_LIMITS,
  tests: {
    entries: { reach: readLast },
    extensionBytes: { reach: readExtension, step: SECTOR },
  },
};
