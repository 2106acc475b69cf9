/** Every bound of `src/limits.ts` from both sides, reached by a file. */
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { readBitmaps, serializeBitmaps } from '../../src/formats/qcow2/bitmaps/bitmaps.ts';
import { decodeExtensions, encodeExtensions } from '../../src/formats/qcow2/header/extensions.ts';
import { parseHeader, type Qcow2Header } from '../../src/formats/qcow2/header/header.ts';
import { MAGIC, HEADER as QCOW2_HEADER, type RawHeader, SNAPSHOT } from '../../src/formats/qcow2/layout.ts';
import { readSnapshots } from '../../src/formats/qcow2/snapshots/snapshots.ts';
import { ENTRY_FREE, HEADER, OLD_HEADER, SIGNATURE, VERSION_0_2 } from '../../src/formats/vdi/layout.ts';
import { readProbeInput } from '../../src/image/probe.ts';
import { LIMITS } from '../../src/limits.ts';
import { checkImage } from '../../src/operations/check.ts';
import { createImage } from '../../src/operations/create.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { Source, Storage } from '../../src/storage/contract.ts';
import { MemoryProvider, MemoryStorage } from '../../src/storage/memory.ts';
import { listPartitions } from '../../src/vfs/partitions/index.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { gptDisk, LINUX, putSlots, SOME_ID } from '../vfs/tables.ts';

const SECTOR = 512;
const TESTED: Readonly<Record<keyof typeof LIMITS, string>> = {
  chainDepth: 'test',
  parentCandidates: 'test',
  filesBeside: 'test',
  probeNames: 'test',
  probeHead: 'test',
  probeTail: 'test',
  virtualSize: 'test',
  blockSizeMin: 'test',
  blockSizeMax: 'test',
  vdiBlocks: 'test',
  qcow2L1Bytes: 'test',
  qcow2RefcountTableBytes: 'test',
  qcow2TableBytes: 'test',
  qcow2Extensions: 'test',
  qcow2Snapshots: 'test',
  qcow2SnapshotTableBytes: 'test',
  qcow2Bitmaps: 'test',
  qcow2BitmapDirectoryBytes: 'test',
  qcow2BitmapBytes: 'test',
  tableCacheBytes: 'test',
  dirtyMetadataBytes: 'test',
  logicalPartitions: 'test',
  gptEntryBytes: 'test',
  commentBytes: 'no format uses it yet',
};

afterEach(() => {
  vi.restoreAllMocks();
});

it('knows every bound', () => {
  expect(Object.keys(TESTED).sort()).toEqual(Object.keys(LIMITS).sort());
  const sources = readdirSync(new URL('../../src/', import.meta.url), { recursive: true, encoding: 'utf8' });
  const text = sources
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    .map((name) => readFileSync(new URL(`../../src/${name}`, import.meta.url), 'utf8'))
    .join('\n');
  for (const [name, how] of Object.entries(TESTED)) {
    expect(text.includes(`LIMITS.${name}`), `LIMITS.${name} is used, and so it has a test`).toBe(how === 'test');
  }
});

describe('partition tables', () => {
  const list = async (disk: Uint8Array) => {
    const storage = new MemoryStorage();
    await storage.write(0, disk);
    return listPartitions(storage);
  };

  it('logicalPartitions', async () => {
    for (const more of [0, 1]) {
      const count = LIMITS.logicalPartitions + more;
      const disk = new Uint8Array((count * 4 + 64) * SECTOR);
      putSlots(disk, 0, [{ type: 5, start: 4, count: count * 4 }]);
      for (let index = 0; index < count; index++) {
        const next = index + 1 < count ? { type: 5, start: (index + 1) * 4, count: 4 } : null;
        putSlots(disk, (4 + index * 4) * SECTOR, [{ type: 0x83, start: 1, count: 1 }, next]);
      }
      const { partitions, warnings } = await list(disk);
      expect(partitions).toHaveLength(1 + LIMITS.logicalPartitions);
      expect(warnings).toHaveLength(more);
    }
  });

  it('gptEntryBytes', async () => {
    const slots = [{ type: LINUX, id: SOME_ID, first: 9000, last: 9001 }];
    const most = LIMITS.gptEntryBytes / 128;
    const size = 8 * 2 ** 20;
    expect(await list(gptDisk(size, slots, { entryCount: most }))).toMatchObject({ kind: 'gpt', warnings: [] });
    expect(await list(gptDisk(size, slots, { entryCount: most + 1 }))).toMatchObject({ kind: 'none' });
  });
});

