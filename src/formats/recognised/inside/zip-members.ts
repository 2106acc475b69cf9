/** Zip: the members by the central directory, which alone has their sizes where the archive was written to a pipe. */
import { hasText } from '../../../binary/look.ts';
import { type ErrorContext, ImageError, printable } from '../../../errors.ts';
import type { InnerRange } from '../../../image/unwrap.ts';
import type { Storage } from '../../../storage/contract.ts';
import { archiveText } from './archive-text.ts';
import type { Member } from './members.ts';
import { findDirectory, type ZipDirectory } from './zip-end.ts';
import { ELSEWHERE, ENTRY, EXTRA, FLAG, LOCAL, SIGNATURE, ZIP64_EXTRA } from './zip-layout.ts';

/** A member, with numbers that are inside the file. */
export interface ZipMember extends Member {
  readonly flags: number;
  readonly method: number;
  readonly crc: number;
  readonly storedSize: number;
  readonly size: number;
  /** Offset of its local header in the file. */
  readonly localOffset: number;
  /** As stored. */
  readonly rawName: Uint8Array;
}

/** The content of an archive. */
export interface ZipList {
  readonly members: readonly ZipMember[];
  /** Where the data of members must end. */
  readonly end: number;
  readonly warnings: readonly string[];
}

/** Bounds against hostile archives. */
export const ZIP_LIMITS = {
  /** Bytes of the directory: room for 200,000 members with usual names. */
  directoryBytes: 32 * 1024 * 1024,
} as const;

/** `madeBy`: Unix and macOS have the mode of the file in the upper half of the external attributes. */
const UNIX = [3, 19];
const MODE = { kinds: 0o170000, file: 0o100000, link: 0o120000, directory: 0o040000 } as const;

/** Reads the directory. Throws `corrupt`, `unsupported`, `limit`. */
export async function readZip(storage: Storage): Promise<ZipList> {
  const directory = await findDirectory(storage);
  const { label } = storage;
  if (directory.size > ZIP_LIMITS.directoryBytes) {
    throw new ImageError('limit', 'The zip archive has too many members', {
      path: label,
      field: 'size of the directory',
      found: directory.size,
      expected: `at most ${ZIP_LIMITS.directoryBytes} bytes`,
      hint: 'Unpack the disk first (unzip).',
    });
  }
  const bytes = new Uint8Array(directory.size);
  await storage.read(directory.offset, bytes);
  const members: ZipMember[] = [];
  for (let at = 0; at < bytes.length; ) {
    const { member, next } = memberAt(bytes, at, directory, label);
    members.push(member);
    at = next;
  }
  if (members.length % 2 ** 16 !== directory.entries % 2 ** 16) {
    throw corrupt(label, 'has a directory of another length', {
      field: 'entries',
      found: members.length,
      expected: directory.entries,
    });
  }
  refuseOverlaps(members, directory, label);
  const warnings: string[] = [];
  if (directory.shift > 0)
    warnings.push(`${label}: ${directory.shift} bytes in front of the zip archive are left out.`);
  if (directory.behind > 0) warnings.push(`${label}: ${directory.behind} bytes behind the zip archive are left out.`);
  return { members, end: directory.offset, warnings };
}

function memberAt(
  bytes: Uint8Array,
  at: number,
  { shift }: ZipDirectory,
  path: string,
): { readonly member: ZipMember; readonly next: number } {
  const rest = bytes.length - at;
  if (rest < ENTRY.size || !hasText(bytes, at, SIGNATURE.entry)) {
    throw corrupt(path, 'has a damaged directory', { field: 'signature of an entry', found: `at ${at}` });
  }
  const entry = ENTRY.decode(bytes, at);
  const nameEnd = at + ENTRY.size + entry.nameLength;
  const extraEnd = nameEnd + entry.extraLength;
  const next = extraEnd + entry.commentLength;
  if (next > bytes.length) throw corrupt(path, 'has a damaged directory', { field: 'name length', found: `at ${at}` });
  const rawName = bytes.slice(at + ENTRY.size, nameEnd);
  const name = archiveText(rawName);
  const wide = wideNumbers(bytes.subarray(nameEnd, extraEnd), entry);
  if (wide === null)
    throw corrupt(path, 'has a member of an unknown size', { field: 'zip64 extra field', found: printable(name) });
  const { flags, method, crc } = entry;
  const kind = name.includes('\0') ? 'a file with a name that leads out of the archive' : kindOf(entry, name);
  return { member: { name, rawName, kind, flags, method, crc, ...wide, localOffset: wide.localOffset + shift }, next };
}

