/** Numbers and bytes that depend on a seed only, so that a failure can be played again. */
export { randomBytes } from '../../src/testing/random-bytes.ts';

/** Number of rounds: more in the long run (`npm run test:long`). */
export function rounds(usual: number, long: number): number {
  return process.env['VDKIT_LONG'] ? long : usual;
}

/** One in `every` of the values, beginning with number `first`; all of them in the long run. */
export function oneIn<T>(every: number, values: readonly T[], first = 0): readonly T[] {
  return values.filter((_, index) => index % rounds(every, 1) === first % rounds(every, 1));
}
