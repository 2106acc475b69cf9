/** Resizing QCOW2 disks: the effects on data, hidden data, and refusals. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../../test/conformance/expect-kind.ts';
import { createImage, Disk } from '../../../index.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { type Bitmap, readBitmaps } from '../bitmaps/bitmaps.ts';
import { readHeader } from '../open.ts';

const SIZE = 1024 * 1024;
const NAME = '/disk.qcow2';
const WRITE = { mode: 'write', flushAfterMs: 0, format: 'qcow2', allow: ['/', '/data.raw'] } as const;

type Config = Record<string, string | number>;

async function newDisk(provider: MemoryProvider, config: Config, parent?: string): Promise<Disk> {
  const over = parent === undefined ? { size: SIZE } : { size: SIZE, parent: { provider, name: parent } };
  await createImage({ provider, name: NAME }, { ...over, format: 'qcow2', config });
  return Disk.open({ provider, name: NAME }, WRITE);
}

async function storedBits(provider: MemoryProvider): Promise<(Bitmap & { first: number | undefined })[]> {
  const storage = await provider.open(NAME, 'read');
  const file = new Uint8Array(storage.size);
  await storage.read(0, file);
  const bitmaps = await readBitmaps(storage, await readHeader(storage));
  await storage.close();
  const view = new DataView(file.buffer);
  return bitmaps.map((bitmap) => {
    const offset = Number(view.getBigUint64(bitmap.tableOffset));
    return { ...bitmap, first: offset === 0 ? undefined : file[offset] };
  });
}

describe('a disk with bitmaps that changes its size', () => {
  it.each([SIZE * 9, SIZE / 2])('has bitmaps of that length, to %i bytes, and they stay valid', async (size) => {
    const provider = new MemoryProvider();
    {
      await using disk = await newDisk(provider, { cluster_size: 512 });
      await disk.bitmaps.add('records', { granularity: 512 });
      await disk.write(512, new Uint8Array(512).fill(1));
      await disk.bitmaps.add('stays', { granularity: 512, enabled: false });
      await disk.bitmaps.merge('stays', ['records']);
      await disk.resize(size, { shrink: true });
      await disk.write(2 * 512, new Uint8Array(512).fill(1));
    }
    const bitmaps = await storedBits(provider);
    const tableEntries = Math.ceil(size / 512 / 8 / 512);
    expect(bitmaps).toMatchObject([
      // Nothing of the old disk changed by that.
      { name: 'records', flags: 2, tableEntries, first: 0b110 },
      { name: 'stays', flags: 0, tableEntries, first: 0b010 },
    ]);
  });

  it('records that what was cut off and grew again changed', async () => {
    const provider = new MemoryProvider();
    {
      await using disk = await newDisk(provider, { cluster_size: 512 });
      await disk.bitmaps.add('records', { granularity: 512 * 1024 });
      await disk.resize(SIZE / 2, { shrink: true });
      await disk.resize(SIZE);
    }
    expect(await storedBits(provider)).toMatchObject([{ flags: 2, first: 0b10 }]);
  });

  it('and a snapshot of another size that may not be applied: the bitmaps stay as they are', async () => {
    const provider = new MemoryProvider();
    {
      await using disk = await newDisk(provider, {});
      await disk.snapshots.create('small');
      await disk.resize(2 * SIZE);
      await disk.bitmaps.add('records', { granularity: 512 });
      await expectKind(() => disk.snapshots.apply('small'), 'unsupported');
    }
    expect(await storedBits(provider)).toMatchObject([{ flags: 2, first: undefined }]);
  });
});

describe('a disk with a data file', () => {
  it.each(['off', 'on'])('has one that is as long as itself, raw: %s', async (raw) => {
    const provider = new MemoryProvider();
    const odd = SIZE + 3 * 512;
    await using disk = await newDisk(provider, { data_file: 'data.raw', data_file_raw: raw });
    const dataSize = async (): Promise<number> => (await provider.open('/data.raw', 'read')).size;
    for (const size of [odd, odd + 512, odd - 1024, SIZE * 2]) {
      await disk.resize(size, { shrink: true });
      await disk.write(size - 512, new Uint8Array(512).fill(7));
      await disk.flush();
      expect(await dataSize()).toBe(size);
    }
  });
});

describe('version 2 over a longer backing file', () => {
  it('grows with allocated zeroes, which hide the data below', async () => {
    const provider = new MemoryProvider();
    await createImage({ provider, name: '/base.raw' }, { size: 4 * SIZE, format: 'raw' });
    {
      await using base = await Disk.open({ provider, name: '/base.raw' }, { ...WRITE, format: 'raw' });
      await base.write(0, new Uint8Array(4 * SIZE).fill(9));
    }
    await using disk = await newDisk(provider, { compat: '0.10' }, '/base.raw');
    await disk.resize(2 * SIZE);
    const bytes = new Uint8Array(2 * SIZE);
    await disk.read(0, bytes);
    expect(bytes.subarray(0, SIZE).every((byte) => byte === 9)).toBe(true);
    expect(bytes.subarray(SIZE).every((byte) => byte === 0)).toBe(true);
  });
});

describe('subclusters over a parent', () => {
  const CLUSTER = 512 * 1024;

  async function make(size: number): Promise<{ provider: MemoryProvider; disk: Disk; model: Uint8Array }> {
    const provider = new MemoryProvider();
    await createImage({ provider, name: '/base.raw' }, { size, format: 'raw' });
    const model = Uint8Array.from({ length: size }, (_, index) => (index % 251) + 1);
    {
      await using base = await Disk.open({ provider, name: '/base.raw' }, { ...WRITE, format: 'raw' });
      await base.write(0, model);
    }
    const parent = { provider, name: '/base.raw' };
    const config = { cluster_size: CLUSTER, extended_l2: 'on' };
    await createImage({ provider, name: NAME }, { parent, parentFormat: 'raw', format: 'qcow2', config });
    return { provider, disk: await Disk.open({ provider, name: NAME }, WRITE), model };
  }

  async function expectContent(disk: Disk, model: Uint8Array): Promise<void> {
    const bytes = new Uint8Array(model.length);
    await disk.read(0, bytes);
    expect(Buffer.compare(bytes, model)).toBe(0);
  }

  it('keep what a write stores around itself where something was discarded before', async () => {
    const { provider, disk, model } = await make(2 * CLUSTER);
    await disk.write(CLUSTER, new Uint8Array(512).fill(7));
    model.fill(7, CLUSTER, CLUSTER + 512);
    await disk.discard([{ offset: CLUSTER + CLUSTER / 2, length: 512 }]);
    await disk.zero(CLUSTER + 132_096, 512);
    model.fill(0, CLUSTER + 132_096, CLUSTER + 132_096 + 512);
    await disk.close();
    await expectContent(await Disk.open({ provider, name: NAME }, WRITE), model);
  });

  it('show the parent beside the only one that is stored, when that is discarded', async () => {
    const { disk, model } = await make(2 * CLUSTER);
    await disk.write(CLUSTER, new Uint8Array(16_384).fill(7));
    await disk.discard([{ offset: CLUSTER, length: 16_384 }]);
    const bytes = new Uint8Array(2 * CLUSTER);
    await disk.read(0, bytes);
    model.set(bytes.subarray(CLUSTER, CLUSTER + 16_384), CLUSTER);
    expect(Buffer.compare(bytes, model)).toBe(0);
    await disk.close();
  });

  it.each([CLUSTER * 3 - 512, CLUSTER * 2 - 512 * 9])(
    'stay as they are below the end of a shared cluster, to %i bytes',
    async (size) => {
      const { provider, disk, model } = await make(2 * CLUSTER - 512 * 5);
      await disk.zero(model.length - 20_000 + 32, 19_968);
      model.fill(0, model.length - 20_000 + 32);
      await disk.snapshots.create('kept');
      await disk.resize(size, { shrink: true });
      const wanted = new Uint8Array(size);
      wanted.set(model.subarray(0, Math.min(size, model.length)));
      await disk.close();
      await using again = await Disk.open({ provider, name: NAME }, { ...WRITE, mode: 'read' });
      await expectContent(again, wanted);
      await using before = await Disk.open({ provider, name: NAME }, { ...WRITE, mode: 'read', snapshot: 'kept' });
      await expectContent(before, model);
    },
  );
});

describe('images with snapshots inside', () => {
  const chain = async (): Promise<{ provider: MemoryProvider; disk: Disk }> => {
    const provider = new MemoryProvider();
    const disk = await newDisk(provider, {});
    await disk.write(0, new Uint8Array(512).fill(1));
    await disk.createDiff({ provider, name: '/top.qcow2' });
    return { provider, disk };
  };

  it.each([
    ['forward', 0, 1],
    ['backward', 1, 0],
  ] as const)('are not merged %s, which would change or lose them', async (_, from, to) => {
    const { provider, disk } = await chain();
    await disk.snapshots.create('kept');
    await expectKind(() => disk.merge(from, to), 'unsupported');
    await disk.write(0, new Uint8Array(512).fill(2));
    await disk.close();
    await using kept = await Disk.open({ provider, name: '/top.qcow2' }, { snapshot: 'kept', allow: ['/'] });
    const bytes = new Uint8Array(512);
    await kept.read(0, bytes);
    expect(bytes).toEqual(new Uint8Array(512).fill(1));
  });

  it('take what is merged into them from above', async () => {
    const provider = new MemoryProvider();
    const disk = await newDisk(provider, {});
    await disk.snapshots.create('empty');
    await disk.createDiff({ provider, name: '/top.qcow2' });
    await disk.write(0, new Uint8Array(512).fill(1));
    await disk.merge(1, 0);
    await disk.close();
    await using kept = await Disk.open({ provider, name: NAME }, { snapshot: 'empty' });
    const bytes = new Uint8Array(512);
    await kept.read(0, bytes);
    expect(bytes).toEqual(new Uint8Array(512));
  });
});
