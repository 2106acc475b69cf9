/** Comparing megabytes: `toEqual` looks at each element, and prints each when they differ. */
import { expect } from 'vitest';

/** Expects equal bytes; says where the first difference is. */
export function expectSameBytes(found: Uint8Array, wanted: Uint8Array, what = 'the bytes'): void {
  expect(found.length, `length of ${what}`).toBe(wanted.length);
  const at = firstDifference(found, wanted);
  if (at >= 0) expect.fail(`${what} differ at ${at}: found ${found[at]}, wanted ${wanted[at]}`);
}

/** A separate loop, since browsers have no Buffer and vdkit's own function is under test. Equal lengths. */
function firstDifference(found: Uint8Array, wanted: Uint8Array): number {
  for (let at = 0; at < wanted.length; at++) if (found[at] !== wanted[at]) return at;
  return -1;
}
