/**
 * Check and repair of QED images that are not open elsewhere.
 *
 * The L1 table is read first, so that the places of all tables are taken before any cluster of the disk. A repair, each step
 * durable before the next:
 *   1. clusters that two entries name are copied behind the end of the file for the second one;
 *   2. entries that lead nowhere, or to metadata, are cleared; in a differencing image they are marked as zero, since a
 *      cleared one would show what the backing file holds;
 *   3. entries behind the end of the disk are cleared, and what nothing uses is cut off the end;
 *   4. the mark "need check" goes if nothing is wrong any more.
 */
import { SparseBitSet } from '../../binary/bits.ts';
import { alignUp, divCeil } from '../../binary/numbers.ts';
import { scanEntries, U64_LITTLE, writeEntries } from '../../blocks/table.ts';
import type { FormatCheckOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { copyBytes } from '../../storage/copy-bytes.ts';
import { type QedLayout, readHeader } from './header.ts';
import { FEATURE, HEADER, L2_ABSENT, L2_ZERO } from './layout.ts';

/** An entry that is wrong. */
interface WrongEntry {
  readonly index: number;
  /** Copied: the file offset of the cluster. Cleared: null. */
  readonly copyFrom: number | null;
}

/** Result of a walk over all tables. */
interface Walk {
  readonly layout: QedLayout;
  readonly list: FindingList;
  /** End of what is in use. */
  readonly usedEnd: number;
  /** Entries behind the end of the disk. */
  readonly behind: boolean;
  /** Two L1 entries name the same table, or tables overlap. */
  readonly tangled: boolean;
}

/** Repairs the wrong entries of one table: of the L1 table (`level` 1) or of an L2 table. */
type Mend = (place: number, level: 1 | 2, wrong: readonly WrongEntry[]) => Promise<void>;

/** Finds damage in an image. */
export async function check(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  return (await walk(mainFile(files), options)).list.list;
}

/** Repairs what `check` finds and can be repaired. Returns the findings; a clean image is not changed. */
export async function repair(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  const storage = mainFile(files);
  const { list } = await walk(storage, options);
  if (list.list.some(({ repairable }) => repairable)) await mendAll(storage, options);
  return list.list;
}

/** Checks an image whose writer was cut off, repairs what is wrong, and takes the mark off. */
export async function recover(storage: Storage, options: OperationOptions): Promise<void> {
  await mendAll(storage, options);
}

async function mendAll(storage: Storage, options: OperationOptions): Promise<void> {
  const first = await walk(storage, options, mender(storage, await readHeader(storage, options)));
  await storage.flush();
  if (first.behind) await clearBehind(storage, first.layout);
  const { layout, usedEnd, tangled } = await walk(storage, options);
  if (storage.size !== usedEnd && !tangled) await storage.resize(usedEnd);
  if (layout.needCheck && !tangled) {
    const sector = layout.sector.slice();
    HEADER.put(sector, 'features', layout.header.features & ~FEATURE.needCheck);
    await storage.flush();
    await storage.write(0, sector);
  }
  await storage.flush();
}

function mender(storage: Storage, layout: QedLayout): Mend {
  const { clusterSize, tableEntries, backing } = layout;
  const marker = backing === null ? L2_ABSENT : L2_ZERO;
  /** Room behind the end of the file. */
  const take = (): number => alignUp(storage.size, clusterSize);
  const zeroTable = async (): Promise<number> => {
    const place = take();
    await writeEntries(
      { storage, fileOffset: place, form: U64_LITTLE },
      { start: 0, end: tableEntries },
      () => L2_ZERO,
    );
    return place;
  };
  return async (place, level, wrong) => {
    const entries = new Map<number, number>();
    for (const { index, copyFrom } of wrong) {
      const to = take();
      if (copyFrom !== null) await copyBytes(storage, copyFrom, to, clusterSize);
      if (level === 2) entries.set(index, copyFrom === null ? marker : to);
      else entries.set(index, backing === null ? 0 : await zeroTable());
    }
    if (entries.size === 0) return;
    await storage.flush();
    for (const [start, value] of entries) {
      await writeEntries({ storage, fileOffset: place, form: U64_LITTLE }, { start, end: start + 1 }, () => value);
    }
  };
}

/** Entries of L2 tables behind those of the disk. */
async function clearBehind(storage: Storage, layout: QedLayout): Promise<void> {
  const { tableEntries, clusterSize, virtualSize } = layout;
  const first = divCeil(virtualSize, clusterSize);
  await forTables(storage, layout, {}, async (table, place) => {
    const start = Math.max(first - table * tableEntries, 0);
    if (start >= tableEntries) return;
    await writeEntries({ storage, fileOffset: place, form: U64_LITTLE }, { start, end: tableEntries }, () => L2_ABSENT);
  });
  await storage.flush();
}

async function forTables(
  storage: Storage,
  { l1Offset, l1Entries }: QedLayout,
  options: OperationOptions,
  visit: (table: number, place: number) => Promise<void>,
): Promise<void> {
  const places: [number, number][] = [];
  const l1 = { storage, fileOffset: l1Offset, count: l1Entries, form: U64_LITTLE };
  await scanEntries(l1, (place, table) => place !== 0 && places.push([table, place]), options);
  for (const [table, place] of places) await visit(table, place);
}

/** Visits all entries. With `mend`, wrong ones are repaired after their table was read. */
async function walk(storage: Storage, options: OperationOptions, mend: Mend = async () => {}): Promise<Walk> {
  const layout = await readHeader(storage, options);
  const walker = new Walker(storage, layout);
  if (layout.needCheck) {
    walker.list.add('warning', 'not-closed', 'The image was not closed by the program that wrote it.');
  }
  await mend(layout.l1Offset, 1, await walker.tables(options));
  for (const { table, place } of walker.sound) await mend(place, 2, await walker.clusters(table, place, options));
  return walker.end();
}

/** The entries of one image, level by level. */
class Walker {
  readonly list = new FindingList();
  /** L2 tables that lie where tables can, each at a place for itself. */
  readonly sound: { readonly table: number; readonly place: number }[] = [];
  readonly #storage: Storage;
  readonly #layout: QedLayout;
  /** The file before any repair. */
  readonly #size: number;
  readonly #blockCount: number;
  /** Clusters in use, and those of them that hold tables or names. */
  readonly #owners = new SparseBitSet();
  readonly #metadata = new SparseBitSet();
  #usedEnd: number;
  #behind = false;
  #tangled = false;

  constructor(storage: Storage, layout: QedLayout) {
    this.#storage = storage;
    this.#layout = layout;
    this.#size = storage.size;
    this.#usedEnd = layout.headerBytes;
    this.#blockCount = divCeil(layout.virtualSize, layout.clusterSize);
    const { l1Offset, tableBytes, backing, headerBytes } = layout;
    this.#takeMetadata(l1Offset, tableBytes);
    if (backing === null || backing.fileOffset + backing.length <= headerBytes) return;
    const start = Math.max(backing.fileOffset, headerBytes);
    this.#takeMetadata(start, backing.fileOffset + backing.length - start);
  }

  /** The wrong entries of the L1 table. */
  async tables(options: OperationOptions): Promise<WrongEntry[]> {
    const { l1Offset, tableBytes, tableEntries } = this.#layout;
    const wrong: WrongEntry[] = [];
    await forTables(this.#storage, this.#layout, options, async (table, place) => {
      const where = {
        fileOffset: l1Offset + table * 8,
        guestOffset: guestOffsetOf(this.#layout, table * tableEntries),
      };
      if (!this.#isPlace(place) || place + tableBytes > this.#size) {
        this.list.add('corruption', 'table-nowhere', `L2 table ${table} is said to lie where none can be.`, where);
        wrong.push({ index: table, copyFrom: null });
      } else if (this.#takeMetadata(place, tableBytes)) this.sound.push({ table, place });
      else {
        this.#tangled = true;
        const how = { ...where, repairable: false };
        this.list.add('corruption', 'shared-table', `L2 table ${table} overlaps another table.`, how);
      }
    });
    return wrong;
  }

  /** The wrong entries of an L2 table. */
  async clusters(table: number, place: number, options: OperationOptions): Promise<WrongEntry[]> {
    const { tableEntries: count } = this.#layout;
    const wrong: WrongEntry[] = [];
    const visit = (entry: number, inTable: number): void => {
      if (entry === L2_ABSENT) return;
      const index = table * count + inTable;
      if (index >= this.#blockCount) this.#behind = true;
      const copyFrom = entry === L2_ZERO ? undefined : this.#cluster(entry, index, place + inTable * 8);
      if (copyFrom !== undefined) wrong.push({ index: inTable, copyFrom });
    };
    await scanEntries({ storage: this.#storage, fileOffset: place, count, form: U64_LITTLE }, visit, options);
    return wrong;
  }

  end(): Walk {
    if (this.#behind) this.list.add('leak', 'entries-behind-end', 'Entries behind the end of the disk name clusters.');
    const [size, usedEnd, layout] = [this.#size, this.#usedEnd, this.#layout];
    addLeaks(this.list, { size, usedEnd, used: this.#owners.size, layout });
    return { layout, list: this.list, usedEnd, behind: this.#behind, tangled: this.#tangled };
  }

  /** Looks at one cluster. Returns the place to copy it from, null: it is to be cleared, undefined: it is sound. */
  #cluster(entry: number, index: number, fileOffset: number): number | null | undefined {
    const { clusterSize } = this.#layout;
    const where = { fileOffset, guestOffset: guestOffsetOf(this.#layout, index) };
    if (!this.#isPlace(entry) || entry >= this.#size) {
      const say = (): string => `Cluster ${index} is said to lie where none can be.`;
      this.list.add('corruption', 'cluster-nowhere', say, where);
      return null;
    }
    if (!this.#take(entry, clusterSize)) {
      const isMetadata = this.#metadata.has(entry / clusterSize);
      const other = isMetadata ? 'a table does' : 'another one does';
      this.list.add('corruption', 'shared-cluster', () => `Cluster ${index} lies where ${other}.`, where);
      return isMetadata ? null : entry;
    }
    if (entry + clusterSize > this.#size) {
      const say = (): string => `Cluster ${index} is cut off by the end of the file: what is missing reads zero.`;
      this.list.add('corruption', 'cluster-cut-off', say, where);
    }
    return undefined;
  }

  #isPlace(fileOffset: number): boolean {
    return fileOffset >= this.#layout.headerBytes && fileOffset % this.#layout.clusterSize === 0;
  }

  #takeMetadata(fileOffset: number, length: number): boolean {
    return this.#take(fileOffset, length, this.#metadata);
  }

  /** Takes whole clusters. False: one of them is in use already. */
  #take(fileOffset: number, length: number, kind?: SparseBitSet): boolean {
    const { clusterSize } = this.#layout;
    const end = divCeil(fileOffset + length, clusterSize);
    let isFree = true;
    for (let cluster = Math.floor(fileOffset / clusterSize); cluster < end; cluster++) {
      if (!this.#owners.add(cluster)) isFree = false;
      kind?.add(cluster);
    }
    this.#usedEnd = Math.max(this.#usedEnd, end * clusterSize);
    return isFree;
  }
}

function guestOffsetOf({ virtualSize, clusterSize }: QedLayout, index: number): number | null {
  const guestOffset = index * clusterSize;
  return guestOffset < virtualSize ? guestOffset : null;
}

function addLeaks(
  list: FindingList,
  found: { readonly size: number; readonly usedEnd: number; readonly used: number; readonly layout: QedLayout },
): void {
  const { size, usedEnd, used, layout } = found;
  if (size > usedEnd) {
    const message = `The file is ${size - usedEnd} bytes longer than the image needs.`;
    list.add('leak', 'file-too-long', message, { fileOffset: usedEnd });
  }
  const unused = (usedEnd - layout.headerBytes) / layout.clusterSize - used;
  if (unused <= 0) return;
  const message = `${unused} clusters are not used; compact frees their space.`;
  list.add('leak', 'unused-clusters', message, { repairable: false });
}
