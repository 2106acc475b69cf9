/** Memory locked with `mlock`, where the system permits it. */
import { alignUp } from '../../binary/numbers.ts';
import type { LockedMemory } from '../contract.ts';
import { nativeCalls } from './native.ts';

/** Allocates `length` zero bytes on separate pages, since unlocking a page affects everything on it. */
export function lockedMemory(length: number): LockedMemory {
  const native = nativeCalls();
  const pageSize = native?.pageOf(new Uint8Array(1024))?.pageSize;
  if (native === null || pageSize === undefined) return plain(length);
  const room = new Uint8Array(alignUp(length, pageSize) + pageSize);
  const offset = native.pageOf(room)?.offset ?? 0;
  const start = offset === 0 ? 0 : pageSize - offset;
  const pages = room.subarray(start, start + alignUp(length, pageSize));
  try {
    native.lockMemory(pages);
  } catch {
    // More than this user may lock (`ulimit -l`): the caller sees it in `locked`.
    return plain(length);
  }
  return { bytes: pages.subarray(0, length), locked: true, unlock: () => native.unlockMemory(pages) };
}

function plain(length: number): LockedMemory {
  return { bytes: new Uint8Array(length), locked: false, unlock() {} };
}
