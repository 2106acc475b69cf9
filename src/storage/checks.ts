/** Checks that every storage makes. */
import { ImageError } from '../errors.ts';
import type { ReadTarget, Storage, WriteSource } from './contract.ts';

/** The list form of a source or target. */
export function allOf(buffers: ReadTarget | WriteSource): readonly Uint8Array[] {
  return buffers instanceof Uint8Array ? [buffers] : buffers;
}

/** Refuses a range that does not lie inside the storage. */
export function checkRange(storage: Pick<Storage, 'label' | 'size'>, offset: number, length: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= storage.size) return;
  throw new ImageError('out-of-bounds', 'The range does not lie inside the file', {
    path: storage.label,
    offset,
    found: `${length} bytes`,
    expected: `up to ${storage.size}`,
  });
}

/** What an operation on a closed storage throws. */
export function closedStorage(label: string): ImageError {
  return new ImageError('io', 'The file is closed', { path: label });
}
