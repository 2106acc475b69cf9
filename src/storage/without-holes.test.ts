import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkImage } from '../operations/check.ts';
import { createImage } from '../operations/create.ts';
import { openDisk } from '../operations/open.ts';
import type { StorageProvider } from './contract.ts';
import { localFiles } from './local/index.ts';
import { withoutHoles } from './without-holes.ts';

const MIB = 1024 ** 2;

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-plain-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('a provider of files without holes', () => {
  const holes = async (provider: StorageProvider, name: string): Promise<number> => {
    const storage = await provider.open(name, 'read');
    const { allocatedSize } = await storage.identity();
    const missing = storage.size - (allocatedSize ?? 0);
    await storage.close();
    return missing;
  };

  it('reserves what a write or a resize leaves out, and stores zeroes', async () => {
    const provider = withoutHoles(localFiles());
    const name = join(folder, 'file');
    const storage = await provider.create(name);
    const writing = [storage.write(3 * MIB, Uint8Array.of(1)), storage.write(5 * MIB, Uint8Array.of(2))];
    expect(storage.size).toBe(5 * MIB + 1);
    await Promise.all(writing);
    await storage.resize(8 * MIB);
    expect(storage.can.punch).toBe(false);
    await storage.zero(MIB, MIB, { punch: true });
    const bytes = new Uint8Array(8 * MIB).fill(9);
    await storage.read(0, bytes);
    expect([bytes[3 * MIB], bytes[5 * MIB]]).toEqual([1, 2]);
    expect(bytes.filter((byte) => byte !== 0)).toHaveLength(2);
    await storage.resize(4 * MIB);
    expect(storage.size).toBe(4 * MIB);
    await storage.flush();
    await storage.close();
    expect(await holes(provider, name)).toBeLessThanOrEqual(0);
  });

  it.each([
    ['vhd', []],
    ['vhd', ['fixed']],
    ['vhdx', []],
    ['vhdx', ['fixed']],
  ])('makes an image of %s %s that Windows attaches', async (format, variant) => {
    const provider = withoutHoles(localFiles());
    const source = { provider, name: join(folder, `disk.${format}`) };
    await createImage(source, { format, variant, size: 24 * MIB });
    {
      await using disk = await openDisk(source, { format, mode: 'write' });
      await disk.write(20 * MIB, new Uint8Array(4096).fill(5));
      await disk.write(4 * MIB, new Uint8Array(4096).fill(6));
    }
    expect(await holes(provider, source.name)).toBeLessThanOrEqual(0);
    expect((await checkImage(source, { format })).findings).toEqual([]);
  });

  it('leaves holes where it is not asked', async () => {
    const provider = localFiles();
    const source = { provider, name: join(folder, 'sparse.vhd') };
    await createImage(source, { format: 'vhd', variant: ['fixed'], size: 24 * MIB });
    expect(await holes(provider, source.name)).toBeGreaterThan(20 * MIB);
  });
});
