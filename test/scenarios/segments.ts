/** The segments of the reference's write tests: random pieces of a disk that do not overlap, each of one byte value. */
import type { Random } from '../../src/testing/random.ts';

const SECTOR = 512;

/** Bytes and where they go. */
export interface Segment {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Options for segments. */
export interface SegmentOptions {
  /** Guest bytes of the disk. */
  readonly size: number;
  readonly count: number;
  /** Bytes of a segment at most, at least a sector. */
  readonly longest: number;
  /** First and last byte value. */
  readonly values: readonly [number, number];
}

/** One segment in each of `count` equal parts of the disk, in random order. */
export function randomSegments(random: Random, { size, count, longest, values }: SegmentOptions): Segment[] {
  const part = Math.floor(size / count / SECTOR);
  const most = Math.min(longest / SECTOR, part);
  const [first, last] = values;
  const segments = Array.from({ length: count }, (_, n) => {
    const sectors = 1 + random.below(most);
    const offset = SECTOR * (n * part + random.below(part - sectors + 1));
    return { offset, bytes: new Uint8Array(SECTOR * sectors).fill(first + random.below(last - first + 1)) };
  });
  return random.shuffle(segments);
}
