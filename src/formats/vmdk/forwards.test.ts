import { deflateSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { randomBytes } from '../../../test/conformance/random.ts';
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import { Environment } from '../../disk/open/environment.ts';
import { convert } from '../../operations/convert.ts';
import { createImage } from '../../operations/create.ts';
import { type ForwardDisk, openForwards } from '../../operations/forward-disk.ts';
import { openDisk } from '../../operations/open.ts';
import { ByteStream } from '../../storage/byte-stream.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { Random } from '../../testing/random.ts';
import { GRAIN_MARKER, METADATA_MARKER, SPARSE_HEADER } from './layout.ts';

const GRAIN = 4096;
/** Five tables, of which the fourth is empty; the last grain is not whole. */
const DISK = 9 * 2 ** 20 + 3 * SECTOR;
const TABLE_GRAINS = 512;

/** The disk: runs of grains, single ones, and holes. */
function content(): Uint8Array {
  const random = new Random(7);
  const bytes = new Uint8Array(DISK);
  for (const grain of [0, 1, 2, 9, 511, 512, 600, 1023, 1030, 2049]) {
    bytes.set(randomBytes(random, GRAIN - 200), grain * GRAIN + 100);
  }
  bytes.fill(5, DISK - 700);
  return bytes;
}

/** As VMware writes it: tables behind the grains. */
async function behind(bytes: Uint8Array): Promise<Uint8Array> {
  const provider = new MemoryProvider();
  const image = { provider, name: '/x.vmdk' };
  await convert(await rawDisk(bytes), image, { format: 'vmdk', variant: ['stream'], config: { grain_size: GRAIN } });
  return fileOf(provider, '/x.vmdk');
}

async function rawDisk(bytes: Uint8Array) {
  const provider = new MemoryProvider();
  const storage = await provider.create('/raw');
  await storage.write(0, bytes);
  await storage.close();
  return openDisk({ provider, name: '/raw' }, { format: 'raw' });
}

async function fileOf(provider: MemoryProvider, name: string): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  return bytes;
}

/** As QEMU writes it: tables in front, and nothing behind the grains. */
function inFront(stream: Uint8Array): Uint8Array {
  const header = SPARSE_HEADER.decode(stream);
  const tables = Math.ceil((header.capacity * SECTOR) / (GRAIN * TABLE_GRAINS));
  const [directoryAt, tablesAt] = [header.overhead * SECTOR, header.overhead * SECTOR + SECTOR];
  const overhead = alignUp(tablesAt + tables * TABLE_GRAINS * 4, GRAIN);
  const front = new Uint8Array(overhead);
  const view = new DataView(front.buffer);
  front.set(stream.subarray(0, directoryAt));
  const directoryOffset = BigInt(directoryAt / SECTOR);
  front.set(SPARSE_HEADER.encode({ ...header, directoryOffset, overhead: overhead / SECTOR }));
  for (let table = 0; table < tables; table++) {
    view.setUint32(directoryAt + table * 4, tablesAt / SECTOR + table * 4, true);
  }
  const parts: Uint8Array[] = [front];
  let end = overhead;
  for (const { at, lba, size } of markersOf(stream)) {
    if (size === 0) continue;
    const grain = stream.subarray(at, at + alignUp(GRAIN_MARKER.size + size, SECTOR));
    view.setUint32(tablesAt + ((lba * SECTOR) / GRAIN) * 4, end / SECTOR, true);
    parts.push(grain);
    end += grain.length;
  }
  return Buffer.concat(parts);
}

interface Marker {
  readonly at: number;
  readonly lba: number;
  readonly size: number;
  readonly type: number;
}

function markersOf(stream: Uint8Array): Marker[] {
  const markers: Marker[] = [];
  for (let at = SPARSE_HEADER.decode(stream).overhead * SECTOR; at < stream.length; ) {
    const { lba, size } = GRAIN_MARKER.decode(stream.subarray(at));
    const type = size === 0 ? METADATA_MARKER.get(stream.subarray(at, at + SECTOR), 'type') : -1;
    markers.push({ at, lba, size, type });
    at += size > 0 ? alignUp(GRAIN_MARKER.size + size, SECTOR) : SECTOR + lba * SECTOR;
  }
  return markers;
}

function streamOf(bytes: Uint8Array, step = 60_000): ByteStream {
  const pieces = async function* () {
    for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
  };
  return new ByteStream(pieces(), 'standard input');
}

async function open(stream: ByteStream): Promise<ForwardDisk | null> {
  return openForwards(stream, { environment: await Environment.of({}) });
}

/** The disk as a conversion reads it. */
async function converted(stream: ByteStream, parallel = 3): Promise<Uint8Array> {
  const disk = await open(stream);
  if (disk === null) throw new Error('it is read forwards');
  const provider = new MemoryProvider();
  await convert(disk, { provider, name: '/out' }, { format: 'raw', parallel });
  return fileOf(provider, '/out');
}

