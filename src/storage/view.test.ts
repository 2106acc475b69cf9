/** Views beside what every storage promises: the bytes below, limits, and requests for parts of units. */
import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { randomBytes, rounds } from '../../test/conformance/random.ts';
import { SECTOR_CODEC, xorCodec } from '../../test/conformance/views.ts';
import { Random } from '../testing/random.ts';
import type { Storage } from './contract.ts';
import { forwardedStorage } from './forwarding.ts';
import { MemoryStorage } from './memory.ts';
import { StorageView } from './view.ts';

async function bytesOf(storage: Storage): Promise<Uint8Array> {
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  return bytes;
}

describe('a view with a codec', () => {
  it('stores the other form', async () => {
    const inner = new MemoryStorage();
    const view = new StorageView(inner, { offset: 10, codec: xorCodec(1) });
    const bytes = randomBytes(new Random(1), 5000);
    await view.write(0, bytes);
    const stored = await bytesOf(inner);
    expect(stored.length).toBe(5010);
    await xorCodec(1).decode(stored.subarray(10), stored.subarray(10), 0);
    expectSameBytes(stored.subarray(10), bytes);
  });

  it('takes payloads out of larger sectors', async () => {
    const inner = new MemoryStorage();
    await inner.resize(3 * 2352);
    await inner.write(2352 + 16, Uint8Array.of(1, 2, 3));
    const view = new StorageView(inner, { codec: SECTOR_CODEC, mode: 'read' });
    expect(view.size).toBe(3 * 2048);
    const got = new Uint8Array(4);
    await view.read(2047, got);
    expect([...got]).toEqual([0, 1, 2, 3]);
  });

  it('has no holes, reads nothing without waiting, and reserves no room', async () => {
    const inner = Object.assign(new MemoryStorage(), { allocate: async () => {} });
    await inner.resize(4096);
    const view = new StorageView(inner, { codec: xorCodec(512) });
    expect(await view.extentAt(0)).toEqual({ start: 0, end: 4096, data: true });
    expect(view.readNow(0, new Uint8Array(1))).toBe(false);
    expect(view.allocate).toBeUndefined();
    expect(view.can).toMatchObject({ punch: false, growsZeroed: false });
    await view.zero(100, 2000, { punch: true });
    const bytes = await bytesOf(view);
    expect(bytes.subarray(100, 2100).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(0, 100).some((byte) => byte !== 0)).toBe(true);
  });

  it.each([xorCodec(512), SECTOR_CODEC])('loses nothing of writes into one unit at once', async (codec) => {
    const random = new Random(2);
    const view = new StorageView(slowly(new MemoryStorage(), random), { codec });
    const model = new Uint8Array(20_480);
    await view.write(0, model);
    for (let round = 0; round < rounds(30, 500); round++) {
      const writes: Promise<void>[] = [];
      for (let at = random.below(300); at < 19_000; at += random.below(900)) {
        const bytes = randomBytes(random, 1 + random.below(600)).subarray(0, model.length - at);
        model.set(bytes, at);
        writes.push(view.write(at, bytes));
        at += bytes.length;
      }
      await Promise.all(writes);
      expectSameBytes(await bytesOf(view), model);
    }
  });

  it('does not undo what is written into a gap while its zeroes are', async () => {
    const view = new StorageView(slowly(new MemoryStorage(), new Random(3)), { codec: xorCodec(1) });
    await Promise.all([view.write(100_000, Uint8Array.of(1)), view.write(5, Uint8Array.of(2))]);
    const bytes = await bytesOf(view);
    expect([bytes[4], bytes[5], bytes[6], bytes[100_000]]).toEqual([0, 2, 0, 1]);
  });

  it('reads zero where it became shorter, and longer again', async () => {
    const view = new StorageView(new MemoryStorage(), { codec: xorCodec(512) });
    await view.write(0, new Uint8Array(2000).fill(9));
    await view.resize(700);
    await view.resize(2000);
    const bytes = await bytesOf(view);
    expect(bytes.findIndex((byte) => byte !== 9)).toBe(700);
    expect(bytes.subarray(700).every((byte) => byte === 0)).toBe(true);
  });
});

describe('a view with a limit', () => {
  it('grows up to it, and hides what lies behind', async () => {
    const inner = new MemoryStorage();
    await inner.write(0, new Uint8Array(100).fill(7));
    const view = new StorageView(inner, { offset: 10, limit: 50 });
    expect(view.size).toBe(50);
    await view.resize(20);
    await expectKind(() => view.read(0, new Uint8Array(21)), 'out-of-bounds');
    await view.resize(50);
    const bytes = await bytesOf(view);
    expect(bytes.lastIndexOf(7)).toBe(19);
    await expectKind(() => view.write(49, new Uint8Array(2)), 'no-space');
    expect((await bytesOf(inner))[60]).toBe(7);
  });

  it('is for reading only where that is said', async () => {
    const view = new StorageView(new MemoryStorage(), { mode: 'read' });
    await expectKind(() => view.write(0, new Uint8Array(1)), 'read-only');
    await expectKind(() => view.resize(1), 'read-only');
  });
});

/** The same storage; each request begins some turns later than asked. */
function slowly(inner: Storage, random: Random): Storage {
  const wait = async (): Promise<void> => {
    for (let turn = random.below(8); turn > 0; turn--) await null;
  };
  return forwardedStorage(inner, {
    async read(offset, target) {
      await wait();
      await inner.read(offset, target);
      await wait();
    },
    async write(offset, source) {
      await wait();
      await inner.write(offset, source);
      await wait();
    },
  });
}
