/** Bytes that look random. */
import type { Random } from './random.ts';

/** Bytes that follow from the seed of the numbers. */
export function randomBytes(random: Random, length: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  // A loop: `Uint32Array.from` makes an object of each number first.
  for (let index = 0; index < words.length; index++) words[index] = random.next();
  return new Uint8Array(words.buffer, 0, length);
}
