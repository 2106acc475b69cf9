/**
 * Two-level maps: a directory names tables, whose entries name the clusters of the disk.
 *
 * `look` is a cursor: it answers in the fields of the map and allocates nothing, since a map of a large disk asks for
 * millions of clusters. It never waits: false means that a table must be loaded first. Both levels are kept in pieces
 * within a bound, so memory follows use. Tables are cached by their place in the file (`tables`), whatever directory leads
 * to them, so that maps of several states of a disk may share the cache.
 *
 * A format extends this class by `decode`, which reads one entry of a table. Everything in a table is hostile: a wrong
 * entry makes the kind `broken` for the clusters that it answers for, and no others.
 */
import { hex, ImageError, withContext } from '../errors.ts';
import type { MetaWrite } from '../image/contract.ts';
import { isPromise, type Storage } from '../storage/contract.ts';
import type { MetadataPage, MetadataPages } from './metadata-pages.ts';
import type { EntryTable } from './table.ts';

/** Answers of `look`. */
export const KIND = { absent: 0, zero: 1, data: 2, encoded: 3, broken: 4 } as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

/** Maximum clusters joined into one run: 1 GiB in 64 KiB clusters. */
const RUN_LOOKS = 16_384;

/** Parts of a map. */
export interface TwoLevelParts {
  readonly storage: Storage;
  /** File offsets of the tables, 0 = there is none. */
  readonly directory: EntryTable;
  /** Entries that the directory has; clusters behind them are absent. */
  readonly directoryEntries: number;
  readonly directoryOffset: number;
  /** Pages of the file that tables are kept in; an entry never lies in two of them. */
  readonly tables: MetadataPages;
  /** Tables begin at multiples of this. */
  readonly tableAlignment: number;
  readonly clusterSize: number;
  /** Bytes of an entry, and entries of a table. */
  readonly entryBytes: number;
  readonly tableEntries: number;
  /** End of the file, if it may be truncated; otherwise 0. */
  readonly fileEnd: number;
  /** Names of the levels in errors, such as `L1` and `L2`. */
  readonly names: { readonly directory: string; readonly table: string };
}

/** See the head of this file. */
export abstract class TwoLevelMap {
  /** Result of the last successful `look`: the kind of the run … */
  kind: Kind = KIND.absent;
  /** … and its end, a guest offset that may lie past the end of the disk. */
  until = 0;
  /** Of `data`: where the byte lies in the data storage. Of `encoded`: where the encoded bytes begin. */
  position = 0;
  /** Of `encoded`: bytes of the file that hold the encoded ones, and perhaps some of others behind them. */
  encodedBytes = 0;
  /** The page that the entry is in; null where there is no table. */
  page: MetadataPage | null = null;

  /** Guest bytes that one table answers for. */
  readonly tableBytes: number;
  /** Entries of a table that are in one page. */
  readonly entriesPerPage: number;
  protected readonly tables: MetadataPages;
  readonly #parts: TwoLevelParts;
  readonly #storage: Storage;
  readonly #directory: EntryTable;
  readonly #directoryEntries: number;
  readonly #clusterSize: number;
  readonly #entryBytes: number;
  readonly #tableEntries: number;
  readonly #pageBytes: number;
  readonly #tableAlignment: number;
  readonly #fileEnd: number;
  /** Directory entry of the last `look`; -1: none. */
  #lastIndex = -1;
  #lastTable = 0;
  #reason = '';
  /** Place of something that the file does not have, when that is the reason. */
  #missing: { readonly fileOffset: number; readonly fileSize: number } | null = null;
  #place = 0;

  constructor(parts: TwoLevelParts) {
    this.#parts = parts;
    this.#storage = parts.storage;
    this.#directory = parts.directory;
    this.#directoryEntries = parts.directoryEntries;
    this.tables = parts.tables;
    this.#clusterSize = parts.clusterSize;
    this.#entryBytes = parts.entryBytes;
    this.#tableEntries = parts.tableEntries;
    this.#pageBytes = parts.tables.pageBytes;
    this.#tableAlignment = parts.tableAlignment;
    this.#fileEnd = parts.fileEnd;
    this.tableBytes = parts.clusterSize * parts.tableEntries;
    this.entriesPerPage = this.#pageBytes / parts.entryBytes;
  }