describe('qcow2', () => {
  /** A header of 64 KiB clusters in a file that is long enough for all tables. */
  const parse = (values: Partial<RawHeader>, size = 2 ** 40): Qcow2Header => {
    const bytes = new Uint8Array(65_536);
    const base = { magic: MAGIC, version: 3, clusterBits: 16, l1Offset: 0x3_0000, l1Entries: 1, refcountOrder: 4 };
    const more = { refcountTableOffset: 0x1_0000, refcountTableClusters: 1, headerLength: 112, ...values };
    bytes.set(QCOW2_HEADER.encode({ ...QCOW2_HEADER.decode(bytes), ...base, ...more }));
    return parseHeader(bytes, size, 'limits.qcow2');
  };
  const zeroes = async (size: number): Promise<Storage> => {
    const storage = await new MemoryProvider().create('/x');
    await storage.resize(size);
    return storage;
  };

  it('qcow2L1Bytes', async () => {
    expect(parse({ l1Entries: LIMITS.qcow2L1Bytes / 8 }).l1Entries).toBe(2 ** 22);
    await expectKind(() => parse({ l1Entries: LIMITS.qcow2L1Bytes / 8 + 1 }), 'limit');
  });

  it('qcow2RefcountTableBytes', async () => {
    const most = LIMITS.qcow2RefcountTableBytes / 65_536;
    expect(parse({ refcountTableClusters: most }).refcountTableClusters).toBe(most);
    await expectKind(() => parse({ refcountTableClusters: most + 1 }), 'limit');
  });

  it('qcow2TableBytes', async () => {
    const [cluster, l1Bytes] = [65_536, LIMITS.qcow2L1Bytes];
    const snapshotsOffset = 2 * cluster + l1Bytes;
    /** L1 tables that overlap, each a few bytes shorter than the one before. */
    const check = async (tables: number): Promise<string[]> => {
      const source = { provider: new MemoryProvider(), name: '/disk.qcow2' };
      const storage = await source.provider.create(source.name);
      const bytes = new Uint8Array(QCOW2_HEADER.size);
      const base = { magic: MAGIC, version: 3, clusterBits: 16, size: SECTOR, l1Offset: 2 * cluster, l1Entries: 1 };
      const places = { refcountTableOffset: cluster, refcountTableClusters: 1, refcountOrder: 4, headerLength: 112 };
      const snapshots = { snapshotCount: tables, snapshotsOffset };
      bytes.set(QCOW2_HEADER.encode({ ...QCOW2_HEADER.decode(bytes), ...base, ...places, ...snapshots }));
      await storage.write(0, bytes);
      for (let index = 0; index < tables; index++) {
        const entry = new Uint8Array(SNAPSHOT.size + 16);
        SNAPSHOT.put(entry, 'l1Offset', 2 * cluster);
        SNAPSHOT.put(entry, 'l1Entries', l1Bytes / 8 - index);
        SNAPSHOT.put(entry, 'extraLength', 16);
        await storage.write(snapshotsOffset + index * entry.length, entry);
      }
      await storage.close();
      return (await checkImage(source, { format: 'qcow2' })).findings.map(({ code }) => code);
    };
    const most = LIMITS.qcow2TableBytes / l1Bytes;
    expect(await check(most)).not.toContain('header');
    expect(await check(most + 1)).toContain('header');
  });

  it('qcow2Extensions', async () => {
    const most = Array.from({ length: LIMITS.qcow2Extensions }, (_, index) => ({
      type: index + 1,
      data: new Uint8Array(8),
    }));
    const header = { headerLength: 0, cryptMethod: 0 };
    expect(decodeExtensions(encodeExtensions(most), header).extensions).toHaveLength(most.length);
    const more = [...most, { type: 1000, data: new Uint8Array(0) }];
    await expectKind(() => decodeExtensions(encodeExtensions(more), header), 'limit');
  });

  it('qcow2Snapshots', async () => {
    const count = LIMITS.qcow2Snapshots;
    const all = await readSnapshots(await zeroes(40 * count), parse({ snapshotCount: count }));
    expect(all).toHaveLength(count);
    await expectKind(async () => readSnapshots(await zeroes(40), parse({ snapshotCount: count + 1 })), 'limit');
  });

  it('qcow2SnapshotTableBytes', async () => {
    // Entries as long as they get.
    const entry = new Uint8Array(SNAPSHOT.size);
    SNAPSHOT.put(entry, 'nameLength', 0xfff8);
    const length = SNAPSHOT.size + 0xfff8;
    const most = Math.floor(LIMITS.qcow2SnapshotTableBytes / length);
    const storage = await zeroes((most + 1) * length);
    for (let index = 0; index <= most; index++) await storage.write(index * length, entry);
    expect(await readSnapshots(storage, parse({ snapshotCount: most }))).toHaveLength(most);
    await expectKind(() => readSnapshots(storage, parse({ snapshotCount: most + 1 })), 'limit');
  });

  it('qcow2BitmapBytes', async () => {
    const add = async (size: number): Promise<void> => {
      const place = { provider: new MemoryProvider(), name: '/disk.qcow2' };
      const config = { cluster_size: 2 ** 21 };
      await createImage(place, { size, format: 'qcow2', config });
      await using disk = await openDisk(place, { mode: 'write', format: 'qcow2' });
      await disk.bitmaps.add('one', { granularity: SECTOR });
    };
    const most = LIMITS.qcow2BitmapBytes * 8 * SECTOR;
    await add(most);
    await expectKind(() => add(most + SECTOR), 'limit');
  });

  it('qcow2Bitmaps and qcow2BitmapDirectoryBytes', async () => {
    const entry = {
      name: 'x',
      granularityBits: 16,
      flags: 0,
      tableOffset: 0,
      tableEntries: 0,
      extra: new Uint8Array(0),
    };
    const bytes = serializeBitmaps(new Array(LIMITS.qcow2Bitmaps).fill(entry));
    const storage = await zeroes(LIMITS.qcow2BitmapDirectoryBytes);
    await storage.write(0, bytes);
    const bitmaps = { count: LIMITS.qcow2Bitmaps, reserved: 0, directoryOffset: 0, directoryBytes: storage.size };
    const read = (changes: { readonly count?: number; readonly directoryBytes?: number }) =>
      readBitmaps(storage, { ...parse({}), bitmaps: { ...bitmaps, ...changes } });
    expect(await read({})).toHaveLength(LIMITS.qcow2Bitmaps);
    await expectKind(() => read({ count: bitmaps.count + 1 }), 'limit');
    await expectKind(() => read({ directoryBytes: bitmaps.directoryBytes + 1 }), 'limit');
  });
});

