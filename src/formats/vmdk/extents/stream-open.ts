/** Opening of compressed extents: the footer behind the grains, or, where a file was cut off, the grains themselves. */
import { alignDown, alignUp, SECTOR } from '../../../binary/numbers.ts';
import { TwoLevelTable } from '../../../blocks/two-level-table.ts';
import { ImageError, isImageError } from '../../../errors.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { Turns } from '../../../storage/turns.ts';
import { GRAIN_MARKER, KDMV, MARKER, METADATA_MARKER, SPARSE_HEADER } from '../layout.ts';
import { readDirectory, SECTOR_ENTRY, soundest } from './directory.ts';
import { parseSparse, type SparseLayout } from './header.ts';
import { type GrainPlaces, StreamExtent } from './stream.ts';

/** Bytes at the end of a file in which a footer is searched for. */
const TAIL = 64 * 1024;

/** Options for opening a compressed extent. */
export interface StreamOpen extends OperationOptions {
  readonly length: number;
  /** Only metadata is wanted: the grains of a stream that was cut off are not searched for. */
  readonly infoOnly: boolean;
}

/** Opens a compressed extent for reading. */
export async function openStream(storage: Storage, header: SparseLayout, how: StreamOpen): Promise<StreamExtent> {
  const { length } = how;
  const layout = header.directoryOffset === null ? await readFooter(storage, header) : header;
  if (layout === null) {
    const note = 'it was cut off: it has no footer. The grains that are there were found by their markers.';
    const places = how.infoOnly ? NO_GRAINS : await findGrains(storage, header, how);
    return new StreamExtent({ storage, layout: header, places, length, notes: [note], isCut: true });
  }
  const { tableCount: count, tableBytes, tableEntries, redundantOffset } = layout;
  const place = { storage, count, tableBytes, lowest: SECTOR };
  const first = await readDirectory({ ...place, fileOffset: layout.directoryOffset }, how);
  const copy = redundantOffset === null ? null : await readDirectory({ ...place, fileOffset: redundantOffset }, how);
  const { directory } = soundest(first, copy);
  const form = SECTOR_ENTRY;
  const places = new TwoLevelTable({ storage, directory, form, tableBytes, count: Math.max(count, 1) * tableEntries });
  return new StreamExtent({ storage, layout, places, length, notes: [], isCut: false });
}

/** The layout that the footer gives; null: there is none near the end. */
async function readFooter(storage: Storage, header: SparseLayout): Promise<SparseLayout | null> {
  const end = alignDown(storage.size, SECTOR);
  const start = Math.max(end - TAIL, 0);
  const tail = new Uint8Array(end - start);
  await readPadded(storage, start, tail);
  // The last one counts; behind it stand a marker for the end, and in some files bytes that mean nothing.
  for (let at = tail.length - SECTOR; at >= SECTOR; at -= SECTOR) {
    const layout = footerAt(tail, at, storage);
    if (layout !== null && layout.grainBytes === header.grainBytes) return { ...layout, descriptor: header.descriptor };
  }
  return null;
}

function footerAt(tail: Uint8Array, at: number, { size, label }: Storage): SparseLayout | null {
  if (METADATA_MARKER.get(tail, 'type', at - SECTOR) !== MARKER.footer) return null;
  return parseFooter(tail.subarray(at, at + SECTOR), size, label);
}

/** The layout in the sector behind the marker of a footer; null: it is not one. */
export function parseFooter(sector: Uint8Array, fileSize: number, path: string): SparseLayout | null {
  if (SPARSE_HEADER.get(sector, 'magic') !== KDMV) return null;
  try {
    const layout = parseSparse(sector, fileSize, path);
    // One that leads to the end itself leads nowhere.
    return layout.directoryOffset === null ? null : layout;
  } catch (error) {
    if (isImageError(error)) return null;
    throw error;
  }
}

/** Places of grains that are not asked for. */
export const NO_GRAINS: GrainPlaces = { get: () => 0, load: async () => {}, sameUntil: () => Number.MAX_SAFE_INTEGER };

/** Walks from marker to marker; what comes behind the first that makes no sense is not looked at. */
async function findGrains(storage: Storage, layout: SparseLayout, { signal }: OperationOptions): Promise<GrainPlaces> {
  const { grainBytes, capacity, overhead } = layout;
  const turns = new Turns(signal, 'Searching for grains');
  const found = new Map<number, number>();
  const marker = new Uint8Array(SECTOR);
  for (let at = overhead; at + GRAIN_MARKER.size < storage.size; ) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    await readPadded(storage, at, marker);
    const next = followMarker(marker, at);
    if (next === null) break;
    const { lba, size } = GRAIN_MARKER.decode(marker);
    if (size > 0) {
      const grain = (lba * SECTOR) / grainBytes;
      const isGrain = Number.isInteger(grain) && lba * SECTOR < capacity && size <= 2 * grainBytes;
      if (!isGrain || found.has(grain) || at + GRAIN_MARKER.size + size > storage.size) break;
      found.set(grain, at);
    }
    at = next;
  }
  return new FoundGrains(found);
}

/** The place behind what a marker announces; null at the end of the stream. */
function followMarker(marker: Uint8Array, at: number): number | null {
  try {
    const { lba, size } = GRAIN_MARKER.decode(marker);
    if (size > 0) return at + alignUp(GRAIN_MARKER.size + size, SECTOR);
    const type = METADATA_MARKER.get(marker, 'type');
    if (type === MARKER.endOfStream) return null;
    // Types that are not known have nothing behind them.
    return at + SECTOR + (type <= MARKER.footer ? lba * SECTOR : 0);
  } catch (error) {
    if (error instanceof ImageError) return null;
    throw error;
  }
}

/** Grains by number, in memory: no more of them than the file has sectors. */
class FoundGrains implements GrainPlaces {
  readonly #found: ReadonlyMap<number, number>;
  readonly #numbers: Float64Array;

  constructor(found: ReadonlyMap<number, number>) {
    this.#found = found;
    this.#numbers = Float64Array.from(found.keys()).sort();
  }

  get(index: number): number {
    return this.#found.get(index) ?? 0;
  }

  async load(): Promise<void> {}

  sameUntil(index: number): number {
    if (this.#found.has(index)) return index + 1;
    let [low, high] = [0, this.#numbers.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#numbers[middle] ?? 0) > index) high = middle;
      else low = middle + 1;
    }
    return this.#numbers[low] ?? Number.MAX_SAFE_INTEGER;
  }
}
