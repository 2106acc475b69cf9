/** Meaning of the entries of a BAT. */
import type { BlockEntries } from '../../blocks/block-map.ts';
import { entryFor, offsetOf, stateOf } from './bat.ts';
import { STATE } from './layout.ts';

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
export function isZero(state: number): boolean {
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
