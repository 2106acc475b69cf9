/** Numbers and bytes that depend on a seed only, so that a failure can be played again. */
import type { Random } from '../../src/testing/random.ts';

/** Bytes that look random. */
export function randomBytes(random: Random, length: number): Uint8Array {
  const words = Uint32Array.from({ length: Math.ceil(length / 4) }, () => random.next());
  return new Uint8Array(words.buffer, 0, length);
}

/** Number of rounds: more in the long run (`npm run test:long`). */
export function rounds(usual: number, long: number): number {
  return process.env['VDKIT_LONG'] ? long : usual;
}

/** One in `every` of the values, beginning with number `first`; all of them in the long run. */
export function oneIn<T>(every: number, values: readonly T[], first = 0): readonly T[] {
  return values.filter((_, index) => index % rounds(every, 1) === first % rounds(every, 1));
}
