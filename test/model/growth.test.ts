/** A block that was written and flushed is readable, whatever becomes of a neighbour that was written at the same time. */
import { it } from 'vitest';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { OpenMode, Storage, WriteSource } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { expectSameBytes } from '../conformance/expect-bytes.ts';
import { FakeClock } from './clock.ts';

const BLOCK = 4096;
const CONFIG = { AllocationBlockSize: BLOCK, DataAlignment: 512 };

/** Counts a write into the size at once, as files do, and stores those of `BLOCK` bytes when told to. */
class HoldingProvider extends MemoryProvider {
  release: () => void = () => {};

  override async open(name: string, mode: OpenMode): Promise<Storage> {
    const inner = await super.open(name, mode);
    if (mode === 'read') return inner;
    let started = 0;
    const held = new Promise<void>((resolve) => {
      this.release = resolve;
    });
    const write = async (offset: number, source: WriteSource): Promise<void> => {
      const length = Buffer.concat(source instanceof Uint8Array ? [source] : source).length;
      started = Math.max(started, offset + length);
      if (length === BLOCK) await held;
      await inner.write(offset, source);
    };
    return new Proxy(inner, {
      get: (target, key) => {
        if (key === 'size') return Math.max(target.size, started);
        if (key === 'write') return write;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }
}

it('does not need the writes of others for the end of its block', async () => {
  const provider = new HoldingProvider();
  const source = { provider, name: '/disk.vdi' };
  await createImage(source, { format: 'vdi', size: 64 * BLOCK, config: CONFIG });
  const disk = await openDisk(source, { mode: 'write', format: 'vdi', timers: new FakeClock() });
  await disk.write(10 * BLOCK, Uint8Array.of(1));
  // The first takes the room before the second, and writes a part of it only.
  const part = disk.write(20 * BLOCK, new Uint8Array(512).fill(2));
  const whole = disk.write(30 * BLOCK, new Uint8Array(BLOCK).fill(3));
  await part;
  await disk.flush();
  // What a power cut leaves here, or a full disk.
  const second = await openDisk(source, { format: 'vdi', forceShare: true });
  const found = new Uint8Array(BLOCK);
  const wanted = new Uint8Array(BLOCK);
  wanted.fill(2, 0, 512);
  await second.read(20 * BLOCK, found);
  provider.release();
  await whole;
  await disk.close();
  expectSameBytes(found, wanted);
});
