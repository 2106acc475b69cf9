/** Filters of a disk: stored form, read form, and operations that bypass them. */
import { beforeEach, describe, expect, it } from 'vitest';
import { createImage, Disk, type Filter, type FilterOpenOptions, type KeySupply } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { type XorFilter, xorFilter } from '../../testing/xor-filter.ts';

const MIB = 1024 ** 2;
const OPEN = { mode: 'write', allow: ['same-directory'], flushAfterMs: 0 } as const;
const KEY = { default: null, expert: false, createOnly: false, description: '' };
const FORMAT_NAMES = ['raw', 'vdi', 'qcow2'] as const;

let provider: MemoryProvider;
let filter: XorFilter;
const at = (name: string) => ({ provider, name });

beforeEach(() => {
  provider = new MemoryProvider();
  filter = xorFilter();
});

function bytesOf(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => ((index * 167 + seed * 31 + (index >> 8)) % 255) + 1);
}

async function read(disk: Disk, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length).fill(0xaa);
  await disk.read(offset, bytes);
  return bytes;
}

/** Bytes stored in the images, without any filter. */
async function stored(name: string, offset: number, length: number, format?: string): Promise<Uint8Array> {
  await using disk = await Disk.open(at(name), {
    allow: ['same-directory'],
    ...(format === undefined ? {} : { format }),
  });
  return read(disk, offset, length);
}

async function open(name: string, format: string, ...filters: XorFilter[]): Promise<Disk> {
  const disk = await Disk.open(at(name), { ...OPEN, format });
  for (const one of filters) await disk.filters.add(one);
  return disk;
}

