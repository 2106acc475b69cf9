/** The guest content that golden images hold, computed from their manifest: see README.md, "The content rule". */
import { SECTOR } from '../../src/binary/numbers.ts';

/** One step that made the content. */
export type ContentOp =
  | readonly ['zero', offset: number, length: number]
  | readonly ['pattern', tag: string, offset: number, length: number];

/** The bytes `[offset, offset + length)` of a disk after all steps; both are multiples of 512. */
export function expectedContent(ops: readonly ContentOp[], offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (const op of ops) {
    const [from, size] = op[0] === 'zero' ? [op[1], op[2]] : [op[2], op[3]];
    const start = Math.max(from, offset);
    const end = Math.min(from + size, offset + length);
    if (start >= end) continue;
    if (op[0] === 'zero') bytes.fill(0, start - offset, end - offset);
    else fillPattern(bytes.subarray(start - offset, end - offset), op[1], start);
  }
  return bytes;
}

/** Fills whole sectors with the pattern for `tag` at guest offset `offset`. */
export function fillPattern(target: Uint8Array, tag: string, offset: number): void {
  const tagBytes = new TextEncoder().encode(tag.padEnd(8));
  const tagSum = tagBytes.reduce((sum, byte) => sum + byte, 0);
  const view = new DataView(target.buffer, target.byteOffset, target.length);
  for (let at = 0; at < target.length; at += SECTOR) {
    const lba = (offset + at) / SECTOR;
    view.setBigUint64(at, BigInt(lba), true);
    target.set(tagBytes, at + 8);
    let value = (16 + 13 * lba + tagSum) % 256;
    for (let i = 16; i < SECTOR; i++) {
      target[at + i] = value;
      value = (value + 1) & 0xff;
    }
  }
}
