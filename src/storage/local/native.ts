/**
 * System calls that Node does not offer: holes, punching, preallocating, locks, renaming without replacing, locked
 * memory. Through `koffi`, an optional package; without it (or with VDKIT_NO_NATIVE=1, or off 64-bit Linux) everything
 * works with the fallbacks of the callers. Loaded on first use, since it costs eight milliseconds of a start.
 */
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { errorCode } from './errno.ts';

/** The calls, on file descriptors. Offsets are bytes. Failures throw an error with the system's `code`. */
export interface NativeCalls {
  /** Start of the next data at or after `offset`; null when there is none. */
  seekData(fd: number, offset: number): number | null;
  /** Start of the next hole at or after `offset`; the end of the file counts as one. */
  seekHole(fd: number, offset: number): number;
  /** Like `seekHole`, on a thread, for files in which the system has to check every page. */
  findHole(fd: number, offset: number): Promise<number>;
  /** End of the file or device. */
  seekEnd(fd: number): number;
  /** Frees the space of a range, which then reads as zero. */
  punchHole(fd: number, offset: number, length: number): Promise<void>;
  /** Makes a range read as zero and keeps its space. */
  zeroRange(fd: number, offset: number, length: number): Promise<void>;
  /** Allocates space; extends the file if it ends earlier. */
  allocate(fd: number, offset: number, length: number): Promise<void>;
  /** Announces reads in ascending order. A hint: never fails. */
  adviseSequential(fd: number): void;
  /**
   * Reads cached data without waiting for the medium: bytes read, 0 when the first ones are not cached. Fails with
   * `EOPNOTSUPP` where the file system or the C library cannot tell.
   */
  readCached(fd: number, offset: number, target: Uint8Array): number;
  renameNoReplace(from: string, to: string): void;
  /** Sets or removes a read lock on a range of bytes. It belongs to the open file and ends with it. */
  setLock(fd: number, kind: 'read' | 'none', start: number, length: number): void;
  /** True when another open file has a lock of any kind in the range. */
  isLocked(fd: number, start: number, length: number): boolean;
  /** Size of a memory page, and the position of the bytes in one; null where the system does not tell. */
  pageOf(bytes: Uint8Array): { readonly pageSize: number; readonly offset: number } | null;
  /** Names of the extended attributes of a file. */
  attributeNames(fd: number): readonly string[];
  /** The value of an extended attribute; null when absent. */
  attribute(fd: number, name: string): Uint8Array | null;
  setAttribute(fd: number, name: string, value: Uint8Array): void;
  removeAttribute(fd: number, name: string): void;
  /** Keeps the pages of the bytes out of swap. */
  lockMemory(bytes: Uint8Array): void;
  unlockMemory(bytes: Uint8Array): void;
}

const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FALLOC_KEEP_SIZE = 0x01;
const FALLOC_PUNCH_HOLE = 0x02;
const FALLOC_ZERO_RANGE = 0x10;
const FADV_SEQUENTIAL = 2;
const RWF_NOWAIT = 8;
const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const LOCK_TYPE = { read: 0, write: 1, none: 2 } as const;
/**
 * `struct flock` with a 64-bit `off_t`: type, whence, padding, start, length, process.
 */
const FLOCK_BYTES = 32;
const SC_PAGESIZE = 30;
/** Linux limits name lists and values to this. */
const ATTRIBUTE_BYTES = 64 * 1024;

/** Architectures with a 64-bit `off_t` in the calls bound here. */
const ARCHITECTURES: readonly string[] = ['x64', 'arm64', 'riscv64', 'loong64', 'ppc64', 's390x'];
/** Longer ranges take milliseconds on some file systems: they run on the thread pool. */
const QUICK_BYTES = 1024 * 1024;

type Argument = number | string | Uint8Array;
interface Call {
  (...values: Argument[]): number;
  async(...values: [...Argument[], (error: Error | null, result: number) => void]): void;
}
interface Library {
  func(prototype: string): Call;
}
interface Koffi {
  load(library: string | null): Library;
  errno(): number;
}

let loaded: NativeCalls | null | undefined;

/** The calls, or null where they are not available. */
export function nativeCalls(): NativeCalls | null {
  if (process.env['VDKIT_NO_NATIVE'] === '1') return null;
  if (loaded === undefined) loaded = load();
  return loaded;
}

/** The calls if they are already loaded, for uses that are not worth loading them. */
export function loadedCalls(): NativeCalls | null {
  return loaded === undefined ? null : nativeCalls();
}

