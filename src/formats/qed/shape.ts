/** The tables of a QED image, for what works on images of two levels. */
import { U64_LITTLE } from '../../blocks/table.ts';
import type { FilePlace, TwoLevelShape } from '../../blocks/two-level-state.ts';
import type { QedLayout } from './header.ts';
import { L2_ABSENT, L2_ZERO } from './layout.ts';

/** Sizes and places of an image, with its header. */
export interface QedShape extends TwoLevelShape {
  readonly header: QedLayout;
}

/** The shape behind a checked header. */
export function shapeOf(header: QedLayout): QedShape {
  const { virtualSize, clusterSize, l1Offset, l1Entries, tableBytes, tableEntries, headerBytes: lowest } = header;
  return {
    header,
    virtualSize,
    clusterSize,
    l1Offset,
    l1Entries,
    l1Form: U64_LITTLE,
    tableBytes,
    tableRoom: tableBytes,
    tableEntries,
    form: U64_LITTLE,
    unit: clusterSize,
    lowest,
    reserved: [{ fileOffset: l1Offset, length: tableBytes }, ...nameBehind(header)],
    differencing: header.backing !== null,
    entries: {
      kindOf: (entry) => (entry === L2_ABSENT ? 'absent' : entry === L2_ZERO ? 'zero' : 'data'),
      slotOffset: (entry) => entry,
      entryAt: (fileOffset) => fileOffset,
      problem: (entry) =>
        entry < lowest || entry % clusterSize !== 0 ? 'An L2 entry points where no cluster can be' : null,
      zero: L2_ZERO,
      absent: L2_ABSENT,
    },
  };
}

/** A name of the backing file that lies among the clusters, where VirtualBox puts a new one. */
function nameBehind({ backing, headerBytes }: QedLayout): FilePlace[] {
  if (backing === null) return [];
  const end = backing.fileOffset + backing.length;
  const fileOffset = Math.max(backing.fileOffset, headerBytes);
  return end <= headerBytes ? [] : [{ fileOffset, length: end - fileOffset }];
}
