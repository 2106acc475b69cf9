/** Lines of a descriptor that describe extents: `ACCESS SIZE TYPE ["FILE" [OFFSET [UUID DEVICE]]]`. */
import { SECTOR } from '../../../binary/numbers.ts';
import { splitWords } from '../../../blocks/text.ts';
import { ImageError, printable } from '../../../errors.ts';
import { LIMITS } from '../../../limits.ts';
import type { ExtentText } from './text.ts';

/** Access of an extent. Reading one of `NOACCESS` fails. */
export type Access = 'RW' | 'RDONLY' | 'NOACCESS';

const ACCESSES: readonly string[] = ['RW', 'RDONLY', 'NOACCESS'] satisfies readonly Access[];

/** Types of extents, with the kind of file that holds one. */
export const EXTENT_TYPES = {
  FLAT: 'flat',
  VMFS: 'flat',
  SPARSE: 'sparse',
  VMFSSPARSE: 'cowd',
  SESPARSE: 'sesparse',
  ZERO: 'zero',
  VMFSRDM: 'mapped',
  VMFSRAW: 'mapped',
} as const;
export type ExtentType = keyof typeof EXTENT_TYPES;

/** One extent as its line describes it. */
export interface ExtentLine {
  readonly access: Access;
  readonly sectors: number;
  readonly type: ExtentType;
  /** Null: none, as of extents that are zero. */
  readonly file: string | null;
  /** Sectors before its first byte in the file. */
  readonly offset: number;
  /** Further words: the identity of a partition of a device, kept as it is. */
  readonly rest: readonly string[];
}

/** Parses the line of an extent. Throws `corrupt`, `unsupported`. */
export function parseExtent({ number, text }: ExtentText, path: string): ExtentLine {
  const words = splitWords(text);
  const fail = (message: string, found: string, expected: string, kind: 'corrupt' | 'unsupported' = 'corrupt') =>
    new ImageError(kind, message, {
      path,
      field: `line ${number} of the descriptor`,
      found: printable(found),
      expected,
    });
  if (words === null) throw fail('The line of an extent cannot be read', text, 'quoted names that end');
  const [access = '', size = '', type = '', file = null, offset = '0', ...rest] = words;
  const upper = type.toUpperCase();
  if (!isType(upper)) {
    throw fail('The type of an extent is not known', type, Object.keys(EXTENT_TYPES).join(', '), 'unsupported');
  }
  const sectors = countOf(size);
  if (sectors === null || sectors === 0) throw fail('The size of an extent is not valid', size, 'sectors, at least 1');
  const start = countOf(offset);
  if (start === null) throw fail('The offset of an extent is not valid', offset, 'a number of sectors');
  const isFile = EXTENT_TYPES[upper] !== 'zero';
  if (isFile && (file === null || file === '')) throw fail('An extent names no file', text, 'a quoted file name');
  return { access: accessOf(access), sectors, type: upper, file: isFile ? file : null, offset: start, rest };
}

/** The line of an extent. */
export function formatExtent({ access, sectors, type, file, offset, rest }: ExtentLine): string {
  const flat = EXTENT_TYPES[type] === 'flat' && type === 'FLAT';
  const name = file === null ? [] : [`"${file}"`];
  const place = flat || offset > 0 || rest.length > 0 ? [String(offset)] : [];
  return [access, sectors, type, ...name, ...place, ...rest].join(' ');
}

function accessOf(word: string): Access {
  const upper = word.toUpperCase();
  // Lines are told by this word, so there is no other.
  return ACCESSES.includes(upper) ? (upper as Access) : 'NOACCESS';
}

function isType(word: string): word is ExtentType {
  return Object.hasOwn(EXTENT_TYPES, word);
}

/** A number of sectors whose bytes can be addressed; null for anything else. */
function countOf(word: string): number | null {
  if (!/^\d{1,16}$/.test(word)) return null;
  const count = Number(word);
  return count <= LIMITS.virtualSize / SECTOR ? count : null;
}

/** The parts of the name of an extent of a split image; null: it is another name. */
export function splitName(
  name: string,
): { readonly stem: string; readonly letter: string; readonly number: number } | null {
  const [, stem = '', letter = '', number = ''] = /^([^/\\]+)-([sf])(\d{3,6})\.vmdk$/i.exec(name) ?? [];
  return stem === '' ? null : { stem, letter: letter.toLowerCase(), number: Number(number) };
}
