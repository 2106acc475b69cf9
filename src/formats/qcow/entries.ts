/**
 * Entries of L2 tables. One without bit 63 is a file offset, 0 for nothing; one with it describes a compressed cluster by its
 * offset and its length in bytes. In memory that is a negative number, in which both find room up to 2^53.
 */
import type { BlockEntries } from '../../blocks/block-reader.ts';
import { type EntryForm, U64_BIG } from '../../blocks/table.ts';
import type { FilePlace } from '../../blocks/two-level-state.ts';

const HIGH = 2 ** 32;
const COMPRESSED = 0x8000_0000;
/** No stream lies at such an offset in a file that is not hostile: see `streamsEnd`. */
const BROKEN = Number.MIN_SAFE_INTEGER;

/** Compressed clusters end at or before this file offset: others cannot be told from each other in memory. */
export function streamsEnd(clusterBits: number): number {
  return 2 ** (52 - clusterBits);
}

/** The entry of a compressed cluster. */
export function compressedEntry({ fileOffset, length }: FilePlace, clusterBits: number): number {
  return -(fileOffset * 2 ** clusterBits + length) - 1;
}

/** Place of a compressed cluster; null: the entry is of another kind. */
export function compressedPlace(entry: number, clusterBits: number): FilePlace | null {
  if (entry >= 0) return null;
  const value = -(entry + 1);
  const fileOffset = Math.floor(value / 2 ** clusterBits);
  return { fileOffset, length: value - fileOffset * 2 ** clusterBits };
}

/** Stored form of the entries. */
export function entryForm(clusterBits: number): EntryForm {
  // Bits of the upper half that belong to the offset.
  const offsetHigh = 2 ** (63 - clusterBits - 32);
  return {
    bytes: 8,
    get: (view, at) => {
      const high = view.getUint32(at);
      if (high < COMPRESSED) return U64_BIG.get(view, at);
      const length = Math.floor((high - COMPRESSED) / offsetHigh);
      const fileOffset = (high % offsetHigh) * HIGH + view.getUint32(at + 4);
      return fileOffset >= streamsEnd(clusterBits) ? BROKEN : compressedEntry({ fileOffset, length }, clusterBits);
    },
    put: (view, at, entry) => {
      const place = compressedPlace(entry, clusterBits);
      if (place === null) return U64_BIG.put(view, at, entry);
      const { fileOffset, length } = place;
      view.setUint32(at, COMPRESSED + length * offsetHigh + Math.floor(fileOffset / HIGH));
      view.setUint32(at + 4, fileOffset % HIGH);
    },
  };
}

/** Meaning of the entries. A compressed cluster has no place of a whole cluster, so to the map it is like a zero one. */
export function entriesOf(lowest: number, unit: number): BlockEntries {
  return {
    kindOf: (entry) => (entry === 0 ? 'absent' : entry < 0 ? 'zero' : 'data'),
    slotOffset: (entry) => entry,
    entryAt: (fileOffset) => fileOffset,
    problem: (entry) => (entry < lowest || entry % unit !== 0 ? 'An L2 entry points where no cluster can be' : null),
    zero: null,
    absent: 0,
  };
}
