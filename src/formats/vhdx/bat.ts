/**
 * The block allocation table (BAT): an entry for each block of the disk, and behind those of each chunk of 2^23 sectors one
 * for the sector bitmap of the chunk.
 *
 * In memory an entry is `MiB of the block * 8 + state`. Bits that the specification reserves are left out.
 */
import { divCeil } from '../../binary/numbers.ts';
import type { BlockTable } from '../../blocks/block-reader.ts';
import { type EntryForm, EntryTable, scanEntries, type TablePlace } from '../../blocks/table.ts';
import type { MetaWrite } from '../../image/contract.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { CHUNK_SECTORS, MIB, PAGE, STATE, STATE_BITS } from './layout.ts';

const STATES = 2 ** STATE_BITS;
const HIGH_STEP = 2 ** 12;

/** The stored form of an entry: state in bits 0 to 2, MiB from bit 20 on. */
export const BAT_ENTRY: EntryForm = {
  bytes: 8,
  get: (view, at) => {
    const low = view.getUint32(at, true);
    const mib = view.getUint32(at + 4, true) * HIGH_STEP + (low >>> 20);
    return mib * STATES + (low % STATES);
  },
  put: (view, at, value) => {
    const mib = Math.floor(value / STATES);
    view.setUint32(at + 4, Math.floor(mib / HIGH_STEP), true);
    view.setUint32(at, ((mib % HIGH_STEP) * 2 ** 20 + (value % STATES)) >>> 0, true);
  },
};

/** State of an entry. */
export function stateOf(entry: number): number {
  return entry % STATES;
}

/** File offset of the block that an entry names. */
export function offsetOf(entry: number): number {
  return Math.floor(entry / STATES) * MIB;
}

/** The entry for a block. */
export function entryFor(fileOffset: number, state: number): number {
  return (fileOffset / MIB) * STATES + state;
}

/** Numbers that the size of a BAT follows from. */
export interface BatShape {
  readonly virtualSize: number;
  readonly blockSize: number;
  readonly logicalSector: number;
  readonly hasParent: boolean;
}

/** Blocks of a chunk: those whose sectors one bitmap covers. */
export function chunkRatio({ blockSize, logicalSector }: Pick<BatShape, 'blockSize' | 'logicalSector'>): number {
  return (CHUNK_SECTORS * logicalSector) / blockSize;
}

/** Entries of the table, with those of bitmaps. */
export function batEntries(shape: BatShape): number {
  const ratio = chunkRatio(shape);
  const blocks = divCeil(shape.virtualSize, shape.blockSize);
  if (shape.hasParent) return divCeil(blocks, ratio) * (ratio + 1);
  return blocks + Math.floor((blocks - 1) / ratio);
}

/** Index of the entry of a block. */
export function payloadIndex(block: number, ratio: number): number {
  return block + Math.floor(block / ratio);
}

/** Index of the entry of a chunk's bitmap. */
export function bitmapIndex(chunk: number, ratio: number): number {
  return (chunk + 1) * ratio + chunk;
}

/** Visits all entries on the medium but zeroes: of blocks, and of bitmaps, which have the number of their chunk. */
export function scanBat(
  place: Omit<TablePlace, 'form'>,
  ratio: number,
  visit: (entry: number, index: number, isBitmap: boolean) => void,
  options: OperationOptions = {},
): Promise<void> {
  const period = ratio + 1;
  return scanEntries(
    { ...place, form: BAT_ENTRY },
    (entry, index) => {
      const chunk = Math.floor(index / period);
      const isBitmap = index % period === ratio;
      visit(entry, isBitmap ? chunk : index - chunk, isBitmap);
    },
    { ...options, skipsZero: true },
  );
}

/** The entries of blocks alone, by the number of the block. */
export class Bat implements BlockTable {
  readonly entryBytes = 8;
  readonly ratio: number;
  readonly #table: EntryTable;
  readonly #place: Omit<TablePlace, 'form'>;

  constructor(storage: Storage, fileOffset: number, shape: BatShape) {
    this.ratio = chunkRatio(shape);
    this.#place = { storage, fileOffset, count: batEntries(shape) };
    this.#table = new EntryTable({ ...this.#place, form: BAT_ENTRY, unit: PAGE });
  }

  get dirtyBytes(): number {
    return this.#table.dirtyBytes;
  }

  get(block: number): number | undefined {
    return this.#table.get(this.#index(block));
  }

  load(block: number): Promise<void> {
    return this.#table.load(this.#index(block));
  }

  pageRest(block: number): number {
    return Math.min(this.#table.pageRest(this.#index(block)), this.#chunkRest(block));
  }

  sameUntil(block: number): number {
    const index = this.#index(block);
    return block + Math.min(this.#table.sameUntil(index) - index, this.#chunkRest(block));
  }

  pin(block: number): void {
    this.#table.pin(this.#index(block));
  }

  unpin(block: number): void {
    this.#table.unpin(this.#index(block));
  }

  set(block: number, entry: number): void {
    this.#table.set(this.#index(block), entry);
  }

  seal(): MetaWrite[] {
    return this.#table.seal();
  }

  settle(): void {
    this.#table.settle();
  }

  /** Visits the entries of blocks on the medium but zeroes. */
  scan(visit: (entry: number, block: number) => void, options: OperationOptions = {}): Promise<void> {
    return this.scanAll((entry, index, isBitmap) => isBitmap || visit(entry, index), options);
  }

  /** Visits all entries on the medium but zeroes. */
  scanAll(
    visit: (entry: number, index: number, isBitmap: boolean) => void,
    options: OperationOptions = {},
  ): Promise<void> {
    return scanBat(this.#place, this.ratio, visit, options);
  }

  /** File offset of the bitmap of a chunk; null: it has none; undefined: its page must be loaded first. */
  bitmapOffset(chunk: number): number | null | undefined {
    const entry = this.#table.get(bitmapIndex(chunk, this.ratio));
    if (entry === undefined) return undefined;
    return stateOf(entry) === STATE.present ? offsetOf(entry) : null;
  }

  loadBitmap(chunk: number): Promise<void> {
    return this.#table.load(bitmapIndex(chunk, this.ratio));
  }

  /** Changes the entry of a bitmap, whose page is loaded first. */
  async setBitmap(chunk: number, entry: number): Promise<void> {
    const index = bitmapIndex(chunk, this.ratio);
    while (this.#table.get(index) === undefined) await this.#table.load(index);
    this.#table.set(index, entry);
  }

  /** File offset of an entry. */
  entryOffset(block: number): number {
    return this.#place.fileOffset + this.#index(block) * this.entryBytes;
  }

  #index(block: number): number {
    return payloadIndex(block, this.ratio);
  }

  #chunkRest(block: number): number {
    return this.ratio - (block % this.ratio);
  }
}
