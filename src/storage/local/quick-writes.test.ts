import { beforeEach, describe, expect, it, vi } from 'vitest';
import { QuickWrites } from './quick-writes.ts';

const system = vi.hoisted(() => ({ calls: 0, takesMs: 0, most: Number.MAX_SAFE_INTEGER, now: 0 }));

vi.mock('../clock.ts', () => ({ nowMs: () => system.now }));
vi.mock('./calls.ts', () => ({ calls: {} }));
vi.mock('node:fs', () => {
  const write = (length: number): number => {
    system.calls++;
    system.now += system.takesMs;
    return Math.min(length, system.most);
  };
  return {
    writeSync: (_fd: number, _source: Uint8Array, _offset: number, length: number) => write(length),
    writevSync: (_fd: number, list: Uint8Array[]) => write(list.reduce((sum, { length }) => sum + length, 0)),
  };
});

const PIECE = new Uint8Array(4096);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('small writes', () => {
  beforeEach(async () => {
    Object.assign(system, { calls: 0, takesMs: 0, most: Number.MAX_SAFE_INTEGER });
    await turn();
    await turn();
  });

  it('go out at once, large ones do not', () => {
    const quick = new QuickWrites();
    expect(quick.write(1, 0, PIECE, 4096)).toBe(4096);
    expect(quick.write(1, 0, [PIECE, PIECE], 8192)).toBe(8192);
    expect(quick.write(1, 0, new Uint8Array(2 ** 20), 2 ** 20)).toBe(0);
    system.most = 1000;
    expect(quick.write(1, 0, PIECE, 4096)).toBe(1000);
  });

  it('leave others their turn, and go out in later ones, in their order', async () => {
    const quick = new QuickWrites();
    const order: number[] = [];
    const all = Array.from({ length: 200 }, (_, n) =>
      Promise.resolve(quick.write(1, n, PIECE, 4096)).then((count) => {
        order.push(n);
        return count;
      }),
    );
    const seen: number[] = [system.calls];
    for (let n = 0; n < 4; n++) {
      await turn();
      seen.push(system.calls);
    }
    expect(seen).toEqual([64, 128, 192, 200, 200]);
    expect(await Promise.all(all)).toEqual(Array.from({ length: 200 }, () => 4096));
    expect(order).toEqual(Array.from({ length: 200 }, (_, n) => n));
  });

  it('go by thread for a while after a slow one, longer each time', async () => {
    const quick = new QuickWrites();
    const tried: number[] = [];
    system.takesMs = 5;
    for (let n = 0; n < 300; n++) {
      if (n % 50 === 0) await turn();
      if ((await quick.write(1, 0, PIECE, 4096)) > 0) tried.push(n);
    }
    expect(tried).toEqual([0, 9, 42, 171]);
    // One file's medium says nothing of another's.
    expect(new QuickWrites().write(1, 0, PIECE, 4096)).toBe(4096);
  });
});
