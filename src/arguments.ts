/**
 * Checks of the arguments of public functions, made once, on entry: a program with wrong types, or without types, gets
 * an error that names the argument instead of a property of undefined or a meaningless answer.
 */
import { ImageError } from './errors.ts';

/** A value of the wrong kind. */
export interface Misfit {
  /** Path to the wrong part: `.parallel`, `[3].offset`; empty for the whole value. */
  readonly path: string;
  readonly found: unknown;
  readonly expected: string;
}

/** A kind of argument. */
export interface Kind {
  /** Description for messages: `a name`. */
  readonly expected: string;
  /** The part of the value that is wrong; null: none. */
  misfit(value: unknown): Misfit | null;
}

/** A kind that a test of the value alone decides. */
export function kindOf(expected: string, fits: (value: unknown) => boolean): Kind {
  return { expected, misfit: (found) => (fits(found) ? null : { path: '', found, expected }) };
}

export const TEXT = kindOf('text', (value) => typeof value === 'string');
export const NAME = kindOf('a name', (value) => typeof value === 'string' && value !== '');
export const FLAG = kindOf('true or false', (value) => typeof value === 'boolean');
/** Any number; its range is checked where it is used. */
export const NUMBER = kindOf('a number', (value) => typeof value === 'number' && !Number.isNaN(value));
export const WHOLE = kindOf('a whole number, 0 or more', (value) => Number.isSafeInteger(value) && Number(value) >= 0);
export const POSITIVE = kindOf(
  'a whole number, 1 or more',
  (value) => Number.isSafeInteger(value) && Number(value) > 0,
);
export const CALLBACK = kindOf('a function', (value) => typeof value === 'function');
export const OBJECT = kindOf('an object', isObject);
export const BYTES = kindOf('a Uint8Array', (value) => value instanceof Uint8Array);
/** Buffers of `readv` and `writev`. */
export const BUFFERS = kindOf('a Uint8Array, or a list of them', isBufferList);
/** A list of anything: for lists too long to check entry by entry. */
export const LIST = kindOf('a list', Array.isArray);

/** True for objects except arrays. */
export function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An object with these methods, of any class. */
export function withMethods(expected: string, ...methods: readonly string[]): Kind {
  return kindOf(expected, (value) => {
    if (!isObject(value) && typeof value !== 'function') return false;
    const has = value as Readonly<Record<string, unknown>>;
    return methods.every((method) => typeof has[method] === 'function');
  });
}

/** One of these words. */
export function oneOf(...words: readonly string[]): Kind {
  return kindOf(words.join(' or '), (value) => typeof value === 'string' && words.includes(value));
}

/** A kind whose value may be left out. */
export function optional(kind: Kind): Kind {
  return { expected: kind.expected, misfit: (value) => (value === undefined ? null : kind.misfit(value)) };
}

/** A kind whose value may be null. */
export function nullable(kind: Kind): Kind {
  const expected = `${kind.expected}, or null`;
  return { expected, misfit: (value) => (value === null ? null : kind.misfit(value)) };
}

/** A list of any length. */
export function listOf(kind: Kind): Kind {
  const expected = `a list: ${kind.expected}`;
  return {
    expected,
    misfit(value) {
      if (!Array.isArray(value)) return { path: '', found: value, expected };
      for (const [at, one] of value.entries()) {
        const misfit = kind.misfit(one);
        if (misfit !== null) return { ...misfit, path: `[${at}]${misfit.path}` };
      }
      return null;
    },
  };
}

/** A value of any of these kinds. */
export function either(...kinds: readonly Kind[]): Kind {
  const expected = kinds.map((kind) => kind.expected).join(', or ');
  return kindOf(expected, (value) => kinds.some((kind) => kind.misfit(value) === null));
}

/** An object whose properties of these names are of these kinds; other properties are ignored. */
export function withFields(expected: string, fields: Readonly<Record<string, Kind>>): Kind {
  const kinds = Object.entries(fields);
  return {
    expected,
    misfit(value) {
      if (!isObject(value)) return { path: '', found: value, expected };
      const has = value as Readonly<Record<string, unknown>>;
      for (const [name, kind] of kinds) {
        const misfit = kind.misfit(has[name]);
        if (misfit !== null) return { ...misfit, path: `.${name}${misfit.path}` };
      }
      return null;
    },
  };
}

/** An object of optional properties. */
export function optionsOf(kinds: Readonly<Record<string, Kind>>): Kind {
  const entries = Object.entries(kinds).map(([name, kind]) => [name, optional(kind)]);
  return withFields('an object with options', Object.fromEntries(entries));
}

/** An options object with one or two required properties. */
export function optionsWith(required: Readonly<Record<string, Kind>>, options: Kind): Kind {
  const own = withFields('an object with options', required);
  return { expected: own.expected, misfit: (value) => own.misfit(value) ?? options.misfit(value) };
}

/** Throws `invalid-argument` for the first argument of the wrong kind; `what` is the name of the called function. */
export function checkArguments(
  what: string,
  args: Readonly<Record<string, readonly [value: unknown, kind: Kind]>>,
): void {
  for (const [name, [value, kind]] of Object.entries(args)) {
    const misfit = kind.misfit(value);
    if (misfit !== null) throw wrongArgument(what, { ...misfit, path: `${name}${misfit.path}` });
  }
}

/** The error of {@link checkArguments}, for hot paths that check by hand. */
export function wrongArgument(what: string, { path, found, expected }: Misfit): ImageError {
  return new ImageError('invalid-argument', `An argument of ${what} has the wrong type`, {
    field: path,
    found: described(found),
    expected,
  });
}

const LONGEST = 60;

function described(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (typeof value === 'string') return value.length > LONGEST ? `"${value.slice(0, LONGEST)}…"` : `"${value}"`;
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'an object of another kind';
  return String(value);
}

function isBufferList(value: unknown): boolean {
  if (value instanceof Uint8Array) return true;
  return Array.isArray(value) && value.every((one) => one instanceof Uint8Array);
}