/** True for codes that mean "not supported by this file system": the fallback is used. */
export function isMissingCall(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'EOPNOTSUPP' || code === 'ENOTSUP' || code === 'ENOSYS' || code === 'EINVAL' || code === 'ENODEV';
}

function load(): NativeCalls | null {
  if (process.platform !== 'linux' || !ARCHITECTURES.includes(process.arch)) return null;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    return bind(koffi);
  } catch {
    // Not installed, or not for this machine: the fallbacks do the same work, only slower.
    return null;
  }
}

/** Long function: the calls share the library's functions and its buffers, and most take one line. */
function bind(koffi: Koffi): NativeCalls {
  const libc = loadLibc(koffi);
  const lseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)');
  const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
  const fadvise = optional(libc, 'int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');
  const renameat2 = optional(libc, 'int renameat2(int from, str a, int to, str b, unsigned int flags)');
  // Variadic: some machines pass the arguments of such functions in another way.
  const fcntl = libc.func('int fcntl(int fd, int command, ...)');
  const sysconf = optional(libc, 'int64_t sysconf(int name)');
  // Hands its first argument back: that is how an address becomes a number.
  const memmove = optional(libc, 'uintptr_t memmove(void *to, void *from, size_t length)');
  const mlock = optional(libc, 'int mlock(void *start, size_t length)');
  const munlock = optional(libc, 'int munlock(void *start, size_t length)');
  const preadv2 = optional(libc, 'int64_t preadv2(int fd, void *list, int count, int64_t offset, int flags)');
  const flistxattr = optional(libc, 'int64_t flistxattr(int fd, void *list, size_t size)');
  const fgetxattr = optional(libc, 'int64_t fgetxattr(int fd, str name, void *value, size_t size)');
  const fsetxattr = optional(libc, 'int fsetxattr(int fd, str name, void *value, size_t size, int flags)');
  const fremovexattr = optional(libc, 'int fremovexattr(int fd, str name)');
  /**
   * `struct iovec`: address, length.
   */
  const piece = new BigUint64Array(2);
  const seek = (fd: number, offset: number, whence: number): number => {
    const position = Number(lseek(fd, offset, whence));
    if (position < 0) throw failure('lseek', koffi.errno());
    return position;
  };
  const allocate = async (fd: number, mode: number, offset: number, length: number): Promise<void> => {
    await (length > QUICK_BYTES ? pooled : inPlace)(koffi, 'fallocate', fallocate, [fd, mode, offset, length]);
  };
  return {
    seekData(fd, offset) {
      try {
        return seek(fd, offset, SEEK_DATA);
      } catch (error) {
        if (errorCode(error) === 'ENXIO') return null;
        throw error;
      }
    },
    seekHole: (fd, offset) => seek(fd, offset, SEEK_HOLE),
    findHole: (fd, offset) => pooled(koffi, 'lseek', lseek, [fd, offset, SEEK_HOLE]),
    seekEnd: (fd) => seek(fd, 0, SEEK_END),
    punchHole: (fd, offset, length) => allocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length),
    zeroRange: (fd, offset, length) => allocate(fd, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, offset, length),
    allocate: (fd, offset, length) => allocate(fd, 0, offset, length),
    adviseSequential(fd) {
      fadvise?.(fd, 0, 0, FADV_SEQUENTIAL);
    },
    readCached(fd, offset, target) {
      if (preadv2 === null || memmove === null) throw failure('preadv2', constants.errno.EOPNOTSUPP);
      // A buffer of a few bytes may lie in the engine's own heap, where it moves; asking for its store ends that.
      if (target.buffer.byteLength === 0) return 0;
      piece[0] = BigInt(memmove(target, target, 0));
      piece[1] = BigInt(target.length);
      const count = Number(preadv2(fd, new Uint8Array(piece.buffer), 1, offset, RWF_NOWAIT));
      if (count >= 0) return count;
      const number = koffi.errno();
      if (number === constants.errno.EAGAIN || number === constants.errno.EINTR) return 0;
      throw failure('preadv2', number);
    },
    renameNoReplace(from, to) {
      if (renameat2 === null) throw failure('renameat2', constants.errno.ENOSYS);
      if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) !== 0) throw failure('renameat2', koffi.errno());
    },
    setLock(fd, kind, start, length) {
      const flock = new FileLockRecord(LOCK_TYPE[kind], start, length);
      if (fcntl(fd, F_OFD_SETLK, 'void *', flock.bytes) !== 0) throw failure('fcntl', koffi.errno());
    },
    isLocked(fd, start, length) {
      // A write lock would be in the way of any other. It is only asked for, never taken.
      const flock = new FileLockRecord(LOCK_TYPE.write, start, length);
      if (fcntl(fd, F_OFD_GETLK, 'void *', flock.bytes) !== 0) throw failure('fcntl', koffi.errno());
      return flock.type !== LOCK_TYPE.none;
    },
    pageOf(bytes) {
      const pageSize = Number(sysconf?.(SC_PAGESIZE) ?? -1);
      if (pageSize <= 0 || memmove === null) return null;
      return { pageSize, offset: Number(BigInt(memmove(bytes, bytes, 0)) % BigInt(pageSize)) };
    },
    attributeNames(fd) {
      if (flistxattr === null) throw failure('flistxattr', constants.errno.ENOSYS);
      const list = new Uint8Array(ATTRIBUTE_BYTES);
      const length = Number(flistxattr(fd, list, list.length));
      if (length < 0) throw failure('flistxattr', koffi.errno());
      const names = new TextDecoder().decode(list.subarray(0, length));
      return names.split('\0').filter((name) => name !== '');
    },
    attribute(fd, name) {
      if (fgetxattr === null) throw failure('fgetxattr', constants.errno.ENOSYS);
      const value = new Uint8Array(ATTRIBUTE_BYTES);
      const length = Number(fgetxattr(fd, name, value, value.length));
      if (length >= 0) return value.slice(0, length);
      const number = koffi.errno();
      if (number === constants.errno.ENODATA) return null;
      throw failure('fgetxattr', number);
    },
    setAttribute(fd, name, value) {
      if (fsetxattr === null) throw failure('fsetxattr', constants.errno.ENOSYS);
      if (fsetxattr(fd, name, value, value.length, 0) !== 0) throw failure('fsetxattr', koffi.errno());
    },
    removeAttribute(fd, name) {
      if (fremovexattr === null) throw failure('fremovexattr', constants.errno.ENOSYS);
      if (fremovexattr(fd, name) !== 0) throw failure('fremovexattr', koffi.errno());
    },
    lockMemory(bytes) {
      if (mlock === null) throw failure('mlock', constants.errno.ENOSYS);
      if (mlock(bytes, bytes.length) !== 0) throw failure('mlock', koffi.errno());
    },
    unlockMemory(bytes) {
      if (munlock?.(bytes, bytes.length) !== 0) throw failure('munlock', koffi.errno());
    },
  };
}

