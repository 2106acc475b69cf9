import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RangeSet } from './ranges.ts';

const SPAN = 40;
const range = fc
  .tuple(fc.integer({ min: 0, max: SPAN }), fc.integer({ min: 0, max: SPAN }))
  .map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));
const step = fc.record({ add: fc.boolean(), range });

/** The same set as one flag a number. */
class Plain {
  readonly flags = new Array<boolean>(SPAN + 2).fill(false);

  set(start: number, end: number, member: boolean): void {
    this.flags.fill(member, start, end);
  }

  /** First number from `from` on with that flag; Infinity when there is none. */
  find(from: number, member: boolean): number {
    const at = this.flags.indexOf(member, from);
    return at === -1 ? Number.POSITIVE_INFINITY : at;
  }

  ranges(): { start: number; end: number }[] {
    const found: { start: number; end: number }[] = [];
    for (let start = this.find(0, true); start < SPAN; ) {
      const end = this.find(start, false);
      found.push({ start, end });
      start = this.find(end, true);
    }
    return found;
  }
}

function run(steps: readonly { add: boolean; range: { start: number; end: number } }[]): [RangeSet, Plain] {
  const set = new RangeSet();
  const plain = new Plain();
  for (const { add, range } of steps) {
    if (add) set.add(range.start, range.end);
    else set.remove(range.start, range.end);
    plain.set(range.start, range.end, add);
  }
  return [set, plain];
}

describe('RangeSet', () => {
  it('holds what was added and not removed, as maximal ranges in order', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const [set, plain] = run(steps);
        expect([...set]).toEqual(plain.ranges());
        expect(set.count).toBe(plain.ranges().length);
        expect(set.total).toBe(plain.flags.filter(Boolean).length);
      }),
    );
  });

  it('answers questions about numbers and ranges', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), range, (steps, { start, end }) => {
        const [set, plain] = run(steps);
        const inside = plain.flags.slice(start, end);
        expect(set.has(start)).toBe(plain.flags[start]);
        expect(set.covers(start, end)).toBe(inside.every(Boolean));
        expect(set.intersects(start, end)).toBe(inside.some(Boolean));
      }),
    );
  });

  it('finds the next range and the next gap', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), fc.integer({ min: 0, max: SPAN }), (steps, from) => {
        const [set, plain] = run(steps);
        expect(set.nextRange(from)).toEqual(plain.ranges().find(({ end }) => end > from) ?? null);
        const start = plain.find(from, false);
        expect(set.nextGap(from)).toEqual({ start, end: plain.find(start, true) });
      }),
    );
  });

  it('takes numbers up to 2^53 - 1', () => {
    const end = Number.MAX_SAFE_INTEGER;
    const set = new RangeSet([{ start: end - 2, end }]);
    expect(set.covers(end - 2, end)).toBe(true);
    expect(set.has(end)).toBe(false);
    expect(set.nextGap(0)).toEqual({ start: 0, end: end - 2 });
  });

  it('refuses ranges that are none', () => {
    const set = new RangeSet();
    expect(() => set.add(2, 1)).toThrow('internal');
    expect(() => set.remove(0, 2 ** 53)).toThrow('internal');
    expect(() => set.add(0.5, 1)).toThrow('internal');
  });

  it('is empty again after clear', () => {
    const set = new RangeSet([{ start: 1, end: 2 }]);
    set.clear();
    expect([...set]).toEqual([]);
  });
});
