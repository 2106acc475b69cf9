/** Internal snapshots, created and used by vdkit alone; the peer tests involve other programs. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../../test/conformance/expect-kind.ts';
import { randomBytes, rounds } from '../../../../test/conformance/random.ts';
import { recount } from '../../../../test/faults/qcow2-recount.ts';
import { buildQcow2, type Cluster, type Recipe } from '../../../../test/formats/qcow2/build.ts';
import { contentOf, hostile } from '../../../../test/formats/qcow2/hostile.ts';
import { SnapshotModel } from '../../../../test/model/snapshots.ts';
import { createImage, Disk, inspect } from '../../../index.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { Random } from '../../../testing/random.ts';

const KINDS = [
  { cluster_size: 512 },
  { cluster_size: 512, refcount_bits: 8 },
  { cluster_size: 1024, refcount_bits: 64 },
  { cluster_size: 4096, refcount_bits: 4 },
  { cluster_size: 4096, compat: '0.10' },
  { cluster_size: 512, compat: '0.10' },
  { cluster_size: 4096, refcount_bits: 32, lazy_refcounts: 'on' },
  { cluster_size: 16_384, extended_l2: 'on' },
  { cluster_size: 65_536 },
  { cluster_size: 4096, preallocation: 'metadata' },
];
const SIZE = 300 * 1024 + 512;

async function bytesOf(provider: MemoryProvider, name: string): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

/** Every count and flag is correct, and nothing leaks. */
async function expectSound(provider: MemoryProvider): Promise<void> {
  expect(recount(await bytesOf(provider, '/disk.qcow2'))).toEqual({ low: [], unsafe: [], unflagged: [], leaks: 0 });
}

async function newImage(config: Record<string, string | number> = { cluster_size: 4096 }, size = SIZE) {
  const provider = new MemoryProvider();
  const place = { provider, name: '/disk.qcow2' };
  await createImage(place, { size, format: 'qcow2', config });
  return { provider, place };
}

async function builtImage(recipe: Recipe) {
  const provider = new MemoryProvider();
  const storage = await provider.create('/disk.qcow2');
  await storage.write(0, buildQcow2(recipe).bytes);
  await storage.close();
  return { provider, place: { provider, name: '/disk.qcow2' } };
}

const write = { mode: 'write', flushAfterMs: 0, format: 'qcow2' } as const;