type Entry = ReturnType<typeof ENTRY.decode>;
type Wide = Pick<ZipMember, 'size' | 'storedSize' | 'localOffset'>;

/** Sizes and offset of an entry, from the zip64 extra field where the entry has no room for them; null: they are not there. */
function wideNumbers(extra: Uint8Array, { size, storedSize, localOffset }: Entry): Wide | null {
  const field = zip64Field(extra);
  let at = 0;
  let missing = false;
  const wide = (value: number): number => {
    if (value !== ELSEWHERE.u32) return value;
    if (field === null || at + 8 > field.length) {
      missing = true;
      return 0;
    }
    const view = new DataView(field.buffer, field.byteOffset, field.length);
    const number = view.getBigUint64(at, true);
    at += 8;
    missing ||= number > BigInt(Number.MAX_SAFE_INTEGER);
    return Number(number);
  };
  // In this order.
  const found = { size: wide(size), storedSize: wide(storedSize), localOffset: wide(localOffset) };
  return missing ? null : found;
}

function zip64Field(extra: Uint8Array): Uint8Array | null {
  for (let at = 0; at + EXTRA.size <= extra.length; ) {
    const { id, length } = EXTRA.decode(extra, at);
    const field = extra.subarray(at + EXTRA.size, at + EXTRA.size + length);
    if (id === ZIP64_EXTRA && field.length === length) return field;
    at += EXTRA.size + length;
  }
  return null;
}

function kindOf({ madeBy, external }: Entry, name: string): string | null {
  if (/[/\\]$/.test(name)) return 'a directory';
  const kind = UNIX.includes(madeBy >> 8) ? (external >>> 16) & MODE.kinds : 0;
  if (kind === MODE.link) return 'a link';
  if (kind === MODE.directory) return 'a directory';
  return kind === 0 || kind === MODE.file ? null : 'a device';
}

/** Members that share bytes are how small archives unpack to very much. */
function refuseOverlaps(members: readonly ZipMember[], { offset }: ZipDirectory, path: string): void {
  const sorted = [...members].sort((a, b) => a.localOffset - b.localOffset);
  for (const [index, member] of sorted.entries()) {
    const limit = sorted[index + 1]?.localOffset ?? offset;
    const end = member.localOffset + LOCAL.size + member.rawName.length + member.storedSize;
    if (end <= limit) continue;
    throw corrupt(path, 'has a member that reaches into another one, or past the directory', {
      field: 'compressed size',
      found: printable(member.name),
    });
  }
}

/** The bytes of a member as stored. Throws `corrupt` where its local header contradicts the directory. */
export async function dataOf(storage: Storage, member: ZipMember, limit: number): Promise<InnerRange> {
  const { label } = storage;
  const { localOffset, storedSize, flags, rawName } = member;
  const bytes = new Uint8Array(LOCAL.size + rawName.length);
  await storage.read(localOffset, bytes);
  const local = LOCAL.decode(bytes);
  const requireSame = (field: string, found: string | number, expected: string | number): void => {
    if (found === expected) return;
    throw corrupt(label, 'has a member whose two headers contradict each other', { field, found, expected });
  };
  requireSame('signature', local.signature, SIGNATURE.local);
  requireSame('method', local.method, member.method);
  requireSame('name', archiveText(bytes.subarray(LOCAL.size)), member.name);
  requireSame('name length', local.nameLength, rawName.length);
  requireSame('encryption', local.flags & FLAG.encrypted, flags & FLAG.encrypted);
  if ((local.flags & FLAG.sizesBehind) === 0) {
    requireSame('CRC-32', local.crc, member.crc);
    if (local.storedSize !== ELSEWHERE.u32) requireSame('compressed size', local.storedSize, storedSize);
    if (local.size !== ELSEWHERE.u32) requireSame('size', local.size, member.size);
  }
  const offset = localOffset + LOCAL.size + rawName.length + local.extraLength;
  if (offset + storedSize > limit) {
    throw corrupt(label, 'ends within a member', { found: printable(member.name), expected: `${storedSize} bytes` });
  }
  return { offset, length: storedSize };
}

function corrupt(path: string, what: string, context: ErrorContext = {}): ImageError {
  return new ImageError('corrupt', `The zip archive ${what}`, { path, ...context });
}
