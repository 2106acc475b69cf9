/** New DMG images: the methods of the format, loaded when they are first used. */
import { SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { FormatCreateOptions, Image, Measure } from '../../image/contract.ts';
import { refuseNewFacts } from '../../image/refuse-changes.ts';
import { wantsVariant } from '../../image/variants.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { type Compression, NewDmg } from './new-image.ts';

/** Guest bytes of a chunk: those of Apple have 256 KiB to 1 MiB. */
const UNIT = { least: 256 * 1024, most: 16 * 1024 * 1024 } as const;
/** Chunks whose table fits into the 16 MiB that QEMU reads of a property list. */
const CHUNKS_MAX = 2 ** 18;

/** Growth of what cannot be compressed. */
const GROWTH = { zlib: 0.0001, bzip2: 0.0045 } as const;
/** Property list with an empty table, and the trailer. */
const END_BYTES = 1600;
/** Letters of the property list for a chunk: 40 bytes in base64. */
const ROW_BYTES = 54;

/** Makes an image that is written once, from front to back. Throws `invalid-argument`, `unsupported`, `limit`. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  const { virtualSize: size } = await plan(options);
  return new NewDmg({ storage: files.main, size, unit: unitFor(size), compression: compressionOf(options) });
}

/** Makes the checks of `create`. */
export async function plan(
  options: FormatCreateOptions,
): Promise<{ readonly virtualSize: number; readonly preallocates: number }> {
  const { size } = options;
  refuseNewFacts(options, 'DMG');
  const most = UNIT.most * CHUNKS_MAX;
  if (!Number.isSafeInteger(size) || size <= 0 || size % SECTOR !== 0 || size > most) {
    throw new ImageError(size > most ? 'limit' : 'invalid-argument', 'The disk size is not valid for a DMG image', {
      status: 'VERR_VD_INVALID_SIZE',
      found: size,
      expected: `a multiple of ${SECTOR}, at least ${SECTOR}, at most ${most}`,
    });
  }
  // Refused at once where its library is missing.
  if (compressionOf(options) === 'bzip2') await (await import('../../codec/bzip2.ts')).encodeBzip2(new Uint8Array(0));
  return { virtualSize: size, preallocates: 0 };
}

/** Size of a new image as if no data could be compressed; zeroes take nothing. */
export async function measure(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const { virtualSize } = await plan(options);
  const unit = unitFor(virtualSize);
  const growth = 1 + (compressionOf(options) === 'bzip2' ? GROWTH.bzip2 : GROWTH.zlib);
  let [bytes, rows, counted] = [0, 0, 0];
  for await (const { offset, length } of data) {
    const first = Math.max(Math.floor(offset / unit), counted);
    const end = Math.ceil((offset + length) / unit);
    // A chunk, and what is ignored before it.
    if (first > counted) rows++;
    if (end > first) rows += end - first;
    counted = Math.max(end, counted);
    bytes += length;
  }
  const sizeWith = (stored: number, count: number): number =>
    Math.ceil(stored * growth) + END_BYTES + count * ROW_BYTES;
  return {
    required: sizeWith(bytes, rows + 1),
    fullyAllocated: sizeWith(virtualSize, Math.ceil(virtualSize / unit)),
  };
}

function unitFor(size: number): number {
  let unit: number = UNIT.least;
  while (size / unit > CHUNKS_MAX) unit *= 4;
  return unit;
}

function compressionOf(options: FormatCreateOptions): Compression {
  return wantsVariant(options, 'udbz') ? 'bzip2' : 'zlib';
}
