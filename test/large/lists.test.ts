/**
 * Long lists inside one image of QCOW2: ten thousand snapshots, and as many bitmaps as the format allows. What is done
 * with one of them takes work that follows the length of the list, and the file does not grow with every change.
 */
import { describe, expect, it } from 'vitest';
import { type Bitmap, readBitmaps, serializeBitmaps } from '../../src/formats/qcow2/bitmaps/bitmaps.ts';
import { getRefcount, setRefcount } from '../../src/formats/qcow2/clusters/refcounts.ts';
import { BITMAPS, EXTENSION, EXTENSION_TYPE, HEADER } from '../../src/formats/qcow2/layout.ts';
import { QCOW2_LIMITS } from '../../src/formats/qcow2/limits.ts';
import { readHeader } from '../../src/formats/qcow2/open.ts';
import { readSnapshots, type Snapshot, serializeSnapshots } from '../../src/formats/qcow2/snapshots/snapshots.ts';
import { checkImage, createImage, Disk } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { rounds } from '../conformance/random.ts';

const NAME = '/disk.qcow2';
const CLUSTER = 4096;
const SIZE = 64 * CLUSTER;
const WRITE = { mode: 'write', flushAfterMs: 0, format: 'qcow2' } as const;
const SNAPSHOTS = rounds(2000, 10_000);
const BITMAP_COUNT = rounds(2000, QCOW2_LIMITS.bitmaps);

/** The bytes of an image that was just made, to put things behind each other into. */
class Bytes {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  #next: number;

