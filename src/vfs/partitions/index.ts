/** Partitions of a disk, read from an MBR or a GPT. */
import { checkArguments, NUMBER } from '../../arguments.ts';
import { BOOT_SECTOR } from '../../binary/partition-tables.ts';
import { ImageError } from '../../errors.ts';
import type { Bytes } from '../bytes.ts';
import { PARTITION_OPTIONS, STORE } from '../kinds.ts';
import type { Partition, PartitionOptions, PartitionTable, TableReader } from './contract.ts';
import { readGpt } from './gpt.ts';
import { parseMbr, readMbr } from './mbr.ts';

/** Supported sector sizes. */
const SECTOR_SIZES = [512, 4096];
const EMPTY = { kind: 'none', sectorSize: 512, diskId: null, partitions: [], warnings: [] } as const;

/**
 * Reads the partition table of a disk, a device or a storage: a GPT if the MBR announces one, otherwise the MBR. Reads
 * little, whatever the table contains; `warnings` lists the parts that were ignored. Throws `invalid-argument` for
 * sector sizes other than 512 and 4096, and the errors of reading the disk.
 */
export async function listPartitions(disk: Bytes, options: PartitionOptions = {}): Promise<PartitionTable> {
  checkArguments('listPartitions', { disk: [disk, STORE], options: [options, PARTITION_OPTIONS] });
  const { sectorSize } = options;
  if (sectorSize !== undefined && !SECTOR_SIZES.includes(sectorSize)) {
    throw new ImageError('invalid-argument', 'Disks have sectors of 512 or 4096 bytes', {
      path: disk.label,
      found: sectorSize,
    });
  }
  const reader = readerOf(disk);
  const sector = await reader.read(0, BOOT_SECTOR.size);
  const mbr = sector === null ? null : parseMbr(sector);
  if (mbr === null) return EMPTY;
  if (!mbr.protective) return readMbr(reader, mbr, sectorSize ?? 512);
  const gpt = await readGpt(reader, sectorSize === undefined ? SECTOR_SIZES : [sectorSize]);
  if (gpt !== null) return gpt;
  const table = await readMbr(reader, mbr, sectorSize ?? 512);
  return { ...table, warnings: [...table.warnings, 'The disk has a protective MBR but no GPT.'] };
}

/**
 * The place of a partition, for `insideSource`, `rangeStorage` and streams. Throws `not-found` for an unknown number,
 * `unsupported` for an extended partition, `corrupt` for one outside the disk.
 */
export async function partitionOf(disk: Bytes, number: number, options: PartitionOptions = {}): Promise<Partition> {
  checkArguments('partitionOf', {
    disk: [disk, STORE],
    number: [number, NUMBER],
    options: [options, PARTITION_OPTIONS],
  });
  const { partitions, warnings } = await listPartitions(disk, options);
  const found = partitions.find((one) => one.number === number);
  if (found === undefined) {
    const numbers = partitions.map((one) => one.number).join(', ');
    throw new ImageError('not-found', `There is no partition ${number}`, {
      path: disk.label,
      hint: warnings[0] ?? (numbers === '' ? 'The disk has no partition table.' : `There are: ${numbers}.`),
    });
  }
  if (found.kind === 'extended') {
    throw new ImageError('unsupported', `Partition ${number} is an extended partition`, {
      path: disk.label,
      hint: 'Specify a logical partition: their numbers begin at 5.',
    });
  }
  if (found.offset + found.length > disk.size) {
    throw new ImageError('corrupt', `Partition ${number} reaches beyond the end of the disk`, {
      path: disk.label,
      guestOffset: found.offset,
      found: `${found.length} bytes`,
      expected: `up to ${disk.size}`,
    });
  }
  return found;
}

function readerOf(disk: Bytes): TableReader {
  return {
    label: disk.label,
    size: disk.size,
    async read(offset, length) {
      if (!Number.isSafeInteger(offset + length) || offset + length > disk.size) return null;
      const bytes = new Uint8Array(length);
      if (length > 0) await disk.read(offset, bytes);
      return bytes;
    },
  };
}
