/** Reading near the end of a storage. */
import type { Storage } from './contract.ts';

/** Fills the target; what lies beyond the end of the storage reads zero. */
export async function readPadded(storage: Storage, offset: number, target: Uint8Array): Promise<void> {
  const inside = Math.min(Math.max(storage.size - offset, 0), target.length);
  target.fill(0, inside);
  if (inside > 0) await storage.read(offset, target.subarray(0, inside));
}
