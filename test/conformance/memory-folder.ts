/** Place for files of tests whose outcome does not depend on a medium: no flush of them waits for a disk. */
import { statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';

const IN_MEMORY = '/dev/shm';
/** Free room that the suites need there: sparse files, of several tests at once. */
const ROOM = 4 * 2 ** 30;

/** The folder in memory, where there is one with enough room; otherwise that of all temporary files. */
export function memoryFolder(): string {
  try {
    const { bavail, bsize } = statfsSync(IN_MEMORY);
    if (bavail * bsize >= ROOM) return IN_MEMORY;
  } catch {
    // Not on this system.
  }
  return tmpdir();
}
