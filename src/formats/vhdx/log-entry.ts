/** Entries of the log: encoded, decoded, and checked one by one. */
import { divCeil, isAligned } from '../../binary/numbers.ts';
import { assert } from '../../errors.ts';
import { checksumFits, putChecksum } from './checksum.ts';
import {
  DATA_DESCRIPTOR,
  DATA_SECTOR,
  DATA_SIGNATURE,
  DESCRIPTOR_BYTES,
  LOG_ENTRY,
  LOG_SIGNATURE,
  type LogEntryHeader,
  PAGE,
  SECTOR_SIGNATURE,
  ZERO_DESCRIPTOR,
  ZERO_SIGNATURE,
} from './layout.ts';

const LOW = 0xffff_ffffn;

/** A page of metadata as it is to be. */
export interface LogPage {
  readonly fileOffset: number;
  /** PAGE bytes. */
  readonly bytes: Uint8Array;
}

/** A change that an entry names: a page, or a range of zeroes. */
export interface LogChange {
  readonly fileOffset: bigint;
  /** Null: zeroes. */
  readonly bytes: Uint8Array | null;
  readonly length: bigint;
}

/** A valid entry of a log. */
export interface LogEntry extends Pick<LogEntryHeader, 'length' | 'tail' | 'sequence' | 'flushedSize' | 'lastSize'> {
  readonly changes: readonly LogChange[];
}

/** Bytes that header and descriptors of an entry take: whole pages. */
function headBytes(descriptors: number): number {
  return divCeil(LOG_ENTRY.size + descriptors * DESCRIPTOR_BYTES, PAGE) * PAGE;
}

/** Bytes of an entry with that many pages. */
export function entryBytes(pages: number): number {
  return headBytes(pages) + pages * PAGE;
}

/** The bytes of an entry. */
export function encodeEntry(
  own: Pick<LogEntryHeader, 'tail' | 'sequence' | 'logGuid' | 'flushedSize' | 'lastSize'>,
  pages: readonly LogPage[],
): Uint8Array {
  const length = entryBytes(pages.length);
  const bytes = new Uint8Array(length);
  const head = { ...own, signature: LOG_SIGNATURE, checksum: 0, length, count: pages.length, reserved: 0 };
  bytes.set(LOG_ENTRY.encode(head));
  for (const [index, page] of pages.entries())
    putPage(bytes, { index, count: pages.length, page, sequence: own.sequence });
  putChecksum(bytes);
  return bytes;
}

function putPage(
  bytes: Uint8Array,
  { index, count, page, sequence }: { index: number; count: number; page: LogPage; sequence: bigint },
): void {
  assert(page.bytes.length === PAGE && page.fileOffset % PAGE === 0, 'whole pages are logged');
  const descriptor = DATA_DESCRIPTOR.encode({
    signature: DATA_SIGNATURE,
    trailing: page.bytes.subarray(PAGE - 4),
    leading: page.bytes.subarray(0, 8),
    fileOffset: BigInt(page.fileOffset),
    sequence,
  });
  bytes.set(descriptor, LOG_ENTRY.size + index * DESCRIPTOR_BYTES);
  const at = headBytes(count) + index * PAGE;
  bytes.set(page.bytes, at);
  DATA_SECTOR.put(bytes, 'signature', SECTOR_SIGNATURE, at);
  DATA_SECTOR.put(bytes, 'sequenceHigh', Number(sequence >> 32n), at);
  DATA_SECTOR.put(bytes, 'sequenceLow', Number(sequence & LOW), at);
}

/** The header of an entry, as far as it can be checked alone; null: there is no valid entry. */
export function entryHeader(sector: Uint8Array, logGuid: string, logLength: number): LogEntryHeader | null {
  if (LOG_ENTRY.get(sector, 'signature') !== LOG_SIGNATURE) return null;
  const header = LOG_ENTRY.decode(sector);
  const { length, tail, sequence, count } = header;
  const sound =
    header.logGuid === logGuid &&
    sequence > 0n &&
    length > 0 &&
    isAligned(length, PAGE) &&
    length <= logLength &&
    isAligned(tail, PAGE) &&
    tail < logLength &&
    headBytes(count) <= length;
  return sound ? header : null;
}

/** Decodes the whole bytes of an entry, whose pages stay a part of them; null: it is not valid. */
export function decodeEntry(bytes: Uint8Array, header: LogEntryHeader): LogEntry | null {
  if (!checksumFits(bytes)) return null;
  const { count, sequence, length, tail, flushedSize, lastSize } = header;
  let at = headBytes(count);
  const changes: LogChange[] = [];
  for (let index = 0; index < count; index++) {
    const place = LOG_ENTRY.size + index * DESCRIPTOR_BYTES;
    const change = changeAt(bytes, place, at, sequence);
    if (change === null) return null;
    if (change.bytes !== null) at += PAGE;
    changes.push(change);
  }
  return at === length ? { length, tail, sequence, flushedSize, lastSize, changes } : null;
}

function changeAt(bytes: Uint8Array, place: number, sectorAt: number, sequence: bigint): LogChange | null {
  const signature = DATA_DESCRIPTOR.get(bytes, 'signature', place);
  const fileOffset = DATA_DESCRIPTOR.get(bytes, 'fileOffset', place);
  if (DATA_DESCRIPTOR.get(bytes, 'sequence', place) !== sequence || fileOffset % BigInt(PAGE) !== 0n) return null;
  if (signature === ZERO_SIGNATURE) {
    const length = ZERO_DESCRIPTOR.get(bytes, 'length', place);
    return length % BigInt(PAGE) === 0n ? { fileOffset, bytes: null, length } : null;
  }
  if (signature !== DATA_SIGNATURE || sectorAt + PAGE > bytes.length) return null;
  const { signature: mark, sequenceHigh, sequenceLow } = DATA_SECTOR.decode(bytes, sectorAt);
  if (mark !== SECTOR_SIGNATURE || BigInt(sequenceHigh) << 32n !== sequence - (sequence & LOW)) return null;
  if (BigInt(sequenceLow) !== (sequence & LOW)) return null;
  const page = bytes.subarray(sectorAt, sectorAt + PAGE);
  page.set(DATA_DESCRIPTOR.get(bytes, 'leading', place));
  page.set(DATA_DESCRIPTOR.get(bytes, 'trailing', place), PAGE - 4);
  return { fileOffset, bytes: page, length: BigInt(PAGE) };
}
