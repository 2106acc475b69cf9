/**
 * Resizing of an image of blocks. Each step is durable before the next, and leaves an image of the old size:
 *   1. blocks in the way of a longer table move behind the last one (`front.ts`);
 *   2. header and names of a parent in its way get another place (`new-header.ts`);
 *   3. new entries, then their number in the first sector of the header;
 *   4. what hides a longer parent: blocks of zeroes, since the format has no mark for them; and zeroes in the rest of the
 *      last block;
 *   5. both footers, with the new size.
 * A shrunk disk has its new footers first; then the entries behind it are cleared, and the table gets shorter.
 */
import { alignDown, alignUp, divCeil, SECTOR } from '../../binary/numbers.ts';
import { setBits } from '../../blocks/sector-bitmap.ts';
import { scanEntries, U32_BIG, writeEntries } from '../../blocks/table.ts';
import { assert, ImageError, throwIfAborted } from '../../errors.ts';
import type { ResizeOptions } from '../../image/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { clearFront, nextSlot, slotBytesOf, type VhdOnMedium } from './front.ts';
import { geometryFor } from './geometry.ts';
import { locatorAt, metadataEndBefore, overlaps, putEntries, readHeader, type VhdLayout } from './header.ts';
import { BAT_UNUSED, HEADER, LOCATOR, LOCATORS, type Locator } from './layout.ts';
import { VHD_LIMITS } from './limits.ts';
import { type NewHeader, replaceHeader } from './new-header.ts';

/** Blocks of zeroes that are written before their entries. */
const BATCH = 64;

/** See the head of this file. */
export interface VhdResize extends VhdOnMedium {
  readonly differencing: boolean;
  readonly size: number;
  readonly options: ResizeOptions;
}

/** Throws `limit` for a size that an image of blocks cannot have. */
export function checkBlocksSize(size: number, blockSize: number, path: string): void {
  const most = Math.min(VHD_LIMITS.dynamicBytes, VHD_LIMITS.entries * blockSize);
  if (size <= most) return;
  throw new ImageError('limit', 'A VHD image cannot be that large', {
    path,
    found: `${size} bytes`,
    expected: `at most ${most}`,
    hint: 'Convert it into a VHDX image (on the command line: convert --to vhdx).',
  });
}

/** Resizes the image. Cut or cancelled before the last step, it has its old size and content. */
export async function resizeBlocks(job: VhdResize): Promise<void> {
  await (job.size <= job.footers.footer.currentSize ? shrink(job) : grow(job));
}

async function grow(job: VhdResize): Promise<void> {
  const { storage, footers, size, options } = job;
  const old = footers.footer.currentSize;
  const layout = await makeRoom(job);
  const room = { ...job, layout };
  await addEntries(room, divCeil(size, layout.blockSize));
  await clearRest(room, old);
  if (options.fill === 'zero' && job.differencing) await hideParent(room, old, Math.min(options.fillEnd, size));
  throwIfAborted(options.signal, 'The resize');
  await storage.flush();
  await putSize(job, size);
}

async function putSize({ footers }: VhdResize, currentSize: number): Promise<void> {
  const { fileOffset, footer } = footers;
  assert(fileOffset !== null, 'the footer lies behind the last block');
  await footers.replace({ ...footer, currentSize, ...geometryFor(currentSize) }, fileOffset);
}

/** Clears the way for a longer table. Returns the layout afterwards. */
async function makeRoom(job: VhdResize): Promise<VhdLayout> {
  const { layout, options, size, storage, footers } = job;
  const end = alignUp(layout.tableOffset + divCeil(size, layout.blockSize) * 4, SECTOR);
  const length = end - layout.tableOffset;
  if (end <= alignUp(layout.tableOffset + layout.entries * 4, SECTOR)) return layout;
  const covers = (fileOffset: number, bytes: number): boolean =>
    overlaps({ fileOffset: layout.tableOffset, length }, fileOffset, bytes);
  const movesHeader = covers(layout.headerOffset, HEADER.size);
  const moved = layout.locators.filter((locator) => covers(locator.fileOffset, locator.length));
  if (!movesHeader && moved.length === 0) {
    await clearFront(job, end, options);
    return layout;
  }
  // Where neither the old metadata nor the new table is: each step keeps what counts until then.
  const place = Math.max(end, frontEnd(job));
  const names = place + (movesHeader ? HEADER.size : 0);
  await clearFront(job, names + moved.reduce((sum, { length: bytes }) => sum + alignUp(bytes, SECTOR), 0), options);
  const last = await movedNames(job, moved, names);
  await replaceHeader({
    storage,
    footers,
    footer: footers.footer,
    room: 0,
    behind: () => last,
    last: { ...last, names: [] },
    headerOffset: movesHeader ? place : layout.headerOffset,
  });
  return readHeader(storage, footers.footer, options);
}

/** End of the metadata before the first block that may be there. */
function frontEnd({ layout, dataOffset }: VhdResize): number {
  return metadataEndBefore(layout, Math.max(dataOffset, layout.tableOffset + 1));
}

/** The header with names that have moved to a place in front of the blocks. */
async function movedNames(
  { storage, layout }: VhdResize,
  moved: readonly Locator[],
  place: number,
): Promise<NewHeader> {
  const locators = layout.header.locators.slice();
  const names: { fileOffset: number; bytes: Uint8Array }[] = [];
  let at = place;
  for (let index = 0; index < LOCATORS; index++) {
    const locator = locatorAt(locators, index);
    if (locator === null) continue;
    if (!moved.some(({ fileOffset, platform }) => fileOffset === locator.fileOffset && platform === locator.platform)) {
      continue;
    }
    const bytes = new Uint8Array(alignUp(locator.length, SECTOR));
    await readPadded(storage, locator.fileOffset, bytes.subarray(0, locator.length));
    names.push({ fileOffset: at, bytes });
    locators.set(LOCATOR.encode({ ...locator, space: bytes.length, fileOffset: at }), index * LOCATOR.size);
    at += bytes.length;
  }
  return { header: { ...layout.header, locators }, names };
}

