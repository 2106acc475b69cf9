/**
 * Reads of cached data without a thread. Passing a read to a thread and back wakes two threads, which compete where
 * cores are few. `preadv2(RWF_NOWAIT)` never waits for the medium. File systems in memory do not support that flag and
 * do not need it.
 */
import * as fs from 'node:fs';
import { isMissingCall, type NativeCalls } from './native.ts';
import { takeFromTurn } from './turn-budget.ts';

/** tmpfs, ramfs (`linux/magic.h`). */
const IN_MEMORY: ReadonlySet<number> = new Set([0x0102_1994, 0x8584_58f6]);

/** Larger reads are worth a thread: this one has other work. */
const SMALL_BYTES = 64 * 1024;

type Way = 'ask' | 'memory' | 'none';

/** Synchronous reads of one file. */
export class CachedReads {
  readonly #fd: number;
  #way: Way = 'ask';

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Like `read`, for reads that may also go through a thread: only small ones, and a limited number per turn. */
  readSmall(native: NativeCalls | null, offset: number, target: Uint8Array): boolean {
    if (native === null || this.#way === 'none' || target.length > SMALL_BYTES) return false;
    return takeFromTurn() && this.read(native, offset, target);
  }

  /**
   * False when not all of it is cached, or the system cannot tell. Never throws: the caller reads again and gets the
   * error.
   */
  read(native: NativeCalls | null, offset: number, target: Uint8Array): boolean {
    if (native === null || this.#way === 'none') return false;
    for (let done = 0; done < target.length; ) {
      const count = this.#piece(native, offset + done, done === 0 ? target : target.subarray(done));
      if (count === 0) return false;
      done += count;
    }
    return true;
  }

  #piece(native: NativeCalls, offset: number, target: Uint8Array): number {
    try {
      if (this.#way === 'memory') return fs.readSync(this.#fd, target, 0, target.length, offset);
      return native.readCached(this.#fd, offset, target);
    } catch (error) {
      if (this.#way === 'memory' || !isMissingCall(error)) return 0;
      this.#way = isInMemory(this.#fd) ? 'memory' : 'none';
      return this.#way === 'memory' ? this.#piece(native, offset, target) : 0;
    }
  }
}

/** By descriptor: the name may belong to another file by now. */
function isInMemory(fd: number): boolean {
  try {
    return IN_MEMORY.has(fs.statfsSync(`/proc/self/fd/${fd}`).type);
  } catch {
    return false;
  }
}
