/** What the operating system's error codes mean to a caller: one table. */
import { type ErrorDetails, type ErrorKind, ImageError } from '../../errors.ts';

interface Meaning {
  readonly kind: ErrorKind;
  readonly message: string;
  readonly status?: string;
  readonly hint?: string;
}

const MEANINGS: Readonly<Record<string, Meaning>> = {
  ENOENT: { kind: 'not-found', message: 'There is no such file or directory', hint: 'Check the name.' },
  ENOTDIR: { kind: 'not-found', message: 'A part of the name is no directory', status: 'VERR_PATH_NOT_FOUND' },
  EACCES: { kind: 'denied', message: 'Permission denied', hint: 'Check who may read and write the file and its directory.' },
  EPERM: { kind: 'denied', message: 'Operation not permitted', status: 'VERR_PERMISSION_DENIED' },
  EEXIST: { kind: 'exists', message: 'The file exists already' },
  EROFS: { kind: 'read-only', message: 'The file system is read-only', status: 'VERR_WRITE_PROTECT' },
  ETXTBSY: { kind: 'locked', message: 'The file is in use' },
  EBUSY: { kind: 'locked', message: 'The file or device is in use' },
  ENOSPC: { kind: 'no-space', message: 'There is no space left on the device', hint: 'Make room and try again.' },
  EDQUOT: { kind: 'no-space', message: 'The disk quota is used up', hint: 'Make room and try again.' },
  EFBIG: { kind: 'limit', message: 'The file would be larger than the file system allows' },
  EISDIR: { kind: 'unsupported', message: 'This is a directory, not an image', hint: 'Name a file inside it.' },
  ELOOP: { kind: 'io', message: 'Too many symbolic links' },
  ENAMETOOLONG: { kind: 'invalid-argument', message: 'The name is too long' },
  EMFILE: { kind: 'limit', message: 'Too many files are open' },
  ENFILE: { kind: 'limit', message: 'Too many files are open on this machine' },
  ENXIO: { kind: 'unsupported', message: 'This is a FIFO or a device without a driver, not an image' },
  EPIPE: { kind: 'io', message: 'The reader went away' },
};

/** The code of a system error, or null. */
export function errorCode(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
}

/** A system error as an ImageError; anything else as it is. */
export function systemError(error: unknown, details: ErrorDetails): unknown {
  const code = errorCode(error);
  if (code === null || error instanceof ImageError) return error;
  const meaning = MEANINGS[code] ?? { kind: 'io' as const, message: `The system reports ${code}` };
  const { kind, message, ...rest } = meaning;
  return new ImageError(kind, message, { ...rest, ...details, cause: error });
}