/** `struct flock`, in the byte order of the machine. */
class FileLockRecord {
  readonly bytes: Uint8Array;
  readonly #shorts: Int16Array;

  constructor(type: number, start: number, length: number) {
    const buffer = new ArrayBuffer(FLOCK_BYTES);
    this.bytes = new Uint8Array(buffer);
    this.#shorts = new Int16Array(buffer);
    this.#shorts[0] = type;
    new BigInt64Array(buffer).set([BigInt(start), BigInt(length)], 1);
  }

  get type(): number {
    return this.#shorts[0] ?? LOCK_TYPE.none;
  }
}

function loadLibc(koffi: Koffi): Library {
  try {
    return koffi.load('libc.so.6');
  } catch {
    // Another C library: the one that the process itself runs on.
    return koffi.load(null);
  }
}

/** A call that old C libraries do not have. */
function optional(library: Library, prototype: string): Call | null {
  try {
    return library.func(prototype);
  } catch {
    return null;
  }
}

async function inPlace(koffi: Koffi, name: string, call: Call, values: readonly Argument[]): Promise<void> {
  let number: number;
  do {
    if (call(...values) === 0) return;
    number = koffi.errno();
  } while (number === constants.errno.EINTR);
  throw failure(name, number);
}

/** Resolves to the result of the call, which is never negative. */
async function pooled(koffi: Koffi, name: string, call: Call, values: readonly Argument[]): Promise<number> {
  for (;;) {
    const { result, number } = await new Promise<{ result: number; number: number }>((resolve, reject) => {
      // The error number is that of this call as long as nothing else ran since: it is read first thing.
      call.async(...values, (error, given) => {
        const result = Number(given);
        const number = result < 0 ? koffi.errno() : 0;
        if (error === null) resolve({ result, number });
        else reject(error);
      });
    });
    if (result >= 0) return result;
    if (number !== constants.errno.EINTR) throw failure(name, number);
  }
}

const NAMES = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

function failure(call: string, number: number): Error {
  const code = NAMES.get(number) ?? `errno ${number}`;
  return Object.assign(new Error(`${code}: ${call}`), { code });
}
