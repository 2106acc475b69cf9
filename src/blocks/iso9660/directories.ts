/** Directories and path tables of one name space: laid out first, written when all extents are known. */
import { assert, ImageError } from '../../errors.ts';
import { shortDate } from './dates.ts';
import { BLOCK, FLAG, LONGEST_EXTENT, PARENT, PATH_ENTRY, RECORD, SELF } from './layout.ts';
import { type NamedEntry, type NameSpace, namedEntries } from './names.ts';
import { Continuations, systemUse } from './rock-ridge.ts';
import { ISO_LIMITS, type IsoContent, type IsoNode, type IsoRecipe } from './tree.ts';

/** A record takes an even number of bytes that one byte tells. */
const LONGEST_RECORD = 254;

/** Bytes of a file that has one extent only. */
const LONGEST_FILE = 0xffff_ffff;

/** A directory in its place. */
interface PlacedDirectory {
  readonly node: IsoNode;
  readonly name: Uint8Array;
  readonly parent: PlacedDirectory;
  readonly entries: readonly NamedEntry[];
  /** Number in the path table, from 1. */
  readonly number: number;
  /** Hard links: its name, its own ".", and the ".." of each directory in it. */
  readonly links: number;
  /** Rest that does not fit into its records. */
  readonly rest: Continuations;
  bytes: number;
  block: number;
}

/** First blocks of the contents of files. */
export type Extents = ReadonlyMap<IsoContent, number>;

/** All directories of a name space, in the order of the path table: level by level. */
export class Directories {
  readonly #list: readonly PlacedDirectory[];
  readonly #byNode: ReadonlyMap<IsoNode, PlacedDirectory>;
  readonly #how: Pick<IsoRecipe, 'rockRidge' | 'level'>;

