/** Work on many items, some at a time. */
import { describe, expect, it } from 'vitest';
import { someAtATime } from './all-done.ts';

const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('work on some items at a time', () => {
  it('has its results in the order of the items, and a bounded number running', async () => {
    let [running, most] = [0, 0];
    const results = await someAtATime([5, 1, 3, 0, 2], 2, async (item, index) => {
      most = Math.max(most, ++running);
      await later(item);
      running--;
      return [item, index];
    });
    expect(results).toEqual([5, 1, 3, 0, 2].map((item, index) => [item, index]));
    expect(most).toBe(2);
  });

  it('begins nothing after a failure, waits for what runs, and throws the failure of the first item', async () => {
    const [begun, ended]: [number[], number[]] = [[], []];
    const work = someAtATime([20, 5, 1, 1], 2, async (item, index) => {
      begun.push(index);
      await later(item);
      ended.push(index);
      throw new Error(`item ${index}`);
    });
    await expect(work).rejects.toThrow('item 0');
    expect([begun, ended]).toEqual([
      [0, 1],
      [1, 0],
    ]);
  });
});
