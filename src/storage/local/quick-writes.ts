/**
 * Small writes without a thread. A few KiB go into the system's cache in microseconds; handing them to another thread and
 * waiting for it to say so takes several times as long. So they are written at once, on three conditions: they are
 * small, not many of them come in one turn of the event loop (others want their turn), and the last ones were fast. A
 * medium that made one wait, because its cache is full or a page had to be read first, gets its next ones by thread.
 */
import * as fs from 'node:fs';
import { nowMs } from '../clock.ts';
import { calls } from './calls.ts';
import { takeFromTurn } from './turn-budget.ts';

/**
 * File systems on a disk of this machine, or in its memory (`linux/magic.h`): ext, xfs, btrfs, f2fs, tmpfs, overlay, zfs.
 * On others a server may be gone, and a write by this thread would keep the program from anything, ending included.
 */
const AT_HAND: ReadonlySet<number> = new Set([
  0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1,
]);

/** Whether small writes to a file may be made at once. Anything that is not known counts as far away. */
export async function isAtHand(name: string): Promise<boolean> {
  if (process.platform !== 'linux') return false;
  try {
    return AT_HAND.has((await calls.statfs(name)).type);
  } catch {
    // It was renamed or removed meanwhile: writing it goes by its handle.
    return false;
  }
}

/** Larger ones cost more to copy than to hand over. */
const MAX_BYTES = 16 * 1024;
/** A write that takes longer has waited for something. */
const SLOW_MS = 1;
/** Writes by thread after a slow one: few after a single one, more each time that the next try is slow again. */
const PAUSE_FIRST = 8;
const PAUSE_GROWTH = 4;
const PAUSE_MOST = 4096;

/** The small writes of one file. */
export class QuickWrites {
  #pause = 0;
  #nextPause = PAUSE_FIRST;

  /** Writes at once where that is right, all of it or a part. Returns the bytes that it wrote; throws what the system does. */
  write(fd: number, offset: number, source: Uint8Array | readonly Uint8Array[], length: number): number {
    if (length > MAX_BYTES) return 0;
    if (this.#pause > 0) {
      this.#pause--;
      return 0;
    }
    if (!takeFromTurn()) return 0;
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
