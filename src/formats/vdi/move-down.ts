/**
 * Moves blocks from slots past the header's range into free slots below: the header counts no more slots than the disk
 * has blocks, and other programs allocate the slot after that count next. Works on the medium, behind all caches;
 * everything must be flushed, and nothing else may run.
 *
 * Some blocks at a time: copied, durable; then their map entries, durable. A cut leaves each block in one of its
 * places.
 */
import { SparseBitSet } from '../../binary/bits.ts';
import { EntryTable, scanEntries, writeEntries } from '../../blocks/table.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { copyBytes } from '../../storage/copy-bytes.ts';
import { Turns } from '../../storage/turns.ts';
import { ENTRY_ZERO } from './layout.ts';
import { mapPlace } from './map-entries.ts';

/** Bytes copied before their entries change. */
const BATCH_BYTES = 64 * 1024 * 1024;
const BATCH_BLOCKS = 1024;

/** An image on the medium. */
export interface MovePlace {
  readonly storage: Storage;
  readonly mapOffset: number;
  readonly dataOffset: number;
  readonly blockCount: number;
  readonly blockSize: number;
  readonly blockExtra: number;
}

interface Mover {
  readonly index: number;
  readonly from: number;
  readonly to: number;
}

/** Clears all slots from `limit` on. There must be space: no more blocks than `limit`. True: some were moved. */
export async function moveDown(place: MovePlace, limit: number, options: OperationOptions): Promise<boolean> {
  const { storage, blockCount, blockSize, blockExtra } = place;
  const map = mapPlace(storage, place);
  const used = new SparseBitSet();
  let high = 0;
  await scanEntries(
    map,
    (entry) => {
      if (entry >= ENTRY_ZERO) return;
      if (entry < limit) used.add(entry);
      else high++;
    },
    options,
  );
  if (high === 0) return false;
  const most = Math.max(1, Math.min(BATCH_BLOCKS, Math.floor(BATCH_BYTES / (blockSize + blockExtra))));
  const turns = new Turns(options.signal, 'Moving blocks');
  const table = new EntryTable(map);
  let free = 0;
  let batch: Mover[] = [];
  for (let index = 0; index < blockCount; index++) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    if (table.get(index) === undefined) await table.load(index);
    const from = table.get(index) ?? ENTRY_ZERO;
    if (from < limit || from >= ENTRY_ZERO) continue;
    while (used.has(free)) free++;
    batch.push({ index, from, to: free++ });
    if (batch.length < most) continue;
    await move(place, batch, options);
    batch = [];
  }
  if (batch.length > 0) await move(place, batch, options);
  return true;
}

async function move(place: MovePlace, batch: readonly Mover[], { signal }: OperationOptions): Promise<void> {
  const { storage, dataOffset, blockSize, blockExtra } = place;
  const slotBytes = blockSize + blockExtra;
  const turns = new Turns(signal, 'Moving blocks');
  for (const { from, to } of batch) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    await copyBytes(storage, dataOffset + from * slotBytes, dataOffset + to * slotBytes, slotBytes);
  }
  await storage.flush();
  for (const { index, to } of batch)
    await writeEntries(mapPlace(storage, place), { start: index, end: index + 1 }, () => to);
  await storage.flush();
}
