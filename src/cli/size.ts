/** Sizes as people write and read them: powers of 1024. */
import { LIMITS } from '../limits.ts';
import { UsageError } from './failure.ts';

const UNITS = ['K', 'M', 'G', 'T', 'P'] as const;
const FORM = /^(\d{1,20})(?:\.(\d{1,20}))?([KMGTP])?(?:iB)?$/i;

/**
 * Bytes of `512`, `64K`, `10M`, `1.5G` or `2T`. `what` names the option or argument in messages. Throws a usage error
 * for anything but a whole number of bytes.
 */
export function parseSize(text: string, what: string): number {
  const match = FORM.exec(text);
  if (match === null) throw badSize(`${what} takes a size`, text);
  const [, whole = '', fraction = '', unit = ''] = match;
  const exponent = unit === '' ? 0 : UNITS.join('').indexOf(unit.toUpperCase()) + 1;
  // Exact arithmetic: a double would round 1.0000000000000000001G to a whole number.
  const scaled = BigInt(whole + fraction) * 1024n ** BigInt(exponent);
  const divisor = 10n ** BigInt(fraction.length);
  if (scaled % divisor !== 0n) throw badSize(`${what} is not a whole number of bytes`, text);
  const bytes = scaled / divisor;
  if (bytes > BigInt(LIMITS.virtualSize)) throw badSize(`${what} is too large`, text);
  return Number(bytes);
}

/** A size as `parseSize` takes it, or relative to `old`: `+1G`, `-1G`. Throws a usage error. */
export function parseNewSize(text: string, old: number, what: string): number {
  const [, sign = '', amount = ''] = /^([+-]?)(.*)$/s.exec(text) ?? [];
  const bytes = parseSize(amount, what);
  if (sign === '') return bytes;
  const size = sign === '+' ? old + bytes : old - bytes;
  if (size > 0 && size <= LIMITS.virtualSize) return size;
  const hint = `The disk has ${old} bytes.`;
  throw new UsageError(sign === '+' ? `${what} is too large` : `${what} would leave an empty disk`, hint, {
    found: text,
  });
}

function badSize(message: string, found: string): UsageError {
  return new UsageError(message, 'Write bytes, or 64K, 10M, 1.5G, 2T (powers of 1024).', { found });
}

/** A whole number from `min` to `max`. Throws a usage error for anything else. */
export function parseCount(text: string, what: string, range: { readonly min: number; readonly max: number }): number {
  const count = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (count >= range.min && count <= range.max) return count;
  const problem = Number.isNaN(count) ? 'takes a whole number' : 'is out of range';
  throw new UsageError(`${what} ${problem}`, `Give one from ${range.min} to ${range.max}.`, { found: text });
}

/** A size for people: `512 bytes`, `64 KiB`, `1.46 GiB`. */
export function formatSize(bytes: number): string {
  if (bytes < 1024) return bytes === 1 ? '1 byte' : `${Math.round(bytes)} bytes`;
  let value = bytes;
  let unit = -1;
  // What would be printed as 1024 belongs to the next unit.
  while (unit < 0 || (value >= 1023.995 && unit < UNITS.length - 1)) {
    value /= 1024;
    unit++;
  }
  const digits = value >= 100 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${UNITS[unit] ?? ''}iB`;
}
