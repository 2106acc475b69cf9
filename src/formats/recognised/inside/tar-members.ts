/** Tar: the members of an archive, with ustar, pax, GNU and base-256 fields. Headers are read, no data. */
import { hasText } from '../../../binary/look.ts';
import { alignUp } from '../../../binary/numbers.ts';
import { type ErrorContext, ImageError, printable, throwIfAborted } from '../../../errors.ts';
import type { InnerRange } from '../../../image/unwrap.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { archiveText } from './archive-text.ts';
import type { Member } from './members.ts';
import { type PaxRecords, paxRecords, sizeIn } from './pax.ts';
import { BLOCK, checksumFits, GNU_SPARSE, GNU_SPARSE_MORE, HEADER, MAGIC } from './tar-layout.ts';

/** A member, and its bytes in the archive. */
export interface TarMember extends Member, InnerRange {}

/** The content of an archive. */
export interface TarList {
  readonly members: readonly TarMember[];
  readonly warnings: readonly string[];
}

/** Bounds against hostile archives. */
export const TAR_LIMITS = {
  /** Headers, those of names and records included. */
  headers: 200_000,
  /** Bytes of the records, or the long name, in front of a member. */
  recordBytes: 1024 * 1024,
  /** Bytes of the list of pieces of a sparse member. */
  piecesBytes: 16 * 1024 * 1024,
  /** Bytes behind the end that are looked at. */
  behindBytes: 64 * 1024,
} as const;

/** Types of members without data, whatever their size says. */
const WITHOUT_DATA: Readonly<Partial<Record<string, string>>> = {
  '1': 'a link',
  '2': 'a link',
  '3': 'a device',
  '4': 'a device',
  '5': 'a directory',
  '6': 'a FIFO',
};
/** Types of files. */
const FILES = ['\0', '0', '7'];

/** What stands before a member and belongs to it. */
interface Before {
  readonly global: PaxRecords;
  own: PaxRecords | null;
  name: string | null;
}

/** Reads all headers. Throws `corrupt` for one that is wrong or cut off, `limit`. */
export async function readTar(storage: Storage, { signal }: OperationOptions): Promise<TarList> {
  const members: TarMember[] = [];
  const before: Before = { global: new Map(), own: null, name: null };
  let at = 0;
  for (let count = 0; ; count++) {
    throwIfAborted(signal, 'Opening');
    const header = await headerAt(storage, at);
    if (header === null) return { members, warnings: await endWarnings(storage, at) };
    if (count === TAR_LIMITS.headers) {
      throw new ImageError('limit', 'The tar archive has too many members', {
        path: storage.label,
        expected: `at most ${TAR_LIMITS.headers} headers`,
        hint: 'Unpack the disk first (tar -xf).',
      });
    }
    const found = await memberAt(storage, at, header, before);
    if (found.member !== null) members.push(found.member);
    at = found.next;
  }
}

/** The block at an offset; null at the end. */
async function headerAt(storage: Storage, at: number): Promise<Uint8Array | null> {
  const block = new Uint8Array(Math.min(BLOCK, Math.max(storage.size - at, 0)));
  await storage.read(at, block);
  if (block.every((byte) => byte === 0)) return null;
  if (block.length < BLOCK) throw corrupt(storage, at, 'ends within a header');
  if (!checksumFits(block)) {
    throw corrupt(storage, at, 'has a header with a wrong checksum', { field: 'checksum' });
  }
  return block;
}

async function memberAt(
  storage: Storage,
  at: number,
  header: Uint8Array,
  before: Before,
): Promise<{ readonly member: TarMember | null; readonly next: number }> {
  const type = String.fromCharCode(HEADER.get(header, 'type'));
  const isOwn = 'xXgLK'.includes(type);
  const records = isOwn ? null : mergedRecords(before);
  const stored = sizeIn(HEADER.get(header, 'size'));
  const size = records === null ? stored : sizeOf(records, stored);
  if (size === null) throw corrupt(storage, at, 'has a member of an invalid size', { field: 'size' });
  const empty = WITHOUT_DATA[type];
  const length = empty === undefined ? size : 0;
  const offset = type === 'S' ? await behindPieces(storage, at, header) : at + BLOCK;
  if (offset + length > storage.size) {
    throw corrupt(storage, at, 'ends within a member', {
      found: `${storage.size - offset} bytes`,
      expected: `${length} bytes`,
    });
  }
  const next = offset + alignUp(length, BLOCK);
  if (isOwn) {
    await readBefore(storage, { type, offset, length }, before);
    return { member: null, next };
  }
  const name = records?.get('GNU.sparse.name') ?? records?.get('path') ?? before.name ?? nameIn(header);
  before.own = null;
  before.name = null;
  const isSparse = type === 'S' || [...(records?.keys() ?? [])].some((key) => key.startsWith('GNU.sparse.'));
  return { member: { name, kind: empty ?? kindOf(type, name, isSparse), offset, length }, next };
}

