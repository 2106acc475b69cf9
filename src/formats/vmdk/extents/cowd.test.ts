/** COWD extents: layout of new ones, the count of used sectors, check and repair, and headers that cannot be. */
import { describe, expect, it } from 'vitest';
import { checkImage, createImage, Disk, inspect } from '../../../index.ts';
import type { OpenMode, Storage, StorageProvider } from '../../../storage/contract.ts';
import { ForwardingProvider } from '../../../storage/forwarding.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { COWD_GEOMETRY, COWD_HEADER } from '../layout.ts';

const MIB = 1024 * 1024;
const SECTOR = 512;
/** Three tables of grains of one sector, the last of them not whole. */
const SIZE = 5 * MIB + 3 * SECTOR;
const TABLE = 4096 * 4;
const DELTA = '/a-delta.vmdk';
const ALLOW = { allow: ['same-directory' as const] };

const source = (provider: MemoryProvider, name = '/a.vmdk') => ({ provider, name });
const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

async function made(config: Readonly<Record<string, number>> = {}, size = SIZE): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  await createImage(source(provider), { format: 'vmdk', size, variant: ['dynamic', 'esx'], config });
  return provider;
}

/** Data in two of three tables; the file holds header, directory, the two tables and two grains. */
async function written(config: Readonly<Record<string, number>> = {}): Promise<MemoryProvider> {
  const provider = await made(config);
  await using disk = await Disk.open(source(provider), { mode: 'write' });
  await disk.write(0, filled(SECTOR, 1));
  await disk.write(4 * MIB, filled(SECTOR, 2));
  return provider;
}

async function child(parent: MemoryProvider): Promise<MemoryProvider> {
  await createImage(source(parent, '/b.vmdk'), { format: 'vmdk', parent: source(parent), variant: ['esx'] });
  return parent;
}

async function bytesOf(provider: MemoryProvider, name = DELTA): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function headerOf(provider: MemoryProvider, name = DELTA) {
  return COWD_HEADER.decode(await bytesOf(provider, name));
}

async function put(provider: MemoryProvider, fileOffset: number, value: number, name = DELTA): Promise<void> {
  const storage = await provider.open(name, 'write');
  await storage.write(fileOffset, new Uint8Array(new Uint32Array([value]).buffer));
  await storage.close();
}

/** The same files; `moved` is called for each grain table that is written whole. */
function onTable(inner: MemoryProvider, moved: () => void): StorageProvider {
  const watched = (storage: Storage): Storage => {
    const write = storage.write.bind(storage);
    storage.write = async (offset, data, how) => {
      if (data instanceof Uint8Array && data.length === TABLE) moved();
      await write(offset, data, how);
    };
    return storage;
  };
  return new (class extends ForwardingProvider {
    override async open(name: string, mode: OpenMode): Promise<Storage> {
      return watched(await inner.open(name, mode));
    }
  })(inner);
}

async function read(provider: MemoryProvider, guestOffset: number, name = '/a.vmdk'): Promise<number> {
  await using disk = await Disk.open(source(provider, name), ALLOW);
  const bytes = new Uint8Array(SECTOR);
  await disk.read(guestOffset, bytes);
  return bytes[0] ?? -1;
}

async function codes(provider: MemoryProvider, name = '/a.vmdk'): Promise<string[]> {
  const { findings } = await checkImage(source(provider, name));
  return findings.map(({ code }) => code);
}

const field = (name: keyof typeof COWD_HEADER.fields): number => COWD_HEADER.fields[name].offset;

