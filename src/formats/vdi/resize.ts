/**
 * Growing a disk.
 *
 * A map that still fits before the data is extended in place: new entries durable, then the header that counts them. A
 * map that does not fit cannot be renumbered in place, since header and map would have to change at once. So:
 *   1. the blocks in the first k slots are copied behind the others, durable, and the old map is pointed at the copies,
 *      durable;
 *   2. the complete new map, numbered for data that begins k slots later, is written into the room of those k slots,
 *      durable;
 *   3. the header switches map, data, count and size in its one sector; durable with the next flush.
 * Until step 3 the old map counts, after it the new one, so a cut at any step leaves the content unchanged, and the
 * resize can be repeated.
 */

import { randomGuid } from '../../binary/guid.ts';
import { alignUp, divCeil, SECTOR } from '../../binary/numbers.ts';
import { scanEntries, writeEntries } from '../../blocks/table.ts';
import { ImageError, isImageError, throwIfAborted } from '../../errors.ts';
import type { ResizeOptions } from '../../image/contract.ts';
import type { Storage } from '../../storage/contract.ts';
import { COPY_BYTES, copyBytes } from '../../storage/copy-bytes.ts';
import { readPadded } from '../../storage/read-padded.ts';
import type { VdiHeader } from './header.ts';
import { ENTRY_FREE, ENTRY_ZERO, HEADER, HEADER_SIZE_1_1_PLUS } from './layout.ts';
import { VDI_LIMITS } from './limits.ts';
import { mapPlace } from './map-entries.ts';
import { blocksOf, shrinkVdi } from './shrink.ts';

/** Limit of ATA. */
const MOST_PHYSICAL_CYLINDERS = 16_383;

/** Current state of the image. */
export interface VdiState {
  readonly storage: Storage;
  readonly header: VdiHeader;
}

/** Everything decided before the first byte is written. */
export interface ResizePlan {
  readonly header: VdiHeader;
  readonly options: ResizeOptions;
  readonly virtualSize: number;
  readonly blockCount: number;
  readonly mapOffset: number;
  readonly dataOffset: number;
  /** Number of slots displaced by the new map. */
  readonly displaced: number;
  /** Blocks in those slots: block and slot. */
  readonly movers: readonly { readonly index: number; readonly slot: number }[];
  /** One more than the highest slot in use. */
  readonly slotsEnd: number;
  /** The last block of the old disk, if partial and allocated: its hidden end must read as zero. */
  readonly hiddenTail: { readonly offset: number; readonly length: number } | null;
}

/** Checks the size and examines the map. Throws `invalid-argument`, `limit` or `unsupported`; touches nothing. */
export async function planResize(state: VdiState, size: number, options: ResizeOptions): Promise<ResizePlan> {
  const { header } = state;
  if (!Number.isSafeInteger(size) || size < SECTOR || size % SECTOR !== 0) {
    throw new ImageError('invalid-argument', 'The disk size is not valid', {
      status: 'VERR_VD_INVALID_SIZE',
      path: state.storage.label,
      found: size,
      expected: 'a multiple of 512, at least 512',
    });
  }
  const blockCount = blocksOf(size, header);
  const place = placeMap(state, blockCount);
  const seen = await lookAtMap(state, blockCount, place.displaced, options);
  return { header, options, virtualSize: size, blockCount, ...place, ...seen };
}

function placeMap(state: VdiState, blockCount: number): { mapOffset: number; dataOffset: number; displaced: number } {
  const { mapOffset, dataOffset, blockSize, blockExtra } = state.header;
  const slotBytes = blockSize + blockExtra;
  if (alignUp(mapOffset + 4 * blockCount, SECTOR) <= dataOffset) return { mapOffset, dataOffset, displaced: 0 };
  const newMap = alignUp(dataOffset, SECTOR);
  const displaced = divCeil(alignUp(newMap + 4 * blockCount, SECTOR) - dataOffset, slotBytes);
  const newData = dataOffset + displaced * slotBytes;
  if (blockCount > VDI_LIMITS.blocks || newData > 0xffff_ffff) {
    throw new ImageError('limit', 'The disk size exceeds the limit for this block size', {
      path: state.storage.label,
      found: `${blockCount} blocks of ${blockSize} bytes`,
      hint: 'Convert it to an image with larger blocks.',
    });
  }
  return { mapOffset: newMap, dataOffset: newData, displaced };
}

type Seen = Pick<ResizePlan, 'movers' | 'slotsEnd' | 'hiddenTail'>;

