/** Reading QCOW2: the traps of the format, one by one, on images that are put together by hand. */
import { deflateRawSync } from 'node:zlib';
import { describe, expect, it, vi } from 'vitest';
import { expectSameBytes } from '../../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { randomBytes } from '../../../test/conformance/random.ts';
import { type Built, buildQcow2, type Cluster, type Recipe } from '../../../test/formats/qcow2/build.ts';
import { contentOf } from '../../../test/formats/qcow2/hostile.ts';
import { fileBytes } from '../../../test/model/extents.ts';
import type { Extent } from '../../disk/device.ts';
import type { ChainDisk } from '../../disk/disk.ts';
import type { DiskOpenOptions } from '../../disk/options.ts';
import { compare } from '../../operations/compare-images.ts';
import { convert } from '../../operations/convert.ts';
import { createImage } from '../../operations/create.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import { rebaseImage } from '../../operations/rebase-image.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { Random } from '../../testing/random.ts';
import { CRYPT, EXTENSION_TYPE, HEADER } from './layout.ts';

const CLUSTER = 4096;
const noise = (seed: number, size = CLUSTER): Uint8Array => randomBytes(new Random(seed), size);
const text = (seed: number, size = CLUSTER): Uint8Array => new Uint8Array(size).fill(seed);

/** Files of one place. */
async function place(files: Readonly<Record<string, Uint8Array>>): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  for (const [name, bytes] of Object.entries(files)) {
    const storage = await provider.create(`/box/${name}`);
    await storage.write(0, bytes);
    await storage.close();
  }
  return provider;
}

async function disk(bytes: Uint8Array, options: DiskOpenOptions = {}, beside = {}): Promise<ChainDisk> {
  const provider = await place({ 'disk.qcow2': bytes, ...beside });
  return openDisk({ provider, name: '/box/disk.qcow2' }, { allow: ['same-directory'], ...options });
}

async function readAll(device: ChainDisk): Promise<Uint8Array> {
  const bytes = new Uint8Array(device.size);
  await device.read(0, bytes);
  return bytes;
}

async function extentsOf(device: ChainDisk): Promise<Extent[]> {
  const all: Extent[] = [];
  for await (const extent of device.extents()) all.push(extent);
  return all;
}

function recipe(clusters: readonly (readonly [number, Cluster])[], more: Partial<Recipe> = {}): Recipe {
  return { clusterBits: 12, size: 12 * CLUSTER, clusters: new Map(clusters), ...more };
}

function putEntry(built: Built, cluster: number, value: bigint, bytes = built.bytes): void {
  new DataView(bytes.buffer).setBigUint64((built.l2[0]?.offset ?? 0) + cluster * built.entryBytes, value);
}

function entryOf(built: Built, cluster: number): bigint {
  return new DataView(built.bytes.buffer).getBigUint64((built.l2[0]?.offset ?? 0) + cluster * built.entryBytes);
}

