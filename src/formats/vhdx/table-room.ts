/** Room for more entries of the BAT: behind those that it has, or in a region that is moved. */
import { alignUp } from '../../binary/numbers.ts';
import { writeEntries } from '../../blocks/table.ts';
import { throwIfAborted } from '../../errors.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { BAT_ENTRY, type BatShape, batEntries, chunkRatio, payloadIndex } from './bat.ts';
import type { VhdxBlocks } from './blocks.ts';
import { MIB, REGION_IDS, REGION_OFFSETS } from './layout.ts';
import type { PageEdits } from './pages.ts';
import { encodeRegions } from './regions.ts';
import type { VhdxState } from './state.ts';

/** A table that gets more entries. */
export interface TableGrowth {
  readonly storage: Storage;
  readonly state: VhdxState;
  readonly blocks: VhdxBlocks;
  /** Shape of the disk as it will be. */
  readonly shape: BatShape;
  /** First block whose entry is new. */
  readonly firstBlock: number;
  /** Entry of new blocks. */
  readonly fill: number;
}

/**
 * Writes entries that nothing reaches yet, and not durably. Where the region is too short it is copied to a new place, and the
 * region tables of `edits` name that.
 */
export async function growTable(growth: TableGrowth, edits: PageEdits, options: OperationOptions): Promise<void> {
  const { storage, state, blocks, shape } = growth;
  const { bat, all } = state.regions;
  const needed = batEntries(shape) * 8;
  if (needed <= bat.length) return writeNew(growth, bat.fileOffset, options);
  const length = alignUp(needed, MIB);
  const { fileOffset } = blocks.map.slots.takeMib(length / MIB);
  if (storage.size < fileOffset + length) await storage.resize(fileOffset + length);
  await copyTable(storage, bat, fileOffset, options);
  await storage.zero(fileOffset + bat.length, length - bat.length, { punch: false });
  await writeNew(growth, fileOffset, options);
  const moved = all.map((one) => (one.id === REGION_IDS.bat ? { ...one, fileOffset, length } : one));
  for (const at of REGION_OFFSETS) await edits.put(at, encodeRegions(moved));
}

async function copyTable(
  storage: Storage,
  { fileOffset, length }: { readonly fileOffset: number; readonly length: number },
  target: number,
  { signal }: OperationOptions,
): Promise<void> {
  const buffer = new Uint8Array(MIB);
  for (let at = 0; at < length; at += MIB) {
    throwIfAborted(signal, 'The resize');
    await readPadded(storage, fileOffset + at, buffer);
    await storage.write(target + at, buffer);
  }
}

/** Bitmaps of chunks that are there keep their entries. */
async function writeNew(
  { storage, state, shape, firstBlock, fill }: TableGrowth,
  fileOffset: number,
  options: OperationOptions,
): Promise<void> {
  const ratio = chunkRatio(shape);
  const hadParent = state.metadata.hasParent;
  const kept = hadParent ? batEntries({ ...shape, virtualSize: state.metadata.virtualSize }) : 0;
  const end = batEntries(shape);
  const bounds: number[] = [];
  const start = payloadIndex(firstBlock, ratio);
  // The entry of a bitmap ends a chunk: the ones that are kept split the range.
  for (let index = start - (start % (ratio + 1)) + ratio; index < Math.min(kept, end); index += ratio + 1) {
    if (index >= start) bounds.push(index);
  }
  let from = start;
  for (const bound of [...bounds, end]) {
    const stop = Math.min(bound, end);
    const value = (index: number): number => (index % (ratio + 1) === ratio ? 0 : fill);
    if (from < stop)
      await writeEntries({ storage, fileOffset, form: BAT_ENTRY }, { ...options, start: from, end: stop }, value);
    from = stop + 1;
  }
}