describe('vdi', () => {
  describe('blockSizeMin and blockSizeMax', () => {
    it.each([LIMITS.blockSizeMin, LIMITS.blockSizeMax])('takes blocks of %i bytes', async (blockSize) => {
      const source = await headerOnly({ blockSize, diskSize: SECTOR });
      expect((await inspect(source)).blockSize).toBe(blockSize);
    });
    it.each([LIMITS.blockSizeMin / 2, LIMITS.blockSizeMax * 2])('refuses blocks of %i bytes', async (blockSize) => {
      await expectKind(async () => inspect(await headerOnly({ blockSize, diskSize: SECTOR })), 'invalid-format');
    });
    it('holds for the extra bytes of a block too', async () => {
      const most = { blockSize: 4096, diskSize: SECTOR, blockExtra: LIMITS.blockSizeMax };
      expect((await inspect(await headerOnly(most))).format).toBe('vdi');
      const more = { ...most, blockExtra: 2 * LIMITS.blockSizeMax };
      await expectKind(async () => inspect(await headerOnly(more)), 'invalid-format');
    });
  });

  // Only the layout before 1.0 can have this many: it has no field for where the data begins.
  describe('vdiBlocks', () => {
    it('takes the longest map and reads its last block', async () => {
      await using disk = await openDisk(await oldHeaderOnly(LIMITS.vdiBlocks));
      const bytes = new Uint8Array(SECTOR).fill(1);
      await disk.read(disk.size - SECTOR, bytes);
      expect(bytes).toEqual(new Uint8Array(SECTOR));
    });
    it('refuses one more entry', async () => {
      await expectKind(async () => inspect(await oldHeaderOnly(LIMITS.vdiBlocks + 1)), 'limit');
    });
  });

  describe('virtualSize', () => {
    const blockSize = LIMITS.blockSizeMax;
    it('takes the largest disk and reads its last sector', async () => {
      await using disk = await openDisk(await headerOnly({ blockSize, diskSize: LIMITS.virtualSize }));
      expect(disk.size).toBe(LIMITS.virtualSize + 1 - SECTOR);
      const bytes = new Uint8Array(SECTOR).fill(1);
      await disk.read(disk.size - SECTOR, bytes);
      expect(bytes).toEqual(new Uint8Array(SECTOR));
    });
    it.each([2n ** 53n, 2n ** 63n, 2n ** 64n - 1n])('refuses %i bytes', async (size) => {
      const source = await headerOnly({ blockSize, diskSize: LIMITS.virtualSize });
      const storage = await source.provider.open(source.name, 'write');
      const field = new Uint8Array(8);
      new DataView(field.buffer).setBigUint64(0, size, true);
      await storage.write(HEADER.fields.diskSize.offset, field);
      await expectKind(() => inspect(source), 'limit');
    });
  });

  describe('chainDepth', () => {
    it('opens the longest chain and refuses a longer one', { timeout: 60_000 }, async () => {
      const provider = new MemoryProvider();
      const names = Array.from({ length: LIMITS.chainDepth + 1 }, (_, index) => `/${index}.vdi`);
      for (const [index, name] of names.entries()) {
        const parent = names[index - 1];
        const size = parent === undefined ? { size: SECTOR } : { parent: { provider, name: parent } };
        await createImage({ provider, name }, { ...SMALL, ...size });
      }
      const sources = names.map((name) => ({ provider, name }));
      await using disk = await openDisk(sources.slice(0, -1));
      expect(disk.images.length).toBe(LIMITS.chainDepth);
      await disk.read(0, new Uint8Array(SECTOR));
      await expectKind(() => openDisk(sources), 'limit');
      await expectKind(() => openDisk(sources.at(-1) ?? '', { allow: ['same-directory'] }), 'limit');
    });
  });

  describe('looking beside an image', () => {
    /** A child whose parent is made last, so that the directory names it last, among others. */
    async function lastOf(count: number, other: (provider: MemoryProvider, name: string) => Promise<unknown>) {
      const provider = new MemoryProvider();
      const child = { provider, name: '/box/child.vdi' };
      await (await provider.create('/box/empty')).close();
      for (let index = 0; index < count; index++) await other(provider, `/box/${index}`);
      await createImage({ provider, name: '/parent.vdi' }, { ...SMALL, size: SECTOR });
      await createImage(child, { ...SMALL, parent: { provider, name: '/parent.vdi' } });
      await provider.rename('/parent.vdi', '/box/parent.vdi', { replace: false });
      return child;
    }
    const image = (provider: MemoryProvider, name: string) =>
      createImage({ provider, name }, { ...SMALL, size: SECTOR });
    const text = async (provider: MemoryProvider, name: string) => {
      const storage = await provider.create(name);
      await storage.write(0, new TextEncoder().encode('a line of text\n'));
      await storage.close();
    };
    const open = (child: Awaited<ReturnType<typeof lastOf>>) => openDisk(child, { allow: ['same-directory'] });

    it('finds a parent among this many images, and looks at no more', { timeout: 60_000 }, async () => {
      const found = await lastOf(LIMITS.parentCandidates - 2, image);
      await using disk = await open(found);
      expect(disk.images.map(({ name }) => name)).toEqual(['/box/parent.vdi', '/box/child.vdi']);
      const lost = await lastOf(LIMITS.parentCandidates - 1, image);
      await expectKind(() => open(lost), 'not-found');
    });

    it('finds a parent among this many other files, and looks at no more', { timeout: 60_000 }, async () => {
      const found = await lastOf(LIMITS.filesBeside - 3, text);
      await using disk = await open(found);
      expect(disk.images.map(({ name }) => name)).toEqual(['/box/parent.vdi', '/box/child.vdi']);
      const lost = await lastOf(LIMITS.filesBeside - 2, text);
      await expect(open(lost)).rejects.toMatchObject({
        kind: 'not-found',
        hint: expect.stringContaining(`${LIMITS.filesBeside} files beside the image were looked at`),
      });
    });
  });

  describe('tableCacheBytes', () => {
    const page = 64 * 1024;
    /** Reads of the file while every page of the map is asked for, and then the first one again. */
    async function readsFor(pages: number): Promise<number> {
      const blocks = (pages * page) / 4;
      await using disk = await openDisk(await headerOnly({ blockSize: 4096, diskSize: blocks * 4096 }));
      const read = vi.spyOn(MemoryStorage.prototype, 'read');
      for (let index = 0; index < pages; index++) await askFor(disk, index * (page / 4) * 4096);
      await askFor(disk, 0);
      return read.mock.calls.length;
    }
    it('keeps a map that fits', async () => {
      const pages = LIMITS.tableCacheBytes / page;
      expect(await readsFor(pages)).toBe(pages);
    });
    it('drops the oldest part of one that does not', async () => {
      const pages = LIMITS.tableCacheBytes / page + 1;
      expect(await readsFor(pages)).toBe(pages + 1);
    });
  });

  describe('dirtyMetadataBytes', () => {
    it('flushes by itself when so much metadata waits, and not before', { timeout: 60_000 }, async () => {
      const provider = new MemoryProvider();
      const image = { provider, name: '/image.vdi' };
      // Blocks whose map entries lie in different sectors.
      const apart = (SECTOR / 4) * SECTOR;
      const most = LIMITS.dirtyMetadataBytes / SECTOR;
      await createImage(image, { ...SMALL, size: apart * (most + 2) });
      await using disk = await openDisk(image, { mode: 'write', format: 'vdi', flushAfterMs: 0 });
      const bytes = new Uint8Array(SECTOR).fill(7);
      const flush = vi.spyOn(MemoryStorage.prototype, 'flush');
      await disk.write(0, bytes);
      const atStart = flush.mock.calls.length;
      for (let index = 1; index < most; index++) await disk.write(index * apart, bytes);
      expect(flush.mock.calls.length).toBe(atStart);
      await disk.write(most * apart, bytes);
      expect(flush.mock.calls.length).toBeGreaterThan(atStart);
    });
  });
});

