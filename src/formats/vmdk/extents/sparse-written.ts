/**
 * Sparse extents that are written. Order of writes when a grain gets a place, each step durable before the next:
 *   1. the data of the grain, and new tables whole (stage);
 *   2. entries of the first copy (publish);
 *   3. the same entries of the second copy (publish).
 * After a cut between 2 and 3 the copies differ; the first one is right. The flag in the header tells that it can be so:
 * then the second copy is written again before the next change.
 */
import { alignUp, divCeil, SECTOR } from '../../../binary/numbers.ts';
import { BlockMap, scanMap } from '../../../blocks/block-map.ts';
import type { ChangeGuard } from '../../../blocks/guarded.ts';
import { canPackTables, packTables } from '../../../blocks/pack-tables.ts';
import type { SlotAllocator } from '../../../blocks/slot-allocator.ts';
import { writeEntries } from '../../../blocks/table.ts';
import {
  BROKEN_TABLE,
  type SealedTables,
  type TableDirectory,
  type TwoLevelTable,
} from '../../../blocks/two-level-table.ts';
import { ImageError, throwIfAborted } from '../../../errors.ts';
import type { MetaWrite, WriteSlot } from '../../../image/contract.ts';
import type { MaybePromise, OperationOptions } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { Turns } from '../../../storage/turns.ts';
import { EXTENT_FILE_MAX } from '../layout.ts';
import { readLayout } from './cowd.ts';
import { standApart } from './directory.ts';
import { type GrowHow, isGivenBack } from './extent.ts';
import { markUnclean, type SparseLayout } from './header.ts';
import { checkGrowth, growSparse, type SparseFile, shrinkSparse } from './resize-sparse.ts';
import { mapParts, readSparse, SparseExtent, type SparseParts } from './sparse.ts';

/** Opens an extent for writing. One that must not be written is opened for reading, with the reason. */
export async function openWritten(parts: SparseParts, how: OperationOptions): Promise<SparseExtent> {
  const { layout, directory, copy } = parts;
  const flaw = flawOf(parts);
  if (flaw !== null) return new SparseExtent(parts, flaw);
  const scan = await scanMap(mapParts(parts, null), how);
  const { allocator } = scan;
  const obstacle =
    scan.obstacle ?? reserveTables(allocator, layout, [directory, copy]) ?? roomForTables(allocator, parts);
  return obstacle === null ? new WrittenSparse(parts, allocator) : new SparseExtent(parts, obstacle);
}

/** The flaw of header and directories that writing could make worse; null: none. */
function flawOf({ layout, directory, copy, replaced }: SparseParts): string | null {
  if (layout.obstacle !== null) return layout.obstacle;
  const directories = copy === null ? [directory] : [directory, copy];
  if (replaced > 0 || directories.some(({ places }) => places.includes(BROKEN_TABLE))) {
    return 'its grain directory names tables where none can be';
  }
  if (haveSameTables(layout, directory, copy) && standApart(layout, directories)) return null;
  return 'its grain tables overlap other metadata, or its two grain directories name different tables';
}

/**
 * Other programs, and this one, put tables among the grains, and growing puts directories there: no grain may take their
 * room. Returns an obstacle where one has done so.
 */
function reserveTables(
  allocator: SlotAllocator,
  { overhead, grainBytes, tableBytes, tableCount }: SparseLayout,
  directories: readonly (TableDirectory | null)[],
): string | null {
  const slots = new Set<number>();
  const reserve = (place: number, length: number): void => {
    if (place + length <= overhead || place <= 0) return;
    const first = Math.max(0, Math.floor((place - overhead) / grainBytes));
    const end = divCeil(place + length - overhead, grainBytes);
    for (let slot = first; slot < end; slot++) slots.add(slot);
  };
  for (const directory of directories) {
    if (directory === null) continue;
    reserve(directory.fileOffset, tableCount * 4);
    for (const place of directory.places) reserve(place, tableBytes);
  }
  for (const slot of slots) if (!allocator.reserve(slot)) return 'a grain is said to lie where a grain table does';
  return null;
}

/** Bytes that a new table takes, with its second copy: whole grains. */
function tableRoom({ layout: { tableBytes, grainBytes }, copy }: Pick<SparseParts, 'layout' | 'copy'>): number {
  return alignUp(tableBytes * (copy === null ? 1 : 2), grainBytes);
}

/** Largest end of the file, so that its header can count all of it. */
function lastEnd({ used }: SparseLayout): number {
  return used === null ? EXTENT_FILE_MAX : EXTENT_FILE_MAX - SECTOR;
}