describe('a new delta file', () => {
  it('has a header and an empty directory, as ESX writes them', async () => {
    const provider = await made();
    expect((await bytesOf(provider)).length).toBe(5 * SECTOR);
    expect(await headerOf(provider)).toMatchObject({
      version: 1,
      flags: 3,
      capacity: SIZE / SECTOR,
      grainSize: 1,
      directoryOffset: 4,
      directoryEntries: 128,
      freeSector: 5,
      unclean: 0,
    });
    expect(await inspect(source(provider))).toMatchObject({ variant: ['dynamic', 'esx'], blockSize: SECTOR });
  });

  it('is made over a parent by the word esx alone, and has no geometry', async () => {
    const provider = await child(await written());
    expect(await inspect(source(provider, '/b.vmdk'))).toMatchObject({ differencing: true });
    const geometry = async (name: string) => {
      return COWD_GEOMETRY.decode(await bytesOf(provider, name), field('parentName'));
    };
    expect(await geometry('/b-delta.vmdk')).toEqual({ cylinders: 0, heads: 0, sectors: 0 });
    expect(await geometry(DELTA)).toEqual({ cylinders: 10, heads: 16, sectors: 63 });
  });

  it('begins its grains at a multiple of their size', async () => {
    const provider = await written({ grain_size: 65536 });
    const { freeSector, directoryEntries } = await headerOf(provider);
    expect(directoryEntries).toBe(124 * 128);
    // One table covers the disk, and takes a grain.
    expect(freeSector).toBe(4 * 128);
    expect(await read(provider, 4 * MIB)).toBe(2);
  });

  it('is refused where its sectors cannot be counted, and not a sector below', async () => {
    await expect(made({}, 2 ** 41)).rejects.toMatchObject({ kind: 'limit' });
    expect((await headerOf(await made({}, 2 ** 41 - SECTOR))).capacity).toBe(2 ** 32 - 1);
  });

  it.each([256, 3 * SECTOR, 4 * MIB])('is refused with grains of %d bytes', async (bytes) => {
    await expect(made({ grain_size: bytes })).rejects.toMatchObject({ kind: 'invalid-argument' });
  });
});

describe('the count of used sectors', () => {
  it('covers all grains and tables', async () => {
    const provider = await written();
    const bytes = await bytesOf(provider);
    expect(bytes.length).toBe(5 * SECTOR + 2 * TABLE + 2 * SECTOR);
    expect(COWD_HEADER.get(bytes, 'freeSector')).toBe(bytes.length / SECTOR);
  });

  it('shrinks with the file when it is compacted', async () => {
    const provider = await written();
    {
      await using disk = await Disk.open(source(provider), { mode: 'write' });
      await disk.write(MIB, filled(MIB, 3));
      await disk.write(3 * MIB, filled(SECTOR, 4));
    }
    const before = await headerOf(provider);
    {
      await using disk = await Disk.open(source(provider), { mode: 'write' });
      await disk.discard([{ offset: MIB, length: MIB }]);
      await disk.compact();
    }
    const bytes = await bytesOf(provider);
    expect(bytes.length).toBe(before.freeSector * SECTOR - MIB);
    expect(COWD_HEADER.get(bytes, 'freeSector')).toBe(bytes.length / SECTOR);
    expect([await read(provider, 0), await read(provider, MIB), await read(provider, 3 * MIB)]).toEqual([1, 0, 4]);
    expect(await codes(provider)).toEqual([]);
  });

  it('is right when compaction is cancelled between two batches of tables', async () => {
    const provider = new MemoryProvider();
    const tables = 200;
    await createImage(source(provider), { format: 'vmdk', size: tables * 2 * MIB, variant: ['dynamic', 'esx'] });
    const cancel = new AbortController();
    let moved = 0;
    let before = 0;
    const watching = onTable(provider, () => {
      moved++;
      if (before > 0) cancel.abort();
    });
    {
      await using disk = await Disk.open({ provider: watching, name: '/a.vmdk' }, { mode: 'write' });
      await disk.write(MIB, filled(4 * MIB, 1));
      for (let at = 6 * MIB; at < tables * 2 * MIB; at += 2 * MIB) await disk.write(at, filled(SECTOR, 2));
      await disk.flush();
      await disk.discard([{ offset: MIB, length: 4 * MIB }]);
      before = (await bytesOf(provider)).length;
      moved = 0;
      await expect(disk.compact({ signal: cancel.signal })).rejects.toMatchObject({ kind: 'aborted' });
      expect(moved).toBeGreaterThan(0);
      expect(moved).toBeLessThan(100);
      await disk.write(0, filled(SECTOR, 3));
      await disk.compact();
    }
    expect((await bytesOf(provider)).length).toBeLessThan(before - 3 * MIB);
    expect([await read(provider, 0), await read(provider, MIB), await read(provider, 300 * MIB)]).toEqual([3, 0, 2]);
    expect(await codes(provider)).toEqual([]);
  });

  it('is raised by a write, and by a repair, where it is too low', async () => {
    for (const mend of ['write', 'repair']) {
      const provider = await written();
      const { freeSector } = await headerOf(provider);
      await put(provider, field('freeSector'), freeSector - 1);
      expect(await codes(provider)).toEqual(['used-too-low']);
      if (mend === 'repair') await checkImage(source(provider), { repair: true });
      else {
        await using disk = await Disk.open(source(provider), { mode: 'write' });
        await disk.write(0, filled(SECTOR, 9));
        await disk.write(SECTOR, filled(SECTOR, 9));
      }
      expect((await headerOf(provider)).freeSector).toBe(freeSector + (mend === 'repair' ? 0 : 1));
      expect(await codes(provider)).toEqual([]);
    }
  });
});

