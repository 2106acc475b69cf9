/** The block map of a VDI image on the medium. */
import type { BlockEntries } from '../../blocks/block-map.ts';
import { type TablePlace, U32_LITTLE } from '../../blocks/table.ts';
import type { Storage } from '../../storage/contract.ts';
import type { VdiHeader } from './header.ts';
import { ENTRY_FREE, ENTRY_ZERO } from './layout.ts';

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
