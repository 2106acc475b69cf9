/** Names of the parent of a differencing VHD image: read from every kind of locator, written in the two that Windows reads. */
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { NamesOfParent } from '../../image/parent.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import type { VhdLayout } from './header.ts';
import { HEADER, LOCATOR, LOCATORS, type Locator, PLATFORM } from './layout.ts';
import { VHD_LIMITS } from './limits.ts';

/** Bytes for a name, or several times as many: VirtualBox has room for that. */
export const NAME_ROOM = 2 * SECTOR;

/** Order in which names are tried: relative ones first. */
const ORDER: readonly number[] = [
  PLATFORM.relative,
  PLATFORM.oldRelative,
  PLATFORM.absolute,
  PLATFORM.oldAbsolute,
  PLATFORM.url,
];

/**
 * Names of the parent in the order in which they are tried: relative ones, absolute ones, then the last part of each beside
 * the image, since a stored path is often one of another machine.
 */
export async function parentNamesOf(
  storage: Storage,
  { header, locators }: VhdLayout,
  options: OperationOptions = {},
): Promise<readonly string[]> {
  const sorted = locators
    .filter(({ platform }) => ORDER.includes(platform))
    .sort((one, other) => ORDER.indexOf(one.platform) - ORDER.indexOf(other.platform));
  const names: string[] = [];
  for (const locator of sorted) {
    const bytes = new Uint8Array(locator.length);
    await readPadded(storage, locator.fileOffset, bytes, options);
    names.push(hostName(textOf(locator, bytes)));
  }
  names.push(hostName(utf16(header.parentName, 'big')));
  const beside = names.map((name) => name.slice(name.lastIndexOf('/') + 1));
  return [...new Set([...names, ...beside])].filter((name) => name !== '');
}

function textOf({ platform }: Locator, bytes: Uint8Array): string {
  if (platform === PLATFORM.relative || platform === PLATFORM.absolute) return utf16(bytes, 'little');
  if (platform === PLATFORM.url) return fromUrl(utf8(bytes));
  return utf8(bytes);
}

/** A Windows name in the form of this program: slashes, and no `./` in front. */
function hostName(name: string): string {
  return name.replaceAll('\\', '/').replace(/^(\.\/)+/, '');
}

function fromUrl(url: string): string {
  const match = /^file:\/\/[^/]*(\/.*)$/i.exec(url);
  if (match?.[1] === undefined) return url;
  try {
    return decodeURIComponent(match[1]);
  } catch {
    return match[1];
  }
}

function utf8(bytes: Uint8Array): string {
  return untilNul(new TextDecoder().decode(bytes));
}

/** UTF-16 without loss: names may hold half a pair. */
function utf16(bytes: Uint8Array, endian: 'little' | 'big'): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const units: string[] = [];
  for (let at = 0; at + 2 <= bytes.length; at += 2) {
    units.push(String.fromCharCode(view.getUint16(at, endian === 'little')));
  }
  return untilNul(units.join(''));
}

function untilNul(text: string): string {
  const end = text.indexOf('\0');
  return end === -1 ? text : text.slice(0, end);
}

function encodeUtf16(text: string, endian: 'little' | 'big'): Uint8Array {
  const bytes = new Uint8Array(text.length * 2);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < text.length; at++) view.setUint16(at * 2, text.charCodeAt(at), endian === 'little');
  return bytes;
}

/** The stored forms of a parent's name. */
export interface StoredNames {
  /** Last part of the name, for the header. */
  readonly parentName: Uint8Array;
  /** Table of locators, for the header. */
  readonly locators: Uint8Array;
  /** Names that the locators lead to, with their places. */
  readonly writes: readonly { readonly fileOffset: number; readonly bytes: Uint8Array }[];
  readonly end: number;
}

/** Bytes that the names take behind the `fileOffset` of `encodeNames`. */
export function roomForNames({ relative, absolute }: NamesOfParent): number {
  const texts = [
    ...(absolute === null ? [] : [windowsName(absolute, false)]),
    ...(relative === null ? [] : [windowsName(relative, true)]),
  ];
  return texts.reduce((sum, text) => sum + roomFor(text), 0);
}

function roomFor(text: string): number {
  return alignUp(Math.max(text.length * 2, 1), NAME_ROOM);
}

/** Encodes the name of a parent as VirtualBox and Hyper-V do. Throws `limit` for names that are too long. */
export function encodeNames({ relative, absolute }: NamesOfParent, fileOffset: number): StoredNames {
  const last = (relative ?? absolute ?? '').replaceAll('\\', '/').split('/').at(-1) ?? '';
  const parentName = new Uint8Array(HEADER.fields.parentName.size);
  parentName.set(encodeUtf16(last.slice(0, parentName.length / 2 - 1), 'big'));
  const locators = new Uint8Array(LOCATORS * LOCATOR.size);
  const writes: { fileOffset: number; bytes: Uint8Array }[] = [];
  let [at, count] = [fileOffset, 0];
  for (const [platform, name] of [
    [PLATFORM.absolute, absolute],
    [PLATFORM.relative, relative],
  ] as const) {
    if (name === null) continue;
    const text = windowsName(name, platform === PLATFORM.relative);
    const space = roomFor(text);
    const stored = encodeUtf16(text, 'little');
    if (stored.length > VHD_LIMITS.locatorBytes) throw tooLong(name);
    const bytes = new Uint8Array(space);
    bytes.set(stored);
    writes.push({ fileOffset: at, bytes });
    locators.set(
      LOCATOR.encode({ platform, space, length: stored.length, reserved: 0, fileOffset: at }),
      count * LOCATOR.size,
    );
    at += space;
    count++;
  }
  return { parentName, locators, writes, end: at };
}

/** Backslashes, as Windows has them; relative names begin with `.\`. */
export function windowsName(name: string, isRelative: boolean): string {
  const text = name.replaceAll('/', '\\');
  return isRelative && !text.startsWith('..') && !text.startsWith('.\\') ? `.\\${text}` : text;
}

function tooLong(name: string): ImageError {
  return new ImageError('limit', 'The name of the parent is too long for a VHD image', {
    found: `${name.length} characters`,
    expected: `at most ${VHD_LIMITS.locatorBytes / 2}`,
  });
}
