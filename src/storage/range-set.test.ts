import { expect, it } from 'vitest';
import { Random } from '../testing/random.ts';
import { RangeSet } from './range-set.ts';

it('agrees with a list of flags', () => {
  const random = new Random(11);
  for (let round = 0; round < 20; round++) {
    const set = new RangeSet();
    const flags = new Array<boolean>(64).fill(false);
    for (let step = 0; step < 12; step++) {
      const start = random.below(60);
      const end = start + random.below(10);
      if (random.below(6) === 0) {
        set.cutFrom(start);
        flags.fill(false, start);
      } else {
        set.add(start, Math.min(end, 64));
        flags.fill(true, start, end);
      }
      for (let at = 0; at < 64; at++) expect(set.runAt(at)).toEqual(runIn(flags, at));
    }
  }
});

function runIn(flags: readonly boolean[], offset: number) {
  const inside = flags[offset] ?? false;
  let start = offset;
  let end = offset + 1;
  while (start > 0 && flags[start - 1] === inside) start--;
  while (end < flags.length && flags[end] === inside) end++;
  return { start, end: !inside && end === flags.length ? Number.POSITIVE_INFINITY : end, inside };
}

it('keeps touching ranges as one', () => {
  const set = new RangeSet();
  set.add(0, 10);
  set.add(20, 30);
  set.add(10, 20);
  expect(set.count).toBe(1);
  expect(set.runAt(15)).toEqual({ start: 0, end: 30, inside: true });
  set.add(5, 5);
  expect(set.count).toBe(1);
});
