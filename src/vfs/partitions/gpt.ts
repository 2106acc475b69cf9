/**
 * The GUID partition table: a header and entries at the start of the disk, and a copy of both at the end. Each has a
 * checksum; if one copy is damaged, the other is used.
 */
import { crc32 } from '../../binary/crc32.ts';
import { isNullGuid } from '../../binary/guid.ts';
import { isPowerOfTwo } from '../../binary/numbers.ts';
import { GPT_ENTRY, GPT_HEADER, GPT_SIGNATURE, type GptHeader } from '../../binary/partition-tables.ts';
import { LIMITS } from '../../limits.ts';
import type { Partition, PartitionTable, TableReader } from './contract.ts';
import { gptTypeName } from './types.ts';

/** Attribute bits with the same meaning for all types. */
const ATTRIBUTES: readonly string[] = ['required', 'no-block-io', 'legacy-boot'];

/** One intact copy of the table. */
interface Copy {
  readonly header: GptHeader;
  readonly entries: Uint8Array;
}

/** A copy, or the reason for rejecting it; null: nothing there looks like one. */
type Answer = Copy | string | null;

/**
 * The GPT of a disk, tried with each of the sector sizes; null when there is none. A damaged one is `none` with
 * warnings.
 */
export async function readGpt(reader: TableReader, sectorSizes: readonly number[]): Promise<PartitionTable | null> {
  let damaged: { readonly sectorSize: number; readonly reason: string } | null = null;
  for (const sectorSize of sectorSizes) {
    const primary = await readCopy(reader, 1, sectorSize);
    if (primary === null) continue;
    if (typeof primary !== 'string') {
      const warnings = await lookAtBackup(reader, primary.header, sectorSize);
      return tableOf(reader, primary, { sectorSize, warnings });
    }
    damaged ??= { sectorSize, reason: primary };
  }
  for (const sectorSize of damaged === null ? sectorSizes : [damaged.sectorSize]) {
    const last = Math.floor(reader.size / sectorSize) - 1;
    const backup = last > 1 ? await readCopy(reader, last, sectorSize) : null;
    const reason = damaged?.reason ?? 'it is missing';
    if (backup !== null && typeof backup !== 'string') {
      const warnings = [`The GPT at the start of the disk is not used: ${reason}. The copy at the end is.`];
      return tableOf(reader, backup, { sectorSize, warnings });
    }
    if (backup === null) continue;
    damaged = { sectorSize, reason: `${reason}; the copy at the end: ${backup}` };
  }
  if (damaged === null) return null;
  const warnings = [`The GPT is damaged: ${damaged.reason}.`];
  return { kind: 'none', sectorSize: damaged.sectorSize, diskId: null, partitions: [], warnings };
}

async function lookAtBackup(reader: TableReader, header: GptHeader, sectorSize: number): Promise<string[]> {
  const backup = header.otherSector <= sectorsOf(reader, sectorSize) ? Number(header.otherSector) : null;
  const answer =
    backup === null ? 'it would be beyond the end of the disk' : await readCopy(reader, backup, sectorSize);
  if (answer === null) return ['The copy of the GPT at the end of the disk is missing.'];
  return typeof answer === 'string' ? [`The copy of the GPT at the end of the disk is damaged: ${answer}.`] : [];
}

function sectorsOf(reader: TableReader, sectorSize: number): bigint {
  return BigInt(Math.floor(reader.size / sectorSize));
}

async function readCopy(reader: TableReader, sector: number, sectorSize: number): Promise<Answer> {
  const bytes = await reader.read(sector * sectorSize, sectorSize);
  if (bytes === null || GPT_HEADER.get(bytes, 'signature') !== GPT_SIGNATURE) return null;
  const header = GPT_HEADER.decode(bytes);
  const wrong = objectionTo(header, bytes, { sector, sectors: sectorsOf(reader, sectorSize) });
  if (wrong !== null) return wrong;
  const length = header.entryCount * header.entrySize;
  if (length > LIMITS.gptEntryBytes) return `its entries take ${length} bytes, more than ${LIMITS.gptEntryBytes}`;
  const entries = await reader.read(Number(header.entriesSector) * sectorSize, length);
  if (entries === null) return 'its entries are outside the disk';
  return crc32(entries) === header.entriesCrc ? { header, entries } : 'the checksum of its entries is wrong';
}

function objectionTo(header: GptHeader, bytes: Uint8Array, at: { sector: number; sectors: bigint }): string | null {
  const { headerSize, headerCrc, ownSector, entrySize, entriesSector, firstUsable, lastUsable } = header;
  if (headerSize < GPT_HEADER.size || headerSize > bytes.length) return `its header has ${headerSize} bytes`;
  const plain = bytes.slice(0, headerSize);
  GPT_HEADER.put(plain, 'headerCrc', 0);
  if (crc32(plain) !== headerCrc) return 'the checksum of its header is wrong';
  if (ownSector !== BigInt(at.sector)) return 'its own location in the header is wrong';
  if (entrySize < GPT_ENTRY.size || !isPowerOfTwo(entrySize)) return `its entries have ${entrySize} bytes each`;
  if (entriesSector >= at.sectors) return 'its entries are beyond the end of the disk';
  if (firstUsable > lastUsable + 1n) return 'its usable range ends before it begins';
  return null;
}

function tableOf(
  reader: TableReader,
  { header, entries }: Copy,
  { sectorSize, warnings }: { readonly sectorSize: number; readonly warnings: readonly string[] },
): PartitionTable {
  const partitions: Partition[] = [];
  const all = [...warnings];
  const sectors = sectorsOf(reader, sectorSize);
  for (let index = 0; index < header.entryCount; index++) {
    const entry = GPT_ENTRY.decode(entries, index * header.entrySize);
    if (isNullGuid(entry.type)) continue;
    const { first, last } = entry;
    if (first > last || last - first >= 2n ** 53n / BigInt(sectorSize) || first >= sectors) {
      all.push(`Partition ${index + 1} is outside the disk and is ignored.`);
      continue;
    }
    if (last >= sectors) all.push(`Partition ${index + 1} reaches beyond the end of the disk.`);
    const name = nameOf(entry.name);
    partitions.push({
      number: index + 1,
      offset: Number(first) * sectorSize,
      length: Number(last - first + 1n) * sectorSize,
      kind: 'gpt',
      type: entry.type,
      typeName: gptTypeName(entry.type),
      name: name === '' ? null : name,
      guid: entry.id,
      flags: flagsOf(entry.attributes),
    });
  }
  return { kind: 'gpt', sectorSize, diskId: header.diskId, partitions, warnings: all };
}

function nameOf(bytes: Uint8Array): string {
  const text = new TextDecoder('utf-16le').decode(bytes);
  const end = text.indexOf('\0');
  return end === -1 ? text : text.slice(0, end);
}

function flagsOf(attributes: bigint): string[] {
  const flags: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((attributes & (1n << BigInt(bit))) !== 0n) flags.push(ATTRIBUTES[bit] ?? `attribute-${bit}`);
  }
  return flags;
}
