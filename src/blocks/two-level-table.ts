/**
 * Tables that a directory names, as one table: the two levels of VMDK, seen as the one level of a block map.
 *
 * Entries of tables that do not exist read 0. A table gets its place when the first flush writes an entry of it: it is
 * staged whole, and its directory entry is published after it. Where the format keeps a second copy of everything, each
 * publication comes a second time, for that copy.
 */
import { alignDown, SECTOR } from '../binary/numbers.ts';
import { assert } from '../errors.ts';
import type { MetaWrite } from '../image/contract.ts';
import type { OperationOptions, ReadTarget, Storage } from '../storage/contract.ts';
import { ForwardingStorage } from '../storage/forwarding.ts';
import { readPadded } from '../storage/read-padded.ts';
import type { PageCache } from './metadata-pages.ts';
import { type EntryForm, EntryTable, scanEntries } from './table.ts';

/** Directory of one copy of the tables, in memory. */
export interface TableDirectory {
  /** File offset of its first entry, a multiple of the entry's length. */
  readonly fileOffset: number;
  readonly form: EntryForm;
  /** Bytes before it in its first sector, and behind it in its last one. Default: zeroes. */
  readonly edges?: { readonly lead: Uint8Array; readonly tail: Uint8Array } | undefined;
  /** File offsets of the tables, 0 = none, and `NO_TABLE` for one that cannot be where its entry points. */
  readonly places: Float64Array;
}

/** Bytes of a page: hosts of many small tables keep those of few blocks in memory. */
const PAGE = 8 * 1024;

/** A directory entry that points where no table can be: its entries read as all ones. */
export const BROKEN_TABLE = -1;

/** Parts of such a table. */
export interface TwoLevelParts {
  readonly storage: Storage;
  readonly directory: TableDirectory;
  /** The second copy, with a place for every table that the first one has a place for. */
  readonly copy?: TableDirectory | undefined;
  /** Stored form of the entries. */
  readonly form: EntryForm;
  /** Bytes of a table, a multiple of 512. */
  readonly tableBytes: number;
  /** Entries of all tables. */
  readonly count: number;
  readonly cache?: PageCache | undefined;
}

/** Room for a new table of each copy: file offsets, multiples of 512. */
export interface TableRoom {
  readonly table: number;
  readonly copy: number;
  /** It lies behind the end of the file and reads as zero: what is empty of a table is not written. Default false. */
  readonly fresh?: boolean | undefined;
}

/** Bytes of a new table that are written at once. */
const STAGED = 1024 * 1024;
const ZEROES = new Uint8Array(STAGED);

/** Writes of one flush. */
export interface SealedTables {
  /** New tables, whole. */
  readonly stage: readonly MetaWrite[];
  /** Entries of tables that exist, and of the directory. */
  readonly publish: readonly MetaWrite[];
  /** The same for the second copy. */
  readonly copy: readonly MetaWrite[];
}

/** See the head of this file. */
export class TwoLevelTable extends EntryTable {
  readonly #parts: TwoLevelParts;
  readonly #entriesPerTable: number;
  /** Tables without a place whose entries were changed: they get one with the next flush. */
  readonly #begun = new Set<number>();

  /** Tables that the flush under way writes: what lies at their places until then is not theirs. */
  readonly #staged: Set<number>;

  constructor(parts: TwoLevelParts) {
    const { storage, directory, tableBytes, form, count, cache } = parts;
    assert(tableBytes % SECTOR === 0, 'tables are whole sectors');
    const staged = new Set<number>();
    super({
      storage: new Tables(storage, directory.places, tableBytes, staged),
      fileOffset: 0,
      count,
      form,
      cache,
      pageBytes: PAGE,
    });
    this.#parts = parts;
    this.#staged = staged;
    this.#entriesPerTable = tableBytes / form.bytes;
  }

