/**
 * Detection of noise before time is spent on compressing it: encrypted or compressed data does not get smaller.
 *
 * The frequencies of byte values are compared with those of noise (Pearson's chi-squared, 255 degrees of freedom: 255
 * on average, above 300 in one of forty cases). Text, code and numbers score thousands higher; one KiB of them in 64
 * KiB of noise is detected, and so is a fifth of the data repeated. A block classified as noise by mistake could shrink
 * by no more than that; one classified as data by mistake costs one compression attempt.
 */

/** Smallest sample with any significance. */
const FIRST = 4096;
/** Limit for a first sample, which most data exceeds. */
const FIRST_LIMIT = 400;
const LIMIT = 300;
/** Data more even than noise follows a rule: noise is that even once in a thousand samples. */
const EVEN = 190;
const VALUES = 256;

const counts = new Uint32Array(VALUES);

/** True when compression would, in all likelihood, not shrink the bytes. Always false for short ones. */
export function looksLikeNoise(bytes: Uint8Array): boolean {
  const { length } = bytes;
  if (length < FIRST) return false;
  counts.fill(0);
  count(bytes, 0, FIRST);
  if (chiSquared(FIRST) > FIRST_LIMIT) return false;
  count(bytes, FIRST, length);
  const found = chiSquared(length);
  return found >= EVEN && found <= LIMIT;
}

function count(bytes: Uint8Array, start: number, end: number): void {
  for (let at = start; at < end; at++) counts[bytes[at] as number] = (counts[bytes[at] as number] as number) + 1;
}

function chiSquared(total: number): number {
  let squares = 0;
  for (let value = 0; value < VALUES; value++) squares += (counts[value] as number) ** 2;
  return (VALUES / total) * squares - total;
}
