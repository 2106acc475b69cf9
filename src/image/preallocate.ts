/** Allocation of all space of a fixed image, at creation and when it grows. */
import { throwIfAborted } from '../errors.ts';
import type { Storage } from '../storage/contract.ts';
import type { FormatCreateOptions } from './contract.ts';

const WRITE_BYTES = 1024 * 1024;
/** Bytes allocated at once: between two pieces progress is reported and the operation can be cancelled. */
const ALLOCATE_BYTES = 256 * 1024 * 1024;

/** True when no part of a file is known to be a hole: a fixed image that has all its space keeps that when it grows. */
export async function hasAllSpace(storage: Storage): Promise<boolean> {
  const { allocatedSize } = await storage.identity();
  return allocatedSize !== null && storage.size > 0 && allocatedSize >= storage.size;
}

/** Allocates `[start, end)`, up to the end of the file: reserved where the platform can, otherwise written. */
export async function preallocate(
  storage: Storage,
  start: number,
  end: number,
  options: Pick<FormatCreateOptions, 'signal' | 'onProgress'> & { readonly operation?: 'create' | 'resize' },
): Promise<void> {
  const { operation = 'create' } = options;
  const what = operation === 'create' ? 'Creating the image' : 'The resize';
  const reserves = storage.allocate !== undefined;
  const zeroes = new Uint8Array(reserves ? 0 : WRITE_BYTES);
  const step = reserves ? ALLOCATE_BYTES : WRITE_BYTES;
  for (let at = start; at < end; at += step) {
    throwIfAborted(options.signal, what);
    const length = Math.min(step, end - at);
    if (storage.allocate === undefined) await storage.write(at, zeroes.subarray(0, length));
    else await storage.allocate(at, length);
    options.onProgress?.({ operation, done: at + length - start, total: end - start });
  }
  if (storage.size < end) await storage.resize(end);
}