  override sameUntil(index: number, end = this.count): number {
    const { places } = this.#parts.directory;
    const isEmpty = (table: number): boolean => places[table] === 0 && !this.#begun.has(table);
    let table = Math.floor(index / this.#entriesPerTable);
    if (!isEmpty(table)) return super.sameUntil(index);
    while (table * this.#entriesPerTable < end && isEmpty(table)) table++;
    return Math.min(table * this.#entriesPerTable, this.count);
  }

  override set(index: number, value: number): void {
    super.set(index, value);
    const table = Math.floor(index / this.#entriesPerTable);
    if (this.#parts.directory.places[table] === 0) this.#begun.add(table);
  }

  /** Visits the entries of tables that exist. */
  override async scan(visit: (value: number, index: number) => void, options: OperationOptions = {}): Promise<void> {
    const { storage, directory, tableBytes, form } = this.#parts;
    const { places } = directory;
    for (let table = 0; table < places.length; ) {
      const place = places[table] ?? 0;
      let end = table + 1;
      if (place > 0) {
        while (places[end] === place + (end - table) * tableBytes) end++;
        const first = table * this.#entriesPerTable;
        const count = Math.min(end * this.#entriesPerTable, this.count) - first;
        await scanEntries({ storage, fileOffset: place, count, form }, (value, n) => visit(value, first + n), options);
      }
      table = end;
    }
  }

  override settle(): void {
    super.settle();
    this.#staged.clear();
  }

  /** The writes of the next flush. `place` finds room for a new table. */
  sealTables(place: () => TableRoom): SealedTables {
    const { storage, directory, copy, tableBytes } = this.#parts;
    const sealed = { stage: [] as MetaWrite[], publish: [] as MetaWrite[], copy: [] as MetaWrite[] };
    const added = new Map<number, TablePart[]>();
    for (const { fileOffset: virtual, bytes } of super.seal()) {
      for (let at = 0; at < bytes.length; ) {
        const table = Math.floor((virtual + at) / tableBytes);
        const inTable = (virtual + at) % tableBytes;
        const part = bytes.subarray(at, Math.min(at + tableBytes - inTable, bytes.length));
        if ((directory.places[table] ?? 0) === 0) partsOf(added, table).push({ inTable, bytes: part });
        else {
          sealed.publish.push({ storage, fileOffset: placeOf(directory, table) + inTable, bytes: part });
          if (copy !== undefined)
            sealed.copy.push({ storage, fileOffset: placeOf(copy, table) + inTable, bytes: part });
        }
        at += part.length;
      }
    }
    this.#begun.clear();
    for (const [table, parts] of added) {
      const { table: own, copy: second, fresh = false } = place();
      const staged = fresh ? partsInZeroes(parts, tableBytes) : wholeTable(parts, tableBytes);
      for (const { inTable, bytes } of staged) sealed.stage.push({ storage, fileOffset: own + inTable, bytes });
      directory.places[table] = own;
      this.#staged.add(table);
      if (copy === undefined) continue;
      for (const { inTable, bytes } of staged) sealed.stage.push({ storage, fileOffset: second + inTable, bytes });
      copy.places[table] = second;
    }
    const tables = [...added.keys()];
    const { stage, publish } = sealed;
    const published = [...publish, ...directoryWrites(storage, directory, tables)];
    if (copy === undefined) return { stage, publish: published, copy: sealed.copy };
    return { stage, publish: published, copy: [...sealed.copy, ...directoryWrites(storage, copy, tables)] };
  }
}

/** A part of a table. */
interface TablePart {
  readonly inTable: number;
  readonly bytes: Uint8Array;
}

function partsOf(added: Map<number, TablePart[]>, table: number): TablePart[] {
  const parts = added.get(table) ?? [];
  added.set(table, parts);
  return parts;
}

/** A new table in pieces, with zeroes where it is empty. Parts come in the order of the table. */
function wholeTable(parts: readonly TablePart[], tableBytes: number): TablePart[] {
  const pieces: TablePart[] = [];
  for (let at = 0; at < tableBytes; at += STAGED) {
    const length = Math.min(STAGED, tableBytes - at);
    const inside = parts.filter(({ inTable }) => inTable >= at && inTable < at + length);
    // No part is longer than a page, and no page lies in two pieces.
    const bytes = inside.length === 0 ? ZEROES.subarray(0, length) : new Uint8Array(length);
    for (const part of inside) bytes.set(part.bytes, part.inTable - at);
    pieces.push({ inTable: at, bytes });
  }
  return pieces;
}

/** Parts of a table, and its end if that is empty: the file reaches so far. */
function partsInZeroes(parts: readonly TablePart[], tableBytes: number): TablePart[] {
  const last = parts.at(-1);
  if (last !== undefined && last.inTable + last.bytes.length === tableBytes) return [...parts];
  return [...parts, { inTable: tableBytes - SECTOR, bytes: ZEROES.subarray(0, SECTOR) }];
}

function placeOf({ places }: TableDirectory, table: number): number {
  const place = places[table] ?? 0;
  assert(place > 0, 'no entry of a table that cannot be is changed');
  return place;
}

/** The sectors of a directory that hold the entries of these tables. */
function directoryWrites(storage: Storage, directory: TableDirectory, tables: readonly number[]): MetaWrite[] {
  const { fileOffset, form, places, edges } = directory;
  const start = alignDown(fileOffset, SECTOR);
  const lead = fileOffset - start;
  const sectors = new Set(tables.map((table) => alignDown(lead + table * form.bytes, SECTOR)));
  return [...sectors].map((sector) => {
    const bytes = new Uint8Array(SECTOR);
    const view = new DataView(bytes.buffer);
    const first = Math.max(Math.ceil((sector - lead) / form.bytes), 0);
    let at = lead + first * form.bytes - sector;
    if (sector === 0 && edges !== undefined) bytes.set(edges.lead);
    for (let table = first; at < SECTOR && table < places.length; table++, at += form.bytes) {
      form.put(view, at, Math.max(places[table] ?? 0, 0));
    }
    if (at < SECTOR && edges !== undefined) bytes.set(edges.tail, at);
    return { storage, fileOffset: start + sector, bytes };
  });
}

/** The tables behind each other, whatever places they have in the file. Only for reading. */
class Tables extends ForwardingStorage {
  readonly #places: Float64Array;
  readonly #tableBytes: number;
  /** Tables without content on the medium, although they have places. */
  readonly #staged: ReadonlySet<number>;

  constructor(inner: Storage, places: Float64Array, tableBytes: number, staged: ReadonlySet<number>) {
    super(inner, ['readNow', 'allocate', 'attributes', 'place']);
    this.#places = places;
    this.#tableBytes = tableBytes;
    this.#staged = staged;
  }

  override get size(): number {
    return this.#places.length * this.#tableBytes;
  }

  override async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    let from = offset;
    for (const buffer of target instanceof Uint8Array ? [target] : target) {
      await this.#readOne(from, buffer, options);
      from += buffer.length;
    }
  }

  async #readOne(offset: number, target: Uint8Array, options?: OperationOptions): Promise<void> {
    for (let at = 0; at < target.length; ) {
      const table = Math.floor((offset + at) / this.#tableBytes);
      const inTable = (offset + at) % this.#tableBytes;
      const place = this.#placeOf(table);
      const rest = target.length - at;
      const end = this.#runEnd(table, place, Math.ceil((inTable + rest) / this.#tableBytes));
      const length = Math.min(end * this.#tableBytes - (offset + at), rest);
      const part = target.subarray(at, at + length);
      if (place > 0) await readPadded(this.inner, place + inTable, part, options);
      else part.fill(place === BROKEN_TABLE ? 0xff : 0);
      at += length;
    }
  }

  /** One more than the last table, of at most `count`, of a run of neighbours in the file, or without a place. */
  #runEnd(table: number, place: number, count: number): number {
    const step = place > 0 ? this.#tableBytes : 0;
    let end = table + 1;
    while (end < table + count && this.#placeOf(end) === place + (end - table) * step) end++;
    return end;
  }

  #placeOf(table: number): number {
    return this.#staged.has(table) ? 0 : (this.#places[table] ?? 0);
  }
}
