/**
 * Check and repair of images of two levels that are not open elsewhere.
 *
 * The L1 table is read first, so that the places of all tables are taken before any cluster of the disk. A repair, each step
 * durable before the next:
 *   1. clusters that two entries name are copied beyond the end of the file for the second one;
 *   2. entries that lead nowhere, or to metadata, are cleared; in a differencing image they get clusters of zeroes, since a
 *      cleared one would show what the parent holds;
 *   3. entries beyond the end of the disk are cleared, and what nothing uses is cut off the end.
 */
import { SparseBitSet } from '../binary/bits.ts';
import { alignUp, divCeil, SECTOR } from '../binary/numbers.ts';
import { FindingList } from '../image/finding-list.ts';
import type { OperationOptions, Storage } from '../storage/contract.ts';
import { copyBytes } from '../storage/copy-bytes.ts';
import { scanEntries, writeEntries } from './table.ts';
import { storeZeroes } from './two-level-resize.ts';
import type { FilePlace, TwoLevelShape } from './two-level-state.ts';

/** Result of a walk over all tables. */
export interface TwoLevelSurvey {
  readonly list: FindingList;
  /** End of what is in use. */
  readonly usedEnd: number;
  /** Entries beyond the end of the disk name clusters. */
  readonly behind: boolean;
  /** Tables overlap: the image must not be written. */
  readonly tangled: boolean;
}

/** An entry that is wrong. */
interface WrongEntry {
  readonly index: number;
  /** Copied: the file offset of the cluster. Cleared: null. */
  readonly copyFrom: number | null;
}

/** Repairs the wrong entries of one table: of the L1 table (`level` 1) or of an L2 table. */
type Mend = (place: number, level: 1 | 2, wrong: readonly WrongEntry[]) => Promise<void>;

/** Decodes compressed clusters of one table, by number, and adds a finding for each that does not decode. */
export type Decode = (clusters: readonly number[]) => Promise<void>;

/** Finds damage in the tables of an image. `list`: findings of its header. */
export function surveyTwoLevel(
  storage: Storage,
  shape: TwoLevelShape,
  list: FindingList,
  options: OperationOptions & { readonly decode?: Decode },
): Promise<TwoLevelSurvey> {
  return walk(storage, shape, list, options);
}

/** Repairs the tables. Returns what is left afterwards. Nothing is durable but what a later step needs: flush. */
export async function mendTwoLevel(
  storage: Storage,
  shape: TwoLevelShape,
  options: OperationOptions,
): Promise<TwoLevelSurvey> {
  const first = await walk(storage, shape, new FindingList(), options, mender(storage, shape));
  await storage.flush();
  if (first.behind) await clearBehind(storage, shape);
  const left = await walk(storage, shape, new FindingList(), options);
  if (storage.size !== left.usedEnd && !left.tangled) await storage.resize(left.usedEnd);
  return left;
}

function mender(storage: Storage, shape: TwoLevelShape): Mend {
  const { clusterSize, tableEntries, virtualSize, form, entries: kinds, differencing, unit, l1Form } = shape;
  /** Zeroes beyond the end of the file. */
  const zeroes = async (clusters: number): Promise<number> => {
    const place = alignUp(storage.size, Math.max(unit, SECTOR));
    await storeZeroes(storage, place, clusters * clusterSize);
    return place;
  };
  /** A table of zeroes for the part of the disk that an entry of the L1 table stands for. */
  const zeroTable = async (table: number): Promise<number> => {
    const count = Math.min(divCeil(virtualSize, clusterSize) - table * tableEntries, tableEntries);
    const data = kinds.zero === null ? await zeroes(count) : null;
    const place = alignUp(storage.size, unit);
    const entryOf = (index: number): number => {
      if (index >= count) return kinds.absent;
      return data === null ? (kinds.zero ?? 0) : kinds.entryAt(data + index * clusterSize);
    };
    await writeEntries({ storage, fileOffset: place, form }, { start: 0, end: tableEntries }, entryOf);
    return place;
  };
  const cluster = async (copyFrom: number | null): Promise<number> => {
    if (copyFrom === null) return differencing ? kinds.entryAt(await zeroes(1)) : kinds.absent;
    const place = await zeroes(1);
    await copyBytes(storage, copyFrom, place, clusterSize);
    return kinds.entryAt(place);
  };
  const emptyTable = async (table: number): Promise<number> => {
    const isOfDisk = table * tableEntries * clusterSize < virtualSize;
    return differencing && isOfDisk ? zeroTable(table) : 0;
  };
  return async (place, level, wrong) => {
    if (wrong.length === 0) return;
    const values = new Map<number, number>();
    for (const { index, copyFrom } of wrong) {
      values.set(index, level === 2 ? await cluster(copyFrom) : await emptyTable(index));
    }
    await storage.flush();
    const table = { storage, fileOffset: place, form: level === 1 ? l1Form : form };
    for (const [start, value] of values) await writeEntries(table, { start, end: start + 1 }, () => value);
  };
}

