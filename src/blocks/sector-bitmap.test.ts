import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BitOrder, bitRunEnd, hasBit, setBits, wordMask, wordRunEnd } from './sector-bitmap.ts';

const BYTES = 9;
const BITS = BYTES * 8;
const order = fc.constantFrom<BitOrder>('highest-first', 'lowest-first');
const range = fc.tuple(fc.nat(BITS), fc.nat(BITS)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
const change = fc.record({ range, isSet: fc.boolean() });

function endOf(flags: readonly boolean[], from: number, end: number): number {
  let at = from + 1;
  while (at < end && flags[at] === flags[from]) at++;
  return at;
}

describe('bits in bytes', () => {
  it('are counted from the end of a byte that the format counts from', () => {
    const bits = new Uint8Array(2);
    setBits(bits, 1, 2, 'highest-first');
    setBits(bits, 9, 10, 'lowest-first');
    expect([...bits]).toEqual([0x40, 0x02]);
    expect(hasBit(bits, 1, 'highest-first')).toBe(true);
    expect(hasBit(bits, 9, 'lowest-first')).toBe(true);
  });

  it('are not set behind the end', () => {
    expect(hasBit(new Uint8Array([0xff]), 8, 'lowest-first')).toBe(false);
  });

  it('agree with an array of flags, and so do their runs', () => {
    fc.assert(
      fc.property(order, fc.array(change, { maxLength: 12 }), (one, changes) => {
        const bits = new Uint8Array(BYTES);
        const flags = new Array<boolean>(BITS).fill(false);
        for (const { range, isSet } of changes) {
          setBits(bits, range[0], range[1], one, isSet);
          flags.fill(isSet, range[0], range[1]);
        }
        for (let at = 0; at < BITS; at++) {
          expect(hasBit(bits, at, one)).toBe(flags[at]);
          for (const end of [at + 1, Math.min(at + 11, BITS), BITS]) {
            expect(bitRunEnd(bits, at, end, one)).toBe(endOf(flags, at, end));
          }
        }
      }),
    );
  });
});

describe('bits in words', () => {
  it('agree with an array of flags, and so do their runs', () => {
    const inWord = fc.tuple(fc.integer({ min: -3, max: 40 }), fc.integer({ min: -3, max: 40 }));
    fc.assert(
      fc.property(inWord, ([first, end]) => {
        const flags = Array.from({ length: 32 }, (_, n) => n >= first && n < end);
        const word = wordMask(first, end);
        expect(word).toBe(flags.reduce((sum, flag, n) => sum + (flag ? 2 ** n : 0), 0));
        for (let at = 0; at < 32; at++) expect(wordRunEnd(word, at)).toBe(endOf(flags, at, 32));
      }),
    );
    fc.assert(
      fc.property(fc.nat(0xffff_ffff), fc.nat(31), (word, at) => {
        const flags = Array.from({ length: 32 }, (_, n) => Math.floor(word / 2 ** n) % 2 === 1);
        expect(wordRunEnd(word, at)).toBe(endOf(flags, at, 32));
      }),
    );
  });
});
