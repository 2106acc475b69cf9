/** Byte comparison as fast as the platform allows: native in Node, by machine words elsewhere. */
import { alignDown } from '../binary/numbers.ts';
import { assert } from '../errors.ts';

interface NativeBuffer {
  compare(a: Uint8Array, b: Uint8Array): number;
  readonly prototype: {
    /** Works on any Uint8Array and avoids views of its parts. */
    compare(b: Uint8Array, bStart: number, bEnd: number, start: number, end: number): number;
  };
}
const native = (globalThis as { Buffer?: NativeBuffer | undefined }).Buffer;

/** Bytes compared at once: both buffers stay in the processor's cache. */
const PAGE = 64 * 1024;
const ZEROES = new Uint8Array(PAGE);
/** Bytes checked one by one before a native call, which costs more than checking them. */
const FIRST = 16;

/** A stretch of bytes; `end` is exclusive. */
export interface ByteRun {
  readonly start: number;
  readonly end: number;
}

/** True when every byte is zero. Data that begins with a non-zero byte costs nanoseconds. */
export function isZero(bytes: Uint8Array): boolean {
  return isZeroBetween(bytes, 0, bytes.length);
}

/** True when bytes `[start, end)` are zero; makes no view of them. */
export function isZeroIn(bytes: Uint8Array, start: number, end: number): boolean {
  return isZeroBetween(bytes, start, end);
}

/** True when both have the same bytes. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  if (native !== undefined) return native.compare(a, b) === 0;
  return firstDifference(a, b) === -1;
}

/** Index of the first byte that differs; -1 when none does. The shorter one ends the search. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  let at = native === undefined ? sameWords(a, b, length) : samePages(a, b, length, native);
  for (; at < length; at++) if (a[at] !== b[at]) return at;
  return -1;
}

/** Maximal runs of units that are not all zero. The last unit may be short. Cheap for all data and for all zeroes. */
export function dataRuns(bytes: Uint8Array, unit: number): ByteRun[] {
  assert(unit >= 1, 'a unit has bytes');
  const { length } = bytes;
  const runs: ByteRun[] = [];
  let at = 0;
  while (at < length) {
    const start = skipZeroes(bytes, at, unit);
    let end = start;
    while (end < length && !isZeroBetween(bytes, end, Math.min(end + unit, length))) end += unit;
    end = Math.min(end, length);
    if (end > start) runs.push({ start, end });
    at = Math.max(end, start);
  }
  return runs;
}

/**
 * The first unit from `from` on that is not all zero, or the length: page by page through zeroes, then unit by unit.
 */
export function skipZeroes(bytes: Uint8Array, from: number, unit: number): number {
  const { length } = bytes;
  const stride = Math.max(alignDown(PAGE, unit), unit);
  let at = from;
  while (at < length && isZeroBetween(bytes, at, Math.min(at + stride, length))) at += stride;
  while (at < length && isZeroBetween(bytes, at, Math.min(at + unit, length))) at += unit;
  return Math.min(at, length);
}

/** Makes no view if one of the first bytes is non-zero: views cost more than the bytes. */
function isZeroBetween(bytes: Uint8Array, start: number, end: number): boolean {
  const few = Math.min(start + FIRST, end);
  for (let at = start; at < few; at++) if (bytes[at] !== 0) return false;
  if (few === end) return true;
  if (native === undefined) return isZeroByWords(bytes.subarray(few, end));
  for (let at = few; at < end; at += PAGE) {
    const stop = Math.min(at + PAGE, end);
    if (native.prototype.compare.call(bytes, ZEROES, 0, stop - at, at, stop) !== 0) return false;
  }
  return true;
}

function isZeroByWords(bytes: Uint8Array): boolean {
  const { length } = bytes;
  const lead = leadOf(bytes);
  for (let at = 0; at < lead; at++) if (bytes[at] !== 0) return false;
  const words = wordsOf(bytes, lead, length);
  for (let word = 0; word < words.length; word++) if (words[word] !== 0n) return false;
  for (let at = lead + words.length * 8; at < length; at++) if (bytes[at] !== 0) return false;
  return true;
}

/** Bytes at the start that are equal, in whole pages. */
function samePages(a: Uint8Array, b: Uint8Array, length: number, by: NativeBuffer): number {
  let at = 0;
  while (at < length) {
    const end = Math.min(at + PAGE, length);
    if (by.compare(a.subarray(at, end), b.subarray(at, end)) !== 0) return at;
    at = end;
  }
  return length;
}

/** Equal bytes at the start, compared eight at a time where both are aligned alike; at most seven too few. */
function sameWords(a: Uint8Array, b: Uint8Array, length: number): number {
  if (a.byteOffset % 8 !== b.byteOffset % 8) return 0;
  const lead = Math.min(leadOf(a), length);
  for (let at = 0; at < lead; at++) if (a[at] !== b[at]) return at;
  const first = wordsOf(a, lead, length);
  const second = wordsOf(b, lead, length);
  let word = 0;
  while (word < first.length && first[word] === second[word]) word++;
  return lead + word * 8;
}

/** Bytes before the first aligned word in memory. */
function leadOf(bytes: Uint8Array): number {
  return Math.min((8 - (bytes.byteOffset % 8)) % 8, bytes.length);
}

/** The whole words from the word boundary at `lead` up to `length`. */
function wordsOf(bytes: Uint8Array, lead: number, length: number): BigUint64Array {
  const count = Math.floor((length - lead) / 8);
  return count === 0 ? new BigUint64Array(0) : new BigUint64Array(bytes.buffer, bytes.byteOffset + lead, count);
}
