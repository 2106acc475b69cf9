/** Checks shared by all storages. */
import { BUFFERS, withMethods, wrongArgument } from '../arguments.ts';
import { ImageError } from '../errors.ts';
import type { ReadTarget, Storage, WriteSource } from './contract.ts';

/** A storage. */
export const STORAGE = withMethods('a storage', 'read', 'write', 'identity', 'close');
/** A provider of storages. */
export const PROVIDER = withMethods('a provider of storages', 'open', 'resolve', 'lookUp');

/** The list form of a source or target. */
export function allOf(buffers: ReadTarget | WriteSource): readonly Uint8Array[] {
  return buffers instanceof Uint8Array ? [buffers] : buffers;
}

/** Bytes in a source or target. Throws `invalid-argument` for other values; free of cost for a single buffer. */
export function lengthOf(buffers: ReadTarget | WriteSource): number {
  if (buffers instanceof Uint8Array) return buffers.length;
  const misfit = BUFFERS.misfit(buffers);
  if (misfit !== null) throw wrongArgument('a request', { ...misfit, path: `buffers${misfit.path}` });
  let length = 0;
  for (const buffer of buffers) length += buffer.length;
  return length;
}

/** Throws for a range outside the storage. */
export function checkRange(storage: Pick<Storage, 'label' | 'size'>, offset: number, length: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= storage.size) return;
  throw new ImageError('out-of-bounds', 'The range does not lie inside the file', {
    path: storage.label,
    offset,
    found: `${length} bytes`,
    expected: `up to ${storage.size}`,
  });
}

/** Throws for an end of a write, or a new size, that is not an exact byte count. */
export function checkSize(label: string, size: number): void {
  if (Number.isSafeInteger(size) && size >= 0) return;
  throw new ImageError('out-of-bounds', 'The file size is not valid', {
    path: label,
    found: size,
    expected: `0 to ${Number.MAX_SAFE_INTEGER}`,
  });
}

/** Throws for a write with an impossible offset or an end beyond 2^53 - 1. */
export function checkWriteRange(label: string, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0) checkSize(label, offset);
  checkSize(label, offset + length);
}

/** Error for an operation on a closed storage. */
export function closedStorage(label: string): ImageError {
  return new ImageError('io', 'The file is closed', { path: label });
}

/** Error for a change to a storage opened for reading. */
export function readOnlyStorage(label: string): ImageError {
  return new ImageError('read-only', 'The file is open for reading only', { path: label });
}
