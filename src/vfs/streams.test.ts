/** Disks as web streams: ranges, backpressure, cancelling, memory. */
import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { randomBytes } from '../../test/conformance/random.ts';
import type { BlockDevice } from '../disk/device.ts';
import type { ChainDisk } from '../disk/disk.ts';
import { createImage } from '../operations/create.ts';
import { openDisk } from '../operations/open.ts';
import { MemoryProvider, MemoryStorage } from '../storage/memory.ts';
import { Random } from '../testing/random.ts';
import { readableStream, writableStream } from './streams.ts';

const SIZE = 2 ** 20;

async function newDisk(content?: Uint8Array): Promise<ChainDisk> {
  const place = { provider: new MemoryProvider(), name: '/disk.vdi' };
  await createImage(place, { size: SIZE });
  const disk = await openDisk(place, { mode: 'write' });
  if (content !== undefined) await disk.write(0, content);
  return disk;
}

const noise = (seed: number, length = SIZE): Uint8Array => randomBytes(new Random(seed), length);
const gather = async (stream: ReadableStream<Uint8Array>): Promise<Uint8Array> =>
  new Uint8Array(await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());

/** A device that records reads and writes, with delays. */
function watched(disk: BlockDevice): {
  device: BlockDevice;
  reads: [number, number][];
  writes: number[];
  closed: () => number;
} {
  const reads: [number, number][] = [];
  const writes: number[] = [];
  let closed = 0;
  const device: BlockDevice = {
    label: disk.label,
    size: disk.size,
    can: disk.can,
    blockSize: 0,
    read(offset, target, options) {
      reads.push([offset, (target as Uint8Array).length]);
      return disk.read(offset, target, options);
    },
    write(offset, source, options) {
      writes.push(offset);
      return disk.write(offset, source, options);
    },
    zero: (offset, length, options) => disk.zero(offset, length, options),
    extentAt: (offset, end) => disk.extentAt(offset, end),
    flush: (options) => disk.flush(options),
    close: async () => {
      closed++;
      await disk.close();
    },
  };
  return { device, reads, writes, closed: () => closed };
}

describe('a disk as a stream that is read', () => {
  it('gives any range, in pieces of any size', async () => {
    const content = noise(1);
    await using disk = await newDisk(content);
    expectSameBytes(await gather(readableStream(disk)), content);
    for (const [offset, length, chunkSize] of [
      [0, 0, 1],
      [513, 70_001, 4096],
      [SIZE - 5, 5, 2],
      [SIZE, 0, 9],
    ] as const) {
      const got = await gather(readableStream(disk, { offset, length, chunkSize }));
      expectSameBytes(got, content.subarray(offset, offset + length));
    }
    expect(await gather(readableStream(disk, { offset: SIZE - 7 }))).toEqual(content.subarray(SIZE - 7));
  });

  it('fills buffers that the reader brings', async () => {
    const content = noise(2, 10_000);
    await using disk = await newDisk(content);
    const reader = readableStream(disk, { length: 10_000, chunkSize: 4096 }).getReader({ mode: 'byob' });
    const parts: number[] = [];
    for (;;) {
      const { done, value } = await reader.read(new Uint8Array(3000));
      if (done) break;
      parts.push(...value);
    }
    expectSameBytes(Uint8Array.from(parts), content);
  });

  it('reads one piece ahead and no more', async () => {
    await using disk = await newDisk(noise(3));
    const { device, reads } = watched(disk);
    const reader = readableStream(device, { chunkSize: 1024 }).getReader();
    await reader.read();
    // A caller that waits long enough sees all that is read without being asked for.
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
    expect(reads).toEqual([
      [0, 1024],
      [1024, 1024],
    ]);
    await reader.cancel();
  });

  it('stops when it is cancelled, and closes the disk once', async () => {
    const { device, reads, closed } = watched(await newDisk(noise(4)));
    const stream = readableStream(device, { chunkSize: 1024, closeDisk: true });
    const reader = stream.getReader();
    await reader.read();
    await reader.cancel('enough');
    const before = reads.length;
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
    expect([reads.length, closed()]).toEqual([before, 1]);
  });

  it('ends by the signal, and closes the disk', async () => {
    const { device, closed } = watched(await newDisk(noise(5)));
    const stopping = new AbortController();
    const reader = readableStream(device, { chunkSize: 1024, signal: stopping.signal, closeDisk: true }).getReader();
    await reader.read();
    stopping.abort();
    const rest = (async () => {
      while (!(await reader.read()).done);
    })();
    await expect(rest).rejects.toMatchObject({ kind: 'aborted' });
    expect(closed()).toBe(1);
  });

  it('closes the disk at its end where it was asked to, and tells of failures', async () => {
    const { device, closed } = watched(await newDisk());
    await gather(readableStream(device, { closeDisk: true }));
    expect(closed()).toBe(1);
    await expect(gather(readableStream(device))).rejects.toBeDefined();
  });

  it('refuses ranges that do not lie inside', async () => {
    await using disk = await newDisk();
    await expectKind(() => readableStream(disk, { offset: SIZE, length: 1 }), 'out-of-bounds');
    await expectKind(() => readableStream(disk, { offset: -1 }), 'invalid-argument');
    await expectKind(() => readableStream(disk, { offset: SIZE + 1 }), 'out-of-bounds');
    await expectKind(() => readableStream(disk, { chunkSize: 0 }), 'invalid-argument');
    await expectKind(() => writableStream(disk, { offset: 1, length: SIZE }), 'out-of-bounds');
  });
});

