import { expect, it } from 'vitest';
import { MemoryStorage } from './memory.ts';
import { readPadded } from './read-padded.ts';

it.each([
  ['inside', 0, [1, 2]],
  ['across the end', 2, [3, 0]],
  ['at the end', 3, [0, 0]],
  ['far behind the end', 1000, [0, 0]],
])('reads %s', async (_where, offset, expected) => {
  const storage = new MemoryStorage();
  await storage.write(0, Uint8Array.of(1, 2, 3));
  const target = new Uint8Array(2).fill(9);
  await readPadded(storage, offset, target);
  expect([...target]).toEqual(expected);
});
