/**
 * Ten thousand requests at once and more, in the long run a hundred thousand, each with a promise, and through a queue:
 * all complete, with the right data.
 */
import { describe, expect, it } from 'vitest';
import { checkImage, createImage, Disk } from '../../src/index.ts';
import { IoQueue, type IoRequest } from '../../src/io/queue.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { rounds } from '../conformance/random.ts';

const NAME = '/disk';
const SECTOR = 512;

const KINDS = [
  { format: 'qcow2', count: rounds(20_000, 100_000) },
  { format: 'vdi', count: rounds(10_000, 100_000) },
];

async function made(format: string, count: number): Promise<{ provider: MemoryProvider; disk: Disk }> {
  const provider = new MemoryProvider();
  await createImage({ provider, name: NAME }, { size: count * SECTOR, format });
  const disk = await Disk.open({ provider, name: NAME }, { format, mode: 'write', flushAfterMs: 0 });
  return { provider, disk };
}

/** Sector `n` holds this. */
const byteOf = (sector: number): number => 1 + (sector % 251);

const SECTORS = Array.from({ length: 251 }, (_, number) => new Uint8Array(SECTOR).fill(byteOf(number)));

const isRight = (bytes: Uint8Array, sector: number): boolean =>
  Buffer.compare(bytes, SECTORS[sector % 251] ?? new Uint8Array(0)) === 0;

describe.each(KINDS)('$format: $count requests at once', ({ format, count }) => {
  it('beside each other: writes, then reads', async () => {
    const { provider, disk } = await made(format, count);
    const order = Array.from({ length: count }, (_, n) => (n * 7919) % count);
    await Promise.all(order.map((sector) => disk.write(sector * SECTOR, new Uint8Array(SECTOR).fill(byteOf(sector)))));
    await disk.flush();
    let wrong = 0;
    const read = async (sector: number): Promise<void> => {
      const bytes = new Uint8Array(SECTOR);
      await disk.read(sector * SECTOR, bytes);
      if (!isRight(bytes, sector)) wrong++;
    };
    await Promise.all(order.map(read));
    expect(wrong).toBe(0);
    await disk.close();
    expect((await checkImage({ provider, name: NAME }, { format })).findings).toEqual([]);
  });

  it('through a queue: writes, then reads', async () => {
    const { disk } = await made(format, count);
    let [ended, failed] = [0, 0];
    let finish = (): void => {};
    const onComplete = (request: IoRequest<number>, error: Error | null): void => {
      if (error !== null) failed++;
      request.free();
      if (++ended === count) finish();
    };
    const queue = new IoQueue<number>({ onComplete });
    queue.attach(disk);
    const all = async (start: (request: IoRequest<number>, sector: number) => void): Promise<void> => {
      await new Promise<void>((resolve) => {
        finish = resolve;
        ended = 0;
        for (let n = 0; n < count; n++) start(queue.allocate({ id: n }), (n * 7919) % count);
      });
    };
    await all((request, sector) => request.write(sector * SECTOR, new Uint8Array(SECTOR).fill(byteOf(sector))));
    const target = new Uint8Array(count * SECTOR);
    const part = (sector: number): Uint8Array => target.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    await all((request, sector) => request.read(sector * SECTOR, part(sector)));
    let wrong = 0;
    for (let n = 0; n < count; n++) if (!isRight(part(n), n)) wrong++;
    expect({ failed, wrong }).toEqual({ failed: 0, wrong: 0 });
    await queue.detach();
    await disk.close();
  });

  it('for one place: they come in their order', async () => {
    const { disk } = await made(format, count);
    const numbers = Array.from({ length: count }, (_, n) => n);
    await Promise.all(numbers.map((n) => disk.write(SECTOR, new Uint8Array(SECTOR).fill(n % 256))));
    const bytes = new Uint8Array(SECTOR);
    await disk.read(SECTOR, bytes);
    expect(new Set(bytes)).toEqual(new Set([(count - 1) % 256]));
    await disk.close();
  });
});