describe('clusters', () => {
  it('that are neighbours in the file come as one run', async () => {
    const four = [2, 3, 4, 5].map((number) => [number, { kind: 'data', bytes: noise(number) }] as const);
    const built = buildQcow2(recipe([...four, [7, { kind: 'data', bytes: noise(7) }]]));
    await using opened = await disk(built.bytes);
    const runs = await extentsOf(opened);
    expect(runs.map(({ offset, length, state }) => [offset / CLUSTER, length / CLUSTER, state])).toEqual([
      [0, 2, 'absent'],
      [2, 4, 'data'],
      [6, 1, 'absent'],
      [7, 1, 'data'],
      [8, 4, 'absent'],
    ]);
  });

  it('that are zero hide the parent, with and without allocated space', async () => {
    const wanted = recipe(
      [
        [1, { kind: 'zero' }],
        [2, { kind: 'zero-allocated', bytes: noise(2) }],
      ],
      { backing: { name: 'base.raw', format: 'raw' } },
    );
    const base = noise(3, 12 * CLUSTER);
    await using opened = await disk(buildQcow2(wanted).bytes, {}, { 'base.raw': base });
    expectSameBytes(await readAll(opened), contentOf(wanted, base));
  });

  it('with a stale or missing COPIED bit, and with reserved bits, are read all the same', async () => {
    const wanted = recipe([[1, { kind: 'data', bytes: noise(4) }]]);
    const built = buildQcow2(wanted);
    const entry = entryOf(built, 1);
    for (const value of [entry & ~(1n << 63n), entry | (0x3fn << 56n), entry | 0x1fen]) {
      putEntry(built, 1, value);
      await using opened = await disk(built.bytes);
      expectSameBytes(await readAll(opened), contentOf(wanted, null));
    }
  });

  it('of version 2 have no zero flag', async () => {
    const built = buildQcow2(recipe([[1, { kind: 'data', bytes: noise(5) }]], { version: 2 }));
    putEntry(built, 1, entryOf(built, 1) | 1n);
    await using opened = await disk(built.bytes);
    await expectKind(() => opened.read(CLUSTER, new Uint8Array(1)), 'corrupt');
    await opened.read(2 * CLUSTER, new Uint8Array(CLUSTER));
  });

  it.each([
    ['off their place', 0x6200n],
    ['beyond the file', 0x10_0000n],
    ['beyond 2^53', 0x00ff_ffff_ffff_f000n],
  ])('that lie %s are refused, and no others', async (_what, offset) => {
    const built = buildQcow2(recipe([3, 4].map((number) => [number, { kind: 'data', bytes: noise(number) }])));
    putEntry(built, 3, offset);
    await using opened = await disk(built.bytes);
    await expectKind(() => opened.read(3 * CLUSTER + 100, new Uint8Array(10)), 'corrupt');
    await expectKind(async () => opened.extentAt(3 * CLUSTER, 4 * CLUSTER), 'corrupt');
    const after = new Uint8Array(CLUSTER);
    await opened.read(4 * CLUSTER, after);
    expectSameBytes(after, noise(4));
  });

  it('whose L2 table is off its place, or beyond the file, are refused', async () => {
    for (const value of [0x200n, 0x10_0000n]) {
      const built = buildQcow2(recipe([[3, { kind: 'data', bytes: noise(3) }]]));
      new DataView(built.bytes.buffer).setBigUint64(built.l1.offset, value);
      await using opened = await disk(built.bytes);
      await expectKind(() => opened.read(0, new Uint8Array(1)), 'corrupt');
    }
  });

  it('that the file ends inside read zero where there is nothing', async () => {
    const wanted = recipe([[11, { kind: 'data', bytes: noise(6) }]], { size: 11 * CLUSTER + 1024 });
    const { bytes } = buildQcow2(wanted);
    for (const missing of [512, CLUSTER - 100, CLUSTER - 1]) {
      await using opened = await disk(bytes.subarray(0, bytes.length - missing));
      const expected = contentOf(wanted, null);
      expected.fill(0, 11 * CLUSTER + Math.min(CLUSTER - missing, 1024));
      expectSameBytes(await readAll(opened), expected);
    }
  });
});