describe('a disk as a stream that is written', () => {
  it('takes pieces of any kind, and is durable when it is closed', async () => {
    await using disk = await newDisk();
    const writer = writableStream(disk, { offset: 1000, length: 12 }).getWriter();
    await writer.write(Uint8Array.of(1, 2, 3));
    await writer.write(Uint8Array.of(4, 5, 6, 7).buffer);
    await writer.write(new DataView(Uint8Array.of(9, 8).buffer, 1, 1));
    await writer.close();
    const got = new Uint8Array(10);
    await disk.read(999, got);
    expect([...got]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
  });

  it('copies a disk by piping', async () => {
    const content = noise(6);
    await using from = await newDisk(content);
    await using to = await newDisk();
    await readableStream(from, { chunkSize: 10_007 }).pipeTo(writableStream(to));
    expectSameBytes(await gather(readableStream(to)), content);
  });

  it('makes the writer wait when enough is waiting', async () => {
    await using disk = await newDisk();
    const writer = writableStream(disk, { highWaterMark: 1024 }).getWriter();
    expect(writer.desiredSize).toBe(1024);
    const writes = [writer.write(new Uint8Array(600)), writer.write(new Uint8Array(600))];
    expect(writer.desiredSize).toBeLessThanOrEqual(0);
    await Promise.all(writes);
    expect(writer.desiredSize).toBe(1024);
    await writer.close();
  });

  it('refuses what reaches behind the end, whole', async () => {
    await using disk = await newDisk();
    const writer = writableStream(disk, { offset: 10, length: 4 }).getWriter();
    await writer.write(Uint8Array.of(1, 2));
    await expect(writer.write(Uint8Array.of(3, 4, 5))).rejects.toMatchObject({ status: 'VERR_EOF' });
    await expect(writer.closed).rejects.toMatchObject({ kind: 'out-of-bounds' });
    const got = new Uint8Array(6);
    await disk.read(9, got);
    expect([...got]).toEqual([0, 1, 2, 0, 0, 0]);
  });

  it('leaves what was written when it is aborted, and closes the disk', async () => {
    const disk = await newDisk();
    const { device, writes, closed } = watched(disk);
    const writer = writableStream(device, { closeDisk: true }).getWriter();
    await writer.write(Uint8Array.of(1));
    await writer.abort();
    expect([writes, closed()]).toEqual([[0], 1]);
    await expectKind(() => disk.flush(), 'invalid-argument');
  });

  it('ends by the signal', async () => {
    await using disk = await newDisk();
    const writer = writableStream(disk, { signal: AbortSignal.abort() }).getWriter();
    await expect(writer.write(Uint8Array.of(1))).rejects.toMatchObject({ kind: 'aborted' });
    await expect(writer.closed).rejects.toMatchObject({ kind: 'aborted' });
  });

  it('takes no text, and nothing at all where the disk is only read', async () => {
    await using disk = await newDisk();
    const writer = writableStream(disk).getWriter();
    await expect(writer.write('text' as unknown as Uint8Array)).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(writer.closed).rejects.toBeDefined();
    const { device } = watched(disk);
    await expectKind(() => writableStream({ ...device, can: { ...device.can, write: false } }), 'read-only');
  });

  it('makes a storage longer', async () => {
    const storage = new MemoryStorage();
    const writer = writableStream(storage).getWriter();
    await writer.write(noise(8, 5000));
    await writer.close();
    expectSameBytes(await gather(readableStream(storage)), noise(8, 5000));
  });
});

it('a partition is a place for streams, whatever else it has', async () => {
  await using disk = await newDisk(noise(3));
  const partition = { offset: 4096, length: 8192, number: 1, name: null, label: null, mode: 7, guid: null };
  expectSameBytes(await gather(readableStream(disk, partition)), noise(3).subarray(4096, 12_288));
  await new Blob(['hello']).stream().pipeTo(writableStream(disk, partition));
  expectSameBytes(await gather(readableStream(disk, { ...partition, length: 5 })), new TextEncoder().encode('hello'));
});
