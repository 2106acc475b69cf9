import { expect, it } from 'vitest';
import { longDate, longTime, shortDate, shortTime } from './dates.ts';

const MS = Date.UTC(2024, 1, 29, 23, 59, 58);

it('reads the dates that it writes, in other zones, too', () => {
  expect([shortTime(shortDate(MS)), longTime(longDate(MS))]).toEqual([MS, MS]);
  const east = Uint8Array.from(shortDate(MS)).fill(4, 6);
  const west = Uint8Array.from(longDate(MS)).fill(256 - 4, 16);
  expect([shortTime(east), longTime(west)]).toEqual([MS - 3_600_000, MS + 3_600_000]);
});

it('takes what is not a date for the beginning of 1970', () => {
  expect([shortTime(new Uint8Array(7)), longTime(longDate(null)), longTime(new Uint8Array(17))]).toEqual([0, 0, 0]);
});