describe('compressed clusters', () => {
  const many = Array.from({ length: 9 }, (_, index) => {
    const bytes = noise(20 + index);
    bytes.fill(index, 0, 3000 - index * 17);
    return [index, { kind: 'compressed', bytes }] as const;
  });

  it.each(['zlib', 'zstd'] as const)(
    'packed over the edges of sectors and clusters are read (%s)',
    async (compression) => {
      const wanted = recipe(many, { compression });
      await using opened = await disk(buildQcow2(wanted).bytes);
      expectSameBytes(await readAll(opened), contentOf(wanted, null));
      const [first] = await extentsOf(opened);
      expect(first).toMatchObject({
        length: 9 * CLUSTER,
        state: 'data',
        compressed: true,
        file: null,
        fileOffset: null,
      });
      for (const [offset, length] of [
        [100, 50],
        [CLUSTER - 10, 20],
        [CLUSTER + 1, 3 * CLUSTER],
        [0, CLUSTER],
      ] as const) {
        const part = new Uint8Array(length);
        await opened.read(offset, [part.subarray(0, 7), part.subarray(7)]);
        expectSameBytes(part, contentOf(wanted, null).subarray(offset, offset + length));
      }
      expect(opened.readNow(0, new Uint8Array(10))).toBe(false);
    },
  );

  it('of which the file has not all sectors are read', async () => {
    const wanted = recipe(many);
    const { bytes, stored } = buildQcow2(wanted);
    const end = Math.max(...stored.map((one) => one.end));
    await using opened = await disk(bytes.subarray(0, end));
    expectSameBytes(await readAll(opened), contentOf(wanted, null));
  });

  it('that do not decode are refused, and no others', async () => {
    const wanted = recipe(many);
    const { bytes, stored } = buildQcow2(wanted);
    bytes.fill(0xff, stored[4]?.start, (stored[4]?.start ?? 0) + 20);
    await using opened = await disk(bytes);
    for (const length of [CLUSTER, 10]) {
      await expectKind(() => opened.read(4 * CLUSTER, new Uint8Array(length)), 'corrupt');
    }
    const others = new Uint8Array(4 * CLUSTER);
    await opened.read(5 * CLUSTER, others);
    expectSameBytes(others, contentOf(wanted, null).subarray(5 * CLUSTER, 9 * CLUSTER));
  });

  it('that begin beyond the file, or in an image with a data file, are refused', async () => {
    const built = buildQcow2(recipe(many));
    putEntry(built, 2, (1n << 62n) | BigInt(built.bytes.length));
    await using opened = await disk(built.bytes);
    await expectKind(() => opened.read(2 * CLUSTER, new Uint8Array(1)), 'corrupt');
    const external = buildQcow2(recipe([[0, { kind: 'data', bytes: noise(1) }]], { dataFile: 'data.raw' }));
    putEntry(external, 1, (1n << 62n) | 0x1000n);
    await using other = await disk(external.bytes, {}, { 'data.raw': external.data });
    await expectKind(() => other.read(CLUSTER, new Uint8Array(1)), 'corrupt');
  });

  it('take windows of 32 KiB, which QEMU does not write', async () => {
    const bytes = noise(30, 65_536);
    bytes.copyWithin(33_000, 0, 32_000);
    const built = buildQcow2({
      clusterBits: 16,
      size: 65_536,
      clusters: new Map([[0, { kind: 'compressed', bytes: text(1, 65_536) }]]),
    });
    const stream = deflateRawSync(bytes, { windowBits: 15, level: 9 });
    const start = built.bytes.length;
    const longer = new Uint8Array(start + stream.length);
    longer.set(built.bytes);
    longer.set(stream, start);
    const sectors = BigInt(Math.floor((start + stream.length - 1) / 512) - Math.floor(start / 512));
    putEntry(built, 0, (1n << 62n) | (sectors << 54n) | BigInt(start), longer);
    await using opened = await disk(longer);
    expectSameBytes(await readAll(opened), bytes);
  });

  it('in a parent are read through the child, converted and compared', async () => {
    const lower = recipe(many);
    const upper = recipe([[3, { kind: 'data', bytes: noise(40) }]], {
      backing: { name: 'base.qcow2', format: 'qcow2' },
    });
    const provider = await place({ 'disk.qcow2': buildQcow2(upper).bytes, 'base.qcow2': buildQcow2(lower).bytes });
    const options = { allow: ['same-directory'] };
    await using opened = await openDisk({ provider, name: '/box/disk.qcow2' }, options);
    expectSameBytes(await readAll(opened), contentOf(upper, contentOf(lower, null)));
    await convert({ provider, name: '/box/disk.qcow2' }, { provider, name: '/box/copy.vdi' }, options);
    await using copy = await openDisk({ provider, name: '/box/copy.vdi' });
    expect(await compare(opened, copy)).toMatchObject({ same: true });
  });
});

