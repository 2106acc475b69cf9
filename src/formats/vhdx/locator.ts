/** The parent locator of a differencing VHDX image: names of the parent, and the identities that it may have. */
import { isNullGuid, normalizeGuid } from '../../binary/guid.ts';
import { isImageError } from '../../errors.ts';
import { fault } from './fault.ts';
import { LOCATOR, LOCATOR_ENTRY, LOCATOR_TYPE } from './layout.ts';
import { VHDX_LIMITS } from './limits.ts';

/** Keys of names, in the order in which they are tried. */
const NAME_KEYS = ['relative_path', 'volume_path', 'absolute_win32_path'] as const;
const LINKAGE = 'parent_linkage';
const LINKAGE_2 = 'parent_linkage2';
/** Key of vdkit for a parent of another format, which no other program takes. */
const FORMAT_KEY = 'parent_format';
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

/** A parent as a locator stores it. */
export interface StoredParent {
  readonly relative: string | null;
  readonly absolute: string | null;
  /** Null: the identity of the parent is not known. */
  readonly linkage: string | null;
  readonly format: string;
}

/** Pairs for a parent. */
export function locatorPairs({ relative, absolute, linkage, format }: StoredParent): Map<string, string> {
  const guid = linkage ?? '00000000-0000-0000-0000-000000000000';
  const pairs: [string, string][] = [[LINKAGE, `{${guid}}`]];
  if (relative !== null) pairs.push(['relative_path', windowsRelative(relative)]);
  if (absolute !== null) pairs.push(['absolute_win32_path', windowsAbsolute(absolute)]);
  if (format !== OWN_FORMAT) pairs.push([FORMAT_KEY, format]);
  return new Map(pairs);
}

/** The pairs of a locator with a second identity that is accepted, or without one. */
export function withSecondLinkage(pairs: ReadonlyMap<string, string>, linkage: string | null): Map<string, string> {
  const changed = new Map(pairs);
  if (linkage === null) changed.delete(LINKAGE_2);
  else changed.set(LINKAGE_2, `{${linkage}}`);
  return changed;
}

function windowsRelative(name: string): string {
  const text = name.replaceAll('/', '\\');
  return text.startsWith('.') ? text : `.\\${text}`;
}

function windowsAbsolute(name: string): string {
  const text = name.replaceAll('/', '\\');
  if (/^[a-z]:\\/i.test(text)) return `\\\\?\\${text}`;
  return text;
}

/** The bytes of a locator. Throws `limit` for names that are too long. */
export function encodeLocator(pairs: ReadonlyMap<string, string>): Uint8Array {
  const texts = [...pairs].flat();
  const end = texts.reduce((sum, text) => sum + text.length * 2, LOCATOR.size + pairs.size * LOCATOR_ENTRY.size);
  const tooLong = texts.find((text) => text.length * 2 > 0xffff);
  if (tooLong !== undefined || end > VHDX_LIMITS.locatorBytes) {
    throw fault('limit', 'The name of the parent is too long for a VHDX image', {
      found: `${tooLong?.length ?? end / 2} characters`,
      expected: `at most ${Math.floor(0xffff / 2)}`,
    });
  }
  const bytes = new Uint8Array(end);
  bytes.set(LOCATOR.encode({ type: LOCATOR_TYPE, reserved: 0, count: pairs.size }));
  let at = LOCATOR.size + pairs.size * LOCATOR_ENTRY.size;
  let entry = LOCATOR.size;
  const put = (text: string): number => {
    const start = at;
    const view = new DataView(bytes.buffer);
    for (let unit = 0; unit < text.length; unit++, at += 2) view.setUint16(at, text.charCodeAt(unit), true);
    return start;
  };
  for (const [key, value] of pairs) {
    const [keyOffset, valueOffset] = [put(key), put(value)];
    const [keyLength, valueLength] = [key.length * 2, value.length * 2];
    bytes.set(LOCATOR_ENTRY.encode({ keyOffset, valueOffset, keyLength, valueLength }), entry);
    entry += LOCATOR_ENTRY.size;
  }
  return bytes;
}
