/** The files of an ISO 9660 image as a tree: of its Rock Ridge, Joliet or primary names. Nothing is believed unchecked. */
import { ImageError } from '../../../errors.ts';
import type { Storage } from '../../../storage/contract.ts';
import { shortTime } from '../dates.ts';
import type { HostContent } from '../host-files.ts';
import { countEntry } from '../host-tree.ts';
import { BLOCK, FLAG, KIND, RECORD, SP } from '../layout.ts';
import { ISO_LIMITS, type IsoNode } from '../tree.ts';
import { type SystemUse, systemUseOf } from './system-use.ts';
import { isoCorrupt, latin, readAt, type SpacePlace, wide } from './volume.ts';

/** Bytes of one directory. */
const DIRECTORY_BYTES = 32 * 1024 * 1024;

/** Options for reading the names of an image. */
export interface NamesOptions {
  readonly space: SpacePlace;
  readonly isJoliet: boolean;
  /** Look for Rock Ridge. */
  readonly rock: boolean;
  /** The file of the image as it is now, which contents are parts of. */
  readonly file: HostContent;
  /** Counts the entries of several trees together. */
  readonly count: { entries: number };
}

/** A tree, and what it was made of. */
export interface IsoNames {
  readonly root: IsoNode;
  readonly hasRock: boolean;
  /** Contents by their offsets in the image. */
  readonly contents: ReadonlyMap<number, IsoNode>;
}

interface Entry {
  readonly record: ReturnType<typeof RECORD.decode>;
  readonly name: Uint8Array;
  readonly use: Uint8Array;
}

/** Reads all directories of a name space. Throws `corrupt`, `unsupported`, `limit`. */
export async function readNames(storage: Storage, options: NamesOptions): Promise<IsoNames> {
  const reader = new NamesReader(storage, options);
  const { block, bytes } = options.space;
  const root = await reader.directory({ name: '', block, bytes, modifiedMs: 0, attributes: undefined }, 0);
  return { root, hasRock: reader.skip !== null, contents: reader.contents };
}

class NamesReader {
  readonly #storage: Storage;
  readonly #options: NamesOptions;
  readonly contents = new Map<number, IsoNode>();
  readonly #visited = new Set<number>();
  /** Bytes before the system use entries of every record; null: the image has none. */
  skip: number | null = null;

  constructor(storage: Storage, options: NamesOptions) {
    this.#storage = storage;
    this.#options = options;
  }

  async directory(
    own: Pick<IsoNode, 'name' | 'modifiedMs' | 'attributes'> & { readonly block: number; readonly bytes: number },
    depth: number,
  ): Promise<IsoNode> {
    const { name, block, bytes, modifiedMs, attributes } = own;
    if (depth > ISO_LIMITS.depth || this.#visited.has(block)) throw this.#corrupt('directories inside of themselves');
    this.#visited.add(block);
    const entries = await this.#entries(block, bytes);
    if (depth === 0 && this.#options.rock) this.skip = skipOf(entries[0]);
    const children: IsoNode[] = [];
    const taken = new Set<string>();
    for (let at = 0; at < entries.length; at++) {
      const [first, more] = this.#wholeFile(entries, at);
      at += more;
      if (isSelfOrParent(first)) continue;
      const child = await this.#node(first, depth);
      if (child === null) continue;
      if (taken.has(child.name)) throw this.#corrupt(`the name ${JSON.stringify(child.name.slice(0, 80))} twice`);
      taken.add(child.name);
      children.push(child);
    }
    return { name, modifiedMs, executable: true, children, content: null, target: null, attributes };
  }

  async #entries(block: number, length: number): Promise<Entry[]> {
    // Some writers tell the bytes in use.
    const size = Math.ceil(length / BLOCK) * BLOCK;
    if (size > DIRECTORY_BYTES || size === 0) throw this.#corrupt(`a directory of ${length} bytes`);
    const bytes = await readAt(this.#storage, block * BLOCK, size);
    const entries: Entry[] = [];
    for (let at = 0; at < size; ) {
      const whole = bytes[at] ?? 0;
      const blockEnd = (Math.floor(at / BLOCK) + 1) * BLOCK;
      if (whole === 0 || blockEnd - at < RECORD.size) {
        at = blockEnd;
        continue;
      }
      const record = RECORD.decode(bytes, at);
      const nameEnd = RECORD.size + record.nameLength;
      if (nameEnd > whole || at + whole > blockEnd || record.nameLength === 0) {
        throw this.#corrupt(`a directory record of ${whole} bytes with a name of ${record.nameLength}`);
      }
      countEntry(this.#options.count, this.#storage.label);
      const name = bytes.subarray(at + RECORD.size, at + nameEnd);
      entries.push({ record, name, use: bytes.subarray(at + nameEnd + (1 - (record.nameLength % 2)), at + whole) });
      at += whole;
    }
    return entries;
  }

  /** A file of several records as one, and the number of further ones. */
  #wholeFile(entries: readonly Entry[], first: number): [Entry, number] {
    const head = entries[first];
    if (head === undefined) throw new Error('internal: the list has the entry');
    let bytes = head.record.bytes;
    let more = 0;
    for (let last = head; last.record.flags & FLAG.more; more++) {
      const next = entries[first + more + 1];
      const follows = last.record.extent + last.record.bytes / BLOCK;
      if (next === undefined || latin(next.name) !== latin(head.name) || next.record.extent !== follows) {
        throw this.#corrupt('a file in pieces that do not follow each other');
      }
      bytes += next.record.bytes;
      last = next;
    }
    return [{ ...head, record: { ...head.record, bytes } }, more];
  }

  async #node(entry: Entry, depth: number): Promise<IsoNode | null> {
    const { record } = entry;
    const use = this.skip === null ? null : await this.#use(entry.use.subarray(this.skip));
    if (use?.isMoved === true) return null;
    const name = this.#nameOf(entry, use);
    if (record.unit !== 0 || record.gap !== 0 || record.flags & FLAG.associated) throw this.#unsupported(name);
    const modifiedMs = use?.modifiedMs ?? shortTime(record.date);
    const attributes = use?.attributes ?? undefined;
    const block = record.extent + record.attributeLength;
    const common = { name, modifiedMs, attributes };
    const child = use?.child ?? null;
    if (child !== null) return this.#moved(common, child, depth);
    if (record.flags & FLAG.directory) return this.directory({ ...common, block, bytes: record.bytes }, depth + 1);
    const kind = use?.kind ?? KIND.file;
    if (kind === KIND.link || (use !== null && use.target !== null)) {
      const target = decoded(use?.target ?? new Uint8Array(0));
      return { ...common, executable: true, children: null, content: null, target };
    }
    if (kind !== KIND.file) throw this.#unsupported(name);
    const executable = ((attributes?.mode ?? 0) & 0o111) !== 0;
    const content = this.#content(block * BLOCK, record.bytes);
    const node = { ...common, executable, children: null, content, target: null };
    if (content.size > 0) this.contents.set(block * BLOCK, node);
    return node;
  }

  /** A directory that lies elsewhere, since it was too deep: its length stands in its own first record. */
  async #moved(
    common: Pick<IsoNode, 'name' | 'modifiedMs' | 'attributes'>,
    block: number,
    depth: number,
  ): Promise<IsoNode> {
    const [self] = await this.#entries(block, BLOCK);
    if (self === undefined || !isSelfOrParent(self)) throw this.#corrupt('a directory without itself');
    const use = this.skip === null ? null : await this.#use(self.use.subarray(this.skip));
    const attributes = use?.attributes ?? common.attributes;
    return this.directory({ ...common, attributes, block, bytes: self.record.bytes }, depth + 1);
  }

