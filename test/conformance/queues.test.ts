/** Conformance of iterators, buffers and queues, over every writable format. */
import { describe, expect, it } from 'vitest';
import {
  createImage,
  Disk,
  defaultRegistry,
  type ImageError,
  IoBufferManager,
  IoIterator,
  IoQueue,
} from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { Random } from '../../src/testing/random.ts';
import { expectSameBytes } from './expect-bytes.ts';
import { randomBytes } from './random.ts';

const MIB = 2 ** 20;
const SECTOR = 512;
const SECTORS = (3 * MIB) / SECTOR + 3;
const FORMATS = defaultRegistry().formats.filter(
  ({ capabilities, create }) => capabilities.write && create !== undefined,
);

/** An empty disk of the format. */
async function makeDisk(format: string) {
  const source = { provider: new MemoryProvider(), name: `/disk.${format}` };
  const disk = await Disk.create(source, { format, size: SECTORS * SECTOR });
  return { source, disk };
}

/** Sectors all over the disk, some of them neighbours, none twice. */
function scattered(random: Random, count: number): { start: number; size: number }[] {
  const slots = random.shuffle(Array.from({ length: Math.floor(SECTORS / 8) }, (_, slot) => slot));
  return slots.slice(0, count).map((slot) => ({ start: slot * 8, size: 1 + random.below(8) }));
}

describe.each(FORMATS.map(({ name }) => name))('queues over %s', (format) => {
  it('move what iterators name between the disk and buffers of a manager', async () => {
    const random = new Random(30);
    const { source, disk } = await makeDisk(format);
    const image = new Uint8Array(disk.size);
    using manager = new IoBufferManager({ limit: 256 * 1024 });
    {
      await using queue = new IoQueue();
      queue.attach(disk);
      const run = async (): Promise<void> => {
        const iterator = new IoIterator(disk, scattered(random, 20), { unit: 'blocks' });
        using buffer = await manager.allocate(iterator.totalBytes);
        const bytes = randomBytes(random, iterator.totalBytes);
        let at = 0;
        for (const segment of buffer.segments) {
          segment.set(bytes.subarray(at, at + segment.length));
          at += segment.length;
        }
        await queue.run('write', iterator, buffer);
        at = 0;
        for (const { offset, length } of iterator) {
          image.set(bytes.subarray(at, at + length), offset);
          at += length;
        }
        for (const segment of buffer.segments) segment.fill(0);
        await queue.run('read', iterator, buffer);
        expectSameBytes(new Uint8Array(Buffer.concat(buffer.segments)), bytes, 'read back');
      };
      for (let round = 0; round < 10; round++) await run();
      await queue.flush();
      expect(manager.usedBytes).toBe(0);
    }
    const whole = new Uint8Array(disk.size);
    await disk.read(0, whole);
    expectSameBytes(whole, image, 'the disk');
    await disk.close();
    await using again = await Disk.open(source, { format });
    await again.read(0, whole);
    expectSameBytes(whole, image, 'the disk, opened again');
  });

  it('zero and discard what iterators name', async () => {
    const { disk } = await makeDisk(format);
    await using queue = new IoQueue();
    queue.attach(disk);
    await queue.write(0, new Uint8Array(disk.size).fill(5));
    const iterator = new IoIterator(disk, [
      { start: MIB, size: 5000 },
      { start: 100, size: 5 },
    ]);
    await queue.run('zero', iterator);
    await queue.run('discard', new IoIterator(disk, [{ start: 2 * MIB, size: MIB }]));
    const expected = new Uint8Array(2 * MIB).fill(5);
    for (const { offset, length } of iterator) expected.fill(0, offset, offset + length);
    const found = new Uint8Array(2 * MIB);
    await queue.read(0, found);
    expectSameBytes(found, expected, 'zeroed');
    const rest = new Uint8Array(MIB);
    await queue.read(2 * MIB, rest);
    expect(new Set(rest).size).toBe(1);
    await queue.detach();
    await disk.close();
  });

  it('tell what the disk refuses, and go on', async () => {
    const { source, disk } = await makeDisk(format);
    await disk.close();
    const reading = await Disk.open(source, { format });
    const told: (ImageError | null)[] = [];
    const queue = new IoQueue({ onComplete: (_, error) => told.push(error) });
    queue.attach(reading);
    const requests = [0, 1, 2, 3].map(() => queue.allocate());
    requests[0]?.write(0, new Uint8Array(SECTOR));
    requests[1]?.read(reading.size, new Uint8Array(1));
    requests[2]?.read(0, new Uint8Array(SECTOR));
    requests[3]?.flush();
    while (queue.activeCount > 0) await new Promise<void>((resolve) => setImmediate(resolve));
    expect(told.map((error) => error?.kind ?? 'ok').sort()).toEqual(['ok', 'ok', 'out-of-bounds', 'read-only']);
    await reading.close();
    await expect(queue.read(0, new Uint8Array(1))).rejects.toMatchObject({ status: 'VERR_VD_NOT_OPENED' });
    await queue.detach();
  });
});

describe('queues over a disc', () => {
  it('count sectors as the disc does', async () => {
    const source = { provider: new MemoryProvider(), name: '/disc.iso' };
    await createImage(source, { format: 'raw', size: 100 * 2048, type: 'optical' });
    const disc = await Disk.open(source, { format: 'raw', type: 'optical', mode: 'write' });
    expect(disc.regions.regions).toEqual([expect.objectContaining({ blockSize: 2048 })]);
    const iterator = new IoIterator(disc, [{ start: 99, size: 1 }], { unit: 'blocks' });
    expect(iterator.contiguous).toEqual({ offset: 99 * 2048, length: 2048 });
    await using queue = new IoQueue();
    queue.attach(disc);
    await queue.run('write', iterator, new Uint8Array(2048).fill(3));
    const found = new Uint8Array(2048);
    await disc.read(99 * 2048, found);
    expect(found).toEqual(new Uint8Array(2048).fill(3));
    await queue.detach();
    await disc.close();
  });
});
