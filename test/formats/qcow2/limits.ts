/** Ways to the bounds of QCOW2. */
import { ImageError } from '../../../src/errors.ts';
import { readBitmaps, serializeBitmaps } from '../../../src/formats/qcow2/bitmaps/bitmaps.ts';
import { decodeExtensions, encodeExtensions } from '../../../src/formats/qcow2/header/extensions.ts';
import { parseHeader, type Qcow2Header } from '../../../src/formats/qcow2/header/header.ts';
import { HEADER, MAGIC, type RawHeader, SNAPSHOT } from '../../../src/formats/qcow2/layout.ts';
import { QCOW2_LIMITS } from '../../../src/formats/qcow2/limits.ts';
import { readSnapshots } from '../../../src/formats/qcow2/snapshots/snapshots.ts';
import { checkImage } from '../../../src/operations/check.ts';
import { createImage } from '../../../src/operations/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import type { Storage } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { LimitKit } from '../limit-kit.ts';

const SECTOR = 512;
const CLUSTER = 65_536;
/** Longest name of a snapshot whose entry ends on a multiple of eight. */
const LONGEST_NAME = 0xfff8;

/** A header of 64 KiB clusters in a file that is long enough for all tables. */
function parse(values: Partial<RawHeader>): Qcow2Header {
  return parseHeader(headerOf({ l1Offset: 3 * CLUSTER, ...values }), 2 ** 40, 'limits.qcow2');
}

function headerOf(values: Partial<RawHeader>): Uint8Array {
  const bytes = new Uint8Array(CLUSTER);
  const base = { magic: MAGIC, version: 3, clusterBits: 16, l1Offset: 2 * CLUSTER, l1Entries: 1, headerLength: 112 };
  const counts = { refcountTableOffset: CLUSTER, refcountTableClusters: 1, refcountOrder: 4 };
  bytes.set(HEADER.encode({ ...HEADER.decode(bytes), ...base, ...counts, ...values }));
  return bytes;
}

async function zeroes(size: number): Promise<Storage> {
  const storage = await new MemoryProvider().create('/x');
  await storage.resize(size);
  return storage;
}

/** Checks an image of L1 tables that overlap, each a few bytes shorter than the one before. */
async function checkTables(bytes: number): Promise<number> {
  const { l1Bytes } = QCOW2_LIMITS;
  const tables = bytes / l1Bytes;
  const source = { provider: new MemoryProvider(), name: '/disk.qcow2' };
  const storage = await source.provider.create(source.name);
  const snapshotsOffset = 2 * CLUSTER + l1Bytes;
  await storage.write(0, headerOf({ size: SECTOR, snapshotCount: tables, snapshotsOffset }).subarray(0, HEADER.size));
  for (let index = 0; index < tables; index++) {
    const entry = new Uint8Array(SNAPSHOT.size + 16);
    SNAPSHOT.put(entry, 'l1Offset', 2 * CLUSTER);
    SNAPSHOT.put(entry, 'l1Entries', l1Bytes / 8 - index);
    SNAPSHOT.put(entry, 'extraLength', 16);
    await storage.write(snapshotsOffset + index * entry.length, entry);
  }
  await storage.close();
  // The check lists the limit among its findings.
  const { findings } = await checkImage(source, { format: 'qcow2' });
  const refused = findings.find(({ code }) => code === 'header');
  if (refused !== undefined) throw new ImageError('limit', refused.message);
  return bytes;
}

async function readExtensions(count: number): Promise<number> {
  const all = Array.from({ length: count }, (_, index) => ({ type: index + 1, data: new Uint8Array(8) }));
  return decodeExtensions(encodeExtensions(all), { headerLength: 0, cryptMethod: 0 }).extensions.length;
}

/** Reads a table of this many bytes: entries as long as they get, and a last one for the rest. */
async function readSnapshotTable(bytes: number): Promise<number> {
  const longest = SNAPSHOT.size + LONGEST_NAME;
  // The last entry has room for its fixed fields.
  const count = Math.floor((bytes - SNAPSHOT.size) / longest) + 1;
  const storage = await zeroes(bytes);
  for (let index = 0; index < count; index++) {
    const entry = new Uint8Array(SNAPSHOT.size);
    const length = index === count - 1 ? bytes - index * longest : longest;
    SNAPSHOT.put(entry, 'nameLength', length - SNAPSHOT.size);
    await storage.write(index * longest, entry);
  }
  const all = await readSnapshots(storage, parse({ snapshotCount: count }));
  return all.reduce((sum, { name }) => sum + SNAPSHOT.size + name.length, 0);
}

async function addBitmap(bytes: number): Promise<number> {
  const place = { provider: new MemoryProvider(), name: '/disk.qcow2' };
  const size = bytes * 8 * SECTOR;
  await createImage(place, { size, format: 'qcow2', config: { cluster_size: 2 ** 21 } });
  await using disk = await openDisk(place, { mode: 'write', format: 'qcow2' });
  await disk.bitmaps.add('one', { granularity: SECTOR });
  return disk.size / SECTOR / 8;
}

const NO_BITMAP = { granularityBits: 16, flags: 0, tableOffset: 0, tableEntries: 0, extra: new Uint8Array(0) };

/** Reads a directory of as many bitmaps as there may be, with these fields of the header. */
async function readDirectory(wanted: { readonly count?: number; readonly directoryBytes?: number }): Promise<number> {
  const { bitmaps: most, bitmapDirectoryBytes } = QCOW2_LIMITS;
  const storage = await zeroes(bitmapDirectoryBytes);
  await storage.write(0, serializeBitmaps(new Array(most).fill({ ...NO_BITMAP, name: 'x' })));
  const bitmaps = { count: most, reserved: 0, directoryOffset: 0, directoryBytes: bitmapDirectoryBytes, ...wanted };
  return (await readBitmaps(storage, { ...parse({}), bitmaps })).length;
}

export const limits: LimitKit<typeof QCOW2_LIMITS> = {
  bounds: QCOW2_LIMITS,
  tests: {
    l1Bytes: { reach: async (bytes) => parse({ l1Entries: bytes / 8 }).l1Entries * 8, step: 8 },
    refcountTableBytes: {
      reach: async (bytes) => parse({ refcountTableClusters: bytes / CLUSTER }).refcountTableClusters * CLUSTER,
      step: CLUSTER,
    },
    tableBytes: { reach: checkTables, step: QCOW2_LIMITS.l1Bytes },
    extensions: { reach: readExtensions },
    snapshots: {
      reach: async (count) => (await readSnapshots(await zeroes(40 * count), parse({ snapshotCount: count }))).length,
    },
    snapshotTableBytes: { reach: readSnapshotTable, step: 8 },
    bitmaps: { reach: (count) => readDirectory({ count }) },
    bitmapDirectoryBytes: {
      reach: async (directoryBytes) => {
        await readDirectory({ directoryBytes });
        return directoryBytes;
      },
    },
    bitmapBytes: { reach: addBitmap },
  },
};