describe.each(FORMAT_NAMES)('filters of a %s disk', (format) => {
  const name = `/disk.${format}`;

  beforeEach(async () => {
    await createImage(at(name), { format, size: 4 * MIB });
  });

  it('store another form than is read, and leave the buffer of the caller as it is', async () => {
    const disk = await open(name, format, filter);
    const data = bytesOf(8192);
    await disk.write(MIB, data);
    expect(data).toEqual(bytesOf(8192));
    expect(await read(disk, MIB, 8192)).toEqual(data);
    await disk.close();
    const medium = await stored(name, MIB, 8192, format);
    expect(medium).not.toEqual(data);
    const alone = await filter.open({ config: {}, info: false, keys: null, diskSize: 0 });
    expect(await alone.encode(MIB, data)).toEqual(medium);
  });

  it('see each request once and whole', async () => {
    await using disk = await open(name, format, filter);
    await disk.write(0, bytesOf(3 * MIB));
    filter.calls.length = 0;
    await disk.write(MIB, bytesOf(2 * MIB, 2));
    await read(disk, MIB, 2 * MIB);
    expect(filter.calls).toEqual([
      { way: 'encode', offset: MIB, length: 2 * MIB },
      { way: 'decode', offset: MIB, length: 2 * MIB },
    ]);
  });

  it('take requests that are no whole sectors, also several into one sector', async () => {
    const disk = await open(name, format, filter);
    const model = new Uint8Array(4096);
    await disk.zero(0, 4096);
    const pieces = [
      [0, 3],
      [10, 700],
      [511, 2],
      [1000, 24],
      [1024, 512],
      [2047, 1],
      [2048, 1],
      [3000, 1096],
    ] as const;
    await Promise.all(
      pieces.map(([offset, length], index) => {
        const bytes = bytesOf(length, index);
        model.set(bytes, offset);
        return disk.write(offset, bytes);
      }),
    );
    expect(await read(disk, 0, 4096)).toEqual(model);
    expect(await read(disk, 509, 1000)).toEqual(model.subarray(509, 1509));
    model.fill(0, 100, 1300);
    await disk.zero(100, 1200);
    model.fill(0, 2050, 2060);
    await disk.zero(2050, 10);
    expect(await read(disk, 0, 4096)).toEqual(model);
    await disk.close();
  });

  it('read zeroes where zeroes were asked for, by whatever way', async () => {
    const disk = await open(name, format, filter);
    await disk.write(0, bytesOf(4 * MIB));
    await disk.zero(4096, 65536);
    await disk.zero(MIB, MIB);
    await disk.write(2 * MIB, new Uint8Array(100_000));
    await disk.discard([{ offset: 3 * MIB, length: 512 * 3 }]);
    const model = bytesOf(4 * MIB);
    model.fill(0, 4096, 4096 + 65536);
    model.fill(0, MIB, 2 * MIB);
    model.fill(0, 2 * MIB, 2 * MIB + 100_000);
    const now = await read(disk, 0, 3 * MIB);
    expect(Buffer.compare(now, model.subarray(0, 3 * MIB))).toBe(0);
    await disk.close();
    await using again = await open(name, format, xorFilter());
    const later = await read(again, 0, 4 * MIB);
    expect(Buffer.compare(later.subarray(0, 3 * MIB), model.subarray(0, 3 * MIB))).toBe(0);
    for (let sector = 0; sector < 3; sector++) {
      const place = 3 * MIB + sector * 512;
      const old = model.subarray(place, place + 512);
      const found = later.subarray(place, place + 512);
      expect(found.every((byte) => byte === 0) || Buffer.compare(found, old) === 0).toBe(true);
    }
    expect(Buffer.compare(later.subarray(3 * MIB + 1536), model.subarray(3 * MIB + 1536))).toBe(0);
  });

  it('undo each other in the right order', async () => {
    const disk = await Disk.open(at(name), { ...OPEN, format });
    await disk.filters.add('BYTESWAP', { config: { width: 4 } });
    await disk.filters.add(xorFilter({ slow: true }));
    await disk.filters.add(xorFilter({ name: 'other', key: 3, elsewhere: true }));
    const data = bytesOf(70_000);
    await disk.write(123, data);
    expect(await read(disk, 123, data.length)).toEqual(data);
    expect(disk.filters.list.map((one) => one.name)).toEqual(['byteswap', 'xor', 'other']);
    await disk.close();
  });

  it('are taken off again, one direction after the other', async () => {
    const disk = await open(name, format, filter);
    const data = bytesOf(1024);
    await disk.write(0, data);
    await disk.filters.remove({ read: true, write: false });
    expect(filter.closed).toBe(0);
    expect(await read(disk, 0, 1024)).not.toEqual(data);
    await expect(disk.write(1, data)).rejects.toMatchObject({ kind: 'unsupported' });
    await expect(disk.filters.remove()).rejects.toMatchObject({ kind: 'not-found', status: 'VERR_VD_NOT_OPENED' });
    expect(disk.filters.list).toEqual([{ name: 'xor', read: false, write: true, info: false }]);
    await disk.filters.remove({ read: false });
    expect(filter.closed).toBe(1);
    await disk.filters.add(filter, { write: false });
    expect(await read(disk, 0, 1024)).toEqual(data);
    await disk.filters.removeAll();
    expect([filter.opened, filter.closed, disk.filters.list]).toEqual([2, 2, []]);
    await disk.filters.add(filter);
    await disk.close();
    expect(filter.closed).toBe(3);
  });
});

