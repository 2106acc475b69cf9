import { describe, expect, it } from 'vitest';
import { isPromise } from '../storage/contract.ts';
import { type RangeLock, RangeLocks } from './range-locks.ts';

function held(lock: RangeLock | Promise<RangeLock>): RangeLock {
  if (isPromise(lock)) throw new Error('the lock was not granted at once');
  return lock;
}

describe('range locks', () => {
  it('grants what does not overlap, and shared holders of one range, at once', () => {
    const locks = new RangeLocks();
    held(locks.acquire(0, 10, true));
    held(locks.acquire(10, 20, true));
    held(locks.acquire(20, 30, false));
    held(locks.acquire(25, 35, false));
  });

  it('keeps an exclusive holder from every other one', async () => {
    const locks = new RangeLocks();
    const first = held(locks.acquire(0, 10, true));
    const order: string[] = [];
    const reader = Promise.resolve(locks.acquire(5, 6, false)).then(() => order.push('reader'));
    const writer = Promise.resolve(locks.acquire(9, 11, true)).then(() => order.push('writer'));
    await Promise.resolve();
    expect(order).toEqual([]);
    expect(locks.isFree(5, 6)).toBe(false);
    expect(locks.isFree(12, 13)).toBe(true);
    first.release();
    await Promise.all([reader, writer]);
    expect(order.sort()).toEqual(['reader', 'writer']);
  });

  it('lets nobody overtake a waiting writer on its range', async () => {
    const locks = new RangeLocks();
    const reader = held(locks.acquire(0, 10, false));
    const order: string[] = [];
    const writer = Promise.resolve(locks.acquire(0, 10, true)).then((lock) => {
      order.push('writer');
      lock.release();
    });
    const late = Promise.resolve(locks.acquire(0, 10, false)).then(() => order.push('late reader'));
    reader.release();
    await Promise.all([writer, late]);
    expect(order).toEqual(['writer', 'late reader']);
  });

  it('gives all of the disk when nobody who came before is left', async () => {
    const locks = new RangeLocks();
    const lock = held(locks.acquire(0, 10, true));
    let alone = false;
    const waiting = Promise.resolve(locks.acquire(0, Number.MAX_SAFE_INTEGER, true)).then((all) => {
      alone = true;
      return all;
    });
    await Promise.resolve();
    expect(alone).toBe(false);
    lock.release();
    (await waiting).release();
    expect(locks.isFree(0, Number.MAX_SAFE_INTEGER)).toBe(true);
  });

  it('refuses to give a lock back twice', () => {
    const lock = held(new RangeLocks().acquire(0, 1, true));
    lock.release();
    expect(() => lock.release()).toThrow('internal');
  });
});