  constructor(before: Uint8Array, more: number) {
    this.#next = Math.ceil(before.length / CLUSTER) * CLUSTER;
    this.bytes = new Uint8Array(this.#next + Math.ceil(more / CLUSTER) * CLUSTER);
    this.bytes.set(before);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Room of whole clusters, each counted once; returns where. */
  take(length: number): number {
    const start = this.#next;
    this.#next += Math.ceil(length / CLUSTER) * CLUSTER;
    for (let at = start; at < this.#next; at += CLUSTER) this.count(at / CLUSTER, 1);
    return start;
  }

  /** Raises the count of a cluster; its refcount block exists. */
  count(cluster: number, times: number): void {
    const table = Number(HEADER.get(this.bytes, 'refcountTableOffset'));
    const perBlock = CLUSTER / 4;
    const entry = table + Math.floor(cluster / perBlock) * 8;
    const block = new DataView(this.bytes.buffer, Number(this.view.getBigUint64(entry)), CLUSTER);
    setRefcount(block, cluster % perBlock, 5, getRefcount(block, cluster % perBlock, 5) + times);
  }

  /** Takes all refcount blocks for the clusters, in separate space. */
  takeBlocks(): void {
    const table = Number(HEADER.get(this.bytes, 'refcountTableOffset'));
    const blocks = Math.ceil(this.bytes.length / CLUSTER / (CLUSTER / 4));
    const first = this.#next;
    this.#next += (blocks - 1) * CLUSTER;
    for (let index = 1; index < blocks; index++) {
      this.view.setBigUint64(table + index * 8, BigInt(first + (index - 1) * CLUSTER));
    }
    for (let at = first; at < this.#next; at += CLUSTER) this.count(at / CLUSTER, 1);
  }

  /** The file, as long as what was taken. */
  get file(): Uint8Array {
    return this.bytes.subarray(0, this.#next);
  }
}

/** An image with one cluster of data, in memory. */
async function start(): Promise<{ provider: MemoryProvider; before: Uint8Array }> {
  const provider = new MemoryProvider();
  const config = { cluster_size: CLUSTER, refcount_bits: 32 };
  await createImage({ provider, name: NAME }, { size: SIZE, format: 'qcow2', config });
  {
    await using disk = await Disk.open({ provider, name: NAME }, WRITE);
    await disk.write(0, new Uint8Array(CLUSTER).fill(1));
  }
  const storage = await provider.open(NAME, 'read');
  const before = new Uint8Array(storage.size);
  await storage.read(0, before);
  await storage.close();
  return { provider, before };
}

async function store(provider: MemoryProvider, bytes: Uint8Array): Promise<void> {
  const storage = await provider.open(NAME, 'write');
  await storage.write(0, bytes);
  await storage.close();
}

/** An image with the given number of snapshots. */
async function withSnapshots(count: number): Promise<MemoryProvider> {
  const { provider, before } = await start();
  const made = new Bytes(before, count * (CLUSTER + 128) * 1.01 + 64 * CLUSTER);
  made.takeBlocks();
  const l1Offset = HEADER.get(made.bytes, 'l1Offset');
  const l2 = made.view.getUint32(l1Offset + 4);
  const data = made.view.getUint32(l2 + 4);
  // Shared from now on, so without the flag.
  made.view.setUint32(l1Offset, 0);
  made.view.setUint32(l2, 0);
  const snapshots = Array.from({ length: count }, (_, index): Snapshot => {
    const own = made.take(8);
    made.view.setUint32(own + 4, l2);
    const extra = new Uint8Array(24);
    const times = { seconds: index, nanoseconds: 0, guestNanoseconds: 0n, vmStateSize: 0 };
    return { id: `${index + 1}`, name: `s${index}`, l1Offset: own, l1Entries: 1, diskSize: SIZE, extra, ...times };
  });
  for (const offset of [l2, data]) made.count(offset / CLUSTER, count);
  const table = serializeSnapshots(snapshots);
  const offset = made.take(table.length);
  made.bytes.set(table, offset);
  HEADER.put(made.bytes, 'snapshotCount', count);
  HEADER.put(made.bytes, 'snapshotsOffset', offset);
  await store(provider, made.file);
  return provider;
}

/** An image with the given number of bitmaps without bits. */
async function withBitmaps(count: number): Promise<MemoryProvider> {
  const { provider, before } = await start();
  const made = new Bytes(before, count * (CLUSTER + 48) * 1.01 + 64 * CLUSTER);
  made.takeBlocks();
  const bitmaps = Array.from({ length: count }, (_, index): Bitmap => {
    const tableOffset = made.take(8);
    return { name: `b${index}`, granularityBits: 16, flags: 0, tableOffset, tableEntries: 1, extra: new Uint8Array(0) };
  });
  const directory = serializeBitmaps(bitmaps);
  const directoryOffset = made.take(directory.length);
  made.bytes.set(directory, directoryOffset);
  HEADER.put(made.bytes, 'autoclear', 1n);
  const data = BITMAPS.encode({ count, reserved: 0, directoryBytes: directory.length, directoryOffset });
  const header = HEADER.size;
  made.bytes.set(EXTENSION.encode({ type: EXTENSION_TYPE.bitmaps, length: data.length }), header);
  made.bytes.set(data, header + EXTENSION.size);
  made.bytes.fill(0, header + EXTENSION.size + data.length, CLUSTER);
  await store(provider, made.file);
  return provider;
}

async function sizeOf(provider: MemoryProvider): Promise<number> {
  const storage = await provider.open(NAME, 'read');
  const { size } = storage;
  await storage.close();
  return size;
}

async function expectClean(provider: MemoryProvider): Promise<void> {
  expect((await checkImage({ provider, name: NAME })).findings).toEqual([]);
}

async function firstByte(provider: MemoryProvider, snapshot?: string): Promise<number | undefined> {
  await using disk = await Disk.open({ provider, name: NAME }, snapshot === undefined ? {} : { snapshot });
  const bytes = new Uint8Array(512);
  await disk.read(0, bytes);
  return bytes[0];
}

describe('thousands of snapshots', () => {
  it('are made, applied, renamed and deleted like one', { timeout: 120_000 }, async () => {
    const provider = await withSnapshots(SNAPSHOTS);
    await expectClean(provider);
    {
      await using disk = await Disk.open({ provider, name: NAME }, WRITE);
      await disk.write(0, new Uint8Array(512).fill(2));
      await disk.snapshots.create('newest');
      await disk.snapshots.apply(`s${SNAPSHOTS / 2}`);
      await disk.snapshots.rename(`s${SNAPSHOTS - 1}`, 'last');
      await disk.snapshots.delete('s0');
      expect(disk.snapshots.list).toHaveLength(SNAPSHOTS);
    }
    expect(await firstByte(provider)).toBe(1);
    expect(await firstByte(provider, 'last')).toBe(1);
    expect(await firstByte(provider, 'newest')).toBe(2);
    await expectClean(provider);
    const size = await sizeOf(provider);
    {
      await using disk = await Disk.open({ provider, name: NAME }, WRITE);
      for (let round = 0; round < 4; round++) {
        await disk.snapshots.create('again');
        await disk.snapshots.delete('again');
      }
    }
    // Two tables at most, since the old one goes when the new one is there.
    expect(await sizeOf(provider)).toBeLessThan(size + 2 * 2 ** 20);
    await expectClean(provider);
  });

  it('end where the format ends', { timeout: 120_000 }, async () => {
    const provider = await withSnapshots(QCOW2_LIMITS.snapshots);
    await using disk = await Disk.open({ provider, name: NAME }, WRITE);
    await expectKind(() => disk.snapshots.create('one more'), 'limit');
    const storage = await provider.open(NAME, 'read');
    expect(await readSnapshots(storage, await readHeader(storage))).toHaveLength(QCOW2_LIMITS.snapshots);
  });
});

describe('thousands of bitmaps', () => {
  it('are added, merged, cleared and removed like one', { timeout: 120_000 }, async () => {
    const provider = await withBitmaps(BITMAP_COUNT - 1);
    await expectClean(provider);
    {
      await using disk = await Disk.open({ provider, name: NAME }, WRITE);
      await disk.bitmaps.add('newest', { granularity: 65_536 });
      await disk.write(0, new Uint8Array(512).fill(2));
    }
    const size = await sizeOf(provider);
    {
      await using disk = await Disk.open({ provider, name: NAME }, WRITE);
      await disk.bitmaps.disable('newest');
      for (let round = 0; round < 5; round++) {
        await disk.bitmaps.merge('b0', ['newest', 'b1']);
        await disk.bitmaps.clear('b0');
      }
      await disk.bitmaps.remove('b2');
      expect(disk.bitmaps.list).toHaveLength(BITMAP_COUNT - 1);
    }
    expect(await sizeOf(provider)).toBeLessThan(size + 8 * 2 ** 20);
    await expectClean(provider);
  });

  it('end where the format ends', { timeout: 120_000 }, async () => {
    const provider = await withBitmaps(QCOW2_LIMITS.bitmaps);
    await using disk = await Disk.open({ provider, name: NAME }, WRITE);
    await expectKind(() => disk.bitmaps.add('one more'), 'limit');
    const storage = await provider.open(NAME, 'read');
    expect(await readBitmaps(storage, await readHeader(storage))).toHaveLength(QCOW2_LIMITS.bitmaps);
  });
});