describe('subclusters', () => {
  const size = 16_384;
  const parts = { kind: 'parts', bytes: noise(50, size), data: 0x0f0f_0001, zero: 0x1010_0002 } as const;
  const wanted: Recipe = {
    clusterBits: 14,
    size: 4 * size,
    extendedL2: true,
    clusters: new Map<number, Cluster>([
      [0, parts],
      [1, { kind: 'zero' }],
      [2, { kind: 'data', bytes: noise(51, size) }],
    ]),
    backing: { name: 'base.raw', format: 'raw' },
  };
  const base = noise(52, 4 * size);

  it('are data, zero or absent, each by itself', async () => {
    await using opened = await disk(buildQcow2(wanted).bytes, {}, { 'base.raw': base });
    expectSameBytes(await readAll(opened), contentOf(wanted, base));
  });

  it('that are two things at once, or data without a place, are refused, and no others', async () => {
    const built = buildQcow2(wanted);
    const view = new DataView(built.bytes.buffer, built.l2[0]?.offset ?? 0);
    view.setUint32(12, parts.data | 0x1000_0000);
    view.setUint32(16 + 12, 4);
    await using opened = await disk(built.bytes, {}, { 'base.raw': base });
    await expectKind(() => opened.read(28 * 512, new Uint8Array(1)), 'corrupt');
    await expectKind(() => opened.read(size + 2 * 512, new Uint8Array(1)), 'corrupt');
    const fine = new Uint8Array(27 * 512);
    await opened.read(0, fine);
    expectSameBytes(fine, contentOf(wanted, base).subarray(0, fine.length));
    await opened.read(size + 3 * 512, new Uint8Array(512));
  });
});

describe('other files', () => {
  const linked = (name: string, format: string | null) =>
    buildQcow2(recipe([[1, { kind: 'data', bytes: noise(60) }]], { backing: { name, format } })).bytes;
  const base = noise(61, 3 * CLUSTER);

  it('are opened only where the gate lets them be', async () => {
    const bytes = linked('base.raw', 'raw');
    await expectKind(() => disk(bytes, { allow: 'none' }, { 'base.raw': base }), 'denied');
    await using opened = await disk(bytes, {}, { 'base.raw': base });
    expect(opened.images.map(({ format }) => format)).toEqual(['raw', 'qcow2']);
    await expectKind(() => disk(bytes), 'not-found');
    for (const name of ['json:{"driver":"file"}', 'nbd://host/disk', '/etc/passwd']) {
      await expectKind(() => disk(linked(name, 'raw')), 'denied');
    }
  });

  it('are raw only by record when they look like more', async () => {
    const inner = buildQcow2(recipe([[0, { kind: 'data', bytes: noise(62) }]])).bytes;
    await expectKind(() => disk(linked('base.img', null), {}, { 'base.img': inner }), 'denied');
    await using named = await disk(linked('base.img', null), { parentFormat: 'qcow2' }, { 'base.img': inner });
    expect(named.images.map(({ format }) => format)).toEqual(['qcow2', 'qcow2']);
    await using raw = await disk(linked('base.img', 'raw'), {}, { 'base.img': inner });
    expect((await readAll(raw)).subarray(0, 4)).toEqual(Uint8Array.of(0x51, 0x46, 0x49, 0xfb));
    await using guessed = await disk(linked('base.img', null), {}, { 'base.img': base });
    expect(guessed.images[0]?.format).toBe('raw');
    await expectKind(() => disk(linked('base.img', 'host_cdrom'), {}, { 'base.img': base }), 'unsupported');
  });

  it('have the format of a driver of QEMU on record, and the name that it has here in a report', async () => {
    const provider = new MemoryProvider();
    const at = (name: string) => ({ provider, name: `/${name}` });
    const stored = async (): Promise<string> => Buffer.from(await fileBytes(at('child.qcow2'))).toString('latin1');
    for (const name of ['one.vhd', 'two.vhd']) await createImage(at(name), { format: 'vhd', size: 4 * CLUSTER });
    await createImage(at('child.qcow2'), { format: 'qcow2', parent: at('one.vhd') });
    expect(await stored()).toContain('\0\0\0\x03vpc');
    await rebaseImage(at('child.qcow2'), at('two.vhd'), { allow: ['same-directory'] });
    expect(await stored()).toContain('\0\0\0\x03vpc');
    expect((await inspect(at('child.qcow2'))).parentFormat).toBe('vhd');
  });

  it('may be the image itself, which is refused', async () => {
    await expectKind(() => disk(linked('disk.qcow2', 'qcow2')), 'corrupt');
  });

  it('hold the data, at the guest offset', async () => {
    const wanted = recipe(
      [
        [0, { kind: 'data', bytes: noise(63) }],
        [2, { kind: 'data', bytes: noise(64) }],
        [3, { kind: 'zero' }],
      ],
      { dataFile: 'data.raw' },
    );
    const built = buildQcow2(wanted);
    await using opened = await disk(built.bytes, {}, { 'data.raw': built.data });
    expectSameBytes(await readAll(opened), contentOf(wanted, null));
    expect((await extentsOf(opened))[0]).toMatchObject({
      state: 'data',
      file: '/box/data.raw',
      fileOffset: 0,
    });
    expect((await opened.identities()).size).toBe(2);
    await expectKind(() => disk(built.bytes, { allow: 'none' }, { 'data.raw': built.data }), 'denied');
    putEntry(built, 2, (1n << 63n) | BigInt(CLUSTER));
    await using moved = await disk(built.bytes, {}, { 'data.raw': built.data });
    await expectKind(() => moved.read(2 * CLUSTER, new Uint8Array(1)), 'corrupt');
  });
});

