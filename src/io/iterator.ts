/**
 * I/O iterators: the stretches of a medium that a request covers, their order, and the parts of their sectors.
 *
 * An iterator is an immutable value without a position, and may serve any number of requests at a time. If the sectors
 * of a region have metadata, it follows the data of each sector, as subchannels do in disc images.
 */
import { checkArguments, listOf, OBJECT } from '../arguments.ts';
import { isAligned, SECTOR } from '../binary/numbers.ts';
import type { BlockDevice, Range } from '../disk/device.ts';
import { DEVICE } from '../disk/kinds.ts';
import { ImageError } from '../errors.ts';
import { convertRegions, type Region, singleRegion } from '../image/regions.ts';

/** A part of each sector; `available` selects all parts. */
export type IoSelection = 'pre-metadata' | 'main-data' | 'post-metadata' | 'checksum' | 'available';

/** One stretch of the medium, in the unit of its iterator. */
export interface IoSegment {
  /** Offset in bytes, or the number of a sector, counted from the start of the medium over all regions. */
  readonly start: number;
  /** Bytes or sectors, at least 1. */
  readonly size: number;
  /** Default: only the main data, which is all that a hard disk has. */
  readonly select?: readonly IoSelection[];
}

/** Options for an iterator. */
export interface IoIteratorOptions {
  /** Unit of `start` and `size`. Default `bytes`. */
  readonly unit?: 'bytes' | 'blocks' | undefined;
}

/** `count` pieces of `length` bytes, each `step` behind the last. */
interface Stretch {
  readonly offset: number;
  readonly length: number;
  readonly step: number;
  readonly count: number;
}

const SELECTIONS: readonly string[] = ['pre-metadata', 'main-data', 'post-metadata', 'checksum', 'available'];

/**
 * A list of segments of one device, checked and ready for requests. Iterating over it gives the ranges of the device in
 * bytes, in the order in which their bytes follow each other in the buffer.
 */
export class IoIterator implements Iterable<Range> {
  readonly device: BlockDevice;
  readonly unit: 'bytes' | 'blocks';
  /** Bytes that a buffer for it must hold: the selected parts of all segments. */
  readonly totalBytes: number;
  /** The single range of the device that it covers; null if there are several. */
  readonly contiguous: Range | null;
  readonly #segments: readonly Required<IoSegment>[];
  readonly #stretches: readonly Stretch[];

  /**
   * Copies the segments. Throws `invalid-argument` for no segments, a size of 0 and unknown words, `out-of-bounds` behind
   * the end of the medium, `unsupported` for parts that its sectors do not have.
   */
  constructor(device: BlockDevice, segments: readonly IoSegment[], options: IoIteratorOptions = {}) {
    checkArguments('IoIterator', {
      device: [device, DEVICE],
      segments: [segments, listOf(OBJECT)],
      options: [options, OBJECT],
    });
    const { unit = 'bytes' } = options;
    if (unit !== 'bytes' && unit !== 'blocks')
      refuse('The unit is not valid', unit, 'bytes or blocks', 'VERR_INVALID_FLAGS');
    if (segments.length === 0) refuse('An iterator has at least one segment', 0, 'at least 1');
    this.device = device;
    this.unit = unit;
    this.#segments = segments.map(({ start, size, select = [] }) =>
      Object.freeze({ start, size, select: Object.freeze(select.length === 0 ? ['main-data' as const] : [...select]) }),
    );
    this.#stretches = joined(this.#segments.flatMap((segment) => stretchesOf(device, segment, unit)));
    this.totalBytes = this.#stretches.reduce((sum, { length, count }) => sum + length * count, 0);
    const [first] = this.#stretches;
    const alone = this.#stretches.length === 1 && first?.count === 1;
    this.contiguous = alone ? Object.freeze({ offset: first.offset, length: first.length }) : null;
  }

  get segmentCount(): number {
    return this.#segments.length;
  }

  /** The segment of a number, 0 = first. Throws `out-of-bounds` with the status VERR_OUT_OF_RANGE. */
  segment(index: number): Required<IoSegment> {
    const segment = this.#segments[index];
    if (segment !== undefined) return segment;
    throw new ImageError('out-of-bounds', 'The iterator has no segment with this number', {
      status: 'VERR_OUT_OF_RANGE',
      found: index,
      expected: `below ${this.#segments.length}`,
    });
  }

  *[Symbol.iterator](): Generator<Range, void, void> {
    for (const { offset, length, step, count } of this.#stretches) {
      for (let number = 0; number < count; number++) yield { offset: offset + number * step, length };
    }
  }
}

