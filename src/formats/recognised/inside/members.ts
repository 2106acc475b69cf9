/** Members of an archive, and the choice of the one that is the disk. Names are keys: never places of the host. */
import { ImageError, printable } from '../../../errors.ts';
import type { UnwrapOptions } from '../../../image/unwrap.ts';

/** A member of an archive. */
export interface Member {
  /** As stored. */
  readonly name: string;
  /** The reason that it has no bytes of a disk: `a link`; null for a file. */
  readonly kind: string | null;
}

/** The member that was chosen. */
export interface Choice<M> {
  readonly member: M;
  /** What the name of the member says about the file in it, which is an archive, too. */
  readonly rest: string | undefined;
}

/** Names that a message lists. */
const SHOWN = 20;
/** A piece of a disk that an OVF splits: DMTF DSP0243, `ovf:chunkSize`. */
const PIECE = /\.\d{9}$/;
/** What macOS stores beside a file: its resource fork. */
const APPLE_DOUBLE = /(^|[/\\])(\._[^/\\]*|__MACOSX[/\\].*)$/;

/**
 * The member that is the disk: the one that was named, or the only one. `described`: the disks by a description in the
 * archive, which come before names. Throws `not-found`, `corrupt`, `unsupported`, and `invalid-argument` if the caller
 * must choose.
 */
export function chooseMember<M extends Member>(
  members: readonly M[],
  { label, member: wanted, isDisk }: Pick<UnwrapOptions, 'member' | 'isDisk'> & { readonly label: string },
  described: readonly M[] | null = null,
): Choice<M> {
  const files = members.filter(({ kind }) => kind === null);
  refuseDuplicates(files, label);
  const usable = files.filter(({ name }) => objectionTo(name) === null);
  const byName = usable.filter(({ name }) => !APPLE_DOUBLE.test(name));
  const named = byName.filter(({ name }) => isDisk(lastPart(name)));
  const disks = described?.filter(({ name }) => objectionTo(name) === null) ?? (named.length > 0 ? named : byName);
  if (wanted !== undefined) return namedMember(members, wanted, { label, disks });
  const [first, ...others] = disks;
  if (first === undefined) throw noDisk(members, label);
  if (others.length === 0) return { member: first, rest: undefined };
  if (described === null && named.length === 0) throw noDisk(members, label);
  throw new ImageError('invalid-argument', 'The archive has several disks', {
    path: label,
    found: listed(disks),
    hint: 'Choose one by the name of the member (member; on the command line: --member).',
  });
}

/** The name without its directories. */
export function lastPart(name: string): string {
  return name.split(/[/\\]/).at(-1) ?? '';
}

/** The same for all ways to write a name. */
export function keyOf(name: string): string {
  return name.replace(/^(\.\/+)+/, '');
}

function namedMember<M extends Member>(
  members: readonly M[],
  wanted: string,
  { label, disks }: { readonly label: string; readonly disks: readonly M[] },
): Choice<M> {
  const key = keyOf(wanted);
  const exact = members.find(({ name, kind }) => kind === null && keyOf(name) === key);
  const outer = members.find(({ name, kind }) => kind === null && key.startsWith(`${keyOf(name)}/`));
  const other = members.find(({ name }) => keyOf(name) === key);
  const member = exact ?? outer ?? other;
  if (member === undefined) {
    throw new ImageError('not-found', 'The archive has no such member', {
      path: label,
      found: printable(wanted),
      hint: disks.length === 0 ? 'It has no disks.' : `Its disks: ${listed(disks)}.`,
    });
  }
  const objection = member.kind ?? objectionTo(member.name);
  if (objection !== null) {
    throw new ImageError('unsupported', `The member of the archive is ${objection}, not a disk`, {
      path: label,
      found: printable(wanted),
      hint: disks.length === 0 ? undefined : `Its disks: ${listed(disks)}.`,
    });
  }
  return { member, rest: member === exact ? undefined : key.slice(keyOf(member.name).length + 1) };
}

/** Programs differ in the one that they take: the first, the last, or both. */
function refuseDuplicates(files: readonly Member[], path: string): void {
  const seen = new Set<string>();
  for (const { name } of files) {
    const key = keyOf(name);
    if (seen.has(key)) {
      throw new ImageError('corrupt', 'The archive has two members of one name', {
        path,
        found: printable(name),
        hint: 'Unpack it, and specify the file that you want.',
      });
    }
    seen.add(key);
  }
}

/** The reason that a file of this name is not a disk, or null. */
function objectionTo(name: string): string | null {
  const parts = name.split(/[/\\]/);
  const leadsOut = parts.includes('..') || parts[0] === '' || /^[a-z]:/i.test(name) || name.includes('\0');
  if (leadsOut) return 'a file with a name that leads out of the archive';
  if (['', '.'].includes(lastPart(name))) return 'a directory';
  return PIECE.test(name) ? 'a piece of a disk that is split' : null;
}

function noDisk(members: readonly Member[], path: string): ImageError {
  return new ImageError('unsupported', 'The archive has no disk', {
    path,
    found: members.length === 0 ? 'no members' : listed(members),
    hint: 'If one of the members is a disk, name it (member; on the command line: --member).',
  });
}

function listed(members: readonly Member[]): string {
  const names = members.slice(0, SHOWN).map(({ name }) => printable(name));
  const more = members.length - names.length;
  return `${names.join(', ')}${more > 0 ? `, and ${more} more` : ''}`;
}
