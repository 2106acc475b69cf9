/** Bitmaps of changes: bits that must be set where bytes changed, and bits that may be where something was asked for. */
import type { Content } from './content.ts';
import type { Range } from './world.ts';

/** A bitmap. Its values are never changed. */
export interface Bitmap {
  readonly name: string;
  readonly granularity: number;
  readonly enabled: boolean;
  readonly must: ReadonlySet<number>;
  readonly may: ReadonlySet<number>;
  /** A program was killed while it recorded: it can only be removed. */
  readonly inconsistent?: boolean;
}

/** Content became another one where `ranges` were written. Whole units may be given up with what was. */
export function noteChange(
  bitmap: Bitmap,
  before: Content,
  after: Content,
  ranges: readonly Range[],
  unit: number,
): Bitmap {
  if (!bitmap.enabled) return bitmap;
  const { granularity } = bitmap;
  const [must, may] = [new Set(bitmap.must), new Set(bitmap.may)];
  for (const { offset, length } of ranges) {
    const [start, end] = [offset - (offset % unit), Math.ceil((offset + length) / unit) * unit];
    for (let bit = Math.floor(start / granularity); bit * granularity < end; bit++) may.add(bit);
    const common = Math.min(offset + length, before.size, after.size) - offset;
    if (common <= 0) continue;
    for (const at of before.differences(after, offset, common)) must.add(Math.floor(at / granularity));
  }
  return { ...bitmap, must, may };
}

/** A bitmap is as long as its disk. Bits at the edge are unspecified. */
export function resizeBits(bitmap: Bitmap, before: number, after: number): Bitmap {
  const { granularity } = bitmap;
  const count = Math.ceil(after / granularity);
  const must = new Set([...bitmap.must].filter((bit) => bit < count));
  const may = new Set([...bitmap.may].filter((bit) => bit < count));
  const edge = Math.floor(Math.min(before, after) / granularity);
  if (bitmap.enabled) for (let bit = Math.max(edge - 1, 0); bit < count; bit++) may.add(bit);
  return { ...bitmap, must, may };
}

/** The bits of both. */
export function mergeBits(target: Bitmap, source: Bitmap): Bitmap {
  const spread = (bits: ReadonlySet<number>, into: Set<number>): ReadonlySet<number> => {
    for (const bit of bits) {
      const first = Math.floor((bit * source.granularity) / target.granularity);
      const end = Math.max(Math.ceil(((bit + 1) * source.granularity) / target.granularity), first + 1);
      for (let one = first; one < end; one++) into.add(one);
    }
    return into;
  };
  // A coarse bit stands for a part of itself only, so none of the finer ones is certain to be needed but all are set.
  return { ...target, must: spread(source.must, new Set(target.must)), may: spread(source.may, new Set(target.may)) };
}