describe('snapshots', () => {
  const then = new Map<number, Cluster>([[0, { kind: 'data', bytes: noise(70) }]]);
  const wanted = recipe([[1, { kind: 'data', bytes: noise(71) }]], { snapshots: [{ name: 'first', clusters: then }] });

  it('are separate disks, by id and by name', async () => {
    const { bytes } = buildQcow2(wanted);
    for (const snapshot of ['1', 'first']) {
      await using opened = await disk(bytes, { snapshot });
      expectSameBytes(await readAll(opened), contentOf({ ...wanted, clusters: then }, null));
    }
    await expectKind(() => disk(bytes, { snapshot: 'second' }), 'not-found');
    const provider = await place({ 'disk.qcow2': bytes });
    const source = { provider, name: '/box/disk.qcow2' };
    await convert(source, { provider, name: '/box/copy.vdi' }, { sourceSnapshot: 'first' });
    await using copy = await openDisk({ provider, name: '/box/copy.vdi' });
    expectSameBytes(await readAll(copy), contentOf({ ...wanted, clusters: then }, null));
  });

  it('of formats that have none are refused', async () => {
    const provider = await place({ 'disk.raw': noise(72) });
    const opening = () => openDisk({ provider, name: '/box/disk.raw' }, { format: 'raw', snapshot: 'first' });
    await expectKind(opening, 'unsupported');
  });

  it('whose table is damaged do not keep anybody from the disk', async () => {
    const { bytes, snapshotsOffset } = buildQcow2(wanted);
    new DataView(bytes.buffer).setUint32(snapshotsOffset + 36, 5000);
    await using opened = await disk(bytes);
    expectSameBytes(await readAll(opened), contentOf(wanted, null));
    expect(opened.warnings).toEqual([expect.stringContaining('list of snapshots')]);
    await expectKind(() => disk(bytes, { snapshot: 'first' }), 'limit');
  });
});

