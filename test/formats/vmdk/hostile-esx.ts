/** Extents of ESX for the hostile suite: a delta file as vdkit makes it, and a seSparse extent built by hand. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import { COWD_HEADER, SESPARSE_HEADER, SESPARSE_VOLATILE_HEADER } from '../../../src/formats/vmdk/layout.ts';
import { createImage } from '../../../src/operations/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { Random } from '../../../src/testing/random.ts';
import { randomBytes } from '../../conformance/random.ts';
import type { Anatomy, Effect, FileSample, TablePlace } from '../../hostile/descriptor.ts';
import type { BaseFile, BaseImage, Range } from '../../hostile/protocol.ts';
import { AT, buildSeSparse, esxDescriptor, GRAIN, type GrainState, storedEntry } from './sesparse.ts';

/** Nothing but the lines of an extent, whose length decides what is there. */
export const TEXT: Anatomy = { structs: [], tables: [], edges: [], length: 'free' };

/** All fields of a table have this effect, but for some. */
function effectsOf(fields: object, usual: Effect, others: Readonly<Record<string, Effect>>): Record<string, Effect> {
  return { ...Object.fromEntries(Object.keys(fields).map((name) => [name, usual])), ...others };
}

const rangeOf =
  (unit: number, size: number): TablePlace['guestRange'] =>
  (index): Range => [Math.min(index * unit, size), Math.min((index + 1) * unit, size)];

/** A delta file of 80 grains of one sector; some are stored, in another order than the disk's. */
export async function deltaSample(): Promise<FileSample> {
  const size = 80 * SECTOR;
  const provider = new MemoryProvider();
  const content = new Uint8Array(size);
  await createImage({ provider, name: '/image' }, { format: 'vmdk', variant: ['dynamic', 'esx'], size });
  {
    const random = new Random(4);
    await using disk = await openDisk({ provider, name: '/image' }, { mode: 'write', format: 'vmdk' });
    for (const sector of [70, 71, 3, 40, 79]) {
      const bytes = randomBytes(random, SECTOR);
      await disk.write(sector * SECTOR, bytes);
      await disk.flush();
      content.set(bytes, sector * SECTOR);
    }
  }
  const bytes = await bytesOf(provider, '/image-delta.vmdk');
  return {
    name: 'delta file of ESX',
    format: 'vmdk',
    bytes: await bytesOf(provider, '/image'),
    parts: [{ name: 'image-delta.vmdk', bytes, anatomy: deltaAnatomy(bytes, size) }],
    beside: [],
    anatomy: TEXT,
    golden: false,
    every: 2,
    virtualSize: size,
    content,
    differencing: false,
  };
}

function deltaAnatomy(bytes: Uint8Array, size: number): Anatomy {
  const view = new DataView(bytes.buffer);
  const directory = COWD_HEADER.get(bytes, 'directoryOffset') * SECTOR;
  const table = view.getUint32(directory, true) * SECTOR;
  const end = BigInt(bytes.length / SECTOR);
  const values = [0n, 1n, 4n, BigInt(table / SECTOR), end - 1n, end, end + 1n];
  const common = { entryBytes: 4, littleEndian: true, values } as const;
  const effects = effectsOf(COWD_HEADER.fields, 'exact', {
    magic: 'same',
    version: 'same',
    capacity: 'free',
    grainSize: 'free',
    directoryOffset: 'free',
    directoryEntries: 'same',
  });
  return {
    structs: [{ name: 'header', table: COWD_HEADER, offset: 0, littleEndian: true, effects }],
    tables: [
      { ...common, name: 'directory', offset: directory, count: 1, guestRange: () => [0, size] },
      { ...common, name: 'grain table', offset: table, count: size / SECTOR, guestRange: rangeOf(SECTOR, size) },
    ],
    edges: [directory, table, table + 4096 * 4, bytes.length],
    // The last grain of a file may be short: what is missing reads zero.
    lost: (length) =>
      Array.from({ length: size / SECTOR }, (_, index) => index).flatMap((index) => {
        const place = view.getUint32(table + index * 4, true) * SECTOR;
        return place < length && length < place + SECTOR ? [rangeOf(SECTOR, size)(index)] : [];
      }),
  };
}

/** A seSparse extent with every type of grain; the last one is not whole. */
export function seSparseSample(): FileSample {
  const grains = 12;
  const size = grains * GRAIN - 3 * SECTOR;
  const random = new Random(5);
  const content = new Uint8Array(size);
  const states = new Map<number, GrainState>([
    [2, 'zero'],
    [3, 'unmapped'],
  ]);
  for (const grain of [7, 1, 8, 11]) {
    const bytes = randomBytes(random, GRAIN);
    states.set(grain, bytes);
    content.set(bytes.subarray(0, size - grain * GRAIN), grain * GRAIN);
  }
  const bytes = buildSeSparse(size / SECTOR, states);
  const line = `RW ${size / SECTOR} SESPARSE "image-sesparse.vmdk"`;
  return {
    name: 'seSparse',
    format: 'vmdk',
    bytes: esxDescriptor('seSparse', line),
    parts: [{ name: 'image-sesparse.vmdk', bytes, anatomy: seSparseAnatomy(bytes, grains, size) }],
    beside: [],
    anatomy: TEXT,
    golden: false,
    every: 2,
    virtualSize: size,
    content,
    differencing: false,
  };
}

