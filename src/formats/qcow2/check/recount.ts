/**
 * Counts the references to each cluster of a file by walking all metadata: header, the active L1 and those of the
 * snapshots, their L2 tables with data and compressed streams, the snapshot table, bitmaps, LUKS. The refcount
 * structures come last, so that overlaps with them are detected.
 *
 * An L2 table referenced by many L1 entries is read once, and its references are counted that many times; the same for
 * an L1 table that many snapshots have. So time and memory follow the data in the file, whatever its tables claim.
 */
import { describeError, hex, ImageError, isImageError } from '../../../errors.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { Turns } from '../../../storage/turns.ts';
import { bitmapsConsistent, readBitmaps } from '../bitmaps/bitmaps.ts';
import { l1EntriesFor } from '../clusters/tree.ts';
import { CutStreams } from '../compressed/cut-streams.ts';
import type { Qcow2Header } from '../header/header.ts';
import { COPIED_HIGH, ENTRY_BYTES, EXTENSION_TYPE, HEADER, INCOMPATIBLE, OFFSET_HIGH, OFFSET_LOW } from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';
import { visitClusters, visitTable } from './cluster-reader.ts';
import type { FindingList } from './finding-list.ts';
import { L2Scanner } from './l2-scan.ts';
import { PagedCounts } from './paged-counts.ts';
import type { SnapshotSurvey } from './snapshot-survey.ts';
import type { StoredCounts } from './stored-counts.ts';

const HIGH = 2 ** 32;
/** Reserved bits of an L1 entry. */
const L1_RESERVED_HIGH = 0x7f00_0000;
const L1_RESERVED_LOW = 0x0000_01ff;
/** Bytes of a table counted in one step; a multiple of every cluster size. */
const REFERRED = 2 ** 21;
const STEPS_REFERRED = 64;
const KNOWN_EXTENSIONS: ReadonlySet<number> = new Set(Object.values(EXTENSION_TYPE));

/** Inputs of a recount. */
export interface RecountParts {
  readonly storage: Storage;
  readonly header: Qcow2Header;
  readonly stored: StoredCounts;
  readonly snapshots: SnapshotSurvey;
  readonly list: FindingList;
  readonly options: OperationOptions;
}

/** Reference counts by cluster number. */
export class Recount {
  readonly counts = new PagedCounts('reference counts');
  /** L2 tables with the number of L1 entries for each. */
  readonly l2Uses = new PagedCounts('L2 tables');
  /** For each L2 table of the active disk, one more than the first L1 entry that refers to it. */
  readonly activeL2 = new PagedCounts('L2 tables');
  /** True when a table could not be followed: a seemingly unused cluster may be in use. */
  incomplete = false;
  /** False: the snapshot table ends past the file, and is not in `counts`. */
  snapshotTableCounted = false;
  /** Size that the file may grow to without covering anything referenced past its end. */
  sizeLimit = Number.POSITIVE_INFINITY;
  /** True when the refcount structures cannot stay in place. */
  structuresMixedUp = false;
  /** The part of `counts` that is the refcount table and its blocks. */
  readonly structures = new PagedCounts('refcount structures');
  /** Compressed clusters whose last sectors lie past the end of the file. */
  readonly cutStreams = new CutStreams();
  readonly parts: RecountParts;
  readonly #turns: Turns;
  #tableBytes = 0;

  constructor(parts: RecountParts) {
    this.parts = parts;
    this.#turns = new Turns(parts.options.signal, 'The check');
  }