describe('a file without its descriptor', () => {
  it('is a disk if it has a geometry', async () => {
    const provider = await written();
    expect(await read(provider, 4 * MIB, DELTA)).toBe(2);
    const { warnings } = await inspect(source(provider, DELTA));
    expect(warnings[0]).toContain('has no descriptor');
    expect(await codes(provider, DELTA)).toEqual(['no-descriptor']);
  });

  it('is refused if it may be a delta: its parent would read zero', async () => {
    const provider = await child(await written());
    await expect(Disk.open(source(provider, '/b-delta.vmdk'))).rejects.toMatchObject({ kind: 'unsupported' });
    const storage = await provider.open('/b-delta.vmdk', 'write');
    await storage.write(field('parentName'), new TextEncoder().encode('/vmfs/volumes/base.vmdk'));
    await storage.close();
    await expect(Disk.open(source(provider, '/b-delta.vmdk'))).rejects.toMatchObject({ kind: 'unsupported' });
  });
});

it('reads what was written before it is flushed, behind what was not', async () => {
  const provider = await made();
  await using disk = await Disk.open(source(provider), { mode: 'write', flushAfterMs: 0 });
  await disk.write(MIB, filled(SECTOR, 1));
  await disk.write(4 * MIB, filled(SECTOR, 2));
  const bytes = new Uint8Array(SIZE);
  await disk.read(0, bytes);
  expect([bytes[0], bytes[MIB], bytes[4 * MIB]]).toEqual([0, 1, 2]);
});

describe('a delta over a parent', () => {
  it('hides what the parent holds under zeroes, and shows the rest', async () => {
    const provider = await child(await written());
    {
      await using disk = await Disk.open(source(provider, '/b.vmdk'), { mode: 'write', ...ALLOW });
      await disk.zero(0, SECTOR);
      await disk.write(4 * MIB + SECTOR, filled(SECTOR, 7));
    }
    const found = [0, 4 * MIB, 4 * MIB + SECTOR].map((offset) => read(provider, offset, '/b.vmdk'));
    expect(await Promise.all(found)).toEqual([0, 2, 7]);
    expect(await codes(provider, '/b.vmdk')).toEqual([]);
  });

  it('keeps the parent hidden under a grain that a repair gives up', async () => {
    const provider = await child(await written());
    {
      await using disk = await Disk.open(source(provider, '/b.vmdk'), { mode: 'write', ...ALLOW });
      await disk.write(0, filled(SECTOR, 7));
    }
    const { buffer } = await bytesOf(provider, '/b-delta.vmdk');
    const table = new DataView(buffer).getUint32(4 * SECTOR, true) * SECTOR;
    await put(provider, table, 0x7fff_ffff, '/b-delta.vmdk');
    expect(await codes(provider, '/b.vmdk')).toEqual(['grain-beyond-file']);
    await checkImage(source(provider, '/b.vmdk'), { repair: true });
    // The grain that the entry named before.
    expect(await codes(provider, '/b.vmdk')).toEqual(['unused-grains']);
    expect(await read(provider, 0, '/b.vmdk')).toBe(0);
    expect(await read(provider, 4 * MIB, '/b.vmdk')).toBe(2);
  });
});

