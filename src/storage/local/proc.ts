/** Locks of all processes as listed in /proc, and their possible holders. */
import * as fs from 'node:fs';
import { printable } from '../../errors.ts';
import type { LockHolder } from '../contract.ts';
import { calls } from './calls.ts';
import { isExhausted } from './errno.ts';

/** A locked range of a file. */
export interface LockedRange {
  readonly start: number;
  /** Last byte; infinite for a lock up to the end of the file. */
  readonly last: number;
}

/** Maximum number of descriptors examined in the search for a process. */
const MAX_DESCRIPTORS = 20_000;

/**
 * All locks on an open file; null where that cannot be told. Needs no native code. The first look of a process takes
 * some milliseconds, during which other work goes on.
 */
export async function lockedRanges(fd: number): Promise<readonly LockedRange[] | null> {
  if (process.platform !== 'linux') return null;
  const [file, locks] = await Promise.all([
    lockedFileName(fd),
    calls.readFile('/proc/locks', 'latin1').catch(nullUnlessExhausted),
  ]);
  if (file === null || locks === null) return null;
  return locks.split('\n').flatMap((line) => parseLock(line, file) ?? []);
}

/** Processes that hold any lock on the file, this one included. */
export async function lockHolders(fd: number): Promise<readonly LockHolder[]> {
  // Only for a message: without it the lock is reported all the same.
  const file = process.platform === 'linux' ? await lockedFileName(fd).catch(() => null) : null;
  if (file === null) return [];
  const holders: LockHolder[] = [];
  let budget = MAX_DESCRIPTORS;
  for (const pid of processIds()) {
    const descriptors = namesIn(`/proc/${pid}/fdinfo`);
    budget -= descriptors.length;
    if (budget < 0) break;
    if (!descriptors.some((name) => holdsLock(`/proc/${pid}/fdinfo/${name}`, file))) continue;
    holders.push({ pid, name: processName(pid) });
  }
  return holders;
}

/** Parses `1: OFDLCK ADVISORY READ -1 fe:00:2155165 100 101`; a line with `->` only waits for a lock. */
export function parseLock(line: string, file: string): LockedRange | null {
  const [, type, , , , where, start, last] = line.trim().split(/\s+/);
  // A lock of flock() is another kind: the two do not see each other.
  if (where !== file || start === undefined || last === undefined) return null;
  if (type !== 'OFDLCK' && type !== 'POSIX') return null;
  return { start: Number(start), last: last === 'EOF' ? Number.POSITIVE_INFINITY : Number(last) };
}

/**
 * The file's name in the table of locks: the device of its file system and its inode. Some file systems report another
 * device to `stat`, so it comes from the mount.
 */
async function lockedFileName(fd: number): Promise<string | null> {
  try {
    const [info, mounts, stat] = await Promise.all([
      calls.readFile(`/proc/self/fdinfo/${fd}`, 'latin1'),
      calls.readFile('/proc/self/mountinfo', 'latin1'),
      calls.stat(`/proc/self/fd/${fd}`, { bigint: true }),
    ]);
    const mount = /^mnt_id:\s*(\d+)$/m.exec(info)?.[1];
    const device = new RegExp(`^${mount} \\d+ (\\d+):(\\d+) `, 'm').exec(mounts);
    if (mount === undefined || device === null) return null;
    const inode = /^ino:\s*(\d+)$/m.exec(info)?.[1] ?? String(stat.ino);
    return `${byteHex(device[1])}:${byteHex(device[2])}:${inode}`;
  } catch (error) {
    if (isExhausted(error)) throw error;
    // No /proc, or a system without these tables.
    return null;
  }
}

/** A lock must not be overlooked because the table of locks could not be opened. */
function nullUnlessExhausted(error: unknown): null {
  if (isExhausted(error)) throw error;
  return null;
}

function byteHex(decimal: string | undefined): string {
  return Number(decimal).toString(16).padStart(2, '0');
}

/** This process first: a conflict with itself is the most useful answer. */
function processIds(): readonly number[] {
  const others = namesIn('/proc').filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  return [process.pid, ...others.map(Number)];
}

function namesIn(directory: string): readonly string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    // Gone meanwhile, or somebody else's.
    return [];
  }
}

function holdsLock(info: string, file: string): boolean {
  try {
    const lines = fs.readFileSync(info, 'latin1').split('\n');
    return lines.some((line) => line.startsWith('lock:') && parseLock(line.slice('lock:'.length), file) !== null);
  } catch {
    return false;
  }
}

function processName(pid: number): string | null {
  try {
    return printable(fs.readFileSync(`/proc/${pid}/comm`, 'utf8').trim());
  } catch {
    return null;
  }
}
