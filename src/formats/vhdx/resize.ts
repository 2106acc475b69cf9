/**
 * Another size of the disk.
 *
 * Growing, each step durable before the next: the hidden end of the last block is cleared; entries of new blocks are written,
 * which nothing reaches yet, in a copy of the table where it has no room; then one entry of the log changes the size, and the
 * place of the table. Shrinking: the size, through the log; then the entries that are left over are cleared.
 */
import { divCeil } from '../../binary/numbers.ts';
import { writeEntries } from '../../blocks/table.ts';
import { ImageError } from '../../errors.ts';
import type { ResizeOptions } from '../../image/contract.ts';
import type { Storage } from '../../storage/contract.ts';
import { BAT_ENTRY, batEntries, chunkRatio, entryFor, offsetOf, payloadIndex, stateOf } from './bat.ts';
import type { VhdxBlocks } from './blocks.ts';
import { isStored } from './entries.ts';
import { putDiskSize } from './items.ts';
import { STATE } from './layout.ts';
import { VHDX_LIMITS } from './limits.ts';
import type { VhdxMetadata } from './metadata.ts';
import { PageEdits } from './pages.ts';
import type { VhdxSession } from './session.ts';
import type { VhdxState } from './state.ts';
import { growTable } from './table-room.ts';

/** An image whose structure changes. */
export interface Restructured {
  readonly storage: Storage;
  readonly state: VhdxState;
  readonly blocks: VhdxBlocks;
  readonly session: VhdxSession;
}

/** Throws for a size that the disk cannot have. */
export function checkNewSize(size: number, { logicalSector }: VhdxMetadata, path: string): void {
  if (size > VHDX_LIMITS.diskBytes) {
    throw new ImageError('limit', 'A VHDX image cannot be that large', {
      path,
      found: `${size} bytes`,
      expected: `at most ${VHDX_LIMITS.diskBytes}`,
    });
  }
  if (Number.isSafeInteger(size) && size >= logicalSector && size % logicalSector === 0) return;
  throw new ImageError('invalid-argument', 'The disk size is not valid', {
    status: 'VERR_VD_INVALID_SIZE',
    path,
    found: size,
    expected: `a multiple of ${logicalSector}, at least ${logicalSector}`,
  });
}

/** Throws `unsupported` where blocks behind the new end hold data, and may not be given up. */
export async function checkShrink({ storage, state }: Omit<Restructured, 'session'>, size: number): Promise<void> {
  const { blockSize, virtualSize } = state.metadata;
  for (let at = divCeil(size, blockSize) * blockSize; at < virtualSize; ) {
    const run = await state.blocks.map.map(at, virtualSize - at);
    if (run.kind === 'data') {
      throw new ImageError('unsupported', 'Blocks beyond the new end of the disk contain data', {
        status: 'VERR_VD_SHRINK_NOT_SUPPORTED',
        path: storage.label,
        guestOffset: at,
        hint: 'To discard this data, shrink explicitly (on the command line: --shrink).',
      });
    }
    at += run.length;
  }
}

/** Changes the size. Everything is flushed, and the session has begun. */
export async function resizeVhdx(image: Restructured, size: number, how: ResizeOptions): Promise<void> {
  const { storage, state, blocks, session } = image;
  const { metadata, regions } = state;
  const edits = new PageEdits(storage);
  const isGrowth = size > metadata.virtualSize;
  if (isGrowth) {
    await clearTail(image, edits, how.fill === 'zero');
    const fill = entryFor(0, how.fill === 'zero' ? STATE.zero : STATE.notPresent);
    const firstBlock = divCeil(metadata.virtualSize, metadata.blockSize);
    const shape = { ...metadata, virtualSize: size };
    await growTable({ storage, state, blocks, shape, firstBlock, fill }, edits, how);
    await storage.flush();
  }
  await putDiskSize(edits, { region: regions.metadata, metadata, path: storage.label }, size);
  await session.write(edits.list);
  if (!isGrowth) await clearEntries(image, size);
}

/** Zeroes the rest of the last block, which becomes visible behind the end of the disk. */
async function clearTail({ storage, state }: Restructured, edits: PageEdits, hides: boolean): Promise<void> {
  const { blockSize, virtualSize, logicalSector } = state.metadata;
  const inBlock = virtualSize % blockSize;
  if (inBlock === 0) return;
  const block = Math.floor(virtualSize / blockSize);
  while (state.bat.get(block) === undefined) await state.bat.load(block);
  const entry = state.bat.get(block) ?? 0;
  if (!isStored(stateOf(entry))) return;
  const end = offsetOf(entry) + blockSize;
  if (storage.size < end) await storage.resize(end);
  await storage.zero(offsetOf(entry) + inBlock, blockSize - inBlock, { punch: false });
  const bits = stateOf(entry) === STATE.partial && hides ? await state.blocks.bitsOf(block) : null;
  if (bits !== null) await setBits(storage, edits, bits.first + inBlock / logicalSector, bits.end);
}

/** Sets bits of a bitmap, the lowest of a byte first. */
async function setBits(storage: Storage, edits: PageEdits, first: number, end: number): Promise<void> {
  const start = Math.floor(first / 8);
  const bytes = new Uint8Array(Math.ceil(end / 8) - start).fill(0xff);
  await storage.read(start, bytes.subarray(0, 1));
  bytes[0] = (bytes[0] ?? 0) | ((0xff << (first % 8)) & 0xff);
  await edits.put(start, bytes);
}

/** Entries behind the disk, which nothing reaches any more. */
async function clearEntries({ storage, state }: Restructured, size: number): Promise<void> {
  const { metadata, regions } = state;
  const ratio = chunkRatio(metadata);
  const shape = { ...metadata, virtualSize: size };
  const blocks = divCeil(size, metadata.blockSize);
  const end = metadata.hasParent ? batEntries(shape) - 1 : 0;
  const start = payloadIndex(blocks, ratio);
  // In a full chunk of a differencing image they would still count as in use.
  if (start >= end) return;
  const { fileOffset } = regions.bat;
  await writeEntries({ storage, fileOffset, form: BAT_ENTRY }, { start, end }, () => STATE.notPresent);
  await storage.flush();
}