async function lookAtMap(
  state: VdiState,
  blockCount: number,
  displaced: number,
  options: ResizeOptions,
): Promise<Seen> {
  const { header, storage } = state;
  const movers: { index: number; slot: number }[] = [];
  let slotsEnd = 0;
  let lost = 0;
  let lastSlot: number | null = null;
  const lastIndex = divCeil(header.virtualSize, header.blockSize) - 1;
  await scanEntries(
    mapPlace(storage, header),
    (entry, index) => {
      if (entry >= ENTRY_ZERO) return;
      if (index === lastIndex) lastSlot = entry;
      slotsEnd = Math.max(slotsEnd, entry + 1);
      // The map may be longer than the disk: the rest is never read.
      if (index > lastIndex) return;
      if (index >= blockCount) lost++;
      else if (entry < displaced) movers.push({ index, slot: entry });
    },
    options,
  );
  if (lost > 0 && !options.shrink) {
    throw new ImageError('unsupported', 'Blocks beyond the new end of the disk contain data', {
      status: 'VERR_VD_SHRINK_NOT_SUPPORTED',
      path: storage.label,
      found: `${lost} blocks`,
      hint: 'To discard this data, shrink explicitly (on the command line: --shrink).',
    });
  }
  return { movers, slotsEnd, hiddenTail: hiddenTail(header, lastSlot) };
}

function hiddenTail(header: VdiHeader, slot: number | null): ResizePlan['hiddenTail'] {
  const inside = header.virtualSize % header.blockSize;
  if (slot === null || inside === 0) return null;
  const start = header.dataOffset + slot * (header.blockSize + header.blockExtra) + header.blockExtra;
  return { offset: start + inside, length: header.blockSize - inside };
}

/**
 * Executes the plan and leaves the new header in `sector`. Cut or cancelled at any point of growing, the old image is
 * intact.
 */
export async function runResize(storage: Storage, sector: Uint8Array, plan: ResizePlan): Promise<void> {
  const { header, virtualSize, options } = plan;
  if (virtualSize <= header.virtualSize) {
    const { signal } = options;
    return shrinkVdi(storage, sector, { header, size: virtualSize, signal, putSize: (to) => putSize(to, virtualSize) });
  }
  const room = { end: storage.size };
  try {
    // What becomes visible is durable before the header that shows it.
    await prepareGrowth(storage, sector, plan, room);
    throwIfAborted(options.signal, 'The resize');
  } catch (error) {
    await giveBack(storage, room.end, error);
    throw error;
  }
  const switched = sector.slice();
  putHeader(switched, plan);
  await storage.write(0, switched);
  sector.set(switched);
}

async function prepareGrowth(storage: Storage, sector: Uint8Array, plan: ResizePlan, room: Room): Promise<void> {
  if (plan.hiddenTail !== null) await clearTail(storage, plan.hiddenTail);
  if (plan.displaced > 0) await moveMap(storage, sector, plan, room);
  else await extendMap(storage, plan);
  await storage.flush();
}

/** Truncates a file that filled the medium. After any other failure the storage is left alone. */
async function giveBack(storage: Storage, end: number, error: unknown): Promise<void> {
  if (!isImageError(error) || (error.kind !== 'no-space' && error.kind !== 'aborted')) return;
  if (storage.size <= end) return;
  try {
    await storage.resize(end);
  } catch {
    // Then the file stays longer than it needs to be; why the resize ended matters more.
  }
}

async function clearTail(storage: Storage, tail: { offset: number; length: number }): Promise<void> {
  const length = Math.min(tail.length, Math.max(storage.size - tail.offset, 0));
  if (length > 0) await storage.zero(tail.offset, length, { punch: false });
  // A last block that the file held only as far as the disk went becomes whole.
  const end = tail.offset + tail.length;
  if (storage.size < end) await storage.resize(end);
}

/** Writes new entries after the old ones; not counted yet. */
async function extendMap(storage: Storage, plan: ResizePlan): Promise<void> {
  const { header, blockCount, mapOffset } = plan;
  const first = usedEntries(header);
  if (blockCount <= first) return;
  await writeEntries(
    mapPlace(storage, { mapOffset, blockCount }),
    { start: first, end: blockCount, signal: plan.options.signal },
    () => entryOf(plan),
  );
}

/** Entries in use by the disk. Later ones must not become visible. */
function usedEntries(header: VdiHeader): number {
  return blocksOf(header.virtualSize, header);
}

function entryOf(plan: ResizePlan): number {
  return plan.options.fill === 'zero' ? ENTRY_ZERO : ENTRY_FREE;
}

/** Length that the file may be truncated to after a failure: raised before the old map refers to anything past it. */
interface Room {
  end: number;
}

