/**
 * Bitmaps with a bit for each sector or subcluster of a block: runs of bits that are alike, and changing some of them. In
 * bytes, whose bits are counted from either end (VHD: the highest is the first; VHDX and the bitmaps of QCOW2: the lowest),
 * and in words of 32 bits, the lowest first (subclusters of QCOW2).
 */

/** The bit of a byte that is the first. */
export type BitOrder = 'highest-first' | 'lowest-first';

const ONES = 0xff;
const WORD_BITS = 32;

/** True when a bit is set; those behind the end are not. */
export function hasBit(bits: Uint8Array, index: number, order: BitOrder): boolean {
  return ((bits[Math.floor(index / 8)] ?? 0) & maskIn(index % 8, order)) !== 0;
}

/** End of the run of bits like the one at `from`, at `end` at the latest. */
export function bitRunEnd(bits: Uint8Array, from: number, end: number, order: BitOrder): number {
  const isSet = hasBit(bits, from, order);
  const whole = isSet ? ONES : 0;
  let at = from + 1;
  while (at < end) {
    if (at % 8 === 0 && at + 8 <= end && (bits[at / 8] ?? 0) === whole) at += 8;
    else if (hasBit(bits, at, order) === isSet) at++;
    else return at;
  }
  return Math.min(at, end);
}

/** Sets bits `[first, end)`, or clears them. */
export function setBits(bits: Uint8Array, first: number, end: number, order: BitOrder, isSet = true): void {
  const [from, to] = [Math.ceil(first / 8), Math.floor(end / 8)];
  if (from < to) bits.fill(isSet ? ONES : 0, from, to);
  for (let bit = first; bit < Math.min(end, from * 8); bit++) setBit(bits, bit, order, isSet);
  for (let bit = Math.max(first, to * 8); bit < end; bit++) setBit(bits, bit, order, isSet);
}

/** A word in which bits `[first, end)` are set, as far as it has them. */
export function wordMask(first: number, end: number): number {
  const [from, to] = [Math.max(first, 0), Math.min(end, WORD_BITS)];
  if (from >= to) return 0;
  const ones = to - from === WORD_BITS ? 0xffff_ffff : 2 ** (to - from) - 1;
  return (ones << from) >>> 0;
}

/** End of the run of bits like the one at `from` in a word. */
export function wordRunEnd(word: number, from: number): number {
  const bit = (word >>> from) & 1;
  // Set where a bit differs from the first.
  const others = ((bit === 1 ? ~word : word) >>> from) << from;
  return others === 0 ? WORD_BITS : 31 - Math.clz32(others & -others);
}

function setBit(bits: Uint8Array, index: number, order: BitOrder, isSet: boolean): void {
  const at = Math.floor(index / 8);
  const mask = maskIn(index % 8, order);
  bits[at] = isSet ? (bits[at] ?? 0) | mask : (bits[at] ?? 0) & ~mask;
}

function maskIn(inByte: number, order: BitOrder): number {
  return order === 'highest-first' ? 0x80 >> inByte : 1 << inByte;
}
