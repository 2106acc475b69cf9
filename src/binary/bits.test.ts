import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BitSet, SparseBitSet } from './bits.ts';

const steps = (max: number) =>
  fc.array(fc.record({ add: fc.boolean(), value: fc.integer({ min: 0, max }) }), { maxLength: 60 });

describe('BitSet', () => {
  const LENGTH = 70;

  it('behaves as a plain set', () => {
    fc.assert(
      fc.property(steps(LENGTH - 1), fc.integer({ min: 0, max: LENGTH }), (list, from) => {
        const bits = new BitSet(LENGTH);
        const plain = new Set<number>();
        for (const { add, value } of list) {
          if (add) expect(bits.add(value)).toBe(!plain.has(value));
          else expect(bits.delete(value)).toBe(plain.has(value));
          if (add) plain.add(value);
          else plain.delete(value);
        }
        expect(bits.size).toBe(plain.size);
        const all = Array.from({ length: LENGTH }, (_, value) => value);
        expect(all.filter((value) => bits.has(value))).toEqual(all.filter((value) => plain.has(value)));
        expect(bits.next(from)).toBe(all.find((value) => value >= from && plain.has(value)) ?? -1);
        expect(bits.nextFree(from)).toBe(all.find((value) => value >= from && !plain.has(value)) ?? -1);
      }),
    );
  });

  it('finds no free number behind its length', () => {
    const bits = new BitSet(33);
    for (let value = 0; value < 33; value++) bits.add(value);
    expect(bits.nextFree(0)).toBe(-1);
    expect(bits.has(33)).toBe(false);
    expect(bits.delete(33)).toBe(false);
    expect(() => bits.add(33)).toThrow('internal');
  });
});

describe('SparseBitSet', () => {
  it('behaves as a plain set, far beyond 32 bits', () => {
    const base = 2 ** 52;
    fc.assert(
      fc.property(steps(200_000), (list) => {
        const bits = new SparseBitSet();
        const plain = new Set<number>();
        for (const { add, value } of list) {
          if (add) expect(bits.add(base + value)).toBe(!plain.has(value));
          else expect(bits.delete(base + value)).toBe(plain.has(value));
          if (add) plain.add(value);
          else plain.delete(value);
          expect(bits.has(base + value)).toBe(add);
        }
        expect(bits.size).toBe(plain.size);
        for (const value of plain) expect(bits.has(base + value)).toBe(true);
      }),
    );
  });

  it('takes memory by its members and gives it back', () => {
    const bits = new SparseBitSet();
    bits.add(0);
    bits.add(2 ** 40);
    expect(bits.memoryBytes).toBe(16_384);
    bits.delete(2 ** 40);
    expect(bits.memoryBytes).toBe(8192);
    expect(bits.has(2 ** 40)).toBe(false);
  });
});