/** Entries behind those of the disk become unused, whatever stood there; then the header counts them. */
async function addEntries(job: VhdResize, count: number): Promise<void> {
  const { storage, layout, options } = job;
  const padded = alignUp(count * 4, SECTOR) / 4;
  if (count > layout.blockCount) await clearEntries(job, layout.blockCount, padded, options);
  if (count > layout.entries) await putEntries(storage, layout, count);
}

async function clearEntries(
  { storage, layout }: VhdResize,
  start: number,
  end: number,
  { signal }: Pick<ResizeOptions, 'signal'>,
): Promise<void> {
  const place = { storage, fileOffset: layout.tableOffset, form: U32_BIG };
  await writeEntries(place, { start, end, signal }, () => BAT_UNUSED);
  await storage.flush();
}

/** Zeroes what the last block holds behind the end of the disk. */
async function clearRest({ storage, layout }: VhdResize, old: number): Promise<void> {
  const { blockSize, bitmapBytes } = layout;
  const inside = old % blockSize;
  if (inside === 0) return;
  const entry = await entryAt({ storage, layout }, layout.blockCount - 1);
  if (entry === BAT_UNUSED) return;
  await storage.zero(entry * SECTOR + bitmapBytes + inside, blockSize - inside, { punch: false });
  await storage.flush();
}

async function entryAt({ storage, layout }: Pick<VhdResize, 'storage' | 'layout'>, index: number): Promise<number> {
  const bytes = new Uint8Array(4);
  await readPadded(storage, layout.tableOffset + index * 4, bytes);
  return U32_BIG.get(new DataView(bytes.buffer), 0);
}

/** Stores zeroes from `start` to `end`, behind the old end of the disk: only those hide a parent. */
async function hideParent(job: VhdResize, start: number, end: number): Promise<void> {
  const { storage, layout } = job;
  const { blockSize } = layout;
  let index = Math.floor(start / blockSize);
  const last = divCeil(end, blockSize);
  if (start % blockSize !== 0) {
    const entry = await entryAt(job, index);
    if (entry === BAT_UNUSED) await storeZeroes(job, index, index + 1, start % blockSize);
    else await markStored(job, entry, start % blockSize);
    index++;
  }
  for (; index < last; index += BATCH) {
    throwIfAborted(job.options.signal, 'The resize');
    await storeZeroes(job, index, Math.min(index + BATCH, last), 0);
  }
  await storage.flush();
}

/** The bitmap of a block that is stored from a byte on. */
function bitmapFrom({ blockSize, bitmapBytes }: VhdLayout, inBlock: number): Uint8Array {
  const bitmap = new Uint8Array(bitmapBytes);
  setBits(bitmap, inBlock / SECTOR, blockSize / SECTOR, 'highest-first');
  return bitmap;
}

/** Blocks of zeroes behind the last one. */
async function storeZeroes(job: VhdResize, first: number, end: number, inBlock: number): Promise<void> {
  const { storage, layout, footers } = job;
  const { bitmapBytes, blockSize, tableOffset } = layout;
  const slotBytes = slotBytesOf(layout);
  const place = nextSlot(job);
  await footers.move(place + (end - first) * slotBytes);
  const bitmap = bitmapFrom(layout, inBlock);
  for (let slot = place; slot < place + (end - first) * slotBytes; slot += slotBytes) {
    await storage.write(slot, bitmap);
    await storage.zero(slot + bitmapBytes, blockSize, { punch: storage.can.punch });
  }
  await storage.flush();
  const table = { storage, fileOffset: tableOffset, form: U32_BIG };
  await writeEntries(table, { start: first, end }, (index) => (place + (index - first) * slotBytes) / SECTOR);
  await storage.flush();
}

/** Sets the bits of a block from a byte on: what is stored there is zero, and durable. */
async function markStored({ storage, layout }: VhdResize, entry: number, inBlock: number): Promise<void> {
  const bitmap = new Uint8Array(layout.bitmapBytes);
  await readPadded(storage, entry * SECTOR, bitmap);
  setBits(bitmap, inBlock / SECTOR, layout.blockSize / SECTOR, 'highest-first');
  const from = alignDown(inBlock / SECTOR / 8, SECTOR);
  await storage.write(entry * SECTOR + from, bitmap.subarray(from));
  await storage.flush();
}

async function shrink(job: VhdResize): Promise<void> {
  const { storage, layout, size, options, footers } = job;
  const count = divCeil(size, layout.blockSize);
  const { tableOffset, entries } = layout;
  let lost = 0;
  const table = { storage, fileOffset: tableOffset, count: layout.blockCount, form: U32_BIG };
  await scanEntries(table, (entry, index) => index >= count && entry !== BAT_UNUSED && lost++, options);
  if (lost > 0 && !options.shrink) {
    throw new ImageError('unsupported', 'Blocks beyond the new end of the disk contain data', {
      status: 'VERR_VD_SHRINK_NOT_SUPPORTED',
      path: storage.label,
      found: `${lost} blocks`,
      hint: 'To discard this data, shrink explicitly (on the command line: --shrink).',
    });
  }
  if (size < footers.footer.currentSize) await putSize(job, size);
  if (entries === count) return;
  await clearEntries(job, count, entries, {});
  await putEntries(storage, layout, count);
}
