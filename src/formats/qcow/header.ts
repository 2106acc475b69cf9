/** The header of a QCOW image, decoded and checked: after it, every number can be trusted. */
import { alignDown, divCeil, SECTOR } from '../../binary/numbers.ts';
import { type ErrorDetails, hex, hex32, ImageError } from '../../errors.ts';
import { decodeBackingName } from '../../image/backing-name.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { BACKING_NAME_MAX, CLUSTER_BITS, CRYPT, HEADER, type Header, L2_BITS, MAGIC, VERSION } from './layout.ts';
import { QCOW_LIMITS } from './limits.ts';

/** Checked content of a header. Places and sizes in bytes. */
export interface QcowHeader {
  readonly raw: Header;
  readonly virtualSize: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly tableEntries: number;
  readonly tableBytes: number;
  readonly l1Offset: number;
  /** Entries that the disk needs. */
  readonly l1Entries: number;
  /** Null: there is none. */
  readonly backing: Backing | null;
  readonly encrypted: boolean;
}

/** The backing file as the header names it. */
export interface Backing {
  /** Empty: the header has no name. */
  readonly name: string;
  readonly fileOffset: number;
  readonly length: number;
}

/** Reads and checks the header. Throws `invalid-format`, `unsupported`, `corrupt`, `limit`. */
export async function readHeader(storage: Storage, options: OperationOptions = {}): Promise<QcowHeader> {
  const bytes = new Uint8Array(HEADER.size);
  await readPadded(storage, 0, bytes, options);
  const raw = HEADER.decode(bytes);
  checkIdentity(storage, raw);
  const { clusterBits, l2Bits, cryptMethod } = raw;
  checkBits(storage, raw);
  const virtualSize = sizeOf(storage, raw);
  const tableEntries = 2 ** l2Bits;
  const clusterSize = 2 ** clusterBits;
  const l1Entries = divCeil(virtualSize, clusterSize * tableEntries);
  return {
    raw,
    virtualSize,
    clusterBits,
    clusterSize,
    tableEntries,
    tableBytes: tableEntries * 8,
    l1Entries,
    l1Offset: l1Of(storage, raw, l1Entries),
    backing: await backingOf(storage, raw, options),
    encrypted: cryptMethod === CRYPT.aes,
  };
}

function checkIdentity(storage: Storage, { magic, version }: Header): void {
  if (storage.size < HEADER.size || magic !== MAGIC) {
    throw fault(storage, 'invalid-format', 'This is not a QCOW image: the signature does not match', 'magic', {
      found: hex32(magic),
      expected: hex32(MAGIC),
    });
  }
  if (version === VERSION) return;
  throw fault(storage, 'invalid-format', 'This is not a QCOW image of version 1', 'version', {
    found: version,
    expected: String(VERSION),
    hint: 'Omit the format, so that it is detected.',
  });
}

function checkBits(storage: Storage, { clusterBits, l2Bits, cryptMethod }: Header): void {
  const check = (field: keyof Header, message: string, found: number, min: number, max: number): void => {
    if (found >= min && found <= max) return;
    throw fault(storage, 'corrupt', message, field, { found, expected: `from ${min} to ${max}` });
  };
  check('clusterBits', 'The cluster size is not possible', clusterBits, CLUSTER_BITS.min, CLUSTER_BITS.max);
  check('l2Bits', 'The size of the L2 tables is not possible', l2Bits, L2_BITS.min, L2_BITS.max);
  check('cryptMethod', 'The encryption method is unknown', cryptMethod, CRYPT.none, CRYPT.aes);
}

/** Whole sectors of the disk. */
function sizeOf(storage: Storage, { size }: Header): number {
  if (size < BigInt(SECTOR)) {
    const details = { found: String(size), expected: `at least ${SECTOR}` };
    throw fault(storage, 'corrupt', 'The disk of the image has no sector', 'size', details);
  }
  if (size <= BigInt(Number.MAX_SAFE_INTEGER)) return alignDown(Number(size), SECTOR);
  const details = { found: String(size), expected: `at most ${Number.MAX_SAFE_INTEGER}` };
  throw fault(storage, 'limit', 'The disk of the image is too large', 'size', details);
}

/** A file that ends inside the table has lost entries: to take them for absent would invent zeroes. */
function l1Of(storage: Storage, { l1Offset }: Header, l1Entries: number): number {
  const length = l1Entries * 8;
  if (length > QCOW_LIMITS.l1Bytes) {
    throw fault(storage, 'limit', 'The L1 table of the image is too large', 'size', {
      found: `${length} bytes`,
      expected: `at most ${QCOW_LIMITS.l1Bytes}`,
    });
  }
  const last = storage.size - length;
  if (l1Offset >= BigInt(HEADER.size) && l1Offset <= BigInt(last)) return Number(l1Offset);
  throw fault(storage, 'corrupt', 'The L1 table cannot be where the header says', 'l1Offset', {
    found: hex(l1Offset),
    expected: `behind the header, with ${length} bytes in a file of ${storage.size}`,
  });
}

async function backingOf(storage: Storage, header: Header, options: OperationOptions): Promise<Backing | null> {
  const { backingOffset, backingLength: length } = header;
  if (backingOffset === 0n) return null;
  const end = backingOffset + BigInt(length);
  if (length > BACKING_NAME_MAX || backingOffset < BigInt(HEADER.size) || end > BigInt(storage.size)) {
    const found = `${length} bytes at ${hex(backingOffset)}`;
    const expected = `at most ${BACKING_NAME_MAX} bytes behind the header and inside the file`;
    const message = 'The name of the backing file cannot be where the header says';
    throw fault(storage, 'corrupt', message, 'backingOffset', { found, expected });
  }
  const fileOffset = Number(backingOffset);
  const bytes = new Uint8Array(length);
  if (length > 0) await readPadded(storage, fileOffset, bytes, options);
  return { name: decodeBackingName(bytes, { field: 'backing file name', offset: fileOffset }), fileOffset, length };
}

function fault(
  { label }: Storage,
  kind: 'invalid-format' | 'corrupt' | 'limit',
  message: string,
  field: keyof Header,
  details: ErrorDetails,
): ImageError {
  return new ImageError(kind, message, { path: label, field, offset: HEADER.fields[field].offset, ...details });
}