describe('filters', () => {
  it('do not make absent and zero ranges of a fresh image into anything else, and store nothing for them', async () => {
    await createImage(at('/a.qcow2'), { size: 8 * MIB });
    const disk = await open('/a.qcow2', 'qcow2', filter);
    const before = (await disk.fileSizes('last')).fileSize;
    await disk.write(0, new Uint8Array(2 * MIB));
    await disk.zero(4 * MIB, MIB);
    const result = await disk.read(0, new Uint8Array(1024));
    expect(result).toEqual({ unallocated: true });
    expect(Buffer.compare(await read(disk, 0, 8 * MIB), new Uint8Array(8 * MIB))).toBe(0);
    expect((await disk.fileSizes('last')).fileSize).toBe(before);
    await disk.close();
  });

  it('do not ask for room where the chain reads the same already', async () => {
    await createImage(at('/base.vdi'), { size: 4 * MIB });
    const base = await open('/base.vdi', 'vdi', filter);
    await base.write(0, bytesOf(MIB));
    await base.close();
    await createImage(at('/child.vdi'), { parent: at('/base.vdi') });
    const disk = await open('/child.vdi', 'vdi', filter);
    await disk.write(0, bytesOf(MIB));
    expect((await disk.extents().next()).value).toMatchObject({ image: 0 });
    await disk.write(100, Uint8Array.of(1, 2, 3));
    const model = bytesOf(MIB);
    model.set([1, 2, 3], 100);
    expect(Buffer.compare(await read(disk, 0, MIB), model)).toBe(0);
    await disk.close();
  });

  it.each([
    ['vdi', 'qcow2'],
    ['qcow2', 'vdi'],
    ['qcow2', 'raw'],
  ] as const)('are not met by what a merge moves from %s to %s, and padding still reads zero', async (upper, lower) => {
    await createImage(at('/base'), { format: lower, size: 4 * MIB });
    const base = await open('/base', lower, filter);
    const model = new Uint8Array(4 * MIB);
    const put = async (disk: Disk, offset: number, length: number, seed: number) => {
      const bytes = bytesOf(length, seed);
      model.set(bytes, offset);
      await disk.write(offset, bytes);
    };
    // A raw image has no absent ranges: what it holds must have been written through the filter.
    if (lower === 'raw') await base.zero(0, 4 * MIB);
    await put(base, 0, 100_000, 1);
    await base.close();
    await createImage(at('/child'), { format: upper, parent: at('/base'), parentFormat: lower });
    const disk = await Disk.open([at('/base'), { image: at('/child'), format: upper }], OPEN);
    await disk.filters.add(filter);
    await put(disk, 50_000, 30_000, 2);
    await put(disk, 2 * MIB + 5, 512, 3);
    await put(disk, 3 * MIB + 70_000, 4096, 4);
    await disk.zero(3 * MIB, 65536);
    filter.calls.length = 0;
    await disk.merge('last', 0);
    expect(filter.calls.every(({ way }) => way === 'encode')).toBe(true);
    expect(Buffer.compare(await read(disk, 0, 4 * MIB), model)).toBe(0);
    await disk.close();
    const again = await Disk.open(at('/base'), { ...OPEN, format: lower });
    await again.filters.add(xorFilter());
    expect(Buffer.compare(await read(again, 0, 4 * MIB), model)).toBe(0);
    await again.close();
  });

  it('are not fooled by zeroes that were stored before they came, when a merge moves those', async () => {
    await createImage(at('/base.vdi'), { size: 4 * MIB, config: { AllocationBlockSize: 4096 } });
    const base = await Disk.open(at('/base.vdi'), { ...OPEN, honourZeroes: true });
    await base.write(MIB, new Uint8Array(65536));
    await base.close();
    await createImage(at('/child.vdi'), { parent: at('/base.vdi'), config: { AllocationBlockSize: 4096 } });
    const disk = await open('/child.vdi', 'vdi', filter);
    const before = await read(disk, MIB, 65536);
    expect(before).not.toEqual(new Uint8Array(65536));
    await disk.merge(0, 'last');
    expect(Buffer.compare(await read(disk, MIB, 65536), before)).toBe(0);
    await disk.close();
  });

  it('stay in place while the chain changes: snapshots, compacting, resizing', async () => {
    await createImage(at('/a.vdi'), { size: 4 * MIB });
    const disk = await open('/a.vdi', 'vdi', filter);
    const model = new Uint8Array(6 * MIB + 512);
    const put = async (offset: number, bytes: Uint8Array) => {
      model.set(bytes, offset);
      await disk.write(offset, bytes);
    };
    await put(1000, bytesOf(2 * MIB));
    await disk.createDiff(at('/b.vdi'));
    await put(MIB + 17, bytesOf(1000, 5));
    // Zeroes over the parent's data, and over its own data.
    await put(2 * MIB - 3, new Uint8Array(9000));
    await put(3 * MIB, bytesOf(MIB, 6));
    await put(3 * MIB, new Uint8Array(MIB));
    await disk.resize(6 * MIB + 512);
    await put(5 * MIB, bytesOf(700, 7));
    await disk.compact();
    const now = new Uint8Array(model.length);
    await disk.read(0, now);
    expect(Buffer.compare(now, model)).toBe(0);
    await disk.merge(0, 'last');
    await disk.compact();
    await disk.read(0, now);
    expect(Buffer.compare(now, model)).toBe(0);
    const states = [];
    for await (const { offset, state } of disk.extents()) states.push([offset / MIB, state]);
    expect(states.some(([, state]) => state !== 'data')).toBe(true);
    await disk.close();
  });

  it('refuse what moves data while the directions differ, and everything while one is for information', async () => {
    await createImage(at('/a.vdi'), { size: MIB });
    await createImage(at('/b.vdi'), { parent: at('/a.vdi') });
    await using disk = await open('/b.vdi', 'vdi');
    await disk.filters.add(filter, { read: false });
    for (const run of [() => disk.merge('last', 0), () => disk.compact(), () => disk.resize(2 * MIB)]) {
      await expect(run()).rejects.toMatchObject({ kind: 'unsupported' });
    }
    await disk.filters.removeAll();
    await disk.filters.add(filter, { info: true });
    await expect(read(disk, 0, 512)).rejects.toMatchObject({ kind: 'unsupported' });
    await expect(disk.write(0, new Uint8Array(512))).rejects.toThrow(/xor was added for information only/);
    await disk.filters.removeAll();
    expect(await read(disk, 0, 512)).toEqual(new Uint8Array(512));
  });

  it('are handed what they are opened with', async () => {
    await createImage(at('/a.vdi'), { size: MIB });
    await using disk = await open('/a.vdi', 'vdi');
    const keys: KeySupply = {
      key: async (id) => new TextEncoder().encode(id),
      releaseKey: () => {},
      password: async () => '',
      releasePassword: () => {},
      saveKeyStore: async () => {},
    };
    let seen: FilterOpenOptions | null = null;
    const configKeys = [{ ...KEY, name: 'store', valueType: 'bytes' as const, mandatory: true }];
    const cipher: Filter = {
      ...filter,
      name: 'cipher',
      configKeys,
      open: (options) => {
        seen = options;
        return filter.open(options);
      },
    };
    await expect(disk.filters.add(cipher)).rejects.toThrow(/needs option "store"/);
    const store = Uint8Array.of(1, 2);
    await disk.filters.add(cipher, { keys, config: { store } });
    expect(seen).toEqual({ config: { store }, info: false, keys, diskSize: MIB });
    expect(disk.filters.list).toEqual([{ name: 'cipher', read: true, write: true, info: false }]);
  });

  it('are looked up by name, and their config is checked', async () => {
    await createImage(at('/a.vdi'), { size: MIB });
    await using disk = await open('/a.vdi', 'vdi');
    const refused = (options: Parameters<typeof disk.filters.add>[1], name = 'byteswap') =>
      expect(disk.filters.add(name, options)).rejects;
    await refused({}, 'byteswop').toMatchObject({ kind: 'not-found' });
    await refused({ config: { depth: 1 } }).toMatchObject({ status: 'VERR_VD_UNKNOWN_CFG_VALUES' });
    await refused({ config: { width: '2' } }).toMatchObject({ kind: 'invalid-argument' });
    await refused({ config: { width: 3 } }).toThrow(/width of the words is not supported/);
    await refused({ read: false, write: false }).toMatchObject({ status: 'VERR_INVALID_PARAMETER' });
    await disk.filters.add({
      ...filter,
      open: () => ({ encode: (_, bytes) => bytes.slice(1), decode: (_, bytes) => bytes, close() {} }),
    });
    await expect(disk.write(0, new Uint8Array(512).fill(1))).rejects.toThrow(/changed the number of bytes/);
  });
});