/** Places in the file of `written`: its two tables and two grains, in the order in which a flush gives them room. */
async function placesOf(provider: MemoryProvider) {
  const bytes = await bytesOf(provider);
  const view = new DataView(bytes.buffer);
  const tables = [0, 2].map((index) => view.getUint32(4 * SECTOR + index * 4, true) * SECTOR);
  return { tables, grains: tables.map((table) => view.getUint32(table, true)) };
}

describe('damage', () => {
  it('two grains in one place: each gets a copy, and the count covers it', async () => {
    const provider = await written();
    const { tables, grains } = await placesOf(provider);
    await put(provider, tables[1] ?? 0, grains[0] ?? 0);
    expect(await codes(provider)).toEqual(['shared-grain']);
    await checkImage(source(provider), { repair: true });
    // The grain that the second entry named before.
    expect(await codes(provider)).toEqual(['unused-grains']);
    expect([await read(provider, 0), await read(provider, 4 * MIB)]).toEqual([1, 1]);
    const bytes = await bytesOf(provider);
    expect(COWD_HEADER.get(bytes, 'freeSector') * SECTOR).toBeGreaterThanOrEqual(bytes.length);
  });

  it('a grain inside a table is given up', async () => {
    const provider = await written();
    const { tables } = await placesOf(provider);
    await put(provider, tables[0] ?? 0, (tables[1] ?? 0) / SECTOR + 3);
    expect(await codes(provider)).toEqual(['grain-in-metadata']);
    await checkImage(source(provider), { repair: true });
    expect([await read(provider, 0), await read(provider, 4 * MIB)]).toEqual([0, 2]);
  });

  it('grows past its directory, which moves behind what is in use', async () => {
    const provider = await written();
    const size = 300 * MIB;
    {
      await using disk = await Disk.open(source(provider), { mode: 'write' });
      await disk.resize(size);
      await disk.write(size - SECTOR, filled(SECTOR, 3));
    }
    const header = await headerOf(provider);
    expect(header).toMatchObject({ capacity: size / SECTOR, directoryEntries: 256 });
    expect(header.directoryOffset).toBeGreaterThan(4);
    expect(header.freeSector).toBe((await bytesOf(provider)).length / SECTOR);
    // The place of the old directory is room for grains.
    {
      await using disk = await Disk.open(source(provider), { mode: 'write' });
      for (let grain = 1; grain < 12; grain++) await disk.write(grain * SECTOR, filled(SECTOR, 9));
    }
    expect(await codes(provider)).toEqual([]);
    expect([await read(provider, 0), await read(provider, 4 * MIB), await read(provider, size - SECTOR)]).toEqual([
      1, 2, 3,
    ]);
    expect([await read(provider, 11 * SECTOR), await read(provider, 200 * MIB)]).toEqual([9, 0]);
  });

  it('gets a longer directory where the header counts no spare entries', async () => {
    const provider = await written();
    await put(provider, field('directoryEntries'), Math.ceil(SIZE / (2 * MIB)));
    {
      await using disk = await Disk.open(source(provider), { mode: 'write' });
      await disk.resize(SIZE + 2 * MIB);
      await disk.write(SIZE + MIB, filled(SECTOR, 3));
    }
    expect(await codes(provider)).toEqual([]);
    expect([await read(provider, 4 * MIB), await read(provider, SIZE + MIB)]).toEqual([2, 3]);
  });

  it('one table for two ranges opens for reading only', async () => {
    const provider = await written();
    const { tables } = await placesOf(provider);
    await put(provider, 4 * SECTOR + 4, (tables[0] ?? 0) / SECTOR);
    expect(await codes(provider)).toContain('overlapping-metadata');
    await expect(Disk.open(source(provider), { mode: 'write' })).rejects.toMatchObject({ kind: 'read-only' });
    expect(await read(provider, 4 * MIB)).toBe(2);
  });

  it('a table beyond the end fails for its range only', async () => {
    const provider = await written();
    await put(provider, 4 * SECTOR, 0x7fff_ffff);
    expect(await codes(provider)).toEqual(['table-lost']);
    await expect(read(provider, 0)).rejects.toMatchObject({ kind: 'corrupt' });
    expect(await read(provider, 4 * MIB)).toBe(2);
  });

  it('the mark of an unclean end is cleared by a repair, and by a session', async () => {
    for (const mend of ['session', 'repair']) {
      const provider = await written();
      await put(provider, field('unclean'), 1);
      expect(await inspect(source(provider))).toMatchObject({ dirty: true });
      expect(await codes(provider)).toEqual(['unclean']);
      if (mend === 'repair') await checkImage(source(provider), { repair: true });
      else {
        await using disk = await Disk.open(source(provider), { mode: 'write' });
        await disk.write(SECTOR, filled(SECTOR, 9));
      }
      expect(await codes(provider)).toEqual([]);
    }
  });

  it('grains of several sectors that are no multiple of them apart are only read', async () => {
    const provider = await written({ grain_size: 4096 });
    const bytes = await bytesOf(provider);
    const view = new DataView(bytes.buffer);
    const table = view.getUint32(4 * SECTOR, true) * SECTOR;
    const grain = view.getUint32(table, true);
    const storage = await provider.open(DELTA, 'write');
    await storage.write(bytes.length + SECTOR, bytes.slice(grain * SECTOR, grain * SECTOR + 4096));
    await storage.close();
    await put(provider, table, bytes.length / SECTOR + 1);
    expect(await read(provider, 0)).toBe(1);
    await expect(Disk.open(source(provider), { mode: 'write' })).rejects.toMatchObject({ kind: 'read-only' });
  });
});

