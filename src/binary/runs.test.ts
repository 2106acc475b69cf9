import { expect, it } from 'vitest';
import { RunList } from './runs.ts';

it('keeps numbers in their order, neighbours as one run', () => {
  const list = new RunList();
  for (const value of [5, 6, 7, 9, 8, 7, 7, 8]) list.push(value);
  expect([...list]).toEqual([
    { start: 5, end: 8 },
    { start: 9, end: 10 },
    { start: 8, end: 9 },
    { start: 7, end: 8 },
    { start: 7, end: 9 },
  ]);
});

it('takes the memory of one run for a million neighbours', () => {
  const list = new RunList();
  for (let value = 0; value < 1_000_000; value++) list.push(value);
  expect([...list]).toEqual([{ start: 0, end: 1_000_000 }]);
  expect(list.memoryBytes).toBe(16);
});

it('is empty when nothing came', () => {
  expect([...new RunList()]).toEqual([]);
});