function kindOf(type: string, name: string, isSparse: boolean): string | null {
  if (isSparse) return 'a sparse file, whose holes were left out';
  if (!FILES.includes(type)) return `a member of an unknown type (${printable(type)})`;
  return name.endsWith('/') ? 'a directory' : null;
}

/** The records of all members, and those of one. An empty value takes one back. */
function mergedRecords({ global, own }: Before): PaxRecords {
  const all = new Map([...global, ...(own ?? [])]);
  for (const [key, value] of all) if (value === '') all.delete(key);
  return all;
}

/** The size of the header unless a record replaces it. */
function sizeOf(records: PaxRecords, stored: number | null): number | null {
  const text = records.get('size');
  if (text === undefined) return stored;
  const size = /^\d{1,16}$/.test(text) ? Number(text) : null;
  return size !== null && Number.isSafeInteger(size) ? size : null;
}

/** What `x`, `g` and `L` say about members behind them. */
async function readBefore(
  storage: Storage,
  { type, offset, length }: InnerRange & { readonly type: string },
  before: Before,
): Promise<void> {
  // The target of a link.
  if (type === 'K') return;
  if (length > TAR_LIMITS.recordBytes) {
    throw new ImageError('limit', 'The tar archive has a member with too long a name, or too many records', {
      path: storage.label,
      found: length,
      expected: `at most ${TAR_LIMITS.recordBytes} bytes`,
    });
  }
  const bytes = new Uint8Array(length);
  await storage.read(offset, bytes);
  if (type === 'L') {
    before.name = archiveText(bytes);
    return;
  }
  const records = paxRecords(bytes);
  if (records === null) throw corrupt(storage, offset, 'has records that cannot be read', { field: 'pax records' });
  if (type !== 'g') {
    before.own = records;
    return;
  }
  for (const [key, value] of records) before.global.set(key, value);
}

/** The offset behind the blocks with the list of pieces. */
async function behindPieces(storage: Storage, at: number, header: Uint8Array): Promise<number> {
  let next = at + BLOCK;
  for (let goesOn = GNU_SPARSE.get(header, 'goesOn') !== 0; goesOn; next += BLOCK) {
    if (next + BLOCK > storage.size) throw corrupt(storage, next, 'ends within a list of pieces');
    if (next - at > TAR_LIMITS.piecesBytes) throw corrupt(storage, at, 'has a list of pieces that does not end');
    const block = new Uint8Array(BLOCK);
    await storage.read(next, block);
    goesOn = GNU_SPARSE_MORE.get(block, 'goesOn') !== 0;
  }
  return next;
}

function nameIn(header: Uint8Array): string {
  const name = archiveText(HEADER.get(header, 'name'));
  const isUstar = hasText(header, HEADER.fields.magic.offset, MAGIC.ustar);
  const prefix = isUstar ? archiveText(HEADER.get(header, 'prefix')) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** `at`: the first block of the end, or the end of the file. */
async function endWarnings(storage: Storage, at: number): Promise<readonly string[]> {
  const { label, size } = storage;
  const rest = new Uint8Array(Math.max(0, Math.min(TAR_LIMITS.behindBytes, size - at)));
  await storage.read(size - at > 0 ? at : size, rest);
  if (rest.length < 2 * BLOCK) return [`${label}: The end of the tar archive is missing: it may have been cut off.`];
  if (rest.every((byte) => byte === 0)) return [];
  return [`${label}: Beyond the end of the tar archive are other bytes; they are left out.`];
}

function corrupt({ label: path }: Storage, offset: number, what: string, context: ErrorContext = {}): ImageError {
  return new ImageError('corrupt', `The tar archive ${what}`, { path, offset, ...context });
}