describe('internal snapshots', () => {
  it.each(KINDS)('random work keeps the disk and every snapshot: %o', async (config) => {
    for (let seed = 1; seed <= rounds(3, 20); seed++) {
      const { provider, place } = await newImage(config);
      const model = new SnapshotModel(place, new Uint8Array(SIZE), new Random(seed));
      for (let session = 0; session < 3; session++) {
        await model.session(25);
        await expectSound(provider);
        await model.expectAll();
      }
    }
  });

  it('keeps compressed clusters, zeroes with and without room, and subclusters', async () => {
    for (const sample of await hostile.samples()) {
      if (sample.beside.length > 0 || !(sample.content instanceof Uint8Array)) continue;
      const provider = new MemoryProvider();
      const storage = await provider.create('/disk.qcow2');
      await storage.write(0, sample.bytes);
      await storage.close();
      const { snapshots = [] } = await inspect({ provider, name: '/disk.qcow2' });
      const model = new SnapshotModel({ provider, name: '/disk.qcow2' }, sample.content.slice(), new Random(3));
      for (const { name } of snapshots) {
        await using disk = await model.open(name);
        const bytes = new Uint8Array(disk.size);
        await disk.read(0, bytes);
        model.kept.set(name, bytes);
      }
      for (let session = 0; session < 4; session++) {
        await model.session(15);
        await expectSound(provider);
        await model.expectAll();
      }
    }
  });

  it('are listed with what is known of them', async () => {
    const { place } = await newImage();
    await using disk = await Disk.open(place, write);
    expect(disk.snapshots.list).toEqual([]);
    const made = await disk.snapshots.create('first', { createdMs: 1_234_567_890_123 });
    expect(made).toEqual({
      ...{ id: '1', name: 'first', virtualSize: SIZE },
      ...{ vmStateSize: 0, createdMs: 1_234_567_890_123 },
    });
    await disk.snapshots.create('second');
    await disk.snapshots.delete('1');
    await disk.snapshots.create('third');
    await disk.snapshots.rename('3', 'zweiter ä');
    expect(disk.snapshots.list.map(({ id, name }) => [id, name])).toEqual([
      ['2', 'second'],
      ['3', 'zweiter ä'],
    ]);
    expect((await disk.images[0]?.info.snapshots)?.length).toBe(2);
  });

  it('refuse names that are taken, or that cannot be typed', async () => {
    const { place } = await newImage();
    await using disk = await Disk.open(place, write);
    await disk.snapshots.create('first');
    await expectKind(() => disk.snapshots.create('first'), 'exists');
    await expectKind(() => disk.snapshots.create('1'), 'exists');
    await disk.snapshots.rename('first', 'first');
    for (const name of ['', 'a\nb', 'x'.repeat(256)]) {
      await expectKind(() => disk.snapshots.create(name), 'invalid-argument');
    }
    await expectKind(() => disk.snapshots.apply('second'), 'not-found');
    await expectKind(() => disk.snapshots.delete('second'), 'not-found');
    await expectKind(() => disk.snapshots.rename('second', 'x'), 'not-found');
    expect(disk.snapshots.list).toHaveLength(1);
  });

  it('are refused cleanly where counts are too narrow for them', async () => {
    for (const refcount_bits of [1, 2]) {
      const { provider, place } = await newImage({ cluster_size: 4096, refcount_bits });
      await using disk = await Disk.open(place, write);
      await disk.write(0, new Uint8Array(20_000).fill(7));
      await disk.flush();
      if (refcount_bits === 2) for (const name of ['a', 'b']) await disk.snapshots.create(name);
      const before = await bytesOf(provider, '/disk.qcow2');
      await expectKind(() => disk.snapshots.create('one more'), 'limit');
      if (refcount_bits === 2) await expectKind(() => disk.snapshots.apply('a'), 'limit');
      expect(Buffer.compare(await bytesOf(provider, '/disk.qcow2'), before)).toBe(0);
      await disk.write(0, new Uint8Array(20_000).fill(8));
      await disk.flush();
    }
  });

  it('count compressed clusters that share a cluster of the file', async () => {
    const clusters = new Map<number, Cluster>();
    for (let n = 0; n < 20; n++) clusters.set(n, { kind: 'compressed', bytes: new Uint8Array(4096).fill(n + 1) });
    const recipe: Recipe = { clusterBits: 12, size: 24 * 4096, clusters };
    const { provider, place } = await builtImage(recipe);
    const model = new SnapshotModel(place, contentOf(recipe, null), new Random(1));
    for (let session = 0; session < 5; session++) {
      await model.session(15);
      await expectSound(provider);
      await model.expectAll();
    }
  });

  it('go back to another size', async () => {
    const { provider, place } = await newImage({ cluster_size: 512 });
    const { changed, first } = await withSizes(provider);
    await using disk = await Disk.open(place, write);
    expect(disk.size).toBe(changed);
    await disk.snapshots.apply('first');
    expect(disk.size).toBe(SIZE);
    const bytes = new Uint8Array(SIZE);
    await disk.read(0, bytes);
    expect(Buffer.compare(bytes, first)).toBe(0);
    await disk.write(SIZE - 512, new Uint8Array(512).fill(9));
    await disk.snapshots.apply('second');
    expect(disk.size).toBe(changed);
    await disk.write(changed - 512, new Uint8Array(512).fill(9));
    await disk.close();
    await expectSound(provider);
    expect((await inspect(place)).virtualSize).toBe(changed);
  });

  it('keep the state of a machine that QEMU saved with them', async () => {
    const size = 64 * 1024;
    const { provider, place } = await newImage({ cluster_size: 512 }, size);
    const content = randomBytes(new Random(7), size);
    {
      await using disk = await Disk.open(place, write);
      await disk.write(0, content);
      await disk.snapshots.create('machine');
    }
    // Two L1 entries: the disk of that time is made half as long, so the second half is what QEMU takes for the state.
    const table = Number(new DataView((await bytesOf(provider, place.name)).buffer).getBigUint64(64));
    const storage = await provider.open(place.name, 'write');
    const sizes = new DataView(new ArrayBuffer(16));
    sizes.setBigUint64(0, 32_768n);
    sizes.setBigUint64(8, 32_768n);
    await storage.write(table + 40, new Uint8Array(sizes.buffer));
    await storage.close();
    {
      await using disk = await Disk.open(place, write);
      expect(disk.snapshots.list[0]).toMatchObject({ vmStateSize: 32_768, virtualSize: 32_768 });
      await disk.snapshots.apply('machine');
      expect(disk.size).toBe(32_768);
      await disk.write(0, new Uint8Array(32_768).fill(3));
      await disk.snapshots.create('other');
      await disk.write(0, new Uint8Array(32_768).fill(4));
      await disk.snapshots.delete('other');
      expect(disk.snapshots.list[0]).toMatchObject({ vmStateSize: 32_768 });
    }
    await expectSound(provider);
    const file = await bytesOf(provider, place.name);
    const state = content.subarray(32_768, 33_280);
    expect(Buffer.from(file).includes(Buffer.from(state))).toBe(true);
    await using disk = await Disk.open(place, write);
    await disk.snapshots.delete('machine');
    await disk.flush();
    await expectSound(provider);
  });

  it('keep names that are no UTF-8', async () => {
    const { provider, place } = await newImage();
    {
      await using disk = await Disk.open(place, write);
      await disk.snapshots.create('abc');
    }
    const { buffer } = await bytesOf(provider, place.name);
    const name = Number(new DataView(buffer).getBigUint64(64)) + 40 + 24 + 1;
    const storage = await provider.open(place.name, 'write');
    await storage.write(name, Uint8Array.of(0xff, 0xfe, 0x61));
    await storage.close();
    await using disk = await Disk.open(place, write);
    await disk.snapshots.create('next');
    const after = await bytesOf(provider, place.name);
    const moved = Number(new DataView(after.buffer).getBigUint64(64)) + 40 + 24 + 1;
    expect(after.subarray(moved, moved + 3)).toEqual(Uint8Array.of(0xff, 0xfe, 0x61));
    await disk.snapshots.rename('1', 'abc');
    expect(disk.snapshots.list[0]?.name).toBe('abc');
    await expectSound(provider);
  });

  it('are not for images with a data file, nor for formats without', async () => {
    const { place } = await newImage({ data_file: '/data.raw' });
    await using disk = await Disk.open(place, { ...write, allow: ['/', '/data.raw'] });
    await expectKind(() => disk.snapshots.create('x'), 'unsupported');
    const vdi = { provider: new MemoryProvider(), name: '/disk.vdi' };
    await using other = await Disk.create(vdi, { size: SIZE, format: 'vdi' });
    await expectKind(() => other.snapshots.create('x'), 'unsupported');
    await expectKind(() => other.snapshots.list, 'unsupported');
  });

  it('are refused when the tree is damaged: such an image is not written', async () => {
    const recipe: Recipe = {
      clusterBits: 12,
      size: 24 * 4096,
      clusters: new Map([[0, { kind: 'data', bytes: randomBytes(new Random(1), 4096) }]]),
    };
    const { bytes, l2 } = buildQcow2(recipe);
    const damaged = bytes.slice();
    new DataView(damaged.buffer).setBigUint64((l2[0]?.offset ?? 0) + 8, 0x8000_0000_0000_0200n);
    const provider = new MemoryProvider();
    const storage = await provider.create('/disk.qcow2');
    await storage.write(0, damaged);
    await storage.close();
    await expectKind(() => Disk.open({ provider, name: '/disk.qcow2' }, write), 'read-only');
    expect(Buffer.compare(await bytesOf(provider, '/disk.qcow2'), damaged)).toBe(0);
  });

  it('use the room of their tables again', async () => {
    const { provider, place } = await newImage();
    await using disk = await Disk.open(place, write);
    await disk.write(0, randomBytes(new Random(2), 40_000));
    await disk.snapshots.create('a');
    await disk.snapshots.delete('a');
    const { length } = await bytesOf(provider, '/disk.qcow2');
    for (let round = 0; round < 20; round++) {
      await disk.snapshots.create('a');
      await disk.snapshots.rename('a', 'b');
      await disk.snapshots.delete('b');
    }
    expect((await bytesOf(provider, '/disk.qcow2')).length).toBeLessThanOrEqual(length + 2 * 4096);
  });
});

/** An image whose disk was made larger after its first snapshot: until images are resized here, by hand. */
async function withSizes(provider: MemoryProvider): Promise<{ changed: number; first: Uint8Array }> {
  const place = { provider, name: '/disk.qcow2' };
  const first = randomBytes(new Random(5), SIZE);
  {
    await using disk = await Disk.open(place, write);
    await disk.write(0, first);
    await disk.snapshots.create('first');
  }
  // The last L2 table answers for 32 KiB of clusters of 512 bytes, so there is room behind the end.
  const changed = SIZE + 4096;
  const storage = await provider.open(place.name, 'write');
  const size = new Uint8Array(8);
  new DataView(size.buffer).setBigUint64(0, BigInt(changed));
  await storage.write(24, size);
  await storage.close();
  await using disk = await Disk.open(place, write);
  await disk.write(SIZE, randomBytes(new Random(6), 4096));
  await disk.snapshots.create('second');
  return { changed, first };
}