const same = (one: Uint8Array, other: Uint8Array): boolean => Buffer.from(one).equals(other);

describe('a VMDK stream from a pipe', () => {
  const disk = content();
  let forms: readonly (readonly [string, Uint8Array])[] = [];
  let vmware: Uint8Array = new Uint8Array(0);
  let qemu: Uint8Array = new Uint8Array(0);
  beforeAll(async () => {
    vmware = Uint8Array.from(await behind(disk));
    qemu = Uint8Array.from(inFront(vmware));
    forms = [
      ['tables behind', vmware],
      ['tables in front', qemu],
    ];
  });

  it('is read front to back, in pieces of any length, wherever its tables are', async () => {
    for (const [name, bytes] of forms) {
      for (const [step, parallel] of [
        [77, 1],
        [4097, 8],
        [bytes.length, 3],
      ] as const) {
        const stream = streamOf(bytes, step);
        expect(same(await converted(stream, parallel), disk), `${name} ${step}`).toBe(true);
        expect(stream.position).toBe(bytes.length);
      }
    }
  });

  it('fills requests of any length, and none that goes back', async () => {
    for (const [, bytes] of forms) {
      const random = new Random(1);
      const forwards = await open(streamOf(bytes));
      const read = new Uint8Array(DISK);
      for (let at = 0; at < DISK; ) {
        const end = Math.min(at + 1 + random.below(random.pick([300, 9000, 400_000])), DISK);
        await forwards?.read(at, read.subarray(at, end));
        at = end;
      }
      expect(same(read, disk)).toBe(true);
      await expect(forwards?.read(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'unsupported' });
    }
  });

  it('tells holes from data before it reads them', async () => {
    const forwards = await open(streamOf(vmware));
    const states: string[] = [];
    for (let at = 0; at < DISK; ) {
      const extent = await forwards?.extentAt(at, DISK);
      if (extent === undefined) break;
      if (states.at(-1) !== extent.state) states.push(extent.state);
      at += extent.length;
    }
    // Seven runs of neighbours, the last one at the end of the disk.
    expect(states.filter((state) => state === 'data')).toHaveLength(8);
    expect(states.at(-1)).toBe('data');
  });

  it('is refused when it was cut off, at any sector', async () => {
    const [, , endMarker] = markersOf(vmware).slice(-3);
    for (const [name, bytes] of forms) {
      const last = bytes === vmware ? (endMarker?.at ?? 0) : (markersOf(bytes).at(-1)?.at ?? 0);
      for (let length = 0; length < last; length += SECTOR * (length < 3 * GRAIN ? 1 : 5)) {
        const cut = streamOf(bytes.subarray(0, length + (length % 3) * 100));
        const outcome = length === 0 ? null : await converted(cut).catch((error: unknown) => error);
        if (outcome !== null) expect(outcome, `${name}, ${length}`).toMatchObject({ kind: 'corrupt' });
      }
    }
    await expect(converted(streamOf(vmware.subarray(0, endMarker?.at)))).resolves.toHaveLength(DISK);
    await expect(converted(streamOf(qemu.subarray(0, -SECTOR)))).rejects.toThrow('The stream was cut off');
  });

  it('is read to the end of the pipe, whatever follows its end', async () => {
    const stream = streamOf(Buffer.concat([vmware, new Uint8Array(300_000).fill(0x4b)]));
    expect(same(await converted(stream), disk)).toBe(true);
    expect(stream.position).toBe(vmware.length + 300_000);
  });

  it('is refused when markers, tables, directory or footer contradict each other', async () => {
    const grains = markersOf(vmware).filter(({ size }) => size > 0);
    const metadata = (type: number, number = 0): number =>
      markersOf(vmware).filter((one) => one.type === type)[number]?.at ?? 0;
    const [third, next] = [grains[3], grains[4]];
    if (third === undefined || next === undefined) throw new Error('there are more grains');
    const footer = metadata(3) + SECTOR;
    const wrong: readonly (readonly [RegExp, (bytes: Uint8Array, view: DataView) => void])[] = [
      [/marker of the stream is wrong/, (_, view) => view.setUint32(third.at, third.lba + 1, true)],
      [/marker of the stream is wrong/, (_, view) => view.setUint32(third.at, 0x4000_0000, true)],
      [/marker of the stream is wrong/, (_, view) => view.setUint32(third.at + 4, 0xffff_ffff, true)],
      [/marker of the stream is wrong/, (_, view) => view.setUint32(third.at + 8, 2 * GRAIN + 1, true)],
      [/not in order/, (_, view) => view.setUint32(next.at, third.lba, true)],
      [/names other grains/, (_, view) => view.setUint32(third.at, third.lba + 8, true)],
      [/names other grains/, (_, view) => view.setUint32(metadata(1) + SECTOR, 0, true)],
      [/names other grains/, (_, view) => view.setUint32(metadata(1) + SECTOR + 40, 77, true)],
      [/marker of the stream is wrong/, (_, view) => view.setUint32(metadata(1), 5, true)],
      [/marker of the stream is wrong/, (_, view) => view.setUint32(metadata(2), 0, true)],
      [/table that did not come/, (_, view) => view.setUint32(metadata(2) + SECTOR, 9, true)],
      [
        /names other grains/,
        (bytes) => bytes.copyWithin(metadata(2) + SECTOR, metadata(2) + SECTOR + 4, metadata(2) + SECTOR + 8),
      ],
      [/footer contradicts/, (_, view) => view.setUint32(footer + 12, 8, true)],
      [/footer contradicts/, (_, view) => view.setUint32(footer + 56, 8, true)],
      [/footer contradicts/, (_, view) => view.setUint32(footer, 8, true)],
      [/damaged|ends early/, (bytes) => bytes.fill(0, third.at + 30, third.at + 300)],
    ];
    for (const [index, [message, change]] of wrong.entries()) {
      const bytes = Uint8Array.from(vmware);
      change(bytes, new DataView(bytes.buffer));
      const outcome = await converted(streamOf(bytes)).catch((error: unknown) => error);
      expect(outcome, String(index)).toMatchObject({ kind: 'corrupt', message: expect.stringMatching(message) });
      expect((outcome as { context: object }).context, String(index)).toMatchObject({ path: 'standard input' });
    }
  });

  it('is refused when a table in front names a grain that did not come, or another one', async () => {
    const overhead = SPARSE_HEADER.decode(qemu).overhead * SECTOR;
    const tablesAt = SPARSE_HEADER.decode(vmware).overhead * SECTOR + SECTOR;
    expect(overhead).toBeGreaterThan(tablesAt);
    for (const [entry, place] of [
      [3, 999],
      [0, 999],
    ] as const) {
      const bytes = Uint8Array.from(qemu);
      new DataView(bytes.buffer).setUint32(tablesAt + entry * 4, place, true);
      await expect(converted(streamOf(bytes))).rejects.toMatchObject({ kind: 'corrupt' });
    }
  });

  it('holds a bounded part of the stream, however long it is', async () => {
    // 256 MiB of grains that say little.
    const size = 256 * 2 ** 20;
    const stored = deflateSync(new Uint8Array(65_536).fill(1));
    const room = alignUp(GRAIN_MARKER.size + stored.length, SECTOR);
    const grain = new Uint8Array(room);
    grain.set(stored, GRAIN_MARKER.size);
    const provider = new MemoryProvider();
    await createImage({ provider, name: '/x.vmdk' }, { format: 'vmdk', size, variant: ['stream'] });
    const start = (await fileOf(provider, '/x.vmdk')).subarray(0, 65_536);
    let sent = 0;
    const pieces = async function* () {
      yield start;
      for (let lba = 0; lba < size / SECTOR; lba += 128) {
        const bytes = Uint8Array.from(grain);
        GRAIN_MARKER.put(bytes, 'lba', lba);
        GRAIN_MARKER.put(bytes, 'size', stored.length);
        sent = (lba + 128) * SECTOR;
        yield bytes;
      }
    };
    const forwards = await open(new ByteStream(pieces(), 'standard input'));
    let most = 0;
    const target = new Uint8Array(2 ** 20);
    for (let at = 0; at < size - target.length; at += target.length) {
      await forwards?.extentAt(at, size);
      await forwards?.read(at, target);
      most = Math.max(most, sent - at);
    }
    expect(most).toBeLessThanOrEqual(2 * target.length);
  });

  it('is left to be read at random when its parent is elsewhere, with nothing taken', async () => {
    const provider = new MemoryProvider();
    const [base, child] = ['/base.vmdk', '/child.vmdk'].map((name) => ({ provider, name }));
    if (base === undefined || child === undefined) throw new Error('both were made');
    const other = Uint8Array.from(disk, (byte, index) => (index % (3 * GRAIN) < 5000 ? 9 : byte));
    await convert(await rawDisk(other), base, { format: 'vmdk' });
    // Its zeroes hide what the parent has.
    await convert(await rawDisk(disk), child, { format: 'vmdk', variant: ['stream'], parent: base });
    const read = new Uint8Array(DISK);
    await using chain = await openDisk([base, child]);
    await chain.read(0, read);
    expect(same(read, disk)).toBe(true);
    const stream = streamOf(await fileOf(provider, '/child.vmdk'));
    expect(await open(stream)).toBeNull();
    expect(stream.position).toBe(0);
  });
});