  #use(area: Uint8Array): Promise<SystemUse> {
    const read = (offset: number, length: number): Promise<Uint8Array> => readAt(this.#storage, offset, length);
    return systemUseOf(area, read, (found) => this.#corrupt(found));
  }

  #nameOf({ name }: Entry, use: SystemUse | null): string {
    const own = this.#options.isJoliet ? wide(name) : latin(name);
    const found =
      use !== null && use.name !== null
        ? decoded(use.name)
        : own.replace(/;\d*$/, '').replace(this.#options.isJoliet ? /$^/ : /\.$/, '');
    const length = new TextEncoder().encode(found).length;
    const isFine = found !== '' && found !== '.' && found !== '..' && !/[/\0]/.test(found);
    if (isFine && length <= ISO_LIMITS.nameBytes) return found;
    throw this.#corrupt(`the name ${JSON.stringify(found.slice(0, 80))}`);
  }

  /** The same bytes are one content, by whatever names. */
  #content(offset: number, size: number): HostContent {
    const known = this.contents.get(offset)?.content;
    if (known?.size === size) return known as HostContent;
    return contentWithin(this.#storage, this.#options.file, offset, size);
  }

  #corrupt(found: string): ImageError {
    return isoCorrupt(this.#storage, found, 'directories as ECMA-119 and Rock Ridge have them');
  }

  #unsupported(name: string): ImageError {
    return new ImageError('unsupported', 'The ISO image has an entry that cannot be taken out of it', {
      path: this.#storage.label,
      found: name.slice(0, 80),
      expected: 'files in one piece, directories and links',
      hint: 'Extract the files of the image into a directory, and name that instead.',
    });
  }
}

/** Part of an image as the content of a file. Throws `corrupt` beyond its end. */
export function contentWithin(storage: Storage, file: HostContent, offset: number, size: number): HostContent {
  if (size > 0 && offset + size > storage.size) {
    throw isoCorrupt(storage, `a file from ${offset} to ${offset + size}`, `at most ${storage.size}`);
  }
  return { ...file, size, within: { offset, file } };
}

function isSelfOrParent({ name }: Entry): boolean {
  return name.length === 1 && (name[0] ?? 2) < 2;
}

/** Bytes to skip, by the entry SP of the root; null: there is none. */
function skipOf(root: Entry | undefined): number | null {
  const use = root?.use;
  if (use === undefined || use.length < 4 + SP.size || latin(use.subarray(0, 2)) !== 'SP') return null;
  const { check, skip } = SP.decode(use, 4);
  return check[0] === 0xbe && check[1] === 0xef ? skip : null;
}

/** UTF-8, or letters of a byte each where it is not. */
function decoded(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder('latin1').decode(bytes);
  }
}