  /** Reads the entry at byte `at` of a page, which answers for a cluster. Ends in `found`, `broken` or `cutOff`. */
  protected abstract decode(view: DataView, at: number, cluster: number, guestOffset: number): true;

  /** Looks up a guest offset. False: `load` it first. */
  look(guestOffset: number): boolean {
    const index = Math.floor(guestOffset / this.tableBytes);
    this.page = null;
    if (index >= this.#directoryEntries) return this.found(KIND.absent, Number.MAX_SAFE_INTEGER);
    let table = this.#lastTable;
    if (index !== this.#lastIndex) {
      const found = this.#directory.get(index);
      if (found === undefined) return false;
      this.#lastIndex = index;
      this.#lastTable = found;
      table = found;
    }
    if (table === 0) return this.found(KIND.absent, (index + 1) * this.tableBytes);
    if (table % this.#tableAlignment !== 0) return this.#noTable(table, index);
    const cluster = Math.floor(guestOffset / this.#clusterSize);
    const entryAt = table + (cluster % this.#tableEntries) * this.#entryBytes;
    this.#place = entryAt;
    if (table < this.#fileEnd && entryAt + this.#entryBytes > this.#fileEnd) {
      return this.broken(`The file ends inside an ${this.#parts.names.table} table`, (cluster + 1) * this.#clusterSize);
    }
    const page = this.tables.peek(Math.floor(entryAt / this.#pageBytes));
    if (page === undefined) {
      // A new table is in memory before it is in the file.
      if (table >= this.#storage.size) return this.#noTable(table, index);
      return false;
    }
    this.page = page;
    return this.decode(page.view, entryAt % this.#pageBytes, cluster, guestOffset);
  }

  /** Loads the tables for a guest offset. An error names the range that the part that failed answers for. */
  async load(guestOffset: number): Promise<void> {
    const index = Math.floor(guestOffset / this.tableBytes);
    let table = this.tableOf(guestOffset);
    while (table === undefined) {
      const end = (index + this.#directory.pageRest(index)) * this.tableBytes;
      await this.#directory.load(index).catch(unreadable(guestOffset, end));
      table = this.tableOf(guestOffset);
    }
    if (table === 0 || table >= this.#storage.size) return;
    const inPage = Math.floor(guestOffset / this.#clusterSize) % this.entriesPerPage;
    const end = (Math.floor(guestOffset / this.#clusterSize) + this.entriesPerPage - inPage) * this.#clusterSize;
    const page = this.tables.get(this.#pageIndex(table, guestOffset));
    if (isPromise(page)) await page.catch(unreadable(guestOffset, Math.min(end, (index + 1) * this.tableBytes)));
  }

  /**
   * End of the run that begins with the last answer, at `end` at the latest. Neighbours of one kind come as one run; data
   * only where they are neighbours in the file, too. `joins`: called for each neighbour after `look`; false ends the run.
   * Bounded: if every directory entry names the same table, a run could span petabytes.
   */
  runEnd(guestOffset: number, end: number, joins?: () => boolean): number {
    const { kind, position } = this;
    let { until } = this;
    for (let looks = 1; looks < RUN_LOOKS && until < end && this.look(until) && this.kind === kind; looks++) {
      if (kind === KIND.data && this.position !== position + (until - guestOffset)) break;
      if (joins !== undefined && !joins()) break;
      until = this.until;
    }
    return Math.min(until, end);
  }

  /** File offset of the table of a guest offset, 0 = there is none; undefined: `load` first. Not checked. */
  tableOf(guestOffset: number): number | undefined {
    return this.#directory.get(Math.floor(guestOffset / this.tableBytes));
  }

  /** Points the directory at a table with a single reference. The directory entry is in memory. */
  setTable(guestOffset: number, table: number): void {
    this.#lastIndex = -1;
    this.#directory.set(Math.floor(guestOffset / this.tableBytes), table);
  }

  /** The page with the entry of a guest offset, if it is in memory. */
  pageOf(guestOffset: number): MetadataPage | undefined {
    const table = this.tableOf(guestOffset);
    if (table === undefined || table === 0) return undefined;
    return this.tables.peek(this.#pageIndex(table, guestOffset));
  }

  /** Place of the entry of a guest offset in the page that holds it. */
  entryAt(guestOffset: number): number {
    return (Math.floor(guestOffset / this.#clusterSize) % this.entriesPerPage) * this.#entryBytes;
  }

  /** Entries from `at` on in a page have changed. */
  touch(page: MetadataPage, at: number, count = 1): void {
    this.tables.touch(page, at, at + count * this.#entryBytes);
  }

  /** Sectors of the directory that the next flush writes. */
  sealDirectory(): MetaWrite[] {
    return this.#directory.seal();
  }

  /** Ends that flush. */
  settleDirectory(): void {
    this.#directory.settle();
  }

  /** Bytes of the directory that the next flush writes. */
  get dirtyBytes(): number {
    return this.#directory.dirtyBytes;
  }

  /** Releases the memory of the directory. The map must not be used after that. */
  discard(): void {
    this.#directory.discard();
  }

  /** The error behind a `broken` result. Neighbours up to `end` with the same reason belong to it. */
  problem(guestOffset: number, end = this.until): ImageError {
    const [reason, missing, place, own] = [this.#reason, this.#missing, this.#place, this.until];
    const until = this.runEnd(guestOffset, end, () => this.#reason === reason);
    const where = { path: this.#storage.label, offset: place, guestOffset, guestLength: until - guestOffset };
    if (missing === null) {
      return new ImageError('corrupt', reason, {
        ...where,
        status: 'VERR_VD_IMAGE_CORRUPTED',
        hint: 'Everything that other entries answer for can still be read (on the command line: convert --salvage).',
      });
    }
    const { fileOffset, fileSize } = missing;
    return new ImageError('corrupt', reason, {
      ...where,
      status: 'VERR_VD_READ_OUT_OF_RANGE',
      found: `guest bytes ${guestOffset} to ${own - 1} at ${hex(fileOffset)}`,
      expected: `less than the size of the file, ${hex(fileSize)}`,
      hint: 'Copy the image again from where it came from; the rest can still be read (on the command line: convert --salvage).',
    });
  }

  protected found(kind: Kind, until: number): true {
    this.kind = kind;
    this.until = until;
    return true;
  }

  protected broken(reason: string, until: number): true {
    this.#reason = reason;
    this.#missing = null;
    return this.found(KIND.broken, until);
  }

  /** `what` lies behind the end of a file of that size. */
  protected cutOff(what: string, fileOffset: number, fileSize: number, until: number): true {
    this.broken(`${what} lies beyond the end of the file: the image was cut off`, until);
    this.#missing = { fileOffset, fileSize };
    return true;
  }

  #noTable(table: number, index: number): true {
    const { directoryOffset, names } = this.#parts;
    this.#place = directoryOffset + index * this.#directory.entryBytes;
    const until = (index + 1) * this.tableBytes;
    return this.broken(
      `An ${names.directory} entry points to ${hex(table)}, where no ${names.table} table can be`,
      until,
    );
  }

  #pageIndex(table: number, guestOffset: number): number {
    const inTable = Math.floor(guestOffset / this.#clusterSize) % this.#tableEntries;
    return Math.floor((table + inTable * this.#entryBytes) / this.#pageBytes);
  }
}

/** Adds to an error the range of the disk that cannot be read because of it. */
function unreadable(guestOffset: number, end: number): (error: unknown) => never {
  return (error) => {
    throw withContext(error, { guestOffset, guestLength: end - guestOffset });
  };
}
