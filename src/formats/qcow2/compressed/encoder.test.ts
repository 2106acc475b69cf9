/** Placement of compressed clusters: consecutive, and never in space that may belong to others. */
import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../../../test/conformance/expect-kind.ts';
import type { ChainDisk } from '../../../disk/disk.ts';
import { convert } from '../../../operations/convert.ts';
import { createImage } from '../../../operations/create.ts';
import { openDisk } from '../../../operations/open.ts';
import { MemoryProvider } from '../../../storage/memory.ts';

const CLUSTER = 4096;
const SIZE = 40 * CLUSTER;
const NAME = '/disk.qcow2';

async function made(config: Record<string, string | number> = {}): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const shape = { format: 'qcow2', size: SIZE, config: { cluster_size: CLUSTER, ...config } };
  await createImage({ provider, name: NAME }, { provider, ...shape });
  return provider;
}

function open(provider: MemoryProvider): Promise<ChainDisk> {
  return openDisk(
    { provider, name: NAME },
    { mode: 'write', format: 'qcow2', flushAfterMs: 0, allow: ['/', '/data.raw'] },
  );
}

/** Compresses a little: some streams fill a cluster of the file. */
const bytesOf = (seed: number, clusters = 1): Uint8Array =>
  Uint8Array.from({ length: clusters * CLUSTER }, (_, at) => (Math.imul(at + seed * 7919, 0x9e37_79b1) >>> 9) % 23);

async function fileSize(provider: MemoryProvider): Promise<number> {
  const storage = await provider.open(NAME, 'read');
  const { size } = storage;
  await storage.close();
  return size;
}

async function compressed(disk: ChainDisk, cluster: number, bytes: Uint8Array): Promise<void> {
  await (await disk.compress(cluster * CLUSTER, bytes)).store();
}

describe('compressed clusters', () => {
  it('share clusters of the file, whether they come together or one by one', async () => {
    const sizes: number[] = [];
    for (const step of [1, 3, 24]) {
      const provider = await made();
      {
        await using disk = await open(provider);
        for (let at = 0; at < 24; at += step)
          await compressed(disk, at, bytesOf(1, 24).subarray(at * CLUSTER, (at + step) * CLUSTER));
      }
      sizes.push(await fileSize(provider));
      await using disk = await open(provider);
      const found = new Uint8Array(24 * CLUSTER);
      await disk.read(0, found);
      expectSameBytes(found, bytesOf(1, 24));
    }
    expect(new Set(sizes).size).toBe(1);
    expect(sizes[0]).toBeLessThan(22 * CLUSTER);
  });

  it('that are written over, freed and followed by others keep what they hold', async () => {
    const provider = await made();
    const wanted = new Uint8Array(SIZE);
    {
      await using disk = await open(provider);
      const put = async (cluster: number, bytes: Uint8Array, how: 'plain' | 'compressed'): Promise<void> => {
        wanted.set(bytes, cluster * CLUSTER);
        if (how === 'plain') await disk.write(cluster * CLUSTER, bytes);
        else await compressed(disk, cluster, bytes);
      };
      for (let round = 0; round < 30; round++) {
        await put(round % 9, bytesOf(round), 'compressed');
        // The last stream is given up: its room must not be taken for the end of the file's streams.
        if (round % 3 === 0) await put(round % 9, bytesOf(round + 100), 'plain');
        if (round % 2 === 0) await disk.flush();
        await put(10 + (round % 20), bytesOf(round + 200), round % 4 === 0 ? 'compressed' : 'plain');
      }
    }
    await using disk = await open(provider);
    const found = new Uint8Array(SIZE);
    await disk.read(0, found);
    expectSameBytes(found, wanted);
    // Room is used again: nine and twenty clusters are in use, and some are being replaced.
    expect(await fileSize(provider)).toBeLessThan(60 * CLUSTER);
  });

  it('are stored in parts that are not whole, too', async () => {
    const provider = await made();
    await using disk = await open(provider);
    const bytes = bytesOf(3, 4).subarray(100, 3 * CLUSTER + 50);
    await (await disk.compress(CLUSTER + 100, bytes)).store();
    const found = new Uint8Array(bytes.length);
    await disk.read(CLUSTER + 100, found);
    expectSameBytes(found, bytes);
    const kinds: boolean[] = [];
    for await (const extent of disk.extents()) if (extent.state === 'data') kinds.push(extent.compressed);
    expect(kinds).toEqual([false, true, false]);
  });

  it('are not available with an external data file, nor in other formats', async () => {
    const provider = await made({ data_file: 'data.raw' });
    {
      await using disk = await open(provider);
      expect(disk.compression).toBeNull();
      await expectKind(() => disk.compress(0, bytesOf(1)), 'unsupported');
    }
    const source = { provider: await made(), name: NAME };
    for (const format of ['raw', 'vdi']) {
      const target = { provider, name: `/out.${format}` };
      await expectKind(() => convert(source, target, { format, compress: true }), 'unsupported');
      expect(await provider.lookUp(target.name)).toBeNull();
    }
    await expectKind(
      () => convert(source, { provider, name: NAME }, { into: true, compress: true, allow: ['/', '/data.raw'] }),
      'unsupported',
    );
  });

  it('of an image that exists are compressed in its way', async () => {
    const provider = await made({ compression_type: 'zstd' });
    const source = { provider: await made(), name: NAME };
    const target = { provider, name: NAME };
    await expectKind(() => convert(source, target, { into: true, compress: 'zlib' }), 'unsupported');
    await convert(source, target, { into: true, compress: 'zstd' });
    const config = { compression_type: 'zstd' };
    const other = { provider, name: '/other.qcow2' };
    await expectKind(() => convert(source, other, { config, compress: 'zlib' }), 'invalid-argument');
  });
});
