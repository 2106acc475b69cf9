/** Reads near the end of a storage. */
import { BYTES, checkArguments, WHOLE } from '../arguments.ts';
import { STORAGE } from './checks.ts';
import type { OperationOptions, Storage } from './contract.ts';

/** Fills the target; bytes past the end of the storage read as zero. */
export async function readPadded(
  storage: Storage,
  offset: number,
  target: Uint8Array,
  options?: OperationOptions,
): Promise<void> {
  checkArguments('readPadded', { storage: [storage, STORAGE], offset: [offset, WHOLE], target: [target, BYTES] });
  const inside = Math.min(Math.max(storage.size - offset, 0), target.length);
  target.fill(0, inside);
  if (inside > 0) await storage.read(offset, target.subarray(0, inside), options);
}