/** Ranges covered by a segment, region by region. */
function stretchesOf(device: BlockDevice, segment: Required<IoSegment>, unit: 'bytes' | 'blocks'): Stretch[] {
  const { start, size, select } = segment;
  if (!Number.isSafeInteger(start) || start < 0) refuse('A segment begins inside the medium', start, 'at least 0');
  if (!Number.isSafeInteger(size) || size <= 0) refuse('A segment has a size', size, 'at least 1');
  for (const word of select) {
    if (!SELECTIONS.includes(word))
      refuse('The part of the sector is not valid', word, SELECTIONS.join(', '), 'VERR_INVALID_FLAGS');
  }
  const stretches: Stretch[] = [];
  let left = size;
  /** Start of the region, in the unit of the iterator. */
  let first = 0;
  for (const region of regionsOf(device)) {
    const inside = Math.max(start - first, 0);
    const length = unit === 'bytes' ? region.length : Math.floor(region.length / region.blockSize);
    const taken = Math.min(length - inside, left);
    first += length;
    if (taken <= 0) continue;
    const scale = unit === 'bytes' ? 1 : region.blockSize;
    stretches.push(stretchIn(region, inside * scale, taken * scale, select));
    left -= taken;
    if (left === 0) return stretches;
  }
  throw new ImageError('out-of-bounds', 'The segment reaches beyond the end of the medium', {
    path: device.label,
    found: `${size} ${unit} at ${start}`,
    expected: `up to ${first}`,
  });
}

function regionsOf(device: BlockDevice): readonly Region[] {
  const list = device.regions ?? singleRegion(device.size, SECTOR);
  return convertRegions(list, 'bytes').regions;
}

/** The selected parts of a range of a region; the range is in bytes from the start of the region. */
function stretchIn(region: Region, inside: number, length: number, select: readonly IoSelection[]): Stretch {
  const [from, to] = partOf(region, select);
  const { blockSize } = region;
  if (to - from === blockSize) return { offset: region.offset + inside, length, step: 0, count: 1 };
  if (!isAligned(inside, blockSize) || !isAligned(length, blockSize)) {
    refuse('A segment that takes parts of sectors covers whole ones', length, `a multiple of ${blockSize}`);
  }
  return { offset: region.offset + inside + from, length: to - from, step: blockSize, count: length / blockSize };
}

/** The selected bytes of a sector, which are always contiguous. */
function partOf(region: Region, select: readonly IoSelection[]): readonly [from: number, to: number] {
  const { blockSize, dataBytes, metadataBytes } = region;
  if (select.includes('available')) return [0, blockSize];
  const missing = select.find((word) => word !== 'main-data' && (word !== 'post-metadata' || metadataBytes === 0));
  if (missing !== undefined) {
    throw new ImageError('unsupported', 'The sectors of the medium have no such part', {
      found: missing,
      hint: 'Omit the selection for the main data, or use "available" for all parts.',
    });
  }
  return [select.includes('main-data') ? 0 : dataBytes, select.includes('post-metadata') ? blockSize : dataBytes];
}

/** The same list with adjacent stretches joined. */
function joined(stretches: readonly Stretch[]): readonly Stretch[] {
  const list: Stretch[] = [];
  for (const stretch of stretches) {
    const last = list.at(-1);
    const continues = last?.count === 1 && stretch.count === 1 && last.offset + last.length === stretch.offset;
    if (continues) list[list.length - 1] = { ...last, length: last.length + stretch.length };
    else list.push(stretch);
  }
  return list;
}

function refuse(message: string, found: string | number, expected: string, status?: string): never {
  throw new ImageError('invalid-argument', message, { found, expected, status });
}
