/** A range of a file in order. */
import { throwIfAborted } from '../errors.ts';
import type { InnerRange } from '../image/unwrap.ts';
import type { OperationOptions, Storage } from '../storage/contract.ts';

/** Bytes read at a time; the next are read while these are used. */
const PIECE = 512 * 1024;

/** The bytes of a range, each chunk in new memory: decoders keep them. */
export async function* rangeChunks(
  storage: Storage,
  { offset, length }: InnerRange,
  { signal }: OperationOptions,
): AsyncGenerator<Uint8Array> {
  const read = async (at: number): Promise<Uint8Array> => {
    throwIfAborted(signal, 'Unpacking');
    const bytes = new Uint8Array(Math.min(PIECE, length - at));
    await storage.read(offset + at, bytes, { signal });
    return bytes;
  };
  let next: Promise<Uint8Array> | null = length > 0 ? read(0) : null;
  for (let at = 0; next !== null; ) {
    const bytes: Uint8Array = await next;
    at += bytes.length;
    next = at < length ? read(at) : null;
    // It is waited for in the next turn, unless the reader ends.
    next?.catch(() => {});
    yield bytes;
  }
}
