/** Targets smaller than their source: refused, unless requested and only zeroes are left out. */

import { type BlockDevice, requireRandom } from '../disk/device.ts';
import { ImageError } from '../errors.ts';
import { differenceFromZero } from './compare.ts';

/** The disk that is made smaller, and the permission for it. */
export interface CutRequest {
  /** Size of the target in bytes. */
  readonly size: number;
  /** Name for messages: the target, or the source when there is no target yet. */
  readonly path: string;
  /** Zeroes at the end of the source may be left out. */
  readonly shrink: boolean | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Throws `invalid-argument` when the source does not fit and `shrink` is not set, or when data would be lost. Without
 * `shrink` zeroes count as well: a file system or a partition table at the start of the disk relies on them.
 */
export async function refuseCut(source: BlockDevice, { size, path, shrink, signal }: CutRequest): Promise<void> {
  if (size >= source.size) return;
  const sizes = {
    status: 'VERR_VD_SHRINK_NOT_SUPPORTED',
    path,
    found: `${size} bytes`,
    expected: `at least ${source.size} bytes`,
  };
  if (shrink !== true) {
    throw new ImageError('invalid-argument', 'The target is smaller than the source', {
      ...sizes,
      hint: 'Choose a larger target. Option shrink (on the command line: --shrink) omits zeroes at the end.',
    });
  }
  requireRandom(source, 'Making a disk smaller');
  const data = await differenceFromZero(source, size, { signal });
  if (data === null) return;
  throw new ImageError('invalid-argument', 'The target is smaller than the data of the source', {
    ...sizes,
    guestOffset: data,
    hint: 'Choose a larger target, or discard the data in the source first (disk.resize; on the command line: resize --shrink).',
  });
}
