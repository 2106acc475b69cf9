/** Meaning of the operating system's error codes: one table. */
import { type ErrorDetails, type ErrorKind, ImageError } from '../../errors.ts';

interface Meaning {
  readonly kind: ErrorKind;
  readonly message: string;
  readonly status?: string;
  readonly hint?: string;
}

const MEANINGS: Readonly<Record<string, Meaning>> = {
  ENOENT: { kind: 'not-found', message: 'No such file or directory', hint: 'Check the name.' },
  ENOTDIR: {
    kind: 'not-found',
    message: 'A part of the name is not a directory',
    status: 'VERR_PATH_NOT_FOUND',
    hint: 'Check the name.',
  },
  EACCES: {
    kind: 'denied',
    message: 'Permission denied',
    hint: 'Check the permissions of the file and its directory.',
  },
  EPERM: {
    kind: 'denied',
    message: 'The system does not permit this operation',
    status: 'VERR_PERMISSION_DENIED',
    hint: 'Check the owner and the attributes of the file and its directory.',
  },
  EEXIST: { kind: 'exists', message: 'The file already exists', hint: 'Choose another name.' },
  EROFS: {
    kind: 'read-only',
    message: 'The file system is read-only',
    status: 'VERR_WRITE_PROTECT',
    hint: 'Name a target on another file system, or remount this one for writing (mount -o remount,rw).',
  },
  ETXTBSY: { kind: 'locked', message: 'The file is a program that is running', hint: 'End that program first.' },
  EBUSY: {
    kind: 'locked',
    message: 'The file or device is in use',
    hint: 'Unmount it, or end the program that has it open ("fuser -v FILE" and "lsblk" show who uses it).',
  },
  EAGAIN: { kind: 'locked', message: 'Another program holds a lease on the file' },
  ENOSPC: { kind: 'no-space', message: 'No space left on the device', hint: 'Free some space and try again.' },
  EDQUOT: { kind: 'no-space', message: 'The disk quota is exceeded', hint: 'Free some space and try again.' },
  EFBIG: {
    kind: 'limit',
    message: 'The file would be larger than the file system or a limit of the process allows',
    status: 'VERR_FILE_TOO_BIG',
    hint: 'Use another file system (FAT ends at 4 GiB), or raise the limit of the process (ulimit -f).',
  },
  EISDIR: { kind: 'unsupported', message: 'This is a directory, not an image', hint: 'Name a file inside it.' },
  EXDEV: {
    kind: 'unsupported',
    message: 'The source and the target are on different file systems',
    status: 'VERR_NOT_SAME_DEVICE',
    hint: 'Move the image instead (moveImage; on the command line: copy --move).',
  },
  ELOOP: { kind: 'io', message: 'Too many symbolic links in the name', hint: 'Check the links (namei -l).' },
  ENOTEMPTY: { kind: 'exists', message: 'The directory is not empty' },
  ENAMETOOLONG: {
    kind: 'invalid-argument',
    message: 'The name is too long',
    status: 'VERR_FILENAME_TOO_LONG',
    hint: 'Choose a shorter name: most file systems permit 255 bytes.',
  },
  ERR_INVALID_ARG_VALUE: { kind: 'invalid-argument', message: 'The file name is not valid' },
  EMFILE: {
    kind: 'limit',
    message: 'Too many open files in this process',
    status: 'VERR_TOO_MANY_OPEN_FILES',
    hint: 'Raise the limit (ulimit -n).',
  },
  ENFILE: {
    kind: 'limit',
    message: 'Too many open files in the system',
    status: 'VERR_TOO_MANY_OPEN_FILES',
    hint: 'Close other programs, or raise the limit (sysctl fs.file-max).',
  },
  ENXIO: {
    kind: 'unsupported',
    message: 'The device does not exist or does not respond',
    hint: 'Name a file, or attach the device.',
  },
  EIO: {
    kind: 'io',
    message: 'The device reported an I/O error',
    status: 'VERR_DEV_IO_ERROR',
    hint: 'See the system log for the cause (dmesg).',
  },
  EPIPE: { kind: 'io', message: 'The reader of the pipe has closed it', status: 'VERR_BROKEN_PIPE' },
  ERR_STREAM_DESTROYED: { kind: 'io', message: 'The stream was closed' },
  ERR_STREAM_WRITE_AFTER_END: { kind: 'io', message: 'The stream was closed' },
  ERR_STREAM_PREMATURE_CLOSE: { kind: 'io', message: 'The stream was closed before its end' },
};

/** The code of a system error, or null. */
export function errorCode(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
}

/** True when no further file can be opened, whatever its state. */
export function isExhausted(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'EMFILE' || code === 'ENFILE';
}

/** A system error as an ImageError; other errors unchanged. */
export function systemError(error: unknown, details: ErrorDetails): unknown {
  const code = errorCode(error);
  if (code === null || error instanceof ImageError) return error;
  const meaning = MEANINGS[code] ?? { kind: 'io' as const, message: `The system reports ${code}` };
  const { kind, message, ...rest } = meaning;
  return new ImageError(kind, message, { ...rest, ...details, cause: error });
}

/** Runs a function that calls the system; its errors name `path`. */
export async function explained<T>(path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw systemError(error, { path });
  }
}
