/**
 * The PC's partition table. An extended partition contains a chain of tables, each with logical partitions (relative to
 * that table) and a link (relative to the extended partition). Chains are hostile: each table is read once, inside its
 * extended partition, and their number is limited.
 */

import {
  BOOT_SECTOR,
  BOOT_SIGNATURE,
  EXTENDED_TYPES,
  MBR_ENTRIES,
  MBR_ENTRY,
  MBR_ENTRY_COUNT,
  type MbrEntry,
  PROTECTIVE_TYPE,
  VOLUME_SECTOR,
} from '../../binary/partition-tables.ts';
import { hex32 } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import type { Partition, PartitionTable, TableReader } from './contract.ts';
import { mbrTypeName } from './types.ts';

/** Number of the first logical partition in Linux. */
const FIRST_LOGICAL = 5;
const ACTIVE = 0x80;

/** A boot sector with a partition table. */
export interface Mbr {
  readonly diskId: string;
  readonly entries: readonly MbrEntry[];
  /** True when it protects a GPT. */
  readonly protective: boolean;
}

/** The table in the first sector; null when there is none, as in the first sector of a FAT or NTFS volume. */
export function parseMbr(sector: Uint8Array): Mbr | null {
  if (BOOT_SECTOR.get(sector, 'signature') !== BOOT_SIGNATURE) return null;
  const entries = entriesOf(sector);
  if (entries.some(({ status }) => (status & ~ACTIVE) !== 0)) return null;
  const used = entries.filter(isUsed);
  if (used.length === 0 && isVolume(sector)) return null;
  const protective = used.some(({ type }) => type === PROTECTIVE_TYPE);
  return { diskId: hex32(BOOT_SECTOR.get(sector, 'diskId')), entries, protective };
}

function isVolume(sector: Uint8Array): boolean {
  const { system, fatName, fat32Name } = VOLUME_SECTOR.decode(sector);
  return (
    system.startsWith('NTFS') || system.startsWith('EXFAT') || fatName.startsWith('FAT') || fat32Name.startsWith('FAT')
  );
}

function entriesOf(sector: Uint8Array): MbrEntry[] {
  const entries: MbrEntry[] = [];
  for (let slot = 0; slot < MBR_ENTRY_COUNT; slot++) {
    entries.push(MBR_ENTRY.decode(sector, MBR_ENTRIES + slot * MBR_ENTRY.size));
  }
  return entries;
}

function isUsed({ type, sectorCount }: MbrEntry): boolean {
  return type !== 0 && sectorCount !== 0;
}

/** The partitions of an MBR, logical ones included. */
export async function readMbr(reader: TableReader, mbr: Mbr, sectorSize: number): Promise<PartitionTable> {
  const warnings: string[] = [];
  const partitions: Partition[] = [];
  const chains: Extended[] = [];
  for (const [slot, entry] of mbr.entries.entries()) {
    if (!isUsed(entry)) continue;
    const extended = EXTENDED_TYPES.has(entry.type);
    const partition = partitionOf(entry, {
      number: slot + 1,
      kind: extended ? 'extended' : 'primary',
      base: 0,
      sectorSize,
    });
    partitions.push(partition);
    if (partition.offset + partition.length > reader.size) {
      warnings.push(`Partition ${partition.number} reaches beyond the end of the disk.`);
    }
    if (extended) chains.push({ start: entry.start, end: entry.start + entry.sectorCount });
  }
  for (const chain of chains) await readChain(reader, chain, { sectorSize, partitions, warnings });
  return { kind: 'mbr', sectorSize, diskId: mbr.diskId, partitions, warnings };
}

/** Sectors. */
interface Extended {
  readonly start: number;
  readonly end: number;
}

interface Found {
  readonly sectorSize: number;
  readonly partitions: Partition[];
  readonly warnings: string[];
}

async function readChain(reader: TableReader, extended: Extended, found: Found): Promise<void> {
  const { sectorSize, partitions, warnings } = found;
  const seen = new Set<number>();
  for (let at: number | null = extended.start; at !== null; ) {
    if (seen.has(at)) {
      warnings.push('The chain of logical partitions is a loop.');
      return;
    }
    if (seen.size >= LIMITS.logicalPartitions) {
      warnings.push(
        `There are more than ${LIMITS.logicalPartitions} tables of logical partitions; the rest is ignored.`,
      );
      return;
    }
    seen.add(at);
    const sector = await reader.read(at * sectorSize, BOOT_SECTOR.size);
    if (sector === null || BOOT_SECTOR.get(sector, 'signature') !== BOOT_SIGNATURE) {
      warnings.push(`The table of logical partitions at sector ${at} is missing; further partitions are unknown.`);
      return;
    }
    const used = entriesOf(sector).filter(isUsed);
    for (const entry of used) {
      if (EXTENDED_TYPES.has(entry.type)) continue;
      const number = partitions.filter(({ kind }) => kind === 'logical').length + FIRST_LOGICAL;
      const start = at + entry.start;
      if (entry.start === 0 || start + entry.sectorCount > extended.end) {
        warnings.push(`A logical partition at sector ${start} is outside its extended partition and is ignored.`);
        continue;
      }
      partitions.push(partitionOf(entry, { number, kind: 'logical', base: at, sectorSize }));
      if ((start + entry.sectorCount) * sectorSize > reader.size) {
        warnings.push(`Partition ${number} reaches beyond the end of the disk.`);
      }
    }
    const link = used.find(({ type }) => EXTENDED_TYPES.has(type));
    at = link === undefined ? null : extended.start + link.start;
    if (at !== null && at >= extended.end) {
      warnings.push('The chain of logical partitions leaves its extended partition.');
      return;
    }
  }
}

interface Place {
  readonly number: number;
  readonly kind: Partition['kind'];
  /** Sector that the entry is relative to. */
  readonly base: number;
  readonly sectorSize: number;
}

function partitionOf(entry: MbrEntry, { number, kind, base, sectorSize }: Place): Partition {
  return {
    number,
    offset: (base + entry.start) * sectorSize,
    length: entry.sectorCount * sectorSize,
    kind,
    type: `0x${entry.type.toString(16).padStart(2, '0')}`,
    typeName: mbrTypeName(entry.type),
    name: null,
    guid: null,
    flags: entry.status === ACTIVE ? ['active'] : [],
  };
}
