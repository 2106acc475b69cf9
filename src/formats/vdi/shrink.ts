/**
 * Shrinking a disk. The header counts slots, and never more than there are blocks, so it cannot get fewer blocks while
 * any stands in a high slot. In this order:
 *   1. the header gets the size, durable: slots of lost blocks get other content now. The map is longer than the disk
 *      from then on, which is allowed;
 *   2. entries past the new end are freed; durable before the next entry changes;
 *   3. blocks in slots beyond the new number of blocks move into those just freed, durable;
 *   4. the header gets the number of blocks and of slots in use; durable with the next flush.
 * A cut before the first step leaves the disk as it was, and after it the smaller one, whose resize is *pending*: a
 * resize to its current size continues it. The header counts every slot in use at every moment.
 */
import { divCeil } from '../../binary/numbers.ts';
import { scanEntries, writeEntries } from '../../blocks/table.ts';
import { throwIfAborted } from '../../errors.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import type { VdiHeader } from './header.ts';
import { ENTRY_FREE, ENTRY_ZERO, HEADER } from './layout.ts';
import { mapPlace } from './map-entries.ts';
import { moveDown } from './move-down.ts';

/** Entries needed for a disk of that size. */
export function blocksOf(size: number, { blockSize }: Pick<VdiHeader, 'blockSize'>): number {
  return divCeil(size, blockSize);
}

/**
 * Shrinks the disk to the size that `putSize` writes into a sector, and leaves the header in `sector`. Lost data was
 * checked before.
 */
export async function shrinkVdi(
  storage: Storage,
  sector: Uint8Array,
  {
    header,
    size,
    putSize,
    ...options
  }: OperationOptions & {
    readonly header: VdiHeader;
    readonly size: number;
    putSize(sector: Uint8Array): void;
  },
): Promise<void> {
  throwIfAborted(options.signal, 'The resize');
  if (size !== header.virtualSize) {
    await putHeader(storage, sector, putSize);
    await storage.flush();
  }
  const blockCount = blocksOf(size, header);
  const map = mapPlace(storage, header);
  const before = await usedSlots(storage, header, blockCount, options);
  if (before.behind) {
    await writeEntries(map, { start: blockCount, end: header.blockCount, ...options }, () => ENTRY_FREE);
  }
  await moveDown({ storage, ...header }, blockCount, options);
  const { end } = await usedSlots(storage, header, blockCount, options);
  await putHeader(storage, sector, (switched) => {
    HEADER.put(switched, 'blockCount', blockCount);
    HEADER.put(switched, 'blocksAllocated', end);
  });
}

async function putHeader(storage: Storage, sector: Uint8Array, put: (sector: Uint8Array) => void): Promise<void> {
  const switched = sector.slice();
  put(switched);
  await storage.write(0, switched);
  sector.set(switched);
}

/** End of the slots in use, and whether entries past the disk's use any. */
async function usedSlots(
  storage: Storage,
  header: VdiHeader,
  blockCount: number,
  options: OperationOptions,
): Promise<{ readonly end: number; readonly behind: boolean }> {
  let end = 0;
  let behind = false;
  await scanEntries(
    mapPlace(storage, header),
    (entry, index) => {
      if (entry >= ENTRY_ZERO) return;
      end = Math.max(end, entry + 1);
      if (index >= blockCount) behind = true;
    },
    options,
  );
  return { end, behind };
}