  async run(): Promise<void> {
    const { header, snapshots, list } = this.parts;
    this.refer(0, header.clusterSize, 1);
    await this.#walkL1({ offset: header.l1Offset, entries: this.#activeEntries(), uses: 1, active: true });
    if (this.#hasDataFile && snapshots.snapshots.length > 0) {
      const say = (): string => 'The image has an external data file and internal snapshots, which exclude each other.';
      list.add('corruption', 'data-file-snapshots', say, { repairable: false });
    }
    await this.#walkSnapshots();
    this.snapshotTableCounted = await this.referTable(header.snapshotsOffset, snapshots.tableBytes, 1);
    // Unknown structures may have clusters, too.
    this.incomplete ||= header.extensions.some(({ type }) => !KNOWN_EXTENSIONS.has(type));
    if (header.encryption !== null) await this.referTable(header.encryption.offset, header.encryption.length, 1);
    await this.#walkBitmaps();
    await this.#walkL2s();
    await this.cutStreams.check(this.parts);
    this.#countStructures();
    this.incomplete ||= snapshots.incomplete;
  }

  /** Counts a range of the file. False: it lies past the end and is not counted. */
  refer(offset: number, length: number, uses: number): boolean {
    const { clusterSize } = this.parts.header;
    const { size } = this.parts.storage;
    const first = Math.floor(offset / clusterSize);
    // Writers may leave the last cluster of a file cut off.
    if (offset + length - size >= clusterSize) {
      this.sizeLimit = Math.min(this.sizeLimit, offset + length - clusterSize);
      return false;
    }
    const last = Math.floor((offset + length - 1) / clusterSize);
    for (let cluster = first; cluster <= last; cluster++) this.counts.add(cluster, uses);
    return true;
  }

  /** Counts a table, which may be long. One that extends past the end of the file is reported. */
  async referTable(offset: number, length: number, uses: number): Promise<boolean> {
    const { storage, header } = this.parts;
    if (length > 0 && offset + length - storage.size >= header.clusterSize) {
      this.refer(offset, length, uses);
      this.#beyondEnd('A table', offset, null);
      this.incomplete = true;
      return false;
    }
    for (let at = 0; at < length; at += REFERRED) {
      const turn = this.#turns.take(STEPS_REFERRED);
      if (turn !== undefined) await turn;
      this.refer(offset + at, Math.min(REFERRED, length - at), uses);
    }
    return true;
  }

