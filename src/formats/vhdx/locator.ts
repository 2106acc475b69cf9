/** The parent locator of a differencing VHDX image: names of the parent, and the identities that it may have. */
import { isNullGuid, normalizeGuid } from '../../binary/guid.ts';
import { isImageError } from '../../errors.ts';
import { fault } from './fault.ts';
import { LOCATOR, LOCATOR_ENTRY, LOCATOR_TYPE } from './layout.ts';

/** Keys of names, in the order in which they are tried. */
const NAME_KEYS = ['relative_path', 'volume_path', 'absolute_win32_path'] as const;
/** Keys of the identities of the parent. */
export const LINKAGE = 'parent_linkage';
/** See {@link LINKAGE}. */
export const LINKAGE_2 = 'parent_linkage2';
/** Key of vdkit for a parent of another format, which no other program takes. */
export const FORMAT_KEY = 'parent_format';
/** Format that parents have where the locator names none. */
export const OWN_FORMAT = 'vhdx';

/** Contents of a locator. */
export interface ParentLocator {
  /** All pairs, in their order. */
  readonly pairs: ReadonlyMap<string, string>;
  /** Names in the form of this program, in the order in which they are tried. */
  readonly names: readonly string[];
  /** Last part of a stored path. */
  readonly beside: string | null;
  /** GUIDs of the parent's data, one of which it must have. */
  readonly linkage: readonly string[];
  readonly format: string;
}

/** Decodes a locator. Throws `corrupt`, `unsupported`. */
export function parseLocator(bytes: Uint8Array, path: string): ParentLocator {
  const pairs = pairsIn(bytes, path);
  const stored = NAME_KEYS.map((key) => pairs.get(key)).filter((name) => name !== undefined);
  const names = [...new Set(stored.map(hostName))].filter((name) => name !== '');
  const last = names.map((name) => name.slice(name.lastIndexOf('/') + 1)).find((name) => name !== '');
  const linkage = [LINKAGE, LINKAGE_2].flatMap((key) => guidIn(pairs.get(key)));
  return { pairs, names, beside: last ?? null, linkage, format: pairs.get(FORMAT_KEY) ?? OWN_FORMAT };
}

function pairsIn(bytes: Uint8Array, path: string): Map<string, string> {
  if (bytes.length < LOCATOR.size) throw damaged(path, `${bytes.length} bytes`);
  const type = LOCATOR.get(bytes, 'type');
  if (type !== LOCATOR_TYPE) {
    throw fault('unsupported', 'The parent locator is of a type that is not known', {
      path,
      field: 'locator type',
      found: type,
      expected: LOCATOR_TYPE,
    });
  }
  const count = LOCATOR.get(bytes, 'count');
  if (LOCATOR.size + count * LOCATOR_ENTRY.size > bytes.length) throw damaged(path, `${count} entries`);
  const pairs = new Map<string, string>();
  for (let index = 0; index < count; index++) {
    const entry = LOCATOR_ENTRY.decode(bytes, LOCATOR.size + index * LOCATOR_ENTRY.size);
    const key = textAt(bytes, entry.keyOffset, entry.keyLength, path);
    const value = textAt(bytes, entry.valueOffset, entry.valueLength, path);
    if (pairs.has(key)) throw damaged(path, `the key ${key} twice`);
    pairs.set(key, value);
  }
  return pairs;
}

/** UTF-16 without loss: names may hold half a pair. */
function textAt(bytes: Uint8Array, offset: number, length: number, path: string): string {
  if (length === 0 || length % 2 !== 0 || offset + length > bytes.length) {
    throw damaged(path, `${length} bytes at ${offset}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, length);
  let text = '';
  for (let at = 0; at < length; at += 2) text += String.fromCharCode(view.getUint16(at, true));
  if (text.includes('\0')) throw damaged(path, 'a text with a NUL');
  return text;
}

function damaged(path: string, found: string): Error {
  return fault('corrupt', 'The parent locator of the image is damaged', {
    path,
    field: 'parent locator',
    found,
    hint: 'Name the parent with --parent.',
  });
}

function guidIn(text: string | undefined): string[] {
  if (text === undefined) return [];
  try {
    const guid = normalizeGuid(text);
    return isNullGuid(guid) ? [] : [guid];
  } catch (error) {
    if (!isImageError(error)) throw error;
    return [];
  }
}

/** A Windows path in the form of this program. Volumes keep their prefix: without it they would be relative names. */
function hostName(name: string): string {
  const plain = name
    .replace(/^\\\\\?\\UNC\\/i, '\\\\')
    .replace(/^\\\\\?\\(?!Volume\{)/i, '')
    .replaceAll('\\', '/');
  return plain.replace(/^(\.\/)+/, '');
}
