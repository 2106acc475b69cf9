/** Images that describe a disk of the host, or some of its partitions, instead of holding their data. */
import { checkArguments, FLAG, listOf, NAME, NUMBER, optional, TEXT, withFields } from '../arguments.ts';
import { alignUp, SECTOR } from '../binary/numbers.ts';
import { BOOT_SECTOR, EXTENDED_TYPES, MBR_ENTRIES, MBR_ENTRY, MBR_ENTRY_COUNT } from '../binary/partition-tables.ts';
import { SOURCE } from '../disk/kinds.ts';
import { resolve } from '../disk/open/environment.ts';
import type { EnvironmentOptions, ImageReport, ImageSource } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import type { RawArea, RawDisk } from '../image/raw-disk.ts';
import { inspectImage } from '../operations/inspect.ts';
import type { Storage } from '../storage/contract.ts';
import { readPadded } from '../storage/read-padded.ts';
import { stageTarget } from '../storage/staging.ts';
import type { Partition, PartitionTable } from './partitions/contract.ts';
import { listPartitions, partitionOf } from './partitions/index.ts';

/** Most bytes that are copied before the first partition, and behind the last one of a GPT: tables and boot loaders. */
const TABLE_BYTES = 1024 * 1024;
/** Largest table of logical partitions that is followed; see `partitions/mbr.ts`. */
const CHAIN = 256;

/** Options for a description of a disk. */
export interface RawDiskOptions extends EnvironmentOptions {
  /** Format of the image. Default: vmdk, the only one that can. */
  readonly format?: string | undefined;
  /** Numbers of the partitions to show; all others read zero. Default: the whole disk. */
  readonly partitions?: readonly number[] | undefined;
  /** The image permits writing to the device. Default false. */
  readonly writable?: boolean | undefined;
  readonly comment?: string | undefined;
  /** UUID of the image. Default: random. */
  readonly uuid?: string | undefined;
  /** Replace an existing file. */
  readonly force?: boolean | undefined;
}

/** Report on a new image that describes a device. */
export interface RawDiskReport extends ImageReport {
  /** The device, as the image names it. */
  readonly device: string;
  /** The image permits writing to the device. */
  readonly writable: boolean;
  /** Table of the device, with all its partitions; null where the whole device is described. */
  readonly table: PartitionTable | null;
  /** Partitions that the image shows, by number; null: all of the device. */
  readonly partitions: readonly Partition[] | null;
}

const RAW_OPTIONS = withFields('an object with partitions', {
  format: optional(NAME),
  partitions: optional(listOf(NUMBER)),
  writable: optional(FLAG),
  comment: optional(TEXT),
  uuid: optional(TEXT),
  force: optional(FLAG),
});

/**
 * Creates an image that describes a device, or a file that stands for one: of its data only the partition tables are
 * copied, and those only if `partitions` are named. Opening the image needs `allow` with the name of the device. Throws
 * `exists`, `not-found` for an unknown partition, `unsupported` without a partition table.
 */
export async function createRawDisk(
  target: ImageSource,
  device: string,
  options: RawDiskOptions = {},
): Promise<RawDiskReport> {
  checkArguments('createRawDisk', {
    target: [target, SOURCE],
    device: [device, NAME],
    options: [options, RAW_OPTIONS],
  });
  const { environment, format: name = 'vmdk', partitions, ...rest } = await resolve(options);
  const { writable = false, comment, uuid, force = false } = rest;
  const format = environment.registry.find(name);
  if (format.describeDevice === undefined) {
    throw new ImageError('unsupported', `Images of format ${format.name} cannot describe a device`, {
      hint: 'Use format vmdk.',
    });
  }
  const source = environment.sourceOf(target);
  const { provider } = source;
  const real = await provider.realName(device);
  const storage = await provider.open(real, 'read');
  try {
    const { disk, table, shown } = await describe(storage, real, { partitions, writable });
    let lost: readonly string[] = [];
    const staged = await stageTarget(source, { force, lock: environment.lock });
    try {
      const files = await staged.create();
      await format.describeDevice(files, disk, { size: disk.size, variant: [], comment, uuid });
      await files.main.close();
      lost = await staged.publish();
    } catch (error) {
      await staged.discard();
      throw error;
    }
    // The image is there, whatever the signal says now.
    const own = environment.with({ allow: [real], lock: false, signal: undefined });
    const report = await inspectImage(source, { environment: own, format: format.name });
    const warnings = [...report.warnings, ...(table?.warnings ?? []), ...lost];
    return {
      ...report,
      lock: { held: 'none', holders: [] },
      warnings,
      device: real,
      writable,
      table,
      partitions: shown,
    };
  } finally {
    await storage.close();
  }
}

