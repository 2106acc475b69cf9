/** File permissions and access lists: the rights left when they are combined. Pure functions. */
import { struct, u16, u32 } from '../binary/struct.ts';
import type { FileAttributes } from './contract.ts';

/** Names of the extended attributes for a POSIX access list and a directory's default one. */
export const ACCESS_LIST = 'system.posix_acl_access';
export const DEFAULT_ACCESS_LIST = 'system.posix_acl_default';

const ACL_VERSION = 2;
const ACL_HEAD = struct('little', 4, { version: u32(0) });
const ACL_ENTRY = struct('little', 8, { tag: u16(0), rights: u16(2), id: u32(4) });
const TAG = { owner: 0x01, user: 0x02, ownGroup: 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const;
const ALL = 0o7;

/** Rights granted by an access list. */
export interface AccessList {
  readonly owner: number;
  readonly group: number;
  /** Null: the list has no named entries, hence no mask. */
  readonly mask: number | null;
  readonly other: number;
  /** Rights of each named user and group, with the mask applied. */
  readonly named: readonly number[];
}

/** Reads an access list as Linux stores it; null for anything else. */
export function parseAccessList(bytes: Uint8Array): AccessList | null {
  const count = (bytes.length - ACL_HEAD.size) / ACL_ENTRY.size;
  if (!Number.isInteger(count) || count < 3 || ACL_HEAD.decode(bytes).version !== ACL_VERSION) return null;
  const entries = Array.from({ length: count }, (_, index) =>
    ACL_ENTRY.decode(bytes, ACL_HEAD.size + index * ACL_ENTRY.size),
  );
  const one = (tag: number): number | null => entries.find((entry) => entry.tag === tag)?.rights ?? null;
  const [owner, group, other, mask] = [one(TAG.owner), one(TAG.ownGroup), one(TAG.other), one(TAG.mask)];
  if (owner === null || group === null || other === null) return null;
  const named = entries
    .filter(({ tag }) => tag === TAG.user || tag === TAG.group)
    .map(({ rights }) => rights & (mask ?? ALL));
  return { owner, group, mask, other, named };
}

/** Rights that every member of a class has for a file, 0 to 7. */
export interface ClassRights {
  readonly group: number;
  readonly other: number;
}

/**
 * Rights that all members of the group, and all others, have for a file. Named entries of the access list may have
 * fewer rights than the rest of their class, so the minimum counts.
 */
export function surelyAllowed({ mode, group, extended }: FileAttributes, members: number): ClassRights {
  const list = extended?.get(ACCESS_LIST);
  const access = list === undefined ? null : parseAccessList(list);
  const named = (access?.named ?? []).reduce((least, rights) => least & rights, list === undefined || access ? ALL : 0);
  const own = access === null ? mode >> 3 : access.group & (access.mask ?? ALL);
  // With another group, members of the old one are among the others.
  const other = mode & own & named & ALL;
  return { group: members === group ? own & named & ALL : other, other };
}

/** A mode reduced to the rights that all sources grant; the owner keeps all. */
export function limitedMode(mode: number, members: number, sources: readonly FileAttributes[]): number {
  return sources.reduce((left, source) => {
    const { group, other } = surelyAllowed(source, members);
    return left & (0o700 | (group << 3) | other);
  }, mode);
}

/** Attributes that grant only the rights granted by all of the files; null for no files. */
export function mostPrivate(files: readonly FileAttributes[]): FileAttributes | null {
  const [first, ...others] = files;
  if (first === undefined) return null;
  if (others.length === 0) return first;
  return { ...first, mode: limitedMode(first.mode, first.group, files), extended: new Map() };
}
