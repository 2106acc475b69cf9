import { describe, expect, it } from 'vitest';
import { Random } from '../testing/random.ts';
import { MemoryProvider } from './memory.ts';
import { OverlayStorage } from './overlay.ts';

async function baseOf(bytes: Uint8Array) {
  const provider = new MemoryProvider();
  const made = await provider.create('/base');
  await made.write(0, bytes);
  return { provider, base: await provider.open('/base', 'read') };
}

async function contentOf(storage: { size: number; read(offset: number, target: Uint8Array): Promise<void> }) {
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  return bytes;
}

describe('OverlayStorage', () => {
  it('agrees with a plain array, and leaves the base alone', async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const random = new Random(seed);
      let model = Uint8Array.from({ length: 20_000 }, () => 1 + random.below(255));
      const original = model.slice();
      const { provider, base } = await baseOf(model);
      const overlay = new OverlayStorage(base);
      for (let step = 0; step < 25; step++) {
        model = await changeBoth(overlay, model, random);
        expect(overlay.size).toBe(model.length);
        expect(Buffer.compare(await contentOf(overlay), model)).toBe(0);
        await checkRuns(overlay, model);
      }
      expect(await contentOf(await provider.open('/base', 'read'))).toEqual(original);
    }
  });

  async function changeBoth(
    overlay: OverlayStorage,
    model: Uint8Array<ArrayBuffer>,
    random: Random,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const offset = random.below(model.length + 1);
    const length = random.below(Math.min(9000, model.length - offset + 1));
    const kind = random.below(8);
    if (kind === 0) {
      const size = random.below(40_000);
      await overlay.resize(size);
      const next = new Uint8Array(size);
      next.set(model.subarray(0, size));
      return next;
    }
    if (kind <= 2) {
      await overlay.zero(offset, length, { punch: kind === 1 });
      return model.fill(0, offset, offset + length);
    }
    const past = kind === 3 ? random.below(500) : 0;
    const bytes = new Uint8Array(length + past).fill(1 + random.below(255));
    await overlay.write(offset + past, [bytes.subarray(0, 3), bytes.subarray(3)]);
    if (bytes.length === 0) return model;
    const next = new Uint8Array(Math.max(model.length, offset + past + bytes.length));
    next.set(model);
    next.set(bytes, offset + past);
    return next;
  }

  async function checkRuns(overlay: OverlayStorage, model: Uint8Array): Promise<void> {
    for (let at = 0; at < overlay.size; ) {
      const run = await overlay.extentAt(at);
      expect(run.start).toBeLessThanOrEqual(at);
      expect(run.end).toBeGreaterThan(at);
      expect(run.end).toBeLessThanOrEqual(overlay.size);
      if (!run.data) expect(model.subarray(run.start, run.end).every((byte) => byte === 0)).toBe(true);
      const target = new Uint8Array(run.end - at);
      if (overlay.readNow(at, target)) expect(Buffer.compare(target, model.subarray(at, run.end))).toBe(0);
      at = run.end;
    }
  }

  it('does not show again what was cut off', async () => {
    const { base } = await baseOf(new Uint8Array(100).fill(9));
    const overlay = new OverlayStorage(base);
    await overlay.resize(10);
    await overlay.resize(100);
    expect([...(await contentOf(overlay))]).toEqual([...new Array(10).fill(9), ...new Array(90).fill(0)]);
  });

  it('zeroes terabytes at once', async () => {
    const provider = new MemoryProvider();
    const base = await provider.create('/base');
    await base.resize(2 ** 42);
    await base.write(5, Uint8Array.of(1));
    const overlay = new OverlayStorage(base);
    await overlay.zero(0, 2 ** 42, { punch: true });
    expect(await overlay.extentAt(5)).toEqual({ start: 0, end: 2 ** 42, data: false });
    expect((await overlay.identity()).allocatedSize).toBe(0);
  });

  it('is another storage than its base, and closes it', async () => {
    const { base } = await baseOf(Uint8Array.of(1));
    const overlay = new OverlayStorage(base);
    expect((await overlay.identity()).key).not.toBe((await base.identity()).key);
    await overlay.flush();
    await overlay.close();
    await expect(base.read(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' });
    await expect(overlay.write(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' });
  });
});
