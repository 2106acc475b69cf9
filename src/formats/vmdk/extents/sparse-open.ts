/** Opening of sparse extents without compression. Code for writing is loaded with the first that is opened for it. */
import type { Storage } from '../../../storage/contract.ts';
import type { SparseLayout } from './header.ts';
import { readSparse, SparseExtent, type SparseOpen } from './sparse.ts';

/** Opens a sparse extent. Where writing it is refused, it is opened for reading, with the reason. */
export async function openSparse(storage: Storage, layout: SparseLayout, how: SparseOpen): Promise<SparseExtent> {
  const parts = await readSparse(storage, layout, how);
  if (how.mode === 'read' || !how.permitted) return new SparseExtent(parts);
  const { openWritten } = await import('./sparse-written.ts');
  return openWritten(parts, how);
}
