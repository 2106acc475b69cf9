/** New sparse extents: their header, and empty tables. */
import { alignUp, SECTOR } from '../../../binary/numbers.ts';
import type { Storage } from '../../../storage/contract.ts';
import {
  COMPRESSION,
  DESCRIPTOR_SECTORS,
  FLAG,
  GT_ENTRIES,
  KDMV,
  NEWLINES,
  SPARSE_HEADER,
  type SparseHeader,
} from '../layout.ts';
import { type PlannedExtent, planSparse, type VmdkPlan } from '../plan.ts';
import { writeZeroes } from './resize-sparse.ts';

const TABLE_SECTORS = (GT_ENTRIES * 4) / SECTOR;

/** Fields that all new headers have in common. */
export const HEADER: SparseHeader = {
  magic: KDMV,
  version: 1,
  flags: 0,
  capacity: 0,
  grainSize: 0,
  descriptorOffset: 0,
  descriptorSize: 0,
  entriesPerTable: GT_ENTRIES,
  redundantOffset: 0n,
  directoryOffset: 0n,
  overhead: 0,
  unclean: 0,
  singleEndLine: NEWLINES.single,
  nonEndLine: NEWLINES.other,
  doubleEndLine1: NEWLINES.first,
  doubleEndLine2: NEWLINES.second,
  compression: COMPRESSION.none,
  rest: new Uint8Array(SPARSE_HEADER.fields.rest.size),
};

/** Directories and tables, then the header. All tables have their places from the start, as VMware demands. */
export async function writeSparse(
  storage: Storage,
  { sectors }: Pick<PlannedExtent, 'sectors'>,
  { plan, embedded }: { readonly plan: Pick<VmdkPlan, 'grainSectors' | 'zeroGrains'>; readonly embedded: boolean },
): Promise<void> {
  const { grainSectors, zeroGrains } = plan;
  const places = planSparse(sectors, grainSectors, embedded);
  await storage.write((places.overhead - 1) * SECTOR, new Uint8Array(SECTOR));
  for (const offset of [places.redundantOffset, places.directoryOffset]) {
    const room = alignUp(places.tables * 4, SECTOR);
    const directory = new Uint8Array(room);
    const view = new DataView(directory.buffer);
    const first = offset + room / SECTOR;
    for (let table = 0; table < places.tables; table++) view.setUint32(table * 4, first + table * TABLE_SECTORS, true);
    await storage.write(offset * SECTOR, directory);
    const end = first + places.tables * TABLE_SECTORS;
    if (!storage.can.growsZeroed) await writeZeroes(storage, first * SECTOR, end * SECTOR);
  }
  await storage.write(
    0,
    SPARSE_HEADER.encode({
      ...HEADER,
      version: zeroGrains ? 2 : 1,
      flags: FLAG.newlines | FLAG.redundant | (zeroGrains ? FLAG.zeroGrains : 0),
      capacity: alignUp(sectors, grainSectors),
      grainSize: grainSectors,
      descriptorOffset: embedded ? 1 : 0,
      descriptorSize: embedded ? DESCRIPTOR_SECTORS : 0,
      redundantOffset: BigInt(places.redundantOffset),
      directoryOffset: BigInt(places.directoryOffset),
      overhead: places.overhead,
    }),
  );
}
