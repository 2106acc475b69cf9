/** Rock Ridge: POSIX names, modes, times and links in the system use areas of directory records. */
import { shortDate } from './dates.ts';
import { BLOCK, CE, KIND, PX, SP } from './layout.ts';
import type { IsoAttributes, IsoNode } from './tree.ts';

/** Longest entry: its length has one byte. */
const LONGEST = 254;
/** Bytes of text in an entry. */
const PIECE = 240;
const CE_BYTES = 28;

const ER_TEXTS = [
  'RRIP_1991A',
  'THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS',
  'PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION.',
] as const;

function entry(tag: string, parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 4);
  const bytes = new Uint8Array(length);
  bytes.set([tag.charCodeAt(0), tag.charCodeAt(1), length, 1]);
  let at = 4;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Permissions and owner that a node has in an image. */
export function attributesOf({ attributes, children, target, executable }: IsoNode): IsoAttributes {
  if (attributes !== undefined) return attributes;
  const mode = target !== null ? 0o777 : children !== null || executable ? 0o555 : 0o444;
  return { mode, user: 0, group: 0 };
}

/** Record that gets entries. */
export interface UseOf {
  readonly as: 'entry' | 'self' | 'parent';
  /** Hard links. */
  readonly links: number;
  readonly isRoot?: boolean;
  /** By which readers notice Rock Ridge. */
  readonly announced?: boolean;
}

/** Entries of a record: of a file, a link or a directory. */
export function systemUse(node: IsoNode, { as, links, isRoot = false, announced = true }: UseOf): Uint8Array[] {
  const { children, target, modifiedMs } = node;
  const { mode, user, group } = attributesOf(node);
  const kind = children !== null ? KIND.directory : target !== null ? KIND.link : KIND.file;
  const date = shortDate(modifiedMs);
  const entries = [
    entry('PX', [PX.encode({ mode: kind | mode, links, user, group })]),
    // Creation, modification, access and change of attributes.
    entry('TF', [Uint8Array.of(0x0f), date, date, date, date]),
  ];
  if (as === 'self' && isRoot) {
    const sp = entry('SP', [SP.encode({ check: Uint8Array.of(0xbe, 0xef), skip: 0 })]);
    return announced ? [sp, ...entries, extensionReference()] : [sp, ...entries];
  }
  if (as !== 'entry') return entries;
  return [...entries, ...nameEntries(node.name), ...(target === null ? [] : linkEntries(target))];
}

/** Without it most readers leave Rock Ridge aside. */
function extensionReference(): Uint8Array {
  const texts = ER_TEXTS.map((text) => new TextEncoder().encode(text));
  return entry('ER', [Uint8Array.from([...texts.map(({ length }) => length), 1]), ...texts]);
}

function nameEntries(name: string): Uint8Array[] {
  const bytes = new TextEncoder().encode(name);
  const entries: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += PIECE) {
    const more = at + PIECE < bytes.length;
    entries.push(entry('NM', [Uint8Array.of(more ? 1 : 0), bytes.subarray(at, at + PIECE)]));
  }
  return entries;
}

/** Component records of a target: 1 goes on in the next one, 2 ".", 4 "..", 8 the root. */
function linkEntries(target: string): Uint8Array[] {
  const components: Uint8Array[] = target.startsWith('/') ? [Uint8Array.of(8, 0)] : [];
  for (const part of target.split('/').filter((one) => one !== '')) {
    if (part === '.' || part === '..') components.push(Uint8Array.of(part === '.' ? 2 : 4, 0));
    else for (const component of textComponents(new TextEncoder().encode(part))) components.push(component);
  }
  const entries: Uint8Array[][] = [[]];
  let room = LONGEST - 5;
  for (const component of components) {
    if (component.length > room) {
      entries.push([]);
      room = LONGEST - 5;
    }
    entries.at(-1)?.push(component);
    room -= component.length;
  }
  return entries.map((own, at) => entry('SL', [Uint8Array.of(at < entries.length - 1 ? 1 : 0), ...own]));
}

function textComponents(bytes: Uint8Array): Uint8Array[] {
  const components: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += PIECE) {
    const piece = bytes.subarray(at, at + PIECE);
    components.push(Uint8Array.from([at + PIECE < bytes.length ? 1 : 0, piece.length, ...piece]));
  }
  return components;
}

/** Entries that did not fit into their records, in blocks of which none holds part of an area. */
export class Continuations {
  /** Offset of the next area. */
  #at = 0;
  readonly #areas: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
  /** First block; known once the directories are laid out. */
  #block = 0;

  get blocks(): number {
    return Math.ceil(this.#at / BLOCK);
  }

  /**
   * Splits entries into those for a record with `room`, and areas for the rest. The lengths do not depend on where the
   * areas lie, so the same call is made to measure and to write.
   */
  fit(entries: readonly Uint8Array[], room: number): Uint8Array[] {
    if (sum(entries) <= room) return [...entries];
    const kept = fitting(entries, room - CE_BYTES);
    return [...entries.slice(0, kept), this.#area(entries.slice(kept))];
  }

  /** Puts the entries into an area, and returns the reference to it. */
  #area(entries: readonly Uint8Array[]): Uint8Array {
    const whole = sum(entries) <= BLOCK;
    const kept = whole ? entries.length : fitting(entries, BLOCK - CE_BYTES);
    const rest = whole ? [] : [this.#area(entries.slice(kept))];
    const own = [...entries.slice(0, kept), ...rest];
    const length = sum(own);
    if ((this.#at % BLOCK) + length > BLOCK) this.#at = Math.ceil(this.#at / BLOCK) * BLOCK;
    const offset = this.#at;
    this.#at += length;
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const one of own) {
      bytes.set(one, at);
      at += one.length;
    }
    this.#areas.push({ offset, bytes });
    return entry('CE', [
      CE.encode({ block: this.#block + Math.floor(offset / BLOCK), offset: offset % BLOCK, length }),
    ]);
  }

  /** Tells where the areas lie, of which only the length was known. */
  place(block: number): void {
    this.#block = block;
  }

  /** Begins again, in the same place. */
  clear(): void {
    this.#at = 0;
    this.#areas.length = 0;
  }

  /** Writes the areas into an image that begins at byte 0. */
  writeInto(image: Uint8Array): void {
    for (const { offset, bytes } of this.#areas) image.set(bytes, this.#block * BLOCK + offset);
  }
}

function sum(entries: readonly Uint8Array[]): number {
  return entries.reduce((all, { length }) => all + length, 0);
}

/** Number of entries that fit into the room. */
function fitting(entries: readonly Uint8Array[], room: number): number {
  let left = room;
  for (const [at, { length }] of entries.entries()) {
    left -= length;
    if (left < 0) return at;
  }
  return entries.length;
}