  constructor(root: IsoNode, space: NameSpace, how: Pick<IsoRecipe, 'rockRidge' | 'level'>) {
    this.#how = how;
    this.#list = levels(root, space);
    this.#byNode = new Map(this.#list.map((directory) => [directory.node, directory]));
    for (const directory of this.#list) directory.bytes = placesOf(this.#records(directory, null)).end;
  }

  /** Gives every directory its blocks, from there on, and returns the first block behind them. */
  place(first: number): number {
    let block = first;
    for (const directory of this.#list) {
      directory.block = block;
      block += directory.bytes / BLOCK;
      // Readers that go forwards expect it right behind the directory.
      directory.rest.place(block);
      block += directory.rest.blocks;
    }
    return block;
  }

  get pathTableBytes(): number {
    return this.#list.reduce((sum, { name }) => sum + PATH_ENTRY.little.size + name.length + (name.length % 2), 0);
  }

  /** The record of the root that stands in a descriptor. */
  get rootRecord(): Uint8Array {
    const [root] = this.#list;
    assert(root !== undefined, 'there is a root');
    return record(SELF, {
      block: root.block,
      bytes: root.bytes,
      flags: FLAG.directory,
      modifiedMs: root.node.modifiedMs,
    });
  }

  pathTable(order: 'little' | 'big'): Uint8Array {
    const table = new Uint8Array(this.pathTableBytes);
    let at = 0;
    for (const { name, block, parent } of this.#list) {
      const head = { nameLength: name.length, attributeLength: 0, extent: block, parent: parent.number };
      table.set(PATH_ENTRY[order].encode(head), at);
      table.set(name, at + PATH_ENTRY[order].size);
      at += PATH_ENTRY[order].size + name.length + (name.length % 2);
    }
    return table;
  }

  /** Writes all directories into an image that begins at byte 0. */
  writeInto(image: Uint8Array, extents: Extents): void {
    for (const directory of this.#list) {
      directory.rest.clear();
      image.set(inBlocks(this.#records(directory, extents)), directory.block * BLOCK);
      directory.rest.writeInto(image);
    }
  }

  /** `extents`: null while lengths are measured, which do not depend on them; then the records are zero. */
  #records(directory: PlacedDirectory, extents: Extents | null): Uint8Array[] {
    const { node, parent, entries, rest } = directory;
    const isRoot = directory === parent;
    const announced = this.#how.rockRidge === 'full';
    const records = [
      this.#directoryRecord(
        SELF,
        directory,
        systemUse(node, { as: 'self', links: directory.links, isRoot, announced }),
        rest,
      ),
      this.#directoryRecord(PARENT, parent, systemUse(parent.node, { as: 'parent', links: parent.links }), rest),
    ];
    for (const entry of entries) {
      for (const one of this.#entryRecords(entry, extents, rest)) records.push(one);
    }
    return records;
  }

  #directoryRecord(
    name: Uint8Array,
    place: PlacedDirectory,
    entries: readonly Uint8Array[],
    rest: Continuations,
  ): Uint8Array {
    const { block, bytes, node } = place;
    return this.#record(name, { block, bytes, flags: FLAG.directory, modifiedMs: node.modifiedMs }, entries, rest);
  }

  #entryRecords({ node, name }: NamedEntry, extents: Extents | null, rest: Continuations): Uint8Array[] {
    const own = this.#byNode.get(node);
    const entries = systemUse(node, { as: 'entry', links: own?.links ?? 1 });
    const { modifiedMs } = node;
    if (own !== undefined) return [this.#directoryRecord(name, own, entries, rest)];
    const size = node.content?.size ?? 0;
    const longest = this.#how.level === 3 ? LONGEST_EXTENT : LONGEST_FILE;
    if (this.#how.level < 3 && size > longest) throw tooLong(node, this.#how.level);
    const first = node.content === null || size === 0 ? 0 : (extents?.get(node.content) ?? 0);
    const records: Uint8Array[] = [];
    let at = 0;
    do {
      const bytes = Math.min(size - at, longest);
      const flags = at + bytes < size ? FLAG.more : 0;
      const facts = extents === null ? null : { block: first + at / BLOCK, bytes, flags, modifiedMs };
      records.push(this.#record(name, facts, entries, rest));
      at += bytes;
    } while (at < size);
    return records;
  }

  #record(
    name: Uint8Array,
    facts: RecordFacts | null,
    entries: readonly Uint8Array[],
    rest: Continuations,
  ): Uint8Array {
    if (this.#how.rockRidge === 'none') return record(name, facts);
    const head = RECORD.size + name.length + (name.length % 2 === 0 ? 1 : 0);
    return record(name, facts, rest.fit(entries, LONGEST_RECORD - head));
  }
}

interface RecordFacts {
  readonly block: number;
  readonly bytes: number;
  readonly flags: number;
  readonly modifiedMs: number;
}

/** A record; zero without facts. */
function record(name: Uint8Array, facts: RecordFacts | null, entries: readonly Uint8Array[] = []): Uint8Array {
  const head = RECORD.size + name.length + (name.length % 2 === 0 ? 1 : 0);
  const used = entries.reduce((sum, { length }) => sum + length, head);
  const length = used + (used % 2);
  const bytes = new Uint8Array(length);
  if (facts === null) return bytes;
  const { block: extent, bytes: size, flags, modifiedMs } = facts;
  const date = shortDate(modifiedMs);
  const nameLength = name.length;
  bytes.set(
    RECORD.encode({
      length,
      attributeLength: 0,
      extent,
      bytes: size,
      date,
      flags,
      unit: 0,
      gap: 0,
      sequence: 1,
      nameLength,
    }),
  );
  bytes.set(name, RECORD.size);
  let at = head;
  for (const one of entries) {
    bytes.set(one, at);
    at += one.length;
  }
  return bytes;
}

/** Offsets of records behind each other, none of them across the end of a block, and the end of the last block. */
function placesOf(records: readonly { readonly length: number }[]): { offsets: number[]; end: number } {
  const offsets: number[] = [];
  let end = 0;
  for (const { length } of records) {
    if ((end % BLOCK) + length > BLOCK) end = Math.ceil(end / BLOCK) * BLOCK;
    offsets.push(end);
    end += length;
  }
  return { offsets, end: Math.ceil(end / BLOCK) * BLOCK };
}

function inBlocks(records: readonly Uint8Array[]): Uint8Array {
  const { offsets, end } = placesOf(records);
  const bytes = new Uint8Array(end);
  for (const [at, one] of records.entries()) bytes.set(one, offsets[at]);
  return bytes;
}

function levels(root: IsoNode, space: NameSpace): PlacedDirectory[] {
  const list: PlacedDirectory[] = [];
  const add = (node: IsoNode, name: Uint8Array, parent: PlacedDirectory | null): void => {
    const entries = namedEntries(node.children ?? [], space);
    const own = {
      node,
      name,
      entries,
      number: list.length + 1,
      links: 2 + entries.filter((entry) => entry.node.children !== null).length,
      rest: new Continuations(),
    };
    const placed: { parent?: PlacedDirectory } & Omit<PlacedDirectory, 'parent'> = { ...own, bytes: 0, block: 0 };
    placed.parent = parent ?? (placed as PlacedDirectory);
    list.push(placed as PlacedDirectory);
    if (list.length > ISO_LIMITS.directories) throw tooMany();
  };
  add(root, SELF, null);
  for (let at = 0; at < list.length; at++) {
    const parent = list[at];
    assert(parent !== undefined, 'the list has the directory');
    for (const { node, name } of parent.entries) if (node.children !== null) add(node, name, parent);
  }
  return list;
}

function tooLong(node: IsoNode, level: number): ImageError {
  return new ImageError('limit', 'A file is too long for the level of the image', {
    path: node.name,
    found: `${node.content?.size} bytes in level ${level}`,
    expected: `at most ${LONGEST_FILE} bytes, or level 3`,
  });
}

function tooMany(): ImageError {
  return new ImageError('limit', 'An ISO 9660 image cannot hold as many directories', {
    expected: `at most ${ISO_LIMITS.directories}`,
    hint: 'Pack some of them into an archive.',
  });
}
