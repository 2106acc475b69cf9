/** Bytes that look random. */
import type { Random } from './random.ts';

/** Bytes that follow from the seed of the numbers. */
export function randomBytes(random: Random, length: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  random.fill(words);
  return new Uint8Array(words.buffer, 0, length);
}
