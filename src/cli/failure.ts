/** Failures, printed for people and for programs, and their exit statuses. */
import { describeError, type ErrorContext, ImageError, isImageError, printable } from '../errors.ts';

/** Exit statuses that all commands share. `damaged`: done, except for ranges that cannot be read. */
export const EXIT = { done: 0, failed: 1, damaged: 2, usage: 64, interrupted: 130 } as const;

/** The command line itself is wrong: nothing was tried. */
export class UsageError extends ImageError {
  constructor(message: string, hint: string, context: ErrorContext = {}) {
    super('invalid-argument', message, { ...context, hint });
  }
}

/** The reader of our output has gone away: end silently. */
export class OutputClosed extends Error {
  readonly exitStatus: number;

  /**
   * `exitStatus` is 0 by default: a reader that has seen enough, such as `head`, is not a failure.
   */
  constructor(exitStatus: number = EXIT.done) {
    super('The reader of the output has gone away');
    this.exitStatus = exitStatus;
  }
}

/** One failure, ready to be printed. */
export interface Failure {
  readonly exitStatus: number;
  readonly kind: string;
  readonly status: string | null;
  readonly message: string;
  readonly context: ErrorContext;
  readonly hint: string | null;
  /** The line for people, without `error: `. */
  readonly line: string;
}

/**
 * Classifies an error. `trouble` is the exit status for the command's failures, `cancelled` the text for an interrupt.
 */
export function failureOf(
  thrown: unknown,
  how: { readonly trouble: number; readonly cancelled: string | null },
): Failure {
  if (how.cancelled !== null) {
    const message = `cancelled; ${how.cancelled}`;
    const facts = { kind: 'aborted', status: 'VERR_CANCELLED', message, context: {}, hint: null };
    return { ...facts, exitStatus: EXIT.interrupted, line: printable(message) };
  }
  const error = firstFailure(thrown);
  if (!isImageError(error)) return internalFailure(error, how.trouble);
  const { kind, status, message, context } = error;
  return {
    exitStatus: error instanceof UsageError ? EXIT.usage : how.trouble,
    kind,
    status,
    message,
    context,
    hint: error.hint ?? DEFAULT_HINTS[kind] ?? null,
    line: describeError(error),
  };
}

/** Leaving an `await using` block while an error propagates may throw again: the first error counts. */
function firstFailure(thrown: unknown): unknown {
  let error = thrown;
  while (error instanceof Error && error.name === 'SuppressedError' && 'suppressed' in error) error = error.suppressed;
  return error;
}

/** Hints for errors that leave the lower layers without one. */
const DEFAULT_HINTS: Readonly<Partial<Record<ImageError['kind'], string>>> = {
  corrupt: 'The file is damaged or incomplete: compare it with the original, or copy it again.',
  'invalid-format': 'Check the file, or name its format with --format.',
  'invalid-argument': 'Check the values on the command line.',
  unsupported: '"vdkit formats" lists the capabilities of each format.',
  denied: 'Check the permissions of this file.',
  limit: 'No intact image needs this much: check the file.',
  io: 'Check the medium and try again.',
};

/** Anything but an ImageError is a bug in vdkit. */
function internalFailure(error: unknown, exitStatus: number): Failure {
  const message = error instanceof Error ? error.message : String(error);
  return {
    exitStatus,
    kind: 'internal',
    status: null,
    message,
    context: {},
    hint: 'This is a bug in vdkit: please report it with the output of --debug.',
    line: printable(`vdkit failed: ${message}`),
  };
}

/** The value of `error` in a JSON document. */
export function failureDocument(failure: Failure): Record<string, unknown> {
  const { kind, status, message, context, hint } = failure;
  return { kind, status, message, context, hint };
}

/** The stack with its causes, safe to print: only for `--debug`. */
export function stackOf(error: unknown): string {
  const parts: string[] = [];
  for (
    let next = error;
    next !== undefined && parts.length < 10;
    next = next instanceof Error ? next.cause : undefined
  ) {
    parts.push(next instanceof Error ? oneStack(next) : printable(String(next)));
  }
  return parts.join('\ncaused by: ');
}

/** A message may contain lines that look like stack frames. */
function oneStack({ name, message, stack = '' }: Error): string {
  const at = stack.indexOf(message);
  const frames =
    at === -1
      ? []
      : stack
          .slice(at + message.length)
          .split('\n')
          .slice(1);
  return [printable(`${name}: ${message}`), ...frames.map(printable)].join('\n');
}
