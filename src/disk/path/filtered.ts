/**
 * Requests of a disk with filters. Filters work on whole sectors, so requests are widened to them, and never in buffers
 * of the caller. Unallocated and explicitly zero ranges bypass the filters and read as zero.
 */
import { alignDown, alignUp, SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { OperationOptions } from '../../storage/contract.ts';
import type { Range, WriteOptions } from '../device.ts';
import type { ActiveImage } from './active-image.ts';
import { sliceBuffers } from './buffers.ts';
import type { Chain } from './chain.ts';

/** Bytes that a filter gets at a time: memory stays bounded, and most requests come whole. */
const PIECE = 4 * 1024 * 1024;

/** The range widened to whole sectors. */
export function widened(offset: number, length: number): { readonly start: number; readonly end: number } {
  return { start: alignDown(offset, SECTOR), end: alignUp(offset + length, SECTOR) };
}

/** Fills the buffers with the guest's data. True when no image had any byte of it. */
export async function readFiltered(
  chain: Chain,
  offset: number,
  buffers: readonly Uint8Array[],
  length: number,
  options?: OperationOptions,
): Promise<boolean> {
  const { start, end } = widened(offset, length);
  let unallocated = true;
  const scratch = new Uint8Array(Math.min(PIECE, end - start));
  for (let at = start; at < end; at += scratch.length) {
    const piece = scratch.subarray(0, Math.min(scratch.length, end - at));
    unallocated = (await readPlain(chain, at, piece, options)) && unallocated;
    const [from, to] = [Math.max(at, offset), Math.min(at + piece.length, offset + length)];
    copyInto(sliceBuffers(buffers, from - offset, to - offset), piece.subarray(from - at, to - at));
  }
  return unallocated;
}

/** Writes the bytes in stored form. The caller holds the widened range. */
export async function writeFiltered(
  head: ActiveImage,
  offset: number,
  buffers: readonly Uint8Array[],
  length: number,
  options?: WriteOptions,
): Promise<void> {
  const { chain, writes } = head;
  const { start, end } = widened(offset, length);
  checkWhole(chain, offset, length);
  for (let at = start; at < end; at += PIECE) {
    const plain = new Uint8Array(Math.min(PIECE, end - at));
    const [from, to] = [Math.max(at, offset), Math.min(at + plain.length, offset + length)];
    // The sectors at the ends are written whole, with what stands around the request.
    if (from > at) await readPlain(chain, at, plain.subarray(0, SECTOR), options);
    if (to < at + plain.length && (from === at || plain.length > SECTOR)) {
      await readPlain(chain, at + plain.length - SECTOR, plain.subarray(plain.length - SECTOR), options);
    }
    copyFrom(sliceBuffers(buffers, from - offset, to - offset), plain, from - at);
    const stored = await chain.filters.encode(at, plain.slice());
    await writes.write(at, plain.length, [stored], options, [plain]);
  }
}

/** Makes the range read as zero. The caller holds the widened range. */
export async function zeroFiltered(
  head: ActiveImage,
  offset: number,
  length: number,
  punch: boolean,
  options?: OperationOptions,
): Promise<void> {
  checkWhole(head.chain, offset, length);
  const end = offset + length;
  const [start, stop] = [Math.min(alignUp(offset, SECTOR), end), Math.max(alignDown(end, SECTOR), offset)];
  if (start > stop) return writeFiltered(head, offset, [new Uint8Array(length)], length, options);
  if (start > offset) await writeFiltered(head, offset, [new Uint8Array(start - offset)], start - offset, options);
  if (stop > start) await head.writes.zero(start, stop - start, punch, options);
  if (end > stop) await writeFiltered(head, stop, [new Uint8Array(end - stop)], end - stop, options);
}

/** Whole sectors as the guest reads them. True when no image had any byte of it. */
async function readPlain(
  chain: Chain,
  offset: number,
  target: Uint8Array,
  options?: OperationOptions,
): Promise<boolean> {
  const gaps: Range[] = [];
  const unallocated = await chain.read(chain.top, offset, [target], target.length, { gaps, cached: true }, options);
  let at = offset;
  for (const gap of [...gaps, { offset: offset + target.length, length: 0 }]) {
    if (gap.offset > at) {
      const part = target.subarray(at - offset, gap.offset - offset);
      const plain = await chain.filters.decode(at, part);
      if (plain !== part) part.set(plain);
    }
    at = gap.offset + gap.length;
  }
  return unallocated;
}

/** Throws for parts of sectors when no filter can read the rest of the sector. */
function checkWhole(chain: Chain, offset: number, length: number): void {
  if (offset % SECTOR === 0 && length % SECTOR === 0) return;
  if (chain.filters.symmetric) return;
  throw new ImageError('unsupported', 'With a filter for one direction only, writes must be whole sectors', {
    path: chain.last.name,
    found: `${length} bytes at ${offset}`,
    expected: 'multiples of 512',
  });
}

function copyInto(target: Uint8Array | readonly Uint8Array[], bytes: Uint8Array): void {
  let at = 0;
  for (const buffer of target instanceof Uint8Array ? [target] : target) {
    buffer.set(bytes.subarray(at, at + buffer.length));
    at += buffer.length;
  }
}

function copyFrom(source: Uint8Array | readonly Uint8Array[], target: Uint8Array, start: number): void {
  let at = start;
  for (const buffer of source instanceof Uint8Array ? [source] : source) {
    target.set(buffer, at);
    at += buffer.length;
  }
}