describe('a header', () => {
  it.each([
    ['version', 2, 'unsupported'],
    ['grainSize', 0, 'corrupt'],
    ['grainSize', 3, 'corrupt'],
    ['grainSize', 0x8000_0000, 'corrupt'],
    ['directoryEntries', 2, 'corrupt'],
    ['directoryEntries', 0xffff_ffff, 'limit'],
    ['directoryEntries', 0x0080_0000, 'corrupt'],
    ['directoryOffset', 0, 'corrupt'],
    ['directoryOffset', 3, 'corrupt'],
    ['directoryOffset', 0xffff_ffff, 'corrupt'],
    ['capacity', 0xffff_ffff, 'corrupt'],
    ['magic', 0, 'invalid-format'],
  ] as const)('whose %s is %d is refused', async (name, value, kind) => {
    const provider = await written();
    await put(provider, field(name), value);
    await expect(read(provider, 0)).rejects.toMatchObject({ kind });
  });

  it('with unknown flags is only read', async () => {
    const provider = await written();
    await put(provider, field('flags'), 7);
    expect(await read(provider, 4 * MIB)).toBe(2);
    await expect(Disk.open(source(provider), { mode: 'write' })).rejects.toMatchObject({ kind: 'read-only' });
  });

  it('of less than the extent leaves a hole', async () => {
    const provider = await written();
    {
      await using disk = await Disk.open(source(provider), { mode: 'write' });
      await disk.write(SECTOR, filled(MIB, 3));
      await disk.write(4 * MIB + SECTOR, filled(SECTOR, 4));
    }
    await put(provider, field('capacity'), (4 * MIB) / SECTOR);
    expect(await read(provider, 0)).toBe(1);
    expect(await read(provider, 4 * MIB)).toBe(0);
    expect(await codes(provider)).toEqual(['extent-too-small']);
    {
      await using disk = await Disk.open(source(provider), { mode: 'write' });
      await disk.discard([{ offset: SECTOR, length: MIB }]);
      await disk.compact();
    }
    // What lies behind the end stays where it is.
    await put(provider, field('capacity'), SIZE / SECTOR);
    expect([await read(provider, 4 * MIB), await read(provider, 4 * MIB + SECTOR)]).toEqual([2, 4]);
  });
});

it('lists its tables as metadata', async () => {
  const provider = await written();
  const { tables } = await placesOf(provider);
  await using disk = await Disk.open(source(provider));
  const found: [number, number, string][] = [];
  for await (const { offset, bytes, what } of disk.metadata(0, { perUnit: false })) {
    found.push([offset, bytes.length, what]);
  }
  expect(found).toContainEqual([0, 2048, 'header']);
  for (const table of tables) expect(found).toContainEqual([table, TABLE, 'grain table']);
});