/** Clears entries of L2 tables behind those of the disk. */
async function clearBehind(storage: Storage, shape: TwoLevelShape): Promise<void> {
  const { tableEntries, clusterSize, virtualSize, form, entries } = shape;
  const first = divCeil(virtualSize, clusterSize);
  for (const { table, place } of await tablesOf(storage, shape, {})) {
    const start = Math.max(first - table * tableEntries, 0);
    if (start >= tableEntries) continue;
    await writeEntries({ storage, fileOffset: place, form }, { start, end: tableEntries }, () => entries.absent);
  }
  await storage.flush();
}

interface NamedTable {
  readonly table: number;
  readonly place: number;
}

/** The entries of the L1 table that name a table. */
async function tablesOf(
  storage: Storage,
  { l1Offset: fileOffset, l1Entries: count, l1Form: form }: TwoLevelShape,
  options: OperationOptions,
): Promise<NamedTable[]> {
  const tables: NamedTable[] = [];
  await scanEntries(
    { storage, fileOffset, count, form },
    (place, table) => {
      if (place !== 0) tables.push({ table, place });
    },
    options,
  );
  return tables;
}

/** Visits all entries. With `mend`, wrong ones are repaired after their table was read. */
async function walk(
  storage: Storage,
  shape: TwoLevelShape,
  list: FindingList,
  options: OperationOptions & { readonly decode?: Decode },
  mend: Mend = async () => {},
): Promise<TwoLevelSurvey> {
  const walker = new Walker(storage, shape, list);
  await mend(shape.l1Offset, 1, await walker.tables(options));
  for (const { table, place } of walker.sound) {
    await mend(place, 2, await walker.clusters(table, place, options));
    await options.decode?.(walker.streams);
  }
  return walker.end();
}

/** The entries of one image, level by level. */
class Walker {
  /** L2 tables that lie where tables can, each at a place for itself. */
  readonly sound: NamedTable[] = [];
  /** Compressed clusters that the last table names, where some can be. */
  streams: number[] = [];
  readonly #storage: Storage;
  readonly #shape: TwoLevelShape;
  readonly #list: FindingList;
  /** The file before any repair. */
  readonly #size: number;
  readonly #blockCount: number;
  /** Units in use, those of them that hold metadata, and those that hold compressed clusters. */
  readonly #owners = new SparseBitSet();
  readonly #metadata = new SparseBitSet();
  readonly #streams = new SparseBitSet();
  #usedEnd = 0;
  #behind = false;
  #tangled = false;

  constructor(storage: Storage, shape: TwoLevelShape, list: FindingList) {
    this.#storage = storage;
    this.#shape = shape;
    this.#list = list;
    this.#size = storage.size;
    this.#blockCount = divCeil(shape.virtualSize, shape.clusterSize);
    this.#take({ fileOffset: 0, length: shape.lowest }, this.#metadata);
    for (const place of shape.reserved) this.#take(place, this.#metadata);
  }

