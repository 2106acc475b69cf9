/** Arithmetic on byte counts. All exact up to 2^53 - 1; bit operators stop at 2^31 and are not used on offsets. */
import { assert } from '../errors.ts';

/** Bytes in the smallest addressable unit of a disk. */
export const SECTOR = 512;

/** Largest multiple of `unit` that is not above `value`. */
export function alignDown(value: number, unit: number): number {
  return value - (value % unit);
}

/** Smallest multiple of `unit` that is not below `value`. */
export function alignUp(value: number, unit: number): number {
  const rest = value % unit;
  return rest === 0 ? value : value + unit - rest;
}

/** True when `value` is a multiple of `unit`. */
export function isAligned(value: number, unit: number): boolean {
  return value % unit === 0;
}

/** Quotient of a division that must have no remainder. */
export function divExact(value: number, unit: number): number {
  assert(value % unit === 0, 'division without rest');
  return value / unit;
}

/** Quotient rounded up. */
export function divCeil(value: number, unit: number): number {
  return Math.ceil(value / unit);
}

/** Quotient rounded down. */
export function divFloor(value: number, unit: number): number {
  return Math.floor(value / unit);
}

/**
 * The largest of the values, at least `least`. Works for lists of any length, where spreading into `Math.max` would
 * overflow the stack.
 */
export function largest(values: Iterable<number>, least: number): number {
  let found = least;
  for (const value of values) if (value > found) found = value;
  return found;
}

/** The smallest of the values, at most `most`. */
export function smallest(values: Iterable<number>, most: number): number {
  let found = most;
  for (const value of values) if (value < found) found = value;
  return found;
}

/** True for 1, 2, 4, 8, … up to 2^52. */
export function isPowerOfTwo(value: number): boolean {
  // Near 2^50 the logarithm of a neighbour rounds to a whole number too.
  return Number.isSafeInteger(value) && value > 0 && 2 ** Math.round(Math.log2(value)) === value;
}
