/**
 * The one error class of vdkit. Callers branch on `kind`; people read `message`, `context` and `hint`.
 *
 * A message is a sentence that states the problem; numbers go into the context and are printed once, by
 * `describeError`. The status is the name that VirtualBox's vd.h uses for the same failure.
 */

/** Category of a failure: as few as callers need in order to react differently. */
export type ErrorKind =
  | 'io'
  | 'not-found'
  | 'exists'
  | 'invalid-format'
  | 'invalid-argument'
  | 'unsupported'
  | 'corrupt'
  | 'limit'
  | 'out-of-bounds'
  | 'read-only'
  | 'denied'
  | 'locked'
  | 'no-space'
  | 'busy'
  | 'aborted';

/** Place and facts of a failure. All optional; those that are set are printed. */
export interface ErrorContext {
  /** The file or other storage that the message is about. */
  readonly path?: string | undefined;
  /** Byte offset in that file. */
  readonly offset?: number | undefined;
  /** Byte offset in the virtual disk. */
  readonly guestOffset?: number | undefined;
  /** Bytes of the virtual disk, from `guestOffset` on, that cannot be read for this reason. */
  readonly guestLength?: number | undefined;
  /** Name of the header field or table entry. */
  readonly field?: string | undefined;
  readonly found?: string | number | undefined;
  readonly expected?: string | number | undefined;
}

/** Options of an {@link ImageError} beside kind and message. */
export interface ErrorDetails extends ErrorContext {
  /** Advice to the reader: one sentence with the command or option to use. */
  readonly hint?: string | undefined;
  /** The VERR_ name, if the default for the kind is not precise enough. */
  readonly status?: string | undefined;
  readonly cause?: unknown;
}

const DEFAULT_STATUS: Record<ErrorKind, string> = {
  io: 'VERR_GENERAL_FAILURE',
  'not-found': 'VERR_FILE_NOT_FOUND',
  exists: 'VERR_ALREADY_EXISTS',
  'invalid-format': 'VERR_VD_GEN_INVALID_HEADER',
  'invalid-argument': 'VERR_INVALID_PARAMETER',
  unsupported: 'VERR_NOT_SUPPORTED',
  corrupt: 'VERR_VD_IMAGE_CORRUPTED',
  limit: 'VERR_OUT_OF_RANGE',
  'out-of-bounds': 'VERR_INVALID_PARAMETER',
  'read-only': 'VERR_VD_IMAGE_READ_ONLY',
  denied: 'VERR_ACCESS_DENIED',
  locked: 'VERR_SHARING_VIOLATION',
  'no-space': 'VERR_DISK_FULL',
  busy: 'VERR_RESOURCE_BUSY',
  aborted: 'VERR_CANCELLED',
};

/** Every failure that vdkit reports. Anything else that is thrown is a bug in vdkit. */
export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly kind: ErrorKind;
  /** Name of the corresponding status code of vd.h. */
  readonly status: string;
  readonly context: ErrorContext;
  readonly hint: string | undefined;

  constructor(kind: ErrorKind, message: string, details: ErrorDetails = {}) {
    const { hint, status, cause, ...context } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
    this.status = status ?? DEFAULT_STATUS[kind];
    this.context = context;
    this.hint = hint;
  }
}

/** True for errors of vdkit, from any copy of the package. */
export function isImageError(error: unknown): error is ImageError {
  return error instanceof Error && error.name === 'ImageError' && 'kind' in error;
}

/**
 * `invalid-argument` with the same wording as the argument checks, which are built on this module.
 */
function notThat(what: string, field: string, expected: string): ImageError {
  return new ImageError('invalid-argument', `An argument of ${what} has the wrong type`, { field, expected });
}

/** Throws an `internal:` error when an invariant of vdkit is broken. Never used for file content, arguments or I/O. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`internal: ${what}`);
}

/** The error with another path in its context if it has the path `from`. */
export function withPath(error: unknown, from: string, to: string): unknown {
  if (!isImageError(error) || error.context.path !== from || from === to) return error;
  const { kind, message, context, hint, status, cause } = error;
  return new ImageError(kind, message, {
    ...context,
    path: to,
    ...(hint === undefined ? {} : { hint }),
    status,
    cause,
  });
}

/** The same failure with more context; fields that are already set are kept. */
export function withContext(error: unknown, details: ErrorDetails): unknown {
  if (!isImageError(error)) return error;
  const hint = error.hint ?? details.hint;
  return new ImageError(error.kind, error.message, {
    ...details,
    ...error.context,
    ...(hint === undefined ? {} : { hint }),
    status: error.status,
    cause: error.cause,
  });
}

/** True for damage of a file or its medium: other ranges may still be readable. */
export function isDamage(error: unknown): error is ImageError {
  return isImageError(error) && (error.kind === 'io' || error.kind === 'corrupt');
}

/** The failure without its numbers, equal for neighbouring ranges: `disk.vdi: The block map is cut off`. */
export function reasonOf({ message, context: { path } }: ImageError): string {
  return path === undefined ? message : `${path}: ${message}`;
}

/** Throws `aborted` when the signal has fired. Called between the steps of long operations. */
export function throwIfAborted(signal: AbortSignal | undefined, what = 'The operation'): void {
  if (signal?.aborted === true) {
    throw new ImageError('aborted', `${what} was cancelled`, { cause: signal.reason });
  }
}

/** Formats a number as `0x1f00`. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** Formats a 32-bit number as `0x0000001f`. */
export function hex32(value: number): string {
  return `0x${(value >>> 0).toString(16).padStart(8, '0')}`;
}

const UNPRINTABLE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  /[\u{d800}-\u{dfff}\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

/** Makes text from an image safe to print: control characters, and bytes of names that are not UTF-8, become escapes. */
export function printable(text: string): string {
  if (typeof text !== 'string') throw notThat('printable', 'text', 'text');
  return text.replace(UNPRINTABLE, (char) => {
    const unit = char.codePointAt(0) ?? 0;
    // A byte of a file name that is not UTF-8.
    const code = unit >= 0xdc80 && unit <= 0xdcff ? unit - 0xdc00 : unit;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** Makes text of several lines safe to print: control characters become escapes, line breaks stay. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** The one-line form: `disk.vdi: The block map is cut off (offset 0x200, found 12, expected 64)`. */
export function describeError(error: ImageError): string {
  if (!isImageError(error)) throw notThat('describeError', 'error', 'an ImageError');
  const { path, offset, guestOffset, field, found, expected } = error.context;
  const facts: string[] = [];
  if (offset !== undefined) facts.push(`offset ${hex(offset)}`);
  if (guestOffset !== undefined) facts.push(`guest offset ${hex(guestOffset)}`);
  if (field !== undefined) facts.push(`field ${field}`);
  if (found !== undefined) facts.push(`found ${found}`);
  if (expected !== undefined) facts.push(`expected ${expected}`);
  const where = path === undefined ? '' : `${path}: `;
  const details = facts.length === 0 ? '' : ` (${facts.join(', ')})`;
  return printable(`${where}${error.message}${details}`);
}