  /** The wrong entries of the L1 table. */
  async tables(options: OperationOptions): Promise<WrongEntry[]> {
    const { l1Offset, l1Form, tableBytes, tableEntries } = this.#shape;
    const wrong: WrongEntry[] = [];
    for (const { table, place } of await tablesOf(this.#storage, this.#shape, options)) {
      const where = {
        fileOffset: l1Offset + table * l1Form.bytes,
        guestOffset: this.#guestOffset(table * tableEntries),
      };
      if (!this.#isPlace(place) || place + tableBytes > this.#size) {
        this.#list.add('corruption', 'table-nowhere', `L2 table ${table} is said to lie where none can be.`, where);
        wrong.push({ index: table, copyFrom: null });
      } else if (this.#take({ fileOffset: place, length: tableBytes }, this.#metadata))
        this.sound.push({ table, place });
      else {
        this.#tangled = true;
        const how = { ...where, repairable: false };
        this.#list.add('corruption', 'shared-table', `L2 table ${table} overlaps other metadata.`, how);
      }
    }
    return wrong;
  }

  /** The wrong entries of an L2 table. */
  async clusters(table: number, place: number, options: OperationOptions): Promise<WrongEntry[]> {
    const { tableEntries: count, form, entries } = this.#shape;
    const wrong: WrongEntry[] = [];
    this.streams = [];
    const visit = (entry: number, inTable: number): void => {
      if (entry === entries.absent) return;
      const index = table * count + inTable;
      if (index >= this.#blockCount) this.#behind = true;
      const copyFrom = this.#entry(entry, index, place + inTable * form.bytes);
      if (copyFrom !== undefined) wrong.push({ index: inTable, copyFrom });
    };
    await scanEntries({ storage: this.#storage, fileOffset: place, count, form }, visit, options);
    return wrong;
  }

  end(): TwoLevelSurvey {
    const { padding = [] } = this.#shape;
    for (const place of padding) this.#take(place);
    const [size, usedEnd] = [this.#size, this.#usedEnd];
    if (this.#behind) this.#list.add('leak', 'entries-behind-end', 'Entries beyond the end of the disk name clusters.');
    if (size > usedEnd) {
      const message = `The file is ${size - usedEnd} bytes longer than the image needs.`;
      // Tables that overlap make the end of what is in use uncertain: nothing is cut off.
      this.#list.add('leak', 'file-too-long', message, { fileOffset: usedEnd, repairable: !this.#tangled });
    }
    return { list: this.#list, usedEnd, behind: this.#behind, tangled: this.#tangled };
  }

  /** Looks at one entry. Returns the place to copy from, null: it is to be cleared, undefined: it is sound. */
  #entry(entry: number, index: number, fileOffset: number): number | null | undefined {
    const where = { fileOffset, guestOffset: this.#guestOffset(index) };
    const stream = this.#shape.encodedAt?.(entry) ?? null;
    if (stream !== null) return this.#stream(stream, index, where);
    return this.#shape.entries.kindOf(entry) === 'data' ? this.#cluster(entry, index, where) : undefined;
  }

  #cluster(entry: number, index: number, where: Where): number | null | undefined {
    const { clusterSize: length, entries } = this.#shape;
    const place = entries.slotOffset(entry);
    if (!this.#isPlace(place) || place >= this.#size) {
      const say = (): string => `Cluster ${index} is said to lie where none can be.`;
      this.#list.add('corruption', 'cluster-nowhere', say, where);
      return null;
    }
    if (!this.#take({ fileOffset: place, length })) {
      const isMetadata = this.#touches(this.#metadata, { fileOffset: place, length });
      const other = isMetadata ? 'metadata does' : 'another one does';
      this.#list.add('corruption', 'shared-cluster', () => `Cluster ${index} lies where ${other}.`, where);
      return isMetadata ? null : place;
    }
    if (place + length > this.#size) {
      const say = (): string => `Cluster ${index} is cut off by the end of the file: what is missing reads zero.`;
      this.#list.add('corruption', 'cluster-cut-off', say, where);
    }
    return undefined;
  }

  #stream(place: FilePlace, index: number, where: Where): null | undefined {
    if (place.fileOffset < this.#shape.lowest || place.fileOffset + place.length > this.#size || place.length === 0) {
      const say = (): string => `Compressed cluster ${index} is said to lie where none can be.`;
      this.#list.add('corruption', 'cluster-nowhere', say, where);
      return null;
    }
    if (!this.#touches(this.#owners, place) || this.#isOfStreams(place)) {
      this.#take(place, this.#streams);
      if (index < this.#blockCount) this.streams.push(index);
      return undefined;
    }
    const say = (): string => `Compressed cluster ${index} lies where another cluster or metadata does.`;
    this.#list.add('corruption', 'shared-cluster', say, where);
    return null;
  }

  #guestOffset(index: number): number | null {
    const guestOffset = index * this.#shape.clusterSize;
    return guestOffset < this.#shape.virtualSize ? guestOffset : null;
  }

  #isPlace(fileOffset: number): boolean {
    return fileOffset >= this.#shape.lowest && fileOffset % this.#shape.unit === 0;
  }

  #touches(set: SparseBitSet, place: FilePlace): boolean {
    const [first, end] = this.#units(place);
    for (let unit = first; unit < end; unit++) if (set.has(unit)) return true;
    return false;
  }

  /** Everything in use there belongs to compressed clusters. */
  #isOfStreams(place: FilePlace): boolean {
    const [first, end] = this.#units(place);
    for (let unit = first; unit < end; unit++) if (this.#owners.has(unit) && !this.#streams.has(unit)) return false;
    return true;
  }

  /** Takes whole units. False: one of them is in use already. */
  #take(place: FilePlace, kind?: SparseBitSet): boolean {
    const [first, end] = this.#units(place);
    let isFree = true;
    for (let unit = first; unit < end; unit++) {
      if (!this.#owners.add(unit)) isFree = false;
      kind?.add(unit);
    }
    this.#usedEnd = Math.max(this.#usedEnd, end * this.#shape.unit);
    return isFree;
  }

  #units({ fileOffset, length }: FilePlace): readonly [first: number, end: number] {
    const { unit } = this.#shape;
    return [Math.floor(fileOffset / unit), divCeil(fileOffset + length, unit)];
  }
}

interface Where {
  readonly fileOffset: number;
  readonly guestOffset: number | null;
}