/** End of the places for grains: behind them is room for every table that there is not yet. */
function grainsEnd(parts: Pick<SparseParts, 'layout' | 'copy' | 'directory'>): number {
  const { directory, copy } = parts;
  const isMissing = (place: number, index: number): boolean => place === 0 || copy?.places[index] === 0;
  const missing = directory.places.reduce((sum, place, index) => sum + (isMissing(place, index) ? 1 : 0), 0);
  return lastEnd(parts.layout) - missing * tableRoom(parts);
}

/** Returns an obstacle where grains stand so late in the file that an entry could not name a new table behind them. */
function roomForTables(allocator: SlotAllocator, parts: SparseParts): string | null {
  const { overhead, grainBytes } = parts.layout;
  const end = grainsEnd(parts);
  const isFree = end === lastEnd(parts.layout) || overhead + allocator.committedEnd * grainBytes <= end;
  return isFree ? null : 'no grain table can be added behind its last grain';
}

/** True if both directories have the same tables; after a cut the second may lack some, which come before any change. */
function haveSameTables({ unclean }: SparseLayout, first: TableDirectory, copy: TableDirectory | null): boolean {
  if (copy === null) return true;
  return copy.places.every((place, index) => {
    const hasTable = (first.places[index] ?? 0) > 0;
    return place > 0 === hasTable || (unclean && hasTable && place === 0);
  });
}

/** See the head of this file. */
export class WrittenSparse extends SparseExtent {
  readonly #table: TwoLevelTable;
  readonly #map: BlockMap;
  readonly #guard: ChangeGuard;
  /** The second copy may differ from the first. */
  #unclean: boolean;
  /** The mark of a session: null before the first change of a table, true once it is durable. */
  #beginning: Promise<void> | true | null = null;
  /** File offset up to which the header counts what is in use. */
  #counted: number | null;

  constructor(parts: SparseParts, allocator: SlotAllocator) {
    super(parts, null, allocator);
    const { guard, layout } = parts;
    this.#guard = guard;
    this.#table = this.mapParts.table;
    this.#map = new BlockMap({ ...this.mapParts, layout: { ...this.mapParts.layout, slotsEnd: grainsEnd(parts) } });
    this.#unclean = layout.unclean;
    this.#counted = layout.used?.end ?? null;
  }

  override get isWritten(): boolean {
    return true;
  }

  override prepareWrite(offset: number, length: number): MaybePromise<WriteSlot> {
    if (offset >= this.layout.capacity) throw this.#full(offset);
    return this.#begun(() => this.#map.prepareWrite(offset, length));
  }

  override unmap(offset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    const inside = Math.min(length, this.layout.capacity - offset);
    return inside <= 0 ? undefined : this.#begun(() => this.#map.unmap(offset, inside, to));
  }

  override get resizes(): boolean {
    return true;
  }

  override get hasExcess(): boolean {
    const { capacity, grainBytes } = this.layout;
    // An unclean one may have been shrinking.
    return this.#unclean || capacity > alignUp(this.length, grainBytes);
  }

  override checkLength(length: number): void {
    checkGrowth(this.#file, length);
  }

  override async grow(length: number, how: GrowHow): Promise<void> {
    this.#map.checkWritable();
    try {
      await growSparse(this.#file, length, how);
    } catch (error) {
      if (!isGivenBack(error)) this.#guard.fail();
      throw error;
    }
  }

  override async shrink(length: number, options: OperationOptions): Promise<void> {
    this.#map.checkWritable();
    await this.#guard.run(() => shrinkSparse(this.#file, length, options));
  }

  /** Reads the file again, since a resize changed it. After a failed change it keeps what it has, and takes no more. */
  override async withLength(length: number, { signal }: OperationOptions = {}): Promise<SparseExtent> {
    const { storage } = this;
    if (this.#guard.failed) return this;
    return this.#guard.run(async () => {
      const { cache, guard } = this.parts;
      const layout = await readLayout(storage);
      const how = { mode: 'write', length, permitted: true, cache, signal, guard } as const;
      const extent = await openWritten(await readSparse(storage, layout, how), how);
      this.#table.discard();
      return extent;
    });
  }

  get #file(): SparseFile {
    const { storage, layout, length } = this;
    const { directory, copy } = this.parts;
    const end = layout.overhead + this.#map.committedEnd * layout.grainBytes;
    return { storage, layout, directory, copy, length, end };
  }

  override get dirtyBytes(): number {
    return this.#map.dirtyBytes;
  }

