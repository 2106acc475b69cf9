/** Creation of an empty raw image. */
import { SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { FormatCreateOptions, Image, Measure } from '../../image/contract.ts';
import { preallocate } from '../../image/preallocate.ts';
import { wantsVariant } from '../../image/variants.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { RawImage } from './image.ts';
import { FLOPPY_MAX, OPTICAL_MIN, OPTICAL_SECTOR } from './layout.ts';

/** Checks the options without touching anything. Throws `invalid-argument`, `unsupported`. */
export function planRaw(options: FormatCreateOptions): { virtualSize: number; preallocates: number } {
  checkSize(options);
  checkWishes(options);
  return { virtualSize: options.size, preallocates: wantsVariant(options, 'fixed') ? options.size : 0 };
}

function checkSize({ size, type, sizeOfSource }: FormatCreateOptions): void {
  // Sectors of a compact disc take 2352 bytes.
  const unit = sizeOfSource === true ? 1 : type === 'optical' ? OPTICAL_SECTOR : SECTOR;
  const least = type === 'optical' ? OPTICAL_MIN + OPTICAL_SECTOR : 0;
  if (!Number.isSafeInteger(size) || size < least || size % unit !== 0) {
    throw new ImageError('invalid-argument', 'The disk size is not valid', {
      status: 'VERR_VD_INVALID_SIZE',
      found: size,
      expected: least === 0 ? `a multiple of ${unit}` : `a multiple of ${unit}, at least ${least}`,
    });
  }
  if (type === 'floppy' && size > FLOPPY_MAX) {
    throw new ImageError('invalid-argument', 'The size exceeds that of a floppy', {
      status: 'VERR_VD_RAW_SIZE_FLOPPY_TOO_BIG',
      found: size,
      expected: `at most ${FLOPPY_MAX}`,
    });
  }
}

function checkWishes(options: FormatCreateOptions): void {
  for (const [given, name] of [
    [options.comment, 'comment'],
    [options.uuid, 'UUID'],
  ] as const) {
    if (given === undefined) continue;
    throw new ImageError('unsupported', `A raw image cannot store a ${name}`, { hint: 'Choose another format.' });
  }
  if (options.parent !== undefined) {
    throw new ImageError('unsupported', 'A raw image cannot store the difference to a parent', {
      hint: 'Choose another format.',
    });
  }
  if (wantsVariant(options, 'fixed') && wantsVariant(options, 'sparse')) {
    throw new ImageError('invalid-argument', 'Variants fixed and sparse exclude each other');
  }
}

/**
 * Size of a new image: the data, unless all space is allocated at creation. Holes count for the length, not for the
 * space.
 */
export async function measureRaw(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const { virtualSize, preallocates } = planRaw(options);
  if (preallocates > 0) return { required: preallocates, fullyAllocated: virtualSize };
  let required = 0;
  for await (const { offset, length } of data) required += Math.max(Math.min(offset + length, virtualSize) - offset, 0);
  return { required, fullyAllocated: virtualSize };
}

/** Writes a raw image, sparse unless `fixed`. */
export async function writeNewRaw(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  const { main } = files;
  const { virtualSize, preallocates } = planRaw(options);
  if (preallocates > 0) await checkSpace(files, preallocates);
  if (preallocates > 0) await preallocate(main, 0, preallocates, options);
  else await main.resize(virtualSize);
  await main.flush();
  return new RawImage(main, options.type ?? 'hdd', 'write', virtualSize);
}

/** Throws before the first byte is written if the image cannot fit. */
async function checkSpace(files: NewFiles, wanted: number): Promise<void> {
  const free = await files.freeSpace();
  if (free === null || free >= wanted) return;
  throw new ImageError('no-space', 'There is not enough free space for a fixed image', {
    path: files.name,
    found: `${free} bytes free`,
    expected: `${wanted} bytes`,
    hint: 'Free some space, or create a sparse image.',
  });
}