function seSparseAnatomy(bytes: Uint8Array, grains: number, size: number): Anatomy {
  const free = Object.fromEntries(
    ['capacity', 'directoryOffset', 'tablesOffset', 'grainsOffset', 'volatileOffset'].map((name) => [
      name,
      'free' as const,
    ]),
  );
  const stored = (bytes.length / SECTOR - AT.grains) / 8;
  const values = [0n, 1n, 0x1000_0000_0000_0000n, 0x2000_0000_0000_0000n, 0x4000_0000_0000_0000n];
  const common = { entryBytes: 8, littleEndian: true } as const;
  const places = [stored - 1, stored, 4095, 4096].map(storedEntry);
  const guestRange = rangeOf(GRAIN, size);
  return {
    structs: [
      {
        name: 'header',
        table: SESPARSE_HEADER,
        offset: 0,
        littleEndian: true,
        effects: effectsOf(SESPARSE_HEADER.fields, 'same', free),
      },
      {
        name: 'volatile header',
        table: SESPARSE_VOLATILE_HEADER,
        offset: AT.volatile * SECTOR,
        littleEndian: true,
        effects: { magic: 'same', freeTable: 'exact', nextTransaction: 'exact', replayJournal: 'same' },
      },
    ],
    tables: [
      {
        ...common,
        name: 'directory',
        offset: AT.directory * SECTOR,
        count: 1,
        values: [...values, 0x1000_0000_0000_0007n, 0x1000_0000_0000_0008n],
        guestRange: () => [0, size],
      },
      {
        ...common,
        name: 'grain table',
        offset: AT.tables * SECTOR,
        count: grains,
        values: [...values, ...places],
        guestRange,
      },
    ],
    edges: [AT.volatile, AT.directory, AT.tables, AT.grains].map((sector) => sector * SECTOR),
    // The last grain of a file may be short: what is missing reads zero.
    lost: (length) => {
      const view = new DataView(bytes.buffer);
      return Array.from({ length: grains }, (_, index) => index).flatMap((index) => {
        const entry = view.getBigUint64(AT.tables * SECTOR + index * 8, true);
        const number = Number((entry >> 48n) & 0xfffn);
        const place = AT.grains * SECTOR + number * GRAIN;
        return entry >> 60n === 3n && place < length && length < place + GRAIN ? [guestRange(index)] : [];
      });
    },
  };
}

async function bytesOf(provider: MemoryProvider, name: string): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

/** A header, and a directory that is a hole, as long as it gets. */
export function hollowDelta(): BaseImage {
  const tables = 2 ** 20;
  const empty = COWD_HEADER.decode(new Uint8Array(COWD_HEADER.size));
  const sizes = { capacity: 2 ** 32 - 1, grainSize: 1, directoryOffset: 4, directoryEntries: tables };
  const bytes = COWD_HEADER.encode({ ...empty, magic: 0x4457_4f43, version: 1, flags: 3, ...sizes });
  const part = { name: 'image-delta.vmdk', size: 4 * SECTOR + tables * 4, pieces: [{ offset: 0, bytes }] };
  const line = `RW ${sizes.capacity} VMFSSPARSE "${part.name}"`;
  return hollow('a delta file of a million tables', esxDescriptor('vmfsSparse', line), part);
}

/** The same of a seSparse extent. */
export function hollowSeSparse(): BaseImage {
  const tables = 2 ** 20;
  const sectors = tables * 4096 * 8;
  const bytes = buildSeSparse(8, new Map()).slice(0, 2 * SECTOR);
  const directory = 2 ** 16;
  SESPARSE_HEADER.put(bytes, 'capacity', sectors);
  SESPARSE_HEADER.put(bytes, 'directoryOffset', directory);
  SESPARSE_HEADER.put(bytes, 'directorySize', (tables * 8) / SECTOR);
  const size = directory * SECTOR + tables * 8;
  const part = { name: 'image-sesparse.vmdk', size, pieces: [{ offset: 0, bytes }] };
  const line = `RW ${sectors} SESPARSE "${part.name}"`;
  return hollow('a seSparse extent of a million tables', esxDescriptor('seSparse', line), part);
}

function hollow(name: string, text: Uint8Array, part: BaseFile): BaseImage {
  const image = { name: 'image', size: text.length, pieces: [{ offset: 0, bytes: text }] };
  return { name, image, parts: [part], beside: [], content: null, differencing: false };
}