describe('probeHead and probeTail', () => {
  const { probeHead, probeTail } = LIMITS;
  it.each([
    [probeTail - 1, probeTail - 1, probeTail - 1],
    [probeTail, probeTail, probeTail],
    [probeTail + 1, probeTail + 1, probeTail],
    [probeHead, probeHead, probeTail],
    [probeHead + 1, probeHead, probeTail],
    [2 ** 45, probeHead, probeTail],
  ])('of a file of %i bytes are %i and %i bytes', async (size, head, tail) => {
    const storage = new MemoryStorage();
    await storage.resize(size);
    const input = await readProbeInput(storage, 'x');
    expect([input.head.length, input.tail.length]).toEqual([head, tail]);
  });
});

const SMALL = { format: 'vdi', config: { AllocationBlockSize: 512, DataAlignment: 512 } } as const;

async function askFor(disk: ChainDisk, offset: number): Promise<void> {
  await disk.extentAt(offset, offset + SECTOR);
}

interface Wanted {
  readonly blockSize: number;
  readonly diskSize: number;
  readonly blockExtra?: number;
}

/** A VDI image whose map is a hole but for its last entry: block 0 everywhere, and the last one free. */
async function headerOnly({ blockSize, diskSize, blockExtra = 0 }: Wanted): Promise<Source> {
  const source = await emptyFile();
  const storage = await source.provider.open(source.name, 'write');
  const blockCount = Math.ceil(diskSize / blockSize);
  const dataOffset = Math.ceil((SECTOR + 4 * blockCount) / SECTOR) * SECTOR;
  const header = new Uint8Array(HEADER.size);
  const values = { signature: SIGNATURE, version: 0x0001_0001, headerSize: 400, type: 1, logicalSectorSize: SECTOR };
  const places = { mapOffset: SECTOR, dataOffset, blockSize, blockExtra, blockCount, diskSize };
  for (const [name, value] of Object.entries({ ...values, ...places })) {
    HEADER.put(header, name as 'blockSize', value);
  }
  await storage.write(0, header);
  await storage.write(SECTOR + 4 * (blockCount - 1), freeEntry());
  await storage.resize(dataOffset + SECTOR);
  return source;
}

async function oldHeaderOnly(blockCount: number): Promise<Source> {
  const source = await emptyFile();
  const storage = await source.provider.open(source.name, 'write');
  const header = new Uint8Array(OLD_HEADER.size);
  const values = { signature: SIGNATURE, version: VERSION_0_2, type: 1, blockSize: SECTOR, blockCount };
  for (const [name, value] of Object.entries({ ...values, diskSize: SECTOR * blockCount })) {
    OLD_HEADER.put(header, name as 'blockSize', value);
  }
  await storage.write(0, header);
  await storage.write(OLD_HEADER.size + 4 * (blockCount - 1), freeEntry());
  return source;
}

function freeEntry(): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, ENTRY_FREE, true);
  return bytes;
}

async function emptyFile(): Promise<Source> {
  const provider = new MemoryProvider();
  await (await provider.create('/image.vdi')).close();
  return { provider, name: '/image.vdi' };
}
