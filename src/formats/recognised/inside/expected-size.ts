/**
 * Lengths of the content of compressed files, as far as they tell it before they are unpacked. A length may be wrong, or be
 * that of one of several parts: a reader compares it with what comes.
 */
import {
  BOOT_SECTOR,
  BOOT_SIGNATURE,
  GPT_HEADER,
  GPT_SIGNATURE,
  MBR_ENTRY,
  MBR_ENTRY_COUNT,
  PROTECTIVE_TYPE,
} from '../../../binary/partition-tables.ts';
import { frameHeader, ZSTD_HEADER_MAX, ZSTD_MAGIC } from '../../../codec/zstd-stream.ts';
import { isImageError } from '../../../errors.ts';
import type { Storage } from '../../../storage/contract.ts';

const SECTOR = 512;
/** RFC 1952: the length of the content modulo 2^32, in the last bytes of a member. */
const GZIP = { sizeAt: 4, least: 18, modulo: 2 ** 32 } as const;
/** Deflate makes no data longer than this, as a factor: five bytes for each block of 65,535. */
const DEFLATE_GROWTH = 1.001;

/**
 * Length of what is in a gzip file. The file has the lowest 32 bits; the others are the least that fit the length of the
 * file, and the partition table in `head`, the first bytes of the content. Null: too short to tell.
 */
export async function gzipSize(storage: Storage, head: Uint8Array): Promise<number | null> {
  if (storage.size < GZIP.least) return null;
  const bytes = new Uint8Array(4);
  await storage.read(storage.size - GZIP.sizeAt, bytes);
  const lowest = new DataView(bytes.buffer).getUint32(0, true);
  const least = Math.max(storage.size / DEFLATE_GROWTH - GZIP.least, partitionedBytes(head), head.length);
  const times = Math.max(0, Math.ceil((least - lowest) / GZIP.modulo));
  return lowest + times * GZIP.modulo;
}

/** Length of the content of the first frame of a Zstandard file; null: it does not tell. */
export async function zstdSize(storage: Storage): Promise<number | null> {
  const bytes = new Uint8Array(Math.min(storage.size, ZSTD_HEADER_MAX));
  await storage.read(0, bytes);
  if (bytes.length < 5 || new DataView(bytes.buffer).getUint32(0, true) !== ZSTD_MAGIC) return null;
  try {
    return frameHeader(bytes).contentSize;
  } catch (error) {
    // Decoding tells.
    if (isImageError(error)) return null;
    throw error;
  }
}

/** End of the last partition of a disk that begins with these bytes; 0 without a partition table. */
export function partitionedBytes(head: Uint8Array): number {
  if (head.length < 2 * SECTOR) return 0;
  const { entries, signature } = BOOT_SECTOR.decode(head);
  if (signature !== BOOT_SIGNATURE) return 0;
  let end = 0;
  for (let n = 0; n < MBR_ENTRY_COUNT; n++) {
    const { type, start, sectorCount } = MBR_ENTRY.decode(entries, n * MBR_ENTRY.size);
    // One that protects a GPT may be shorter or longer than the disk.
    if (type === 0 || type === PROTECTIVE_TYPE) continue;
    end = Math.max(end, (start + sectorCount) * SECTOR);
  }
  const { signature: magic, otherSector } = GPT_HEADER.decode(head, SECTOR);
  const last = magic === GPT_SIGNATURE ? (Number(otherSector) + 1) * SECTOR : 0;
  return Math.max(end, Number.isSafeInteger(last) ? last : 0);
}
