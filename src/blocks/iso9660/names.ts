/** Names in the name spaces of an image: unique in their directory, in the order that a reader expects. */
import type { IsoLevel, IsoNode } from './tree.ts';

/** An entry of a directory with its name in one name space. */
export interface NamedEntry {
  readonly node: IsoNode;
  readonly name: Uint8Array;
}

/** Rules of a name space. */
export interface NameSpace {
  /** The name without regard to others; `number`: one that keeps it apart, 0: none. */
  make(node: IsoNode, number: number): string;
  encode(name: string, node: IsoNode): Uint8Array;
}

/**
 * Names of ECMA-119: capitals, digits and underscores, one dot; at most 8 characters and 3 behind the dot in level 1, 30
 * together in levels 2 and 3.
 */
export function plainNames(level: IsoLevel): NameSpace {
  return {
    make(node, number) {
      const isDirectory = node.children !== null;
      const dot = isDirectory ? -1 : node.name.lastIndexOf('.');
      const stem = plain(dot > 0 ? node.name.slice(0, dot) : node.name);
      const extension = dot > 0 ? plain(node.name.slice(dot + 1)).slice(0, level === 1 ? 3 : 8) : '';
      const mark = number === 0 ? '' : `_${number}`;
      const most = level === 1 ? 8 : 30 - (extension === '' ? 0 : extension.length + 1);
      const whole = `${stem.slice(0, most - mark.length)}${mark}`;
      return isDirectory ? whole : `${whole}.${extension}`;
    },
    encode: (name, { children }) => new TextEncoder().encode(children === null ? `${name};1` : name),
  };
}

/** Joliet: UTF-16, at most 64 units, without `* / : ; ? \` and control characters. */
export const JOLIET: NameSpace = {
  make({ name, children }, number) {
    const safe = name.replace(/[\p{Cc}*/:;?\\]/gu, '_');
    const dot = children === null ? safe.lastIndexOf('.') : -1;
    const extension = dot > 0 ? safe.slice(dot).slice(0, 16) : '';
    const stem = dot > 0 ? safe.slice(0, dot) : safe;
    const mark = number === 0 ? '' : `~${number}`;
    return `${wholeCharacters(stem, 64 - mark.length - extension.length)}${mark}${extension}`;
  },
  encode: utf16,
};

function plain(text: string): string {
  return text.toUpperCase().replace(/[^A-Z0-9_]/g, '_') || '_';
}

/** At most `units`, without half of a surrogate pair at the end. */
function wholeCharacters(text: string, units: number): string {
  const cut = text.slice(0, units);
  return cut.length < text.length && /[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut;
}

/** UTF-16 in big-endian order. */
export function utf16(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length * 2);
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    bytes[at * 2] = code >> 8;
    bytes[at * 2 + 1] = code & 0xff;
  }
  return bytes;
}

/** The entries of a directory, named and sorted. Names that are taken get a number, in the order of the host's names. */
export function namedEntries(children: readonly IsoNode[], space: NameSpace): NamedEntry[] {
  const taken = new Set<string>();
  /** Numbers that were given to a name: the next one is looked for behind them. */
  const numbers = new Map<string, number>();
  const byHost = [...children].sort((one, other) => (one.name < other.name ? -1 : 1));
  const entries = byHost.map((node) => {
    const wanted = space.make(node, 0);
    let [name, number] = [wanted, numbers.get(key(wanted)) ?? 0];
    while (taken.has(key(name))) name = space.make(node, ++number);
    numbers.set(key(wanted), number);
    taken.add(key(name));
    return { node, name: space.encode(name, node) };
  });
  return entries.sort((one, other) => compareBytes(one.name, other.name));
}

/** Readers of Joliet ignore case. */
function key(name: string): string {
  return name.toUpperCase();
}

function compareBytes(one: Uint8Array, other: Uint8Array): number {
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at++) {
    const [a = 0, b = 0] = [one[at], other[at]];
    // ECMA-119 9.3: as if the shorter part were filled up with blanks. A dot ends a name, a semicolon an extension.
    if (a !== b) return rank(a) - rank(b);
  }
  return one.length - other.length;
}

function rank(byte: number): number {
  return byte === 0x3b ? -2 : byte === 0x2e ? -1 : byte;
}
