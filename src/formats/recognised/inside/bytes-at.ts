import type { Storage } from '../../../storage/contract.ts';

/** Bytes of a file in new memory. They lie inside of it. */
export async function bytesAt(storage: Storage, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await storage.read(offset, bytes);
  return bytes;
}