  /** Reports a table, all of which counts, whose end the file does not have. */
  #tellCutOff(what: string, offset: number, length: number): void {
    if (offset + length <= this.parts.storage.size) return;
    const say = (): string => `The file ends inside the ${what} at ${hex(offset)}.`;
    this.parts.list.add('corruption', 'table-cut-off', say, { fileOffset: offset, repairable: false });
    this.incomplete = true;
  }

  /** True for a cluster that is an L2 table and nothing else: a repair there has no side effects. */
  isOnlyL2(cluster: number): boolean {
    return this.counts.get(cluster) === this.l2Uses.get(cluster);
  }

  /**
   * Entries of the active L1 table: those that the disk needs and the file contains, if the file ends before all that
   * the header claims.
   */
  #activeEntries(): number {
    const { header, storage, list } = this.parts;
    const { l1Offset, l1Entries, clusterSize } = header;
    if (l1Offset + l1Entries * ENTRY_BYTES - storage.size < clusterSize) return l1Entries;
    const say = (): string => `The L1 table has ${l1Entries} entries, but the file ends before the last of them.`;
    list.add('corruption', 'l1-length', say, { fileOffset: HEADER.fields.l1Entries.offset, repairable: false });
    this.incomplete = true;
    return Math.min(l1EntriesFor(header.size, header), l1Entries);
  }

  get #hasDataFile(): boolean {
    return (this.parts.header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
  }

  #beyondEnd(what: string, offset: number, fileOffset: number | null): void {
    const say = (): string => `${what} lies at ${hex(offset)}, beyond the end of the file.`;
    this.parts.list.add('corruption', 'beyond-file', say, { fileOffset, repairable: false });
  }

  async #walkSnapshots(): Promise<void> {
    const { header, list } = this.parts;
    // Snapshots of one L1 table, by its place and length.
    const tables = new Map<string, { offset: number; entries: number; uses: number; active: boolean }>();
    for (const { l1Offset: offset, l1Entries: entries } of this.parts.snapshots.snapshots) {
      const begins = entries === 0 || offset >= header.clusterSize;
      if (!begins || offset % header.clusterSize !== 0 || entries * ENTRY_BYTES > QCOW2_LIMITS.l1Bytes) {
        const say = (): string =>
          `A snapshot has an L1 table of ${entries} entries at ${hex(offset)}, which is not valid.`;
        list.add('corruption', 'snapshot-l1', say, { fileOffset: offset, repairable: false });
        this.incomplete = true;
        continue;
      }
      const key = `${offset} ${entries}`;
      const table = tables.get(key);
      if (table === undefined) tables.set(key, { offset, entries, uses: 1, active: false });
      else table.uses++;
    }
    for (const table of tables.values()) {
      const turn = this.#turns.take();
      if (turn !== undefined) await turn;
      await this.#walkL1(table);
    }
  }

  async #walkL1(table: { offset: number; entries: number; uses: number; active: boolean }): Promise<void> {
    const { storage, options } = this.parts;
    const { offset, uses, active } = table;
    const length = table.entries * ENTRY_BYTES;
    if (!(await this.referTable(offset, length, uses))) return;
    // The active one may claim more entries than the disk needs.
    if (!active) this.#tellCutOff('L1 table of a snapshot', offset, length);
    this.#spend(length);
    await visitTable(storage, { offset, length, signal: options.signal }, (view, start) => {
      for (let at = 0; at < view.byteLength; at += ENTRY_BYTES) {
        const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
        if (high !== 0 || low !== 0) this.#l1Entry(high, low, { place: offset + start + at, uses, active });
      }
      return false;
    });
  }

  #l1Entry(high: number, low: number, from: { place: number; uses: number; active: boolean }): void {
    const { header, stored, list } = this.parts;
    const { place, uses, active } = from;
    if ((high & L1_RESERVED_HIGH) !== 0 || (low & L1_RESERVED_LOW) !== 0) {
      const say = (): string => 'An L1 entry has reserved bits.';
      list.add('corruption', 'l1-reserved', say, { fileOffset: place, repairable: false });
    }
    const offset = (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
    if (offset === 0) return;
    if (offset % header.clusterSize !== 0) {
      const say = (): string => `An L1 entry leads to ${hex(offset)}, where no L2 table can be.`;
      list.add('corruption', 'l2-unaligned', say, { fileOffset: place, repairable: false });
      this.refer(offset, header.clusterSize, uses);
      this.incomplete = true;
      return;
    }
    const cluster = offset / header.clusterSize;
    if (active) {
      this.checkCopied(stored.counts.get(cluster), (high & COPIED_HIGH) !== 0, 'L1', { fileOffset: place });
    }
    if (!this.refer(offset, header.clusterSize, uses)) {
      this.#beyondEnd('An L2 table', offset, place);
      this.incomplete = true;
      return;
    }
    this.l2Uses.add(cluster, uses);
    if (!active || this.activeL2.get(cluster) !== 0) return;
    this.activeL2.set(cluster, (place - header.l1Offset) / ENTRY_BYTES + 1);
  }

  /** The COPIED flag of an entry must be set exactly when the count is 1. */
  checkCopied(
    count: number,
    copied: boolean,
    table: string,
    where: { readonly fileOffset: number; readonly guestOffset?: number | null },
  ): void {
    if ((count === 1) === copied) return;
    const [code, says] = copied ? ['copied-set', 'is marked as used once'] : ['copied-missing', 'lacks the mark of'];
    const rest = copied ? `but is counted ${count} times` : 'a cluster that is used once';
    // Without a flag that could be set a write costs a copy; one that is set too often lets it overwrite what is shared.
    const severity = copied ? 'corruption' : 'warning';
    this.parts.list.add(severity, code ?? '', () => `What an ${table} entry leads to ${says} ${rest}.`, where);
  }

  async #walkL2s(): Promise<void> {
    const { storage, header, options } = this.parts;
    const scanner = new L2Scanner(this, this.parts);
    await visitClusters(storage, this.l2Uses.indices(), {
      clusterSize: header.clusterSize,
      signal: options.signal,
      visit: (view, cluster) => {
        scanner.scan(view, cluster, this.l2Uses.get(cluster), this.activeL2.get(cluster));
        return false;
      },
    });
  }

  async #walkBitmaps(): Promise<void> {
    const { storage, header, list } = this.parts;
    if (!bitmapsConsistent(header) || header.bitmaps === null) return;
    const { directoryOffset, directoryBytes } = header.bitmaps;
    try {
      const bitmaps = await readBitmaps(storage, header);
      await this.referTable(directoryOffset, directoryBytes, 1);
      for (const bitmap of bitmaps) await this.#walkBitmap(bitmap.tableOffset, bitmap.tableEntries);
    } catch (error) {
      if (!isImageError(error) || (error.kind !== 'corrupt' && error.kind !== 'invalid-format')) throw error;
      this.incomplete = true;
      list.add('corruption', 'bitmap-directory', () => `The bitmaps cannot be found: ${describeError(error)}.`, {
        fileOffset: directoryOffset,
        repairable: false,
      });
    }
  }

  async #walkBitmap(offset: number, entries: number): Promise<void> {
    const { storage, header, list, options } = this.parts;
    const length = entries * ENTRY_BYTES;
    if (!(await this.referTable(offset, length, 1))) return;
    this.#tellCutOff('table of a bitmap', offset, length);
    this.#spend(length);
    await visitTable(storage, { offset, length, signal: options.signal }, (view, start) => {
      for (let at = 0; at < view.byteLength; at += ENTRY_BYTES) {
        const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
        const place = (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
        const allOnes = place === 0 && low === 1;
        if (
          ((high & ~OFFSET_HIGH) !== 0 || (low & ~OFFSET_LOW) !== 0 || place % header.clusterSize !== 0) &&
          !allOnes
        ) {
          const fileOffset = offset + start + at;
          const say = (): string => 'An entry of a bitmap table has reserved bits or an invalid offset.';
          list.add('corruption', 'bitmap-entry', say, { fileOffset, repairable: false });
        } else if (place !== 0 && !this.refer(place, header.clusterSize, 1)) {
          this.#beyondEnd('A bitmap', place, offset + start + at);
        }
      }
      return false;
    });
  }

  /** Counts the table and its blocks, which nothing else may refer to. */
  #countStructures(): void {
    const { header, stored, list } = this.parts;
    const { refcountTableOffset: offset, refcountTableClusters, clusterSize } = header;
    const first = offset / clusterSize;
    const overlap = (cluster: number, what: string): void => {
      const alone = this.counts.get(cluster) === 0;
      this.counts.add(cluster, 1);
      this.structures.add(cluster, 1);
      if (alone) return;
      this.structuresMixedUp = true;
      const say = (): string => `${what} at ${hex(cluster * clusterSize)} is also used for something else.`;
      list.add('corruption', 'refcount-overlap', say, { fileOffset: cluster * clusterSize });
    };
    const fits = offset + refcountTableClusters * clusterSize - this.parts.storage.size < clusterSize;
    if (!fits || refcountTableClusters === 0) {
      this.structuresMixedUp = true;
      const say = (): string => 'The image has no refcount table, or it lies beyond the end of the file.';
      list.add('corruption', 'refcount-table', say, { fileOffset: 48 });
    }
    for (let n = 0; fits && n < refcountTableClusters; n++) overlap(first + n, 'The refcount table');
    const { blocks } = stored;
    for (let index = 0; index < blocks.length; index++) {
      const place = blocks[index] ?? 0;
      if (place !== 0) overlap(place / clusterSize, 'A refcount block');
    }
  }

  /** Overlapping tables could make the work endless. */
  #spend(bytes: number): void {
    this.#tableBytes += bytes;
    if (this.#tableBytes <= QCOW2_LIMITS.tableBytes) return;
    throw new ImageError('limit', 'The tables of snapshots and bitmaps together exceed their size limit', {
      path: this.parts.storage.label,
      expected: `at most ${QCOW2_LIMITS.tableBytes} bytes`,
    });
  }
}