type Wanted = Pick<RawDiskOptions, 'partitions'> & { readonly writable: boolean };

/** A disk, the table on it, and the partitions that are shown; null: all of it. */
interface Described {
  readonly disk: RawDisk;
  readonly table: PartitionTable | null;
  readonly shown: readonly Partition[] | null;
}

async function describe(storage: Storage, device: string, { partitions, writable }: Wanted): Promise<Described> {
  const { size } = storage;
  if (size === 0 || size % SECTOR !== 0) {
    throw new ImageError('invalid-argument', 'The device is not a disk', {
      path: device,
      found: `${size} bytes`,
      expected: 'a multiple of 512, at least 512',
    });
  }
  const disk = { device, size, writable };
  if (partitions === undefined) return { disk: { ...disk, areas: null }, table: null, shown: null };
  const table = await listPartitions(storage);
  if (table.kind === 'none') {
    throw new ImageError('unsupported', 'The device has no partition table', {
      path: device,
      hint: 'Describe the whole device (on the command line: omit --partitions).',
    });
  }
  const shown: Partition[] = [];
  for (const number of [...new Set(partitions)].sort((one, other) => one - other))
    shown.push(await partitionOf(storage, number));
  return { disk: { ...disk, areas: await areasOf(storage, table, shown) }, table, shown };
}

interface Span {
  readonly start: number;
  readonly end: number;
  readonly kind: 'device' | 'copy';
}

/** Partitions come from the device, tables are copied, and what lies between is hidden. */
async function areasOf(storage: Storage, table: PartitionTable, shown: readonly Partition[]): Promise<RawArea[]> {
  const { size, label: path } = storage;
  const device = shown.map(({ offset, length }): Span => ({ start: offset, end: offset + length, kind: 'device' }));
  const spans = [...(await tableSpans(storage, table)), ...device].sort((one, other) => one.start - other.start);
  const areas: RawArea[] = [];
  let at = 0;
  for (const { start, end, kind } of spans) {
    if (start < at) throw overlapping(path);
    if (start > at) areas.push({ start: at, length: start - at, kind: 'hidden' });
    const bytes = kind === 'copy' ? new Uint8Array(end - start) : undefined;
    if (bytes !== undefined) await readPadded(storage, start, bytes);
    areas.push({ start, length: end - start, kind, bytes });
    at = end;
  }
  if (at < size) areas.push({ start: at, length: size - at, kind: 'hidden' });
  return areas;
}

/** Sectors before the first partition, those behind the last one of a GPT, and the tables of logical partitions. */
async function tableSpans(storage: Storage, { kind, partitions, sectorSize }: PartitionTable): Promise<Span[]> {
  const { size } = storage;
  const first = partitions.reduce((least, { offset }) => Math.min(least, offset), Math.min(size, TABLE_BYTES));
  const spans: Span[] = [{ start: 0, end: Math.max(first, SECTOR), kind: 'copy' }];
  if (kind === 'gpt') {
    const last = partitions.reduce((most, { offset, length }) => Math.max(most, offset + length), first);
    const start = Math.max(last, alignUp(Math.max(size - TABLE_BYTES, 0), SECTOR));
    if (start < size) spans.push({ start, end: size, kind: 'copy' });
  }
  for (const { kind: of, offset } of partitions) {
    if (of !== 'extended') continue;
    for (const span of await logicalTables(storage, offset, sectorSize)) spans.push(span);
  }
  return spans;
}

/** The tables of logical partitions, each one sector. The first one begins the extended partition. */
async function logicalTables(storage: Storage, extended: number, sectorSize: number): Promise<Span[]> {
  const found = new Map<number, Span>();
  for (let at: number | null = extended; at !== null && found.size < CHAIN; ) {
    if (found.has(at) || at + sectorSize > storage.size) break;
    found.set(at, { start: at, end: at + sectorSize, kind: 'copy' });
    const sector = new Uint8Array(BOOT_SECTOR.size);
    await readPadded(storage, at, sector);
    const entries = Array.from({ length: MBR_ENTRY_COUNT }, (_, slot) =>
      MBR_ENTRY.decode(sector, MBR_ENTRIES + slot * MBR_ENTRY.size),
    );
    const link = entries.find(({ type, sectorCount }) => EXTENDED_TYPES.has(type) && sectorCount > 0);
    at = link === undefined ? null : extended + link.start * sectorSize;
  }
  return [...found.values()];
}

function overlapping(path: string): ImageError {
  return new ImageError('corrupt', 'The partitions of the device overlap each other or a partition table', {
    path,
    hint: 'Describe the whole device (on the command line: omit --partitions).',
  });
}