async function moveMap(storage: Storage, sector: Uint8Array, plan: ResizePlan, room: Room): Promise<void> {
  const moved = await moveBlocks(storage, sector, plan, room);
  const { header } = plan;
  const old = new OldEntries(storage, header);
  const all = { start: 0, end: plan.blockCount, signal: plan.options.signal };
  await writeEntries(mapPlace(storage, plan), all, async (index) => {
    if (index >= usedEntries(header)) return entryOf(plan);
    const entry = moved.get(index) ?? (await old.at(index));
    return entry >= ENTRY_ZERO ? entry : entry - plan.displaced;
  });
}

/** Copies the displaced blocks to the end and points the old map at the copies. */
async function moveBlocks(
  storage: Storage,
  sector: Uint8Array,
  plan: ResizePlan,
  room: Room,
): Promise<Map<number, number>> {
  const { header, movers } = plan;
  const slotBytes = header.blockSize + header.blockExtra;
  const moved = new Map<number, number>();
  let slot = Math.max(plan.slotsEnd, plan.displaced);
  for (const mover of movers) {
    throwIfAborted(plan.options.signal, 'The resize');
    const from = header.dataOffset + mover.slot * slotBytes;
    await copyBytes(storage, from, header.dataOffset + slot * slotBytes, slotBytes);
    moved.set(mover.index, slot++);
    plan.options.onProgress?.({ operation: 'resize', done: moved.size * slotBytes, total: movers.length * slotBytes });
  }
  if (moved.size === 0) return moved;
  HEADER.put(
    sector,
    'blocksAllocated',
    Math.min(Math.max(slot, HEADER.get(sector, 'blocksAllocated')), header.blockCount),
  );
  room.end = Math.max(room.end, storage.size);
  await storage.write(0, sector);
  await storage.flush();
  for (const [index, target] of moved) {
    await writeEntries(mapPlace(storage, header), { start: index, end: index + 1 }, () => target);
  }
  await storage.flush();
  return moved;
}

/** Reads entries of the old map in pieces. */
class OldEntries {
  readonly #storage: Storage;
  readonly #header: VdiHeader;
  readonly #bytes = new Uint8Array(COPY_BYTES);
  #first = -1;

  constructor(storage: Storage, header: VdiHeader) {
    this.#storage = storage;
    this.#header = header;
  }

  async at(index: number): Promise<number> {
    const perPiece = this.#bytes.length / 4;
    const first = index - (index % perPiece);
    if (first !== this.#first) {
      await readPadded(this.#storage, this.#header.mapOffset + first * 4, this.#bytes);
      this.#first = first;
    }
    return new DataView(this.#bytes.buffer).getUint32((index - first) * 4, true);
  }
}

function putHeader(sector: Uint8Array, plan: ResizePlan): void {
  const slots = Math.max(plan.slotsEnd, plan.displaced) + plan.movers.length - plan.displaced;
  HEADER.put(sector, 'blockCount', plan.blockCount);
  HEADER.put(sector, 'mapOffset', plan.mapOffset);
  HEADER.put(sector, 'dataOffset', plan.dataOffset);
  HEADER.put(sector, 'blocksAllocated', Math.min(slots, plan.blockCount));
  putSize(sector, plan.virtualSize);
}

/** Stores the size of the disk and the geometry derived from it, with a new modification UUID. */
function putSize(sector: Uint8Array, size: number): void {
  HEADER.put(sector, 'diskSize', size);
  HEADER.put(sector, 'modificationUuid', randomGuid());
  putCylinders(sector, 'physical', Math.min(size, MOST_PHYSICAL_CYLINDERS * cylinderBytes(sector, 'physical')));
  // Older headers have no place for it: data may stand there.
  if (HEADER.get(sector, 'headerSize') >= HEADER_SIZE_1_1_PLUS) putCylinders(sector, 'logical', size);
}

/** As vd.h's VDResize: heads and sectors stay, and an unset geometry stays unset. */
function putCylinders(sector: Uint8Array, kind: 'physical' | 'logical', size: number): void {
  const bytes = cylinderBytes(sector, kind);
  if (bytes === 0 || HEADER.get(sector, `${kind}Cylinders`) === 0) return;
  HEADER.put(sector, `${kind}Cylinders`, Math.min(Math.floor(size / bytes), 0xffff_ffff));
}

function cylinderBytes(sector: Uint8Array, kind: 'physical' | 'logical'): number {
  return HEADER.get(sector, `${kind}Heads`) * HEADER.get(sector, `${kind}Sectors`) * SECTOR;
}
