/** Persistent bitmaps, created and changed by vdkit alone; the peer tests compare them with QEMU. */
import { describe, expect, it, vi } from 'vitest';
import { expectKind } from '../../../../test/conformance/expect-kind.ts';
import { recount } from '../../../../test/faults/qcow2-recount.ts';
import { createImage, Disk, inspect } from '../../../index.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { Random } from '../../../testing/random.ts';
import { readHeader } from '../open.ts';
import { readBitmaps } from './bitmaps.ts';

const SIZE = 1024 * 1024;
const NAME = '/disk.qcow2';
const write = { mode: 'write', flushAfterMs: 0, format: 'qcow2', allow: ['/', '/data.raw'] } as const;

async function newImage(config: Record<string, string | number> = { cluster_size: 4096 }, size = SIZE) {
  const provider = new MemoryProvider();
  await createImage({ provider, name: NAME }, { size, format: 'qcow2', config });
  return { provider, name: NAME };
}

async function expectSound({ provider }: { provider: MemoryProvider }): Promise<void> {
  const storage = await provider.open(NAME, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  expect(recount(bytes)).toEqual({ low: [], unsafe: [], unflagged: [], leaks: 0 });
}

/** Sets bits in the file, as QEMU would have recorded them. */
async function setBits(provider: MemoryProvider, name: string, bits: readonly number[]): Promise<void> {
  const storage = await provider.open(NAME, 'write');
  const header = await readHeader(storage);
  const bitmap = (await readBitmaps(storage, header)).find((one) => one.name === name);
  const entry = new Uint8Array(8);
  await storage.read(bitmap?.tableOffset ?? 0, entry);
  const offset = Number(new DataView(entry.buffer).getBigUint64(0));
  const bytes = new Uint8Array(header.clusterSize);
  for (const bit of bits) bytes[Math.floor(bit / 8)] = (bytes[Math.floor(bit / 8)] ?? 0) | (1 << (bit % 8));
  await storage.write(offset, bytes);
  await storage.close();
}

describe('persistent bitmaps', () => {
  it('take no room where the header has none for their list, and leave the disk usable', async () => {
    const provider = new MemoryProvider();
    const base = { provider, name: `/${'b'.repeat(350)}.raw` };
    await createImage(base, { size: SIZE, format: 'raw' });
    const place = { provider, name: NAME };
    const config = { cluster_size: 512 };
    await createImage(place, { format: 'qcow2', config, parent: base.name, parentFormat: 'raw', provider });
    const disk = await Disk.open(place, write);
    for (const name of ['one', 'two', 'three']) await expectKind(() => disk.bitmaps.add(name), 'limit');
    expect(disk.bitmaps.list).toEqual([]);
    await disk.write(0, new Uint8Array(512).fill(1));
    await disk.close();
    await expectSound(place);
  });

  it('record beside disabled ones of any number and size', async () => {
    const place = await newImage({ cluster_size: 2 ** 21 }, 2 ** 45);
    {
      await using disk = await Disk.open(place, write);
      for (const name of ['one', 'two']) await disk.bitmaps.add(name, { granularity: 65_536, enabled: false });
      await disk.bitmaps.add('records', { granularity: 2 ** 31 });
      await disk.write(2 ** 40, new Uint8Array(512).fill(1));
    }
    await using disk = await Disk.open(place, write);
    expect(disk.bitmaps.list.map(({ inconsistent }) => inconsistent)).toEqual([false, false, false]);
    await disk.bitmaps.disable('records');
    expect(await bitsSet(place.provider, 'records')).toEqual([512]);
  });

  it('have no bit set by a merge that changes nothing that is read', async () => {
    const { provider } = await newImage();
    const child = { provider, name: '/child.qcow2' };
    {
      await using parent = await Disk.open({ provider, name: NAME }, write);
      await parent.write(40_000, new Uint8Array(30_000).fill(1));
    }
    await createImage(child, { format: 'qcow2', parent: NAME, parentFormat: 'qcow2', provider });
    {
      await using disk = await Disk.open(child, write);
      await disk.bitmaps.add('changes', { granularity: 512 });
      await disk.merge(0, 1);
    }
    expect(await bitsSet(provider, 'changes', child.name)).toEqual([]);
  });

  it.each([{ cluster_size: 512 }, { cluster_size: 4096 }, { cluster_size: 65_536 }, { data_file: '/data.raw' }])(
    'are added, switched on and off, cleared and removed: %o',
    async (config) => {
      const place = await newImage(config);
      await using disk = await Disk.open(place, write);
      const { blockSize } = disk;
      expect(disk.bitmaps.list).toEqual([]);
      await disk.bitmaps.add('one');
      await disk.bitmaps.add('zwei ä', { granularity: 512, enabled: false });
      const one = { name: 'one', granularity: Math.max(blockSize, 4096), enabled: true, inconsistent: false };
      expect(disk.bitmaps.list).toEqual([
        one,
        { name: 'zwei ä', granularity: 512, enabled: false, inconsistent: false },
      ]);
      await expectSound(place);
      await disk.bitmaps.enable('zwei ä');
      await disk.bitmaps.disable('one');
      await disk.bitmaps.clear('one');
      await disk.bitmaps.merge('one', ['zwei ä']);
      expect((await inspect(place)).bitmaps?.map(({ enabled }) => enabled)).toEqual([false, true]);
      await expectSound(place);
      await disk.bitmaps.remove('one');
      await disk.bitmaps.remove('zwei ä');
      expect((await inspect(place)).bitmaps).toEqual([]);
      await expectSound(place);
    },
  );

  it('record what is changed, from when they are added or enabled until they are disabled', async () => {
    const place = await newImage();
    const { provider } = place;
    const write1 = (disk: Disk, at: number, length = 512) => disk.write(at, new Uint8Array(length).fill(1));
    {
      await using disk = await Disk.open(place, write);
      await disk.bitmaps.add('on');
      await disk.bitmaps.add('off', { enabled: false });
      await write1(disk, 4095, 2);
      // Added after the first change.
      await disk.bitmaps.add('late', { granularity: 8192 });
      await write1(disk, 9 * 4096, 20 * 4096);
      expect(disk.bitmaps.list.every(({ inconsistent }) => !inconsistent)).toBe(true);
      await disk.bitmaps.disable('on');
      await disk.zero(40 * 4096, 4096);
      await disk.discard([{ offset: 9 * 4096, length: 4096 }]);
    }
    const from9 = Array.from({ length: 20 }, (_, n) => 9 + n);
    expect(await bitsSet(provider, 'on')).toEqual([0, 1, ...from9]);
    expect(await bitsSet(provider, 'late')).toEqual([...Array.from({ length: 11 }, (_, n) => 4 + n), 20]);
    expect(await bitsSet(provider, 'off')).toEqual([]);
    await expectSound(place);
    {
      await using disk = await Disk.open(place, write);
      await disk.snapshots.create('whole');
      await write1(disk, 255 * 4096);
      await disk.snapshots.apply('whole');
      await disk.bitmaps.clear('on');
    }
    expect(await bitsSet(provider, 'late')).toHaveLength(128);
    expect((await inspect(place)).bitmaps?.some(({ inconsistent }) => inconsistent)).toBe(false);
    await expectSound(place);
  });

  it('that record are inconsistent after a session that did not end, the others are not', async () => {
    const place = await newImage();
    {
      await using disk = await Disk.open(place, write);
      await disk.bitmaps.add('on');
      await disk.bitmaps.add('off', { enabled: false });
      await disk.bitmaps.add('late');
    }
    const lost = await Disk.open(place, { ...write, lock: false });
    await lost.write(0, new Uint8Array(512).fill(1));
    await lost.flush();
    const states = (await inspect(place)).bitmaps?.map(({ name, inconsistent }) => [name, inconsistent]);
    expect(states).toEqual([
      ['on', true],
      ['off', false],
      ['late', true],
    ]);
    await using disk = await Disk.open(place, { ...write, lock: false });
    for (const run of ['clear', 'enable', 'disable'] as const) {
      await expectKind(() => disk.bitmaps[run]('on'), 'unsupported');
    }
    await expectKind(() => disk.bitmaps.merge('off', ['on']), 'unsupported');
    await disk.bitmaps.remove('on');
    await disk.bitmaps.remove('late');
    await expectSound(place);
  });

  it('that another program did not look after can only be removed', async () => {
    const place = await newImage();
    {
      await using disk = await Disk.open(place, write);
      await disk.bitmaps.add('one');
      await disk.bitmaps.add('two');
    }
    const storage = await place.provider.open(NAME, 'write');
    await storage.write(88, new Uint8Array(8));
    await storage.close();
    await using disk = await Disk.open(place, write);
    expect(disk.bitmaps.list.every(({ inconsistent }) => inconsistent)).toBe(true);
    await expectKind(() => disk.bitmaps.add('three'), 'unsupported');
    await expectKind(() => disk.bitmaps.clear('one'), 'unsupported');
    await disk.bitmaps.remove('one');
    expect(disk.bitmaps.list).toMatchObject([{ name: 'two', inconsistent: true }]);
    await disk.bitmaps.remove('two');
    await disk.bitmaps.add('three');
    expect(disk.bitmaps.list).toMatchObject([{ name: 'three', inconsistent: false }]);
  });

  it('are merged whatever their granularities', async () => {
    const place = await newImage();
    const { provider } = place;
    {
      await using disk = await Disk.open(place, write);
      for (const [name, granularity] of [
        ['coarse', 65_536],
        ['fine', 512],
        ['target', 4096],
      ] as const) {
        await disk.bitmaps.add(name, { granularity, enabled: false });
        // Room for the bits: a merge gives it.
      }
    }
    const storage = await provider.open(NAME, 'read');
    const header = await readHeader(storage);
    const bitmaps = await readBitmaps(storage, header);
    await storage.close();
    expect(bitmaps.map(({ tableEntries }) => tableEntries)).toEqual([1, 1, 1]);
    for (const name of ['coarse', 'fine']) await fillEntry(provider, name);
    await setBits(provider, 'coarse', [2]);
    await setBits(provider, 'fine', [0, 9, 2047]);
    await using disk = await Disk.open(place, write);
    await disk.bitmaps.merge('target', ['coarse', 'fine']);
    expect(await bitsSet(provider, 'target')).toEqual([0, 1, ...Array.from({ length: 16 }, (_, n) => 32 + n), 255]);
    await disk.bitmaps.merge('coarse', ['target']);
    expect(await bitsSet(provider, 'coarse')).toEqual([0, 2, 15]);
  });

  it('are merged a cluster at a time, whatever their granularities and kinds', async () => {
    const provider = new MemoryProvider();
    const random = new Random(5);
    const config = { cluster_size: 512 };
    // The last bits of all three are of clusters that the disk's end cuts.
    const size = 3 * 512 * 8 * 512 + 5 * 512;
    await createImage({ provider, name: NAME }, { size, format: 'qcow2', config });
    const names = ['coarse', 'same', 'fine'] as const;
    const granularities = { coarse: 4096, same: 1024, fine: 512, target: 1024 };
    const changed = new Set<number>();
    {
      await using disk = await Disk.open({ provider, name: NAME }, write);
      for (const name of names) {
        await disk.bitmaps.add(name, { granularity: granularities[name] });
        for (let round = 0; round < 30; round++) {
          // Long runs, so that clusters of ones come up.
          const offset = random.below(size / 512) * 512;
          const length = Math.min(random.below(round < 3 ? size : 8192), size - offset);
          await disk.zero(offset, length);
          if (length > 0) mark(changed, offset, length, granularities[name]);
        }
        await disk.bitmaps.disable(name);
      }
      await disk.bitmaps.add('target', { granularity: granularities.target, enabled: false });
      await disk.bitmaps.merge('target', names);
    }
    const target = await allBits(provider, 'target');
    const wanted = Array.from({ length: Math.ceil(size / 1024) }, (_, bit) =>
      [0, 1].some((n) => changed.has(bit * 2 + n)),
    );
    expect(target.slice(0, wanted.length)).toEqual(wanted);
    expect(target.slice(wanted.length).some((bit) => bit)).toBe(false);
    await expectSound({ provider });
  });

  it('take as much memory as the file has of their bits, not as their tables claim', async () => {
    const provider = new MemoryProvider();
    const place = { provider, name: NAME };
    // Each has 512 MiB of bits, of which the file has none.
    await createImage(place, { size: 2 ** 41, format: 'qcow2' });
    await using disk = await Disk.open(place, write);
    for (const name of ['one', 'two']) await disk.bitmaps.add(name, { granularity: 512, enabled: false });
    let bytes = 0;
    vi.stubGlobal(
      'Uint8Array',
      new Proxy(Uint8Array, {
        construct(target, words, like) {
          if (typeof words[0] === 'number') bytes += words[0];
          return Reflect.construct(target, words, like);
        },
      }),
    );
    try {
      await disk.bitmaps.merge('one', ['two']);
    } finally {
      vi.unstubAllGlobals();
    }
    expect(bytes).toBeLessThan(16 * 2 ** 20);
  });

  it('end a merge that is cancelled as they were', async () => {
    const place = await newImage();
    const controller = new AbortController();
    await using disk = await Disk.open(place, write);
    for (const name of ['one', 'two']) await disk.bitmaps.add(name);
    controller.abort();
    await expectKind(() => disk.bitmaps.merge('one', ['two'], { signal: controller.signal }), 'aborted');
    await disk.bitmaps.merge('one', ['two']);
    await disk.write(0, new Uint8Array(512).fill(1));
    await disk.close();
    await expectSound(place);
  });

  it('refuse what QEMU could not read', async () => {
    const place = await newImage();
    await using disk = await Disk.open(place, write);
    await disk.bitmaps.add('one');
    await expectKind(() => disk.bitmaps.add('one'), 'exists');
    for (const name of ['', 'a\nb', 'x'.repeat(1024)])
      await expectKind(() => disk.bitmaps.add(name), 'invalid-argument');
    for (const granularity of [256, 1000, 2 ** 32]) {
      await expectKind(() => disk.bitmaps.add('two', { granularity }), 'invalid-argument');
    }
    await expectKind(() => disk.bitmaps.remove('two'), 'not-found');
    const old = await newImage({ compat: '0.10' });
    await using second = await Disk.open(old, write);
    await expectKind(() => second.bitmaps.add('one'), 'unsupported');
  });
});

/** Sectors marked as changed by a bitmap. */
function mark(changed: Set<number>, offset: number, length: number, granularity: number): void {
  const end = Math.ceil((offset + length) / granularity) * granularity;
  for (let at = Math.floor(offset / granularity) * granularity; at < end; at += 512) changed.add(at / 512);
}

async function allBits(provider: MemoryProvider, name: string): Promise<boolean[]> {
  const storage = await provider.open(NAME, 'read');
  const header = await readHeader(storage);
  const bitmap = (await readBitmaps(storage, header)).find((one) => one.name === name);
  const bits: boolean[] = [];
  for (let index = 0; index < (bitmap?.tableEntries ?? 0); index++) {
    const entry = new Uint8Array(8);
    await storage.read((bitmap?.tableOffset ?? 0) + index * 8, entry);
    const value = Number(new DataView(entry.buffer).getBigUint64(0));
    const bytes = new Uint8Array(header.clusterSize).fill(value === 1 ? 0xff : 0);
    if (value > 1) await storage.read(value, bytes);
    for (let bit = 0; bit < bytes.length * 8; bit++) bits.push((((bytes[bit >> 3] ?? 0) >> (bit % 8)) & 1) === 1);
  }
  await storage.close();
  return bits;
}

/** Gives a bitmap without bits a cluster for them, at the end of the file. Counts are ignored here. */
async function fillEntry(provider: MemoryProvider, name: string): Promise<void> {
  const storage = await provider.open(NAME, 'write');
  const header = await readHeader(storage);
  const bitmap = (await readBitmaps(storage, header)).find((one) => one.name === name);
  const offset = Math.ceil(storage.size / header.clusterSize) * header.clusterSize;
  await storage.write(offset, new Uint8Array(header.clusterSize));
  const entry = new Uint8Array(8);
  new DataView(entry.buffer).setBigUint64(0, BigInt(offset));
  await storage.write(bitmap?.tableOffset ?? 0, entry);
  // One reference: 16 bits for each cluster.
  const block = new Uint8Array(8);
  await storage.read(header.refcountTableOffset, block);
  const at = Number(new DataView(block.buffer).getBigUint64(0)) + (offset / header.clusterSize) * 2;
  await storage.write(at, Uint8Array.of(0, 1));
  await storage.close();
}

async function bitsSet(provider: MemoryProvider, name: string, image = NAME): Promise<number[]> {
  const storage = await provider.open(image, 'read');
  const header = await readHeader(storage);
  const bitmap = (await readBitmaps(storage, header)).find((one) => one.name === name);
  const entry = new Uint8Array(8);
  await storage.read(bitmap?.tableOffset ?? 0, entry);
  const offset = Number(new DataView(entry.buffer).getBigUint64(0));
  const bytes = new Uint8Array(header.clusterSize);
  if (offset !== 0) await storage.read(offset, bytes);
  await storage.close();
  return Array.from({ length: bytes.length * 8 }, (_, bit) => bit).filter(
    (bit) => ((bytes[Math.floor(bit / 8)] ?? 0) >> (bit % 8)) & 1,
  );
}
