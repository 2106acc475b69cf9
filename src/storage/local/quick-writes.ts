/**
 * Small writes without a thread. A few KiB go into the system's cache in microseconds; passing them to another thread
 * and back takes several times as long. They are written synchronously when they are small and the last ones were fast.
 * When many come in one turn of the event loop the rest of them waits for the next turns: others want theirs. After a
 * slow write, because the cache is full or a page had to be read first, the next ones go through a thread.
 */
import * as fs from 'node:fs';
import { nowMs } from '../clock.ts';
import type { MaybePromise } from '../contract.ts';
import { calls } from './calls.ts';
import { runInLaterTurn, takeFromTurn } from './turn-budget.ts';

/**
 * File systems on a disk of this machine, or in its memory (`linux/magic.h`): ext, xfs, btrfs, f2fs, tmpfs, overlay,
 * zfs. On others a server may be gone, and a synchronous write would block the whole program, even its exit.
 */
const AT_HAND: ReadonlySet<number> = new Set([
  0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1,
]);

/** True when small writes to a file may be synchronous. Unknown file systems count as remote. */
export async function isAtHand(name: string): Promise<boolean> {
  if (process.platform !== 'linux') return false;
  try {
    return AT_HAND.has((await calls.statfs(name)).type);
  } catch {
    // It was renamed or removed meanwhile: writing it goes by its handle.
    return false;
  }
}

/** Larger writes cost more to copy than to pass to a thread. */
const MAX_BYTES = 16 * 1024;
/** A slower write has waited for something. */
const SLOW_MS = 1;
/** Writes through a thread after a slow one: few at first, more each time the next attempt is slow again. */
const PAUSE_FIRST = 8;
const PAUSE_GROWTH = 4;
const PAUSE_MOST = 4096;

/** The small writes of one file. */
export class QuickWrites {
  #pause = 0;
  #nextPause = PAUSE_FIRST;

  /**
   * Writes all or part of the source, in this turn or a later one, if the conditions hold. Returns the number of bytes
   * written; throws the system's error.
   */
  write(fd: number, offset: number, source: Uint8Array | readonly Uint8Array[], length: number): MaybePromise<number> {
    if (length > MAX_BYTES) return 0;
    if (this.#pause > 0) {
      this.#pause--;
      return 0;
    }
    if (takeFromTurn()) return this.#write(fd, offset, source, length);
    return new Promise((resolve, reject) => {
      runInLaterTurn(() => {
        try {
          resolve(this.#write(fd, offset, source, length));
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  #write(fd: number, offset: number, source: Uint8Array | readonly Uint8Array[], length: number): number {
    const started = nowMs();
    const count =
      source instanceof Uint8Array ? fs.writeSync(fd, source, 0, length, offset) : fs.writevSync(fd, source, offset);
    if (nowMs() - started <= SLOW_MS) this.#nextPause = PAUSE_FIRST;
    else {
      this.#pause = this.#nextPause;
      this.#nextPause = Math.min(this.#nextPause * PAUSE_GROWTH, PAUSE_MOST);
    }
    return count;
  }
}
