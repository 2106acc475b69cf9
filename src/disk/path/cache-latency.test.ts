/**
 * A cache pays off: data read once from a slow medium is available at once. Counted in requests, so that the machine
 * does not matter.
 */
import { expect, it } from 'vitest';
import { createImage, Disk } from '../../index.ts';
import { forwardedProvider } from '../../storage/forwarding.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { overriding } from '../../testing/overriding.ts';

const MIB = 1024 ** 2;
const SIZE = 8 * MIB;
/** Latency of the slow medium, and of the fast one with the cache. */
const SLOW_MS = 5;
const QUICK_MS = 0.1;

it('makes a chain on a medium with 5 ms latency at least 20 times faster the second time', async () => {
  const memory = new MemoryProvider();
  let elapsedMs = 0;
  const provider = forwardedProvider(memory, {
    open: async (name, mode) => {
      const storage = await memory.open(name, mode);
      return overriding(storage, {
        readNow: () => false,
        read: async (offset, target) => {
          elapsedMs += name.endsWith('.vci') ? QUICK_MS : SLOW_MS;
          await storage.read(offset, target);
        },
      });
    },
  });
  const at = (name: string) => ({ provider, name });
  const config = { AllocationBlockSize: 65_536 };
  await createImage(at('/a.vdi'), { size: SIZE, config });
  const base = await Disk.open(at('/a.vdi'), { mode: 'write', flushAfterMs: 0 });
  await base.write(0, new Uint8Array(SIZE).fill(1));
  await base.createDiff(at('/b.vdi'), { config });
  for (let offset = 0; offset < SIZE; offset += 4 * 65_536) await base.write(offset, new Uint8Array(65_536).fill(2));
  await base.close();

  const readAll = async (): Promise<number> => {
    const disk = await Disk.open(at('/b.vdi'), {
      allow: ['same-directory'],
      cache: { file: at('/c.vci'), size: 16 * MIB },
    });
    // The headers are read of the images in any case.
    await disk.read(0, new Uint8Array(1));
    const before = elapsedMs;
    const bytes = new Uint8Array(4096);
    for (let offset = 0; offset < SIZE; offset += bytes.length) {
      await disk.read(offset, bytes);
      expect(bytes[0]).toBe(offset % (4 * 65_536) < 65_536 ? 2 : 1);
    }
    const took = elapsedMs - before;
    await disk.close();
    return took;
  };
  const first = await readAll();
  const second = await readAll();
  expect(first).toBeGreaterThanOrEqual((SIZE / 4096) * SLOW_MS);
  expect(first / second).toBeGreaterThanOrEqual(20);
});
