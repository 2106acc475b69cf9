import { describe, expect, it } from 'vitest';
import { isPromise } from '../../storage/contract.ts';
import { Random } from '../../testing/random.ts';
import { type RangeLock, RangeLocks } from './range-locks.ts';

function held(lock: RangeLock | Promise<RangeLock>): RangeLock {
  if (isPromise(lock)) throw new Error('the lock was not granted at once');
  return lock;
}

const MIB = 1024 ** 2;
const at = (start: number, length: number, exclusive: boolean) => [start, start + length, exclusive] as const;

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

  it('lets no request overtake a waiting writer on its range', async () => {
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

  it('gives all of the disk when no earlier request is left', async () => {
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

  it('keeps conflicting requests apart and in their order, wherever they lie', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = new Random(seed);
      const locks = new RangeLocks();
      const holding = new Set<{ start: number; end: number; exclusive: boolean; number: number }>();
      const waiting: { start: number; end: number; exclusive: boolean; number: number }[] = [];
      const conflict = (a: { start: number; end: number; exclusive: boolean }, b: typeof a): boolean =>
        (a.exclusive || b.exclusive) && a.start < b.end && b.start < a.end;
      const running: Promise<void>[] = [];
      for (let number = 0; number < 300; number++) {
        const start = random.below(20) * 40_000;
        const length = random.chance(0.1) ? 8 * 1024 * 1024 : 1 + random.below(200_000);
        const own = { start, end: start + length, exclusive: random.chance(0.5), number };
        waiting.push(own);
        const lock = locks.acquire(own.start, own.end, own.exclusive);
        running.push(
          (async () => {
            const got = await lock;
            waiting.splice(waiting.indexOf(own), 1);
            for (const other of [...holding, ...waiting]) {
              if (conflict(own, other)) expect(other.number).toBeGreaterThan(own.number);
            }
            expect([...holding].some((other) => conflict(own, other))).toBe(false);
            holding.add(own);
            for (let turn = random.below(6); turn > 0; turn--) await null;
            holding.delete(own);
            got.release();
          })(),
        );
        if (random.chance(0.3)) await null;
      }
      await Promise.all(running);
      expect(locks.isFree(0, Number.MAX_SAFE_INTEGER)).toBe(true);
    }
  });

  const CROWDS: readonly (readonly [string, (n: number, random: Random) => readonly [number, number, boolean]])[] = [
    ['writes that overlap in part', (_, random) => at(random.below(61_440), 4096, true)],
    ['reads and writes that overlap in part', (_, random) => at(random.below(61_440), 4096, random.chance(0.5))],
    ['large writes', (_, random) => at(random.below(60 * MIB), 8 * MIB, true)],
    [
      'reads of everything among small writes',
      (n, random) => (n % 2 === 0 ? [0, 64 * MIB, false] : at(random.below(64 * MIB), 512, true)),
    ],
    [
      'small reads among writes of everything',
      (n, random) => (n % 2 === 0 ? [0, 64 * MIB, true] : at(random.below(64 * MIB), 512, false)),
    ],
    [
      'many reads, then a write of everything',
      (n, random) => (n % 1000 === 999 ? [0, 64 * MIB, true] : at(random.below(64 * MIB), 65_536, false)),
    ],
    ['writes beside each other', (n) => [n * 4096, (n + 1) * 4096, true]],
  ];

  it.each(CROWDS)('look at as little for each of many requests as of few: %s', async (_, make) => {
    const each = async (count: number): Promise<number> => {
      const locks = new RangeLocks();
      const random = new Random(1);
      const [all, order]: [Promise<unknown>[], number[]] = [[], []];
      for (let n = 0; n < count; n++) {
        const lock = locks.acquire(...make(n, random));
        all.push(Promise.resolve(lock).then((got) => order.push(n) && got.release()));
      }
      await Promise.all(all);
      expect(order).toHaveLength(count);
      expect(locks.isFree(0, Number.MAX_SAFE_INTEGER)).toBe(true);
      return locks.visited / count;
    };
    const [few, many] = [await each(1000), await each(16_000)];
    expect(many).toBeLessThan(40);
    expect(many).toBeLessThan(few * 2 + 4);
  });

  it('forget short readers beside a long one', () => {
    const locks = new RangeLocks();
    const writer = held(locks.acquire(MIB, MIB + 1, true));
    const long = held(locks.acquire(0, MIB, false));
    const random = new Random(2);
    for (let n = 0; n < 5000; n++) held(locks.acquire(...at(random.below(MIB - 4096), 4096, false))).release();
    const before = locks.visited;
    locks.isFree(0, MIB);
    expect(locks.visited - before).toBeLessThan(5);
    long.release();
    writer.release();
  });

  it('refuses to give a lock back twice', () => {
    const lock = held(new RangeLocks().acquire(0, 1, true));
    lock.release();
    expect(() => lock.release()).toThrow('internal');
  });
});
