/** Size of a new VMDK image: all of its files together. */
import { divCeil, SECTOR } from '../../binary/numbers.ts';
import type { FormatCreateOptions, Measure } from '../../image/contract.ts';
import { planSparse, planVmdk } from './plan.ts';

/** Most sectors that a grain of a stream takes beyond its bytes: its marker, and the growth of random data. */
const STREAM_GRAIN_SECTORS = 2;
/** Sectors of the descriptor of a split image, which is a separate file. */
const SEPARATE_DESCRIPTOR_SECTORS = 20;

/** Bytes of all files with these ranges written. A stream is measured as if nothing could be compressed. */
export async function measureVmdk(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const { extents, grainSectors, isFlat, subformat, virtualSize } = planVmdk(options, 'image.vmdk');
  if (isFlat) {
    const whole = virtualSize + SEPARATE_DESCRIPTOR_SECTORS * SECTOR;
    return { required: whole, fullyAllocated: whole };
  }
  const grainBytes = grainSectors * SECTOR;
  const isStream = subformat === 'streamOptimized';
  const stored = grainBytes + (isStream ? STREAM_GRAIN_SECTORS * SECTOR : 0);
  let [overhead, all] = [0, 0];
  for (const { sectors, file } of extents) {
    const alone = file === null ? 0 : SEPARATE_DESCRIPTOR_SECTORS / extents.length;
    overhead += (planSparse(sectors, grainSectors, file === null).overhead + alone) * SECTOR;
    all += divCeil(sectors, grainSectors);
  }
  const grains = await countUnits(data, grainBytes, divCeil(virtualSize, grainBytes));
  return { required: Math.ceil(overhead + grains * stored), fullyAllocated: Math.ceil(overhead + all * stored) };
}

/** Units that these ranges touch. Ranges are in order and disjoint. */
async function countUnits(
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
  unit: number,
  most: number,
): Promise<number> {
  let [count, counted] = [0, 0];
  for await (const { offset, length } of data) {
    const end = Math.min(divCeil(offset + length, unit), most);
    const first = Math.max(Math.floor(offset / unit), counted);
    if (end <= first) continue;
    count += end - first;
    counted = end;
  }
  return count;
}
