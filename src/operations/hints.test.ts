/** Hints of a storage far away decide how large the pieces of a copy are, and how many run at the same time. */
import { describe, expect, it } from 'vitest';
import type { StorageHints, StorageProvider } from '../storage/contract.ts';
import { forwardedProvider, forwardedStorage } from '../storage/forwarding.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { convert } from './convert.ts';
import { parallelFor } from './copy-engine.ts';
import { openDisk } from './open.ts';

const MIB = 2 ** 20;
const SIZE = 40 * MIB;

/** Converts a raw disk of a storage with hints. Returns its requests, and how many ran at the same time. */
async function convertWith(hints: StorageHints | undefined) {
  const files = new MemoryProvider();
  const storage = await files.create('/far.raw');
  for (let at = 0; at < SIZE; at += MIB) await storage.write(at, new Uint8Array(MIB).fill(1 + ((at / MIB) % 200)));
  const reads: { offset: number; length: number }[] = [];
  let [running, most] = [0, 0];
  const provider: StorageProvider = forwardedProvider(files, {
    open: async (name, mode) => {
      const inner = await files.open(name, mode);
      return forwardedStorage(inner, {
        hints,
        readNow: () => false,
        async read(offset, target, options) {
          const length = [target].flat().reduce((sum, { length }) => sum + length, 0);
          if (length >= 65_536) reads.push({ offset, length });
          running++;
          most = Math.max(most, running);
          // Slower than memory, so that the engine reads several at a time.
          await new Promise((resolve) => setTimeout(resolve, 8));
          running--;
          await inner.read(offset, target, options);
        },
      });
    },
  });
  await using disk = await openDisk('/far.raw', { format: 'raw', provider });
  expect(disk.hints).toEqual(hints);
  await convert(disk, '/near.raw', { provider: files });
  return { reads: reads.filter(({ offset }) => offset > 0), most };
}

describe('hints of the source', () => {
  it('give the size, the alignment and the number of requests', async () => {
    const { reads, most } = await convertWith({ align: 3 * 65_536, transfer: MIB, parallel: 8 });
    expect(new Set(reads.slice(0, -1).map(({ length }) => length))).toEqual(new Set([5 * 3 * 65_536]));
    expect(reads.every(({ offset }) => offset % (3 * 65_536) === 0)).toBe(true);
    expect(most).toBeGreaterThan(4);
    expect(most).toBeLessThanOrEqual(8);
  });

  it('are left out for files at hand, which keep their sizes', async () => {
    const { reads, most } = await convertWith(undefined);
    expect(new Set(reads.map(({ length }) => length))).toEqual(new Set([4 * MIB]));
    expect(most).toBeLessThanOrEqual(3);
  });

  it('are bounded: buffers stay in memory', async () => {
    const { reads } = await convertWith({ align: 1, transfer: 1e12, parallel: 1e9 });
    expect(Math.max(...reads.map(({ length }) => length))).toBeLessThanOrEqual(16 * MIB);
    const far = { hints: { align: 1, transfer: 1, parallel: 1e9 } };
    expect(parallelFor(far)).toBe(16);
  });
});
