import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { alignDown, alignUp, divCeil, divExact, divFloor, isAligned, isPowerOfTwo } from './numbers.ts';

const LIMIT = 2 ** 50;
const value = fc.maxSafeNat().map((n) => n % LIMIT);
const unit = fc.constantFrom(1, 3, 512, 513, 2 ** 20, 2 ** 31, 2 ** 33 + 1);

describe('alignment', () => {
  it('is exact far beyond 32 bits', () => {
    fc.assert(
      fc.property(value, unit, (n, by) => {
        const down = BigInt(n) - (BigInt(n) % BigInt(by));
        const exact = down === BigInt(n);
        expect(BigInt(alignDown(n, by))).toBe(down);
        expect(BigInt(alignUp(n, by))).toBe(exact ? down : down + BigInt(by));
        expect(isAligned(n, by)).toBe(exact);
      }),
    );
  });
});

describe('division', () => {
  it('rounds as its name says', () => {
    expect([divFloor(7, 2), divCeil(7, 2), divCeil(8, 2)]).toEqual([3, 4, 4]);
    expect(divExact(2 ** 50, 2 ** 10)).toBe(2 ** 40);
    expect(() => divExact(7, 2)).toThrow('internal');
  });
});

describe('isPowerOfTwo', () => {
  it('knows the powers up to 2^52 and nothing else', () => {
    for (let exponent = 0; exponent <= 52; exponent++) expect(isPowerOfTwo(2 ** exponent)).toBe(true);
    for (const other of [0, -2, 3, 0.5, 2 ** 31 + 1, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(isPowerOfTwo(other)).toBe(false);
    }
  });

  it('tells the neighbours of large powers apart', () => {
    for (let exponent = 2; exponent <= 52; exponent++) {
      expect(isPowerOfTwo(2 ** exponent - 1)).toBe(false);
      expect(isPowerOfTwo(2 ** exponent + 1)).toBe(false);
    }
  });
});
