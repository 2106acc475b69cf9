/** Comparing megabytes: `toEqual` looks at each element, and prints each when they differ. */
import { expect } from 'vitest';

/** Expects equal bytes; says where the first difference is. */
export function expectSameBytes(found: Uint8Array, wanted: Uint8Array, what = 'the bytes'): void {
  expect(found.length, `length of ${what}`).toBe(wanted.length);
  const at = firstDifference(found, wanted);
  if (at >= 0) expect.fail(`${what} differ at ${at}: found ${found[at]}, wanted ${wanted[at]}`);
}

/** Without vdkit's own function, which is under test, and in browsers without Buffer, which is faster. Equal lengths. */
function firstDifference(found: Uint8Array, wanted: Uint8Array): number {
  if (typeof Buffer !== 'undefined' && Buffer.compare(found, wanted) === 0) return -1;
  for (let at = 0; at < wanted.length; at++) if (found[at] !== wanted[at]) return at;
  return -1;
}