describe('an image', () => {
  const plain = recipe([[1, { kind: 'data', bytes: noise(80) }]]);

  it('that is encrypted says so and is refused', async () => {
    for (const [method, word] of [
      [CRYPT.aes, 'encrypted-aes'],
      [CRYPT.luks, 'encrypted-luks'],
    ] as const) {
      const extensions = method === CRYPT.luks ? [{ type: EXTENSION_TYPE.encryption, data: new Uint8Array(16) }] : [];
      const { bytes } = buildQcow2({ ...plain, extensions });
      HEADER.put(bytes, 'cryptMethod', method);
      const provider = await place({ 'disk.qcow2': bytes });
      const source = { provider, name: '/box/disk.qcow2' };
      expect((await inspect(source)).variant).toContain(word);
      await expectKind(() => openDisk(source), 'unsupported');
    }
  });

  it('that is dirty or corrupt is read, and says so', async () => {
    const { bytes } = buildQcow2(plain);
    HEADER.put(bytes, 'incompatible', 3n);
    await using opened = await disk(bytes);
    expectSameBytes(await readAll(opened), contentOf(plain, null));
    expect(opened.warnings).toEqual([expect.stringContaining('marked as corrupt')]);
    expect(opened.images[0]?.info).toMatchObject({ dirty: true, variant: ['dynamic', 'corrupt'] });
  });

  it('is written, and only read when its counts lack what is in use', async () => {
    const { bytes } = buildQcow2(plain);
    await using opened = await disk(bytes, { mode: 'write' });
    await opened.write(0, new Uint8Array(512).fill(7));
    const table = HEADER.get(bytes, 'refcountTableOffset');
    const damaged = bytes.slice();
    damaged.fill(0, table, table + 8);
    await expectKind(() => disk(damaged, { mode: 'write' }), 'read-only');
    await using read = await disk(damaged, { mode: 'write', readOnlyFallback: true });
    expect(read.can.write).toBe(false);
    expectSameBytes(await readAll(read), contentOf(plain, null));
  });

  it('of 64 TiB costs memory by its use', async () => {
    // 2 MiB clusters with 1,024 L2 tables of 2 MiB each: all of them would be 2 GiB.
    const bits = 21;
    const cluster = 2 ** bits;
    const provider = new MemoryProvider();
    const storage = await provider.create('/box/disk.qcow2');
    const l1Entries = 128;
    const start = new Uint8Array(HEADER.size);
    const base = { ...HEADER.decode(start), magic: 0x5146_49fb, version: 3, clusterBits: bits, size: 2 ** 46 };
    const tables = { l1Entries, l1Offset: 3 * cluster, refcountTableOffset: cluster, refcountTableClusters: 1 };
    await storage.write(0, HEADER.encode({ ...base, ...tables, refcountOrder: 4, headerLength: 112 }));
    const l1 = new DataView(new ArrayBuffer(l1Entries * 8));
    for (let index = 0; index < l1Entries; index++) l1.setBigUint64(index * 8, BigInt((4 + index) * cluster));
    await storage.write(3 * cluster, new Uint8Array(l1.buffer));
    const end = (4 + l1Entries) * cluster;
    const entry = new DataView(new ArrayBuffer(8));
    entry.setBigUint64(0, BigInt(end));
    for (let index = 0; index < l1Entries; index++) {
      await storage.write((4 + index) * cluster + 8 * index, new Uint8Array(entry.buffer));
    }
    await storage.write(end, text(9));
    await storage.resize(end + cluster);
    const reads = vi.spyOn(storage.constructor.prototype, 'read');
    await using opened = await openDisk({ provider, name: '/box/disk.qcow2' });
    reads.mockClear();
    const target = new Uint8Array(512);
    for (let index = 0; index < l1Entries; index++) {
      await opened.read(index * cluster * (cluster / 8) + index * cluster, target);
      expect(target[0]).toBe(9);
    }
    const bytes = reads.mock.calls.map(([, into]) => (into instanceof Uint8Array ? into.length : 512));
    expect(Math.max(...bytes)).toBeLessThanOrEqual(16_384);
    reads.mockRestore();
  });
});
