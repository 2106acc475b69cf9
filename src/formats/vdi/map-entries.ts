/** The block map of a VDI image on the medium, and the copying of blocks. */
import type { BlockEntries } from '../../blocks/block-map.ts';
import { type TablePlace, U32_LITTLE } from '../../blocks/table.ts';
import type { Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import type { VdiHeader } from './header.ts';
import { ENTRY_FREE, ENTRY_ZERO } from './layout.ts';

/** Bytes of one piece. */
export const COPY_BYTES = 1024 * 1024;

/** The block map named by a header. */
export function mapPlace(
  storage: Storage,
  { mapOffset, blockCount }: Pick<VdiHeader, 'mapOffset' | 'blockCount'>,
): TablePlace {
  return { storage, fileOffset: mapOffset, count: blockCount, form: U32_LITTLE };
}

/** The meaning of its entries: numbers of slots. */
export function mapEntries({ dataOffset, ...header }: VdiHeader): BlockEntries {
  const slotBytes = header.blockSize + header.blockExtra;
  return {
    kindOf(entry) {
      if (entry < ENTRY_ZERO) return 'data';
      return entry === ENTRY_ZERO ? 'zero' : 'absent';
    },
    slotOffset: (entry) => dataOffset + entry * slotBytes,
    entryAt: (fileOffset) => (fileOffset - dataOffset) / slotBytes,
    zero: ENTRY_ZERO,
    absent: ENTRY_FREE,
  };
}

/** Copies bytes inside a file; bytes past its end are zero. */
export async function copyBytes(storage: Storage, from: number, to: number, length: number): Promise<void> {
  const buffer = new Uint8Array(Math.min(COPY_BYTES, length));
  for (let at = 0; at < length; at += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, length - at));
    await readPadded(storage, from + at, piece);
    await storage.write(to + at, piece);
  }
}
