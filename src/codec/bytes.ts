/** Comparing bytes as fast as the platform can: natively in Node, by machine words elsewhere. */

interface NativeBuffer {
  compare(a: Uint8Array, b: Uint8Array): number;
}
const native = (globalThis as { Buffer?: NativeBuffer }).Buffer;

const PAGE = 64 * 1024;
const ZEROES = new Uint8Array(PAGE);

/** True when every byte is zero. Data that begins with something else costs nanoseconds. */
export function isZero(bytes: Uint8Array): boolean {
  const probe = Math.min(bytes.length, 16);
  for (let at = 0; at < probe; at++) if (bytes[at] !== 0) return false;
  if (bytes.length <= probe) return true;
  for (let at = 0; at < bytes.length; at += PAGE) {
    const piece = bytes.subarray(at, at + PAGE);
    if (!equalBytes(piece, piece.length === PAGE ? ZEROES : ZEROES.subarray(0, piece.length))) return false;
  }
  return true;
}

/** True when both hold the same bytes. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  if (native !== undefined) return native.compare(a, b) === 0;
  return firstDifference(a, b) === -1;
}

/** Index of the first byte that differs; -1 when none does. The shorter one ends the search. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  let at = 0;
  while (native !== undefined && at < length) {
    const end = Math.min(at + PAGE, length);
    if (native.compare(a.subarray(at, end), b.subarray(at, end)) !== 0) break;
    at = end;
  }
  if (native === undefined) at = sameWords(a, b, length);
  for (; at < length; at++) if (a[at] !== b[at]) return at;
  return -1;
}

/** Bytes at the start that are equal, compared eight at a time; at most seven too few. */
function sameWords(a: Uint8Array, b: Uint8Array, length: number): number {
  if (a.byteOffset % 8 !== 0 || b.byteOffset % 8 !== 0) return 0;
  const words = Math.floor(length / 8);
  const first = new BigUint64Array(a.buffer, a.byteOffset, words);
  const second = new BigUint64Array(b.buffer, b.byteOffset, words);
  let word = 0;
  while (word < words && first[word] === second[word]) word++;
  return word * 8;
}

/** A stretch of bytes, `end` not included. */
export interface ByteRun {
  readonly start: number;
  readonly end: number;
}

/** Maximal runs of units that are not all zero. The last unit may be short. */
export function dataRuns(bytes: Uint8Array, unit: number): ByteRun[] {
  if (isZero(bytes)) return [];
  const runs: ByteRun[] = [];
  let start = -1;
  for (let at = 0; at < bytes.length; at += unit) {
    const zero = isZero(bytes.subarray(at, at + unit));
    if (zero && start !== -1) runs.push({ start, end: at });
    if (zero) start = -1;
    else if (start === -1) start = at;
  }
  if (start !== -1) runs.push({ start, end: bytes.length });
  return runs;
}
