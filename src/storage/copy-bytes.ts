/** Copies bytes from one place of a file to another. */
import type { Storage } from './contract.ts';
import { readPadded } from './read-padded.ts';

/** Bytes of one piece. */
export const COPY_BYTES = 1024 * 1024;

/** Copies bytes inside a file; bytes past its end are zero. The places must not overlap. */
export async function copyBytes(storage: Storage, from: number, to: number, length: number): Promise<void> {
  const buffer = new Uint8Array(Math.min(COPY_BYTES, length));
  for (let at = 0; at < length; at += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, length - at));
    await readPadded(storage, from + at, piece);
    await storage.write(to + at, piece);
  }
}
