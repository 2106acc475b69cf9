/** Lists of buffers for one stretch of bytes, as used by readv and writev. */
import type { ReadTarget, WriteSource } from '../../storage/contract.ts';

/** The list form of a source or target. */
export function bufferList(buffers: ReadTarget | WriteSource): readonly Uint8Array[] {
  return buffers instanceof Uint8Array ? [buffers] : buffers;
}

export { lengthOf as totalLength } from '../../storage/checks.ts';

/**
 * Bytes `[start, end)` of the list, sharing memory. A single buffer is returned as itself, so that the common case
 * stays simple.
 */
export function sliceBuffers(list: readonly Uint8Array[], start: number, end: number): Uint8Array | Uint8Array[] {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const buffer of list) {
    const from = Math.max(start - at, 0);
    const to = Math.min(end - at, buffer.length);
    if (from < to) parts.push(from === 0 && to === buffer.length ? buffer : buffer.subarray(from, to));
    at += buffer.length;
    if (at >= end) break;
  }
  const [only] = parts;
  return parts.length === 1 && only !== undefined ? only : parts;
}

/** Fills every buffer with zeroes. */
export function fillZero(buffers: Uint8Array | readonly Uint8Array[]): void {
  for (const buffer of bufferList(buffers)) buffer.fill(0);
}

const ZERO_PAGE = new Uint8Array(64 * 1024);

/** A list of `length` zero bytes that takes no memory. Must not be written. */
export function zeroSource(length: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let left = length; left > 0; left -= ZERO_PAGE.length) {
    parts.push(left >= ZERO_PAGE.length ? ZERO_PAGE : ZERO_PAGE.subarray(0, left));
  }
  return parts;
}