  override seal(): SealedTables {
    this.#map.slots.seal();
    const sealed = this.#table.sealTables(() => this.#tableRoom());
    return { ...sealed, stage: [...sealed.stage, ...this.#count()] };
  }

  override settle(ok: boolean): void {
    this.#map.settle(ok);
    this.#guard.settle(ok);
  }

  override get unclean(): boolean {
    return this.#unclean;
  }

  override async end(changed: boolean): Promise<void> {
    const began = this.#beginning !== null;
    if (!began && !(changed && this.#unclean)) return;
    this.#beginning = null;
    if (this.#guard.failed) return;
    // Opening has read every table; the copies are as the cut left them.
    if (!began) await this.#guard.run(() => this.#levelCopies());
    // Everything else is flushed, so a failure leaves the mark in doubt and no more: the next change sets it again.
    await markUnclean(this.storage, this.layout.form, 0);
    await this.storage.flush();
    this.#unclean = false;
  }

  override get reclaimable(): number {
    return this.#map.reclaimable;
  }

  override movable(options: OperationOptions = {}): AsyncGenerator<number> {
    return this.#map.movable(options);
  }

  override relocate(offset: number): MaybePromise<WriteSlot | null> {
    return this.#begun(() => this.#map.relocate(offset));
  }

  override async trim(options: OperationOptions = {}): Promise<void> {
    throwIfAborted(options.signal, 'Compacting');
    await this.#packTables(options);
    const { fileEnd } = this.#map.trim();
    if (this.storage.size > fileEnd) await this.#guard.run(() => this.storage.resize(fileEnd));
    const [count] = this.#count();
    if (count !== undefined) await this.#guard.run(() => this.storage.write(count.fileOffset, count.bytes));
  }

  /** Tables of a second copy have places next to those of the first, or before the grains: they stay. */
  async #packTables(options: OperationOptions): Promise<void> {
    const { storage } = this;
    const { directory, copy } = this.parts;
    const { slots } = this.#map;
    const { overhead: dataOffset, grainBytes: slotBytes, tableBytes } = this.layout;
    const layout = { dataOffset, slotBytes, tableBytes };
    if (copy !== null || !canPackTables({ layout, slots })) return;
    await this.#begun(() => this.#guard.run(() => packTables({ storage, layout, directory, slots }, options)));
  }

  /** The write that makes the header count all that is in use, where it has a count and that is another one. */
  #count(): readonly MetaWrite[] {
    const { used, overhead, grainBytes } = this.layout;
    const end = overhead + this.#map.committedEnd * grainBytes;
    if (used === null || end === this.#counted) return [];
    this.#counted = end;
    return [{ storage: this.storage, fileOffset: 0, bytes: used.sectorWith(end) }];
  }

  /** Room for a table of each copy: both in one grain, if it is large enough. */
  #tableRoom(): { readonly table: number; readonly copy: number } {
    const { grainBytes, tableBytes, overhead } = this.layout;
    const { slots } = this.#map;
    const run = slots.takeAtEnd(tableRoom(this.parts) / grainBytes);
    slots.committed(run);
    const table = overhead + run.first * grainBytes;
    return { table, copy: table + tableBytes };
  }

  /** Runs a change of the tables, the first one after the mark that tells of it is durable. */
  #begun<T>(change: () => MaybePromise<T>): MaybePromise<T> {
    if (this.#beginning === true) return change();
    this.#map.checkWritable();
    this.#beginning ??= this.#begin();
    return this.#beginning.then(change);
  }

  async #begin(): Promise<void> {
    await this.#guard.run(async () => {
      if (this.#unclean) await this.#levelCopies();
      await markUnclean(this.storage, this.layout.form, 1);
      await this.storage.flush();
    });
    this.#beginning = true;
  }

  /** Writes the tables of the second copy that differ from those of the first, or are not there. */
  async #levelCopies(): Promise<void> {
    const { directory, copy } = this.parts;
    if (copy === null) return;
    const turns = new Turns(undefined, 'Opening the image');
    const [one, other] = [new Uint8Array(this.layout.tableBytes), new Uint8Array(this.layout.tableBytes)];
    for (const [index, place] of directory.places.entries()) {
      const turn = turns.take();
      if (turn !== undefined) await turn;
      const second = copy.places[index] ?? 0;
      if (place <= 0) continue;
      await readPadded(this.storage, place, one);
      if (second <= 0) await this.#addCopy(copy, index, one.slice());
      else {
        await readPadded(this.storage, second, other);
        if (one.some((byte, at) => byte !== other[at])) await this.storage.write(second, one.slice());
      }
    }
    await this.storage.flush();
  }

  /** Puts a table of the second copy behind the grains: a cut came before its directory named it. */
  async #addCopy({ fileOffset, form, places }: TableDirectory, index: number, table: Uint8Array): Promise<void> {
    const { storage } = this;
    const place = this.#tableRoom().copy;
    await storage.write(place, table);
    await storage.flush();
    await writeEntries({ storage, fileOffset, form }, { start: index, end: index + 1 }, () => place);
    places[index] = place;
  }

  #full(offset: number): ImageError {
    return new ImageError('no-space', 'The extent has no room for this part of the disk', {
      path: this.storage.label,
      guestOffset: offset,
      field: 'capacity',
      found: this.layout.capacity,
      expected: `at least ${this.length}`,
    });
  }
}
