/** The tables of a QCOW image, for what works on images of two levels. */
import { alignDown, alignUp, SECTOR } from '../../binary/numbers.ts';
import { U64_BIG } from '../../blocks/table.ts';
import type { FilePlace, TwoLevelShape } from '../../blocks/two-level-state.ts';
import { compressedPlace, entriesOf, entryForm } from './entries.ts';
import type { QcowHeader } from './header.ts';
import { HEADER } from './layout.ts';

/** Sizes and places of an image, with its header. */
export interface QcowShape extends TwoLevelShape {
  readonly header: QcowHeader;
}

/** The shape behind a checked header. `l1Entries`: those that the L1 table has room for, if more than the disk needs. */
export function shapeOf(header: QcowHeader, l1Entries: number = header.l1Entries): QcowShape {
  const { virtualSize, clusterSize, clusterBits, l1Offset, tableBytes, tableEntries, backing } = header;
  const lowest = HEADER.size;
  const l1 = { fileOffset: l1Offset, length: l1Entries * 8 };
  const name = backing === null ? [] : [{ fileOffset: backing.fileOffset, length: backing.length }];
  return {
    header,
    virtualSize,
    clusterSize,
    l1Offset,
    l1Entries,
    l1Form: U64_BIG,
    tableBytes,
    tableRoom: alignUp(tableBytes, clusterSize),
    tableEntries,
    form: entryForm(clusterBits),
    unit: SECTOR,
    lowest,
    reserved: wholeSectors([l1, ...name]),
    // VirtualBox reads and writes the L1 table in whole clusters, and begins the next one at a multiple.
    padding: [
      { fileOffset: l1Offset, length: alignUp(l1Offset + alignUp(l1.length, clusterSize), clusterSize) - l1Offset },
    ],
    flaw: name.some((place) => overlap(place, l1)) ? 'the name of its backing file overlaps its L1 table' : null,
    differencing: backing !== null,
    entries: entriesOf(lowest, SECTOR),
    encodedAt: (entry) => compressedPlace(entry, clusterBits),
  };
}

function overlap(one: FilePlace, other: FilePlace): boolean {
  return one.fileOffset < other.fileOffset + other.length && other.fileOffset < one.fileOffset + one.length;
}

/** The sectors behind the first one that these places touch, each once: header, name and L1 table may share them. */
function wholeSectors(places: readonly FilePlace[]): FilePlace[] {
  const runs: { start: number; end: number }[] = [];
  for (const { fileOffset, length } of [...places].sort((one, other) => one.fileOffset - other.fileOffset)) {
    if (length === 0) continue;
    const last = runs.at(-1);
    const start = Math.max(alignDown(fileOffset, SECTOR), last?.end ?? SECTOR);
    const end = alignUp(fileOffset + length, SECTOR);
    if (end > start) runs.push({ start, end });
  }
  return runs.map(({ start, end }) => ({ fileOffset: start, length: end - start }));
}
