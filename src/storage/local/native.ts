/**
 * System calls that Node does not offer: holes, punching, preallocating, renaming without replacing. Through `koffi`,
 * an optional package; without it (or with VDKIT_NO_NATIVE=1, or off Linux) everything works with the fallbacks of the
 * callers. Loaded on first need, because it costs a start-up eight milliseconds.
 */
import { createRequire } from 'node:module';

/** The calls, on file descriptors. Offsets are bytes. Failures throw an error with the system's `code`. */
export interface NativeCalls {
  /** Start of the next data at or after `offset`; null when there is none. */
  seekData(fd: number, offset: number): number | null;
  /** Start of the next hole at or after `offset`; the end of the file counts as one. */
  seekHole(fd: number, offset: number): number;
  seekEnd(fd: number): number;
  punchHole(fd: number, offset: number, length: number): void;
  zeroRange(fd: number, offset: number, length: number): void;
  allocate(fd: number, offset: number, length: number): void;
  renameNoReplace(from: string, to: string): void;
}

const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FALLOC_KEEP_SIZE = 0x01;
const FALLOC_PUNCH_HOLE = 0x02;
const FALLOC_ZERO_RANGE = 0x10;
const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;
const CODES: Readonly<Record<number, string>> = {
  1: 'EPERM',
  2: 'ENOENT',
  4: 'EINTR',
  5: 'EIO',
  6: 'ENXIO',
  9: 'EBADF',
  13: 'EACCES',
  16: 'EBUSY',
  17: 'EEXIST',
  18: 'EXDEV',
  22: 'EINVAL',
  27: 'EFBIG',
  28: 'ENOSPC',
  30: 'EROFS',
  36: 'ENAMETOOLONG',
  38: 'ENOSYS',
  95: 'EOPNOTSUPP',
  122: 'EDQUOT',
};

type Call = (...values: (number | string)[]) => number;
interface Koffi {
  load(library: string): { func(prototype: string): Call };
  errno(): number;
}

let loaded: NativeCalls | null | undefined;

/** The calls, or null where they are not to be had. */
export function nativeCalls(): NativeCalls | null {
  if (process.env['VDKIT_NO_NATIVE'] === '1') return null;
  if (loaded === undefined) loaded = load();
  return loaded;
}

/** True for codes that mean "this file system cannot do that": the fallback is used. */
export function isMissingCall(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return code === 'EOPNOTSUPP' || code === 'ENOSYS' || code === 'EINVAL';
}

function load(): NativeCalls | null {
  if (process.platform !== 'linux') return null;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    return bind(koffi);
  } catch {
    // Not installed, or not for this machine: the fallbacks do the work.
    return null;
  }
}

function bind(koffi: Koffi): NativeCalls {
  const libc = koffi.load('libc.so.6');
  const lseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)');
  const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
  const renameat2 = libc.func('int renameat2(int from, const char *a, int to, const char *b, unsigned int flags)');
  const checked = (name: string, result: number): number => {
    if (result !== -1) return result;
    const number = koffi.errno();
    const code = CODES[number] ?? `errno ${number}`;
    throw Object.assign(new Error(`${name}: ${code}`), { code });
  };
  const seek = (fd: number, offset: number, whence: number): number => checked('lseek', Number(lseek(fd, offset, whence)));
  const allocate = (fd: number, mode: number, offset: number, length: number): void => {
    checked('fallocate', fallocate(fd, mode, offset, length));
  };
  return {
    seekData(fd, offset) {
      try {
        return seek(fd, offset, SEEK_DATA);
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'ENXIO') return null;
        throw error;
      }
    },
    seekHole: (fd, offset) => seek(fd, offset, SEEK_HOLE),
    seekEnd: (fd) => seek(fd, 0, SEEK_END),
    punchHole: (fd, offset, length) => allocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length),
    zeroRange: (fd, offset, length) => allocate(fd, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, offset, length),
    allocate: (fd, offset, length) => allocate(fd, 0, offset, length),
    renameNoReplace(from, to) {
      checked('renameat2', renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE));
    },
  };
}
