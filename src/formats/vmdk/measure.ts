/** Size of a new VMDK image: all of its files together. */
import { divCeil, SECTOR } from '../../binary/numbers.ts';
import type { FormatCreateOptions, Measure } from '../../image/contract.ts';
import { planCowd } from './extents/cowd.ts';
import { COWD_GT_ENTRIES } from './layout.ts';
import { planSparse, planVmdk } from './plan.ts';

/** Most sectors that a grain of a stream takes beyond its bytes: its marker, and the growth of random data. */
const STREAM_GRAIN_SECTORS = 2;
/** Sectors of the descriptor of a split image, which is a separate file. */
const SEPARATE_DESCRIPTOR_SECTORS = 20;

/** Bytes of all files with these ranges written. A stream is measured as if nothing could be compressed. */
export async function measureVmdk(options: FormatCreateOptions, data: Ranges): Promise<Measure> {
  const { extents, grainSectors, isFlat, isCowd, subformat, virtualSize } = planVmdk(options, 'image.vmdk');
  if (isFlat) {
    const whole = virtualSize + SEPARATE_DESCRIPTOR_SECTORS * SECTOR;
    return { required: whole, fullyAllocated: whole };
  }
  const grainBytes = grainSectors * SECTOR;
  if (isCowd) return measureCowd(virtualSize / SECTOR, grainSectors, data);
  const isStream = subformat === 'streamOptimized';
  const stored = grainBytes + (isStream ? STREAM_GRAIN_SECTORS * SECTOR : 0);
  let [overhead, all] = [0, 0];
  for (const { sectors, file } of extents) {
    const alone = file === null ? 0 : SEPARATE_DESCRIPTOR_SECTORS / extents.length;
    overhead += (planSparse(sectors, grainSectors, file === null).overhead + alone) * SECTOR;
    all += divCeil(sectors, grainSectors);
  }
  const [grains = 0] = await countUnits(data, [grainBytes], virtualSize);
  return { required: Math.ceil(overhead + grains * stored), fullyAllocated: Math.ceil(overhead + all * stored) };
}

/** Grain tables of a delta file get room with the first grain that they name. */
async function measureCowd(sectors: number, grainSectors: number, data: Ranges): Promise<Measure> {
  const { overhead, tableSectors } = planCowd(sectors, grainSectors);
  const fixed = overhead + SEPARATE_DESCRIPTOR_SECTORS;
  const cover = COWD_GT_ENTRIES * grainSectors;
  const units = [grainSectors * SECTOR, cover * SECTOR];
  const [grains = 0, tables = 0] = await countUnits(data, units, sectors * SECTOR);
  const all = divCeil(sectors, grainSectors) * grainSectors + divCeil(sectors, cover) * tableSectors;
  return {
    required: (fixed + grains * grainSectors + tables * tableSectors) * SECTOR,
    fullyAllocated: (fixed + all) * SECTOR,
  };
}

type Ranges = AsyncIterable<{ readonly offset: number; readonly length: number }>;

/** Numbers of units, of each of these sizes, that ranges touch, which are in order and disjoint. */
async function countUnits(data: Ranges, units: readonly number[], virtualSize: number): Promise<number[]> {
  const counts = units.map((unit) => ({ unit, count: 0, counted: 0 }));
  for await (const { offset, length } of data) {
    for (const one of counts) {
      const end = divCeil(Math.min(offset + length, virtualSize), one.unit);
      const first = Math.max(Math.floor(offset / one.unit), one.counted);
      if (end <= first) continue;
      one.count += end - first;
      one.counted = end;
    }
  }
  return counts.map(({ count }) => count);
}
