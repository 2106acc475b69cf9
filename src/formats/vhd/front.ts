/**
 * Room before the first block, for a longer table or longer names of a parent: blocks in the way move behind the last one.
 *
 * A footer behind the new places is durable first; then the blocks are copied with their bitmaps, durable; then their
 * entries change, durable. A cut leaves each block in one of its places.
 */
import { SECTOR } from '../../binary/numbers.ts';
import { EntryTable, U32_BIG, writeEntries } from '../../blocks/table.ts';
import { assert, throwIfAborted } from '../../errors.ts';
import type { ResizeOptions } from '../../image/contract.ts';
import type { Storage } from '../../storage/contract.ts';
import { copyBytes } from '../../storage/copy-bytes.ts';
import type { Footers } from './footers.ts';
import type { VhdLayout } from './header.ts';
import { BAT_UNUSED } from './layout.ts';

/** An image on the medium. Everything is flushed, and the footer at the end lies behind the last block. */
export interface VhdOnMedium {
  readonly storage: Storage;
  readonly layout: VhdLayout;
  readonly footers: Footers;
  /** File offset of the first slot. */
  readonly dataOffset: number;
}

/** Bytes of a block with its bitmap. */
export function slotBytesOf({ blockSize, bitmapBytes }: Pick<VhdLayout, 'blockSize' | 'bitmapBytes'>): number {
  return bitmapBytes + blockSize;
}

/** The first slot at or behind the footer, and behind another file offset. */
export function nextSlot({ layout, footers, dataOffset }: VhdOnMedium, least = 0): number {
  const { fileOffset } = footers;
  assert(fileOffset !== null, 'the footer lies behind the last block');
  const slotBytes = slotBytesOf(layout);
  return dataOffset + Math.max(Math.ceil((Math.max(fileOffset, least) - dataOffset) / slotBytes), 0) * slotBytes;
}

/** Moves everything between the metadata and a file offset away: blocks behind the last one, and the footer. */
export async function clearFront(
  image: VhdOnMedium,
  end: number,
  options: Partial<Pick<ResizeOptions, 'signal' | 'onProgress'>> = {},
): Promise<void> {
  const { storage, layout, footers } = image;
  const slotBytes = slotBytesOf(layout);
  const table = { storage, fileOffset: layout.tableOffset, count: layout.blockCount, form: U32_BIG };
  const movers: { readonly index: number; readonly from: number }[] = [];
  await new EntryTable(table).scan((entry, index) => {
    if (entry !== BAT_UNUSED && entry * SECTOR < end) movers.push({ index, from: entry * SECTOR });
  }, options);
  if (movers.length === 0) {
    if ((footers.fileOffset ?? 0) < end) await footers.move(end);
    return;
  }
  const first = nextSlot(image, end);
  await footers.move(first + movers.length * slotBytes);
  for (const [at, { from }] of movers.entries()) {
    throwIfAborted(options.signal, 'The resize');
    await copyBytes(storage, from, first + at * slotBytes, slotBytes);
    options.onProgress?.({ operation: 'resize', done: (at + 1) * slotBytes, total: movers.length * slotBytes });
  }
  await storage.flush();
  for (const [at, { index }] of movers.entries()) {
    await writeEntries(table, { start: index, end: index + 1 }, () => (first + at * slotBytes) / SECTOR);
  }
  await storage.flush();
}
