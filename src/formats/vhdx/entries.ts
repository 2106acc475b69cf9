/** Meaning of the entries of a BAT, and the scan of a whole one before the first write. */
import { SparseBitSet } from '../../binary/bits.ts';
import type { BlockEntries } from '../../blocks/block-map.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { type Bat, entryFor, offsetOf, stateOf } from './bat.ts';
import { BITMAP_BYTES, MIB, STATE } from './layout.ts';
import { VhdxRoom } from './room.ts';

/** Places of a file that no block may take: headers, log, regions. */
export interface Place {
  readonly fileOffset: number;
  readonly length: number;
}

/** Facts of an image that give its entries their meaning. */
export interface EntryFacts {
  readonly blockSize: number;
  readonly hasParent: boolean;
  readonly taken: readonly Place[];
}

/** True for a state of a block that stands in the file. */
export function isStored(state: number): boolean {
  return state === STATE.present || state === STATE.partial;
}

/** Meaning of the entries, for the block map. */
export function entriesOf(facts: EntryFacts): BlockEntries {
  return {
    kindOf: (entry) => {
      const state = stateOf(entry);
      if (state === STATE.notPresent) return 'absent';
      return isZero(state) ? 'zero' : 'data';
    },
    slotOffset: offsetOf,
    entryAt: (fileOffset) => entryFor(fileOffset, STATE.present),
    problem: (entry) => problemOf(entry, facts),
    zero: STATE.zero,
    absent: STATE.notPresent,
  };
}

/** Undefined and unmapped blocks never show the parent. */
function isZero(state: number): boolean {
  return state === STATE.zero || state === STATE.undefined || state === STATE.unmapped || state === STATE.oldUnmapped;
}

/** The reason why a block cannot be read by its entry, other than the length of the file; null: it can. */
export function problemOf(entry: number, { blockSize, hasParent, taken }: EntryFacts): string | null {
  const state = stateOf(entry);
  if (!isStored(state)) return 'A block has a state that is not known';
  if (state === STATE.partial && !hasParent) return 'A block is said to be partly stored in an image without a parent';
  const start = offsetOf(entry);
  const over = taken.some(({ fileOffset, length }) => start < fileOffset + length && start + blockSize > fileOffset);
  return over ? 'A block is said to lie among the metadata' : null;
}

/** Result of a scan. */
export interface BatScan {
  readonly room: VhdxRoom;
  /** Reason why the image must not be written, or null. */
  readonly obstacle: string | null;
}

/** Reads the whole table: MiB in use, and whether writing is safe. */
export async function scanRoom(
  storage: Storage,
  bat: Bat,
  facts: EntryFacts,
  options: OperationOptions = {},
): Promise<BatScan> {
  const used = new SparseBitSet();
  let end = 0;
  let obstacle: string | null = null;
  const take = (fileOffset: number, length: number): boolean => {
    let isFree = true;
    const last = Math.ceil((fileOffset + length) / MIB);
    for (let unit = Math.floor(fileOffset / MIB); unit < last; unit++) if (!used.add(unit)) isFree = false;
    end = Math.max(end, last);
    return isFree;
  };
  for (const { fileOffset, length } of facts.taken) take(fileOffset, length);
  await bat.scanAll((entry, index, isBitmap) => {
    if (obstacle !== null) return;
    const what = isBitmap ? `the bitmap of chunk ${index}` : `block ${index}`;
    const state = stateOf(entry);
    if (isBitmap ? !facts.hasParent || state !== STATE.present : state === STATE.notPresent || isZero(state)) return;
    const problem = isBitmap ? null : problemOf(entry, facts);
    const fileOffset = offsetOf(entry);
    if (problem !== null) obstacle = `${problem.charAt(0).toLowerCase()}${problem.slice(1)} (${what})`;
    else if (fileOffset >= storage.size) obstacle = `${what} is said to lie beyond the end of the file`;
    else if (!take(fileOffset, isBitmap ? BITMAP_BYTES : facts.blockSize))
      obstacle = `${what} lies over something else`;
  }, options);
  return { room: new VhdxRoom(used, end, facts.blockSize), obstacle };
}
