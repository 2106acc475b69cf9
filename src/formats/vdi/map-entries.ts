/** The block map on the medium, past all caches: reading and writing entries in pieces, and copying blocks. */
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import { throwIfAborted } from '../../errors.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';

/** Bytes of one piece. */
export const COPY_BYTES = 1024 * 1024;

/** Writes entries `[start, end)` of the map at `mapOffset`, in whole sectors that keep what stands beside them. */
export async function writeEntries(
  storage: Storage,
  mapOffset: number,
  { start, end, signal }: OperationOptions & { readonly start: number; readonly end: number },
  value: (index: number) => number | Promise<number>,
): Promise<void> {
  const perPiece = COPY_BYTES / 4;
  for (let index = start; index < end; ) {
    throwIfAborted(signal, 'The resize');
    const stop = Math.min(end, index - (index % perPiece) + perPiece);
    const from = mapOffset + index * 4;
    const first = from - (from % SECTOR);
    const bytes = new Uint8Array(alignUp(mapOffset + stop * 4, SECTOR) - first);
    await readPadded(storage, first, bytes);
    const view = new DataView(bytes.buffer);
    for (let n = index; n < stop; n++) {
      const entry = value(n);
      view.setUint32(mapOffset + n * 4 - first, typeof entry === 'number' ? entry : await entry, true);
    }
    await storage.write(first, bytes);
    index = stop;
  }
}

/** Copies bytes inside a file, zeroes for what lies behind its end. */
export async function copyBytes(storage: Storage, from: number, to: number, length: number): Promise<void> {
  const buffer = new Uint8Array(Math.min(COPY_BYTES, length));
  for (let at = 0; at < length; at += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, length - at));
    await readPadded(storage, from + at, piece);
    await storage.write(to + at, piece);
  }
}
