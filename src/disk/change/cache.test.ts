/** The cache of a disk: hits, correctness, and when it must not be used. */
import { beforeEach, describe, expect, it } from 'vitest';
import { checkCache, checkImage, createImage, Disk, dropCache, inspectCache, type Message } from '../../index.ts';
import type { Storage, StorageProvider } from '../../storage/contract.ts';
import { forwardedProvider } from '../../storage/forwarding.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { overriding } from '../../testing/overriding.ts';
import { xorFilter } from '../../testing/xor-filter.ts';

const MIB = 1024 ** 2;
const OPEN = { mode: 'write', allow: ['same-directory'], flushAfterMs: 0 } as const;
const CACHE_BYTES = 4 * MIB;

let provider: MemoryProvider;
let model: Uint8Array;
/** Bytes read from the images. */
let reads: number;
const at = (name: string, from: StorageProvider = provider) => ({ provider: from, name });

beforeEach(() => {
  provider = new MemoryProvider();
  model = new Uint8Array(8 * MIB);
  reads = 0;
});

/** The images, with reads counted. */
function counting(): StorageProvider {
  return forwardedProvider(provider, {
    open: async (name, mode) => {
      const storage: Storage = await provider.open(name, mode);
      if (name.endsWith('.vci')) return storage;
      return overriding(storage, {
        read: async (offset, target) => {
          for (const buffer of target instanceof Uint8Array ? [target] : target) reads += buffer.length;
          await storage.read(offset, target);
        },
      });
    },
  });
}

function open(options = {}): Promise<Disk> {
  return Disk.open(at('/b.vdi', counting()), { ...OPEN, provider, ...options });
}

async function put(disk: Disk, offset: number, length: number, seed: number): Promise<void> {
  const bytes = Uint8Array.from({ length }, (_, index) => ((index * 7 + seed + (index >> 9)) % 255) + 1);
  model.set(bytes, offset);
  await disk.write(offset, bytes);
}

async function makeChain(): Promise<void> {
  await createImage(at('/a.vdi'), { size: 8 * MIB });
  const base = await Disk.open(at('/a.vdi'), OPEN);
  await put(base, 0, 2 * MIB, 1);
  await base.close();
  await createImage(at('/b.vdi'), { parent: at('/a.vdi') });
  const child = await Disk.open(at('/b.vdi'), OPEN);
  await put(child, MIB + 512 * 3, MIB, 2);
  await child.close();
}

async function expectContent(disk: Disk, offset = 0, length = model.length): Promise<void> {
  const bytes = new Uint8Array(length);
  await disk.read(offset, bytes);
  expect(Buffer.compare(bytes, model.subarray(offset, offset + length))).toBe(0);
}

/** Bytes read from the images by an operation. */
async function cost(run: () => Promise<unknown>): Promise<number> {
  const before = reads;
  await run();
  return reads - before;
}

describe('a cache', () => {
  beforeEach(makeChain);

  it('answers what was read before, to the block, and asks for what was not', async () => {
    await using disk = await open();
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await disk.read(0, new Uint8Array(1));
    expect(await cost(() => expectContent(disk, 4096, 8192))).toBe(8192);
    expect(await cost(() => expectContent(disk, 4096, 8192))).toBe(0);
    expect(await cost(() => expectContent(disk, 5000, 100))).toBe(0);
    expect(await cost(() => expectContent(disk, 0, 16384))).toBe(4096 + 4096);
    // A part of a block is no block.
    expect(await cost(() => expectContent(disk, 100_000, 10))).toBe(10);
    expect(await cost(() => expectContent(disk, 100_000, 10))).toBe(10);
    expect(disk.cache.info).toMatchObject({ format: 'vci', capacity: CACHE_BYTES, cached: 16384, name: '/c.vci' });
  });

  it('stays from one disk to the next, as long as the images stay the same', async () => {
    const first = await open();
    await first.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await expectContent(first);
    await first.close();
    const stored = await inspectCache(at('/c.vci'));
    const { uuid, modificationUuid } = await Disk.open(at('/b.vdi'), OPEN).then(async (disk) => {
      const info = disk.images[1]?.info;
      await disk.close();
      return info ?? { uuid: null, modificationUuid: null };
    });
    expect(stored.identity?.image).toBe(uuid);
    expect(stored.identity?.modification).not.toBe(modificationUuid);
    expect(await checkCache(at('/c.vci'))).toEqual([]);

    const second = await open();
    await second.cache.open(at('/c.vci'));
    await second.read(0, new Uint8Array(1));
    expect(await cost(() => expectContent(second))).toBe(0);
    // Its own writes are right, and belong to what is stored.
    await put(second, 123_456, 5000, 9);
    await expectContent(second);
    await second.close();

    const third = await open({ mode: 'read' });
    await third.cache.open(at('/c.vci'));
    // The tables are read once, too.
    for await (const _ of third.extents());
    expect(await cost(() => expectContent(third))).toBe(0);
    await third.close();

    const without = await open();
    await put(without, 0, 512, 11);
    await without.close();
    const fourth = await open();
    await expect(fourth.cache.open(at('/c.vci'))).rejects.toMatchObject({ status: 'VERR_VD_CACHE_NOT_UP_TO_DATE' });
    expect(fourth.cache.info).toBe(null);
    expect(await inspectCache(at('/c.vci'))).toMatchObject({ cached: stored.cached });
    await fourth.cache.open(at('/c.vci'), { stale: 'discard' });
    await expectContent(fourth);
    await fourth.close();
  });

  it('has the UUID of the last image in its header, and a digest of all that tells the state', async () => {
    const disk = await Disk.open(at('/a.vdi'), { ...OPEN, mode: 'read' });
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await disk.cache.close();
    const { uuid, modificationUuid } = disk.images[0]?.info ?? {};
    const { identity } = await inspectCache(at('/c.vci'));
    expect(identity?.image).toEqual(uuid);
    // Alone it does not tell enough: QEMU writes an image and leaves it as it is.
    expect(identity?.modification).not.toEqual(modificationUuid);
    await disk.close();
  });

  it('is right after everything that changes the disk', async () => {
    const disk = await open();
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await expectContent(disk);
    await put(disk, 511, 2, 3);
    await expectContent(disk, 0, 4096);
    await disk.zero(MIB, 70_000);
    model.fill(0, MIB, MIB + 70_000);
    await expectContent(disk);
    await disk.discard([{ offset: 0, length: MIB }]);
    const after = new Uint8Array(MIB);
    await disk.read(0, after);
    const again = new Uint8Array(MIB);
    await disk.cache.close();
    await disk.read(0, again);
    expect(Buffer.compare(after, again)).toBe(0);
    model.set(again);
    await disk.cache.open(at('/c.vci'));
    await disk.createDiff(at('/d.vdi'));
    await put(disk, MIB + 100, 3000, 4);
    await expectContent(disk);
    await disk.merge(0, 1);
    await expectContent(disk);
    await disk.merge('last', 0);
    await expectContent(disk);
    await disk.resize(4 * MIB, { shrink: true });
    await disk.resize(8 * MIB);
    model.fill(0, 4 * MIB);
    await expectContent(disk);
    await disk.compact();
    await expectContent(disk);
    await disk.close();
  });

  it('holds what is stored, also below filters', async () => {
    const filter = xorFilter();
    const disk = await open();
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await disk.filters.add(filter);
    await put(disk, 3 * MIB + 5, 20_000, 5);
    for (let round = 0; round < 2; round++) await expectContent(disk, 3 * MIB, 65_536);
    expect(await cost(() => expectContent(disk, 3 * MIB, 65_536))).toBe(0);
    await disk.close();
    const storage = await provider.open('/c.vci', 'read');
    const file = new Uint8Array(storage.size);
    await storage.read(0, file);
    expect(Buffer.from(file).includes(Buffer.from(model.subarray(3 * MIB + 512, 3 * MIB + 1024)))).toBe(false);
    await storage.close();
  });

  it('never gets larger than it may, and keeps what was used last', async () => {
    const disk = await open();
    await disk.cache.create(at('/c.vci'), { size: 2 * MIB });
    await expectContent(disk, 0, 2 * MIB);
    await expectContent(disk, 0, 65_536);
    await expectContent(disk, 2 * MIB, 6 * MIB);
    await put(disk, 2 * MIB, 2 * MIB, 7);
    for (let offset = 2 * MIB; offset < 4 * MIB; offset += 65_536) {
      await expectContent(disk, offset, 65_536);
      await expectContent(disk, 0, 65_536);
    }
    expect(await cost(() => expectContent(disk, 0, 65_536))).toBe(0);
    await disk.close();
    const info = await provider.lookUp('/c.vci');
    expect(info).not.toBe(null);
    const storage = await provider.open('/c.vci', 'read');
    expect(storage.size).toBeLessThanOrEqual(2 * MIB);
    await storage.close();
    const again = await open();
    await again.cache.open(at('/c.vci'));
    await again.read(0, new Uint8Array(1));
    expect(await cost(() => expectContent(again, 0, 65_536))).toBe(0);
    await again.close();
  });

  it('is empty after a disk that was not closed', async () => {
    const disk = await open({ lock: false });
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await expectContent(disk);
    expect(await inspectCache(at('/c.vci'))).toMatchObject({ cached: 0, identity: null });
    expect((await checkCache(at('/c.vci'))).map(({ code }) => code)).toEqual(['unclean']);
    await disk.close();
  });

  it('that fails is reported and no longer used; requests go on', async () => {
    let broken = false;
    const messages: Message[] = [];
    const breaking = forwardedProvider(provider, {
      open: async (name, mode) => {
        const storage = await provider.open(name, mode);
        if (!name.endsWith('.vci')) return storage;
        const fail = async (): Promise<never> => {
          throw new Error('the quick medium is gone');
        };
        return overriding(storage, {
          read: (offset, target) => (broken ? fail() : storage.read(offset, target)),
          write: (offset, source) => (broken ? fail() : storage.write(offset, source)),
        });
      },
    });
    const disk = await open({ onMessage: (message: Message) => messages.push(message) });
    await disk.cache.create(at('/c.vci', breaking), { size: CACHE_BYTES });
    await expectContent(disk, 0, MIB);
    broken = true;
    await expectContent(disk);
    await expectContent(disk);
    expect(messages).toMatchObject([{ level: 'error', path: '/c.vci' }]);
    await disk.close();
    broken = false;
    expect(await inspectCache(at('/c.vci'))).toMatchObject({ cached: 0 });
  });

  it('that cannot be stored when the disk is closed is empty the next time, and reported', async () => {
    let full = false;
    const messages: Message[] = [];
    const filling = forwardedProvider(provider, {
      open: async (name, mode) => {
        const storage = await provider.open(name, mode);
        if (!name.endsWith('.vci')) return storage;
        return overriding(storage, {
          write: async (offset, source) => {
            if (full) throw new Error('there is no room left');
            await storage.write(offset, source);
          },
        });
      },
    });
    const disk = await open({ onMessage: (message: Message) => messages.push(message) });
    await disk.cache.create(at('/c.vci', filling), { size: CACHE_BYTES });
    await expectContent(disk, 0, MIB);
    full = true;
    await disk.close();
    expect(messages).toMatchObject([{ level: 'error', path: '/c.vci' }]);
    expect(await inspectCache(at('/c.vci'))).toMatchObject({ cached: 0, identity: null });
  });

  it('is there once, and where it is wanted', async () => {
    const disk = await open();
    await expect(disk.cache.close()).rejects.toMatchObject({ status: 'VERR_VD_CACHE_NOT_FOUND' });
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await expect(disk.cache.open(at('/c.vci'))).rejects.toMatchObject({ status: 'VERR_VD_CACHE_ALREADY_EXISTS' });
    const second = await Disk.open(at('/a.vdi'), { mode: 'read', lock: true });
    await expect(second.cache.open(at('/c.vci'))).rejects.toMatchObject({ kind: 'locked' });
    await expect(second.cache.open(at('/a.vdi'))).rejects.toMatchObject({
      kind: expect.stringMatching(/locked|invalid/),
    });
    await second.close();
    await disk.cache.close({ remove: true });
    expect(await provider.lookUp('/c.vci')).toBe(null);
    await expect(disk.cache.create(at('/c.vci'), { size: 1000 })).rejects.toMatchObject({ kind: 'invalid-argument' });
    expect(await provider.lookUp('/c.vci')).toBe(null);
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES, fixed: true });
    await expectContent(disk);
    await disk.close();
    await dropCache(at('/c.vci'));
    expect(await inspectCache(at('/c.vci'))).toMatchObject({ variant: 'fixed', cached: 0 });
    await dropCache(at('/c.vci'), { remove: true });
    expect(await provider.lookUp('/c.vci')).toBe(null);
  });

  it('shows nothing of an image that was taken off', async () => {
    const disk = await open();
    await disk.createDiff(at('/d.vdi'));
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    const before = model.slice();
    await put(disk, 4096, 70_000, 6);
    await expectContent(disk);
    await disk.closeLast({ remove: true });
    model = before;
    await expectContent(disk);
    await disk.close();
  });

  it('closed and opened again shows what was written in between, flushed or not', async () => {
    const disk = await open();
    await put(disk, 0, 512, 3);
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await expectContent(disk);
    for (const flushes of [false, true]) {
      await disk.cache.close();
      await put(disk, 4096, 8192, flushes ? 4 : 5);
      if (flushes) await disk.flush();
      await disk.cache.open(at('/c.vci'), { stale: 'discard' });
      await expectContent(disk);
    }
    await disk.close();
  });

  it('closed before its disk is of no use once something was written, though it never was flushed', async () => {
    const disk = await open({ lock: false });
    await put(disk, 0, 512, 3);
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await expectContent(disk);
    await disk.cache.close();
    // In place: what a power cut would leave, without any flush.
    await put(disk, 2 * MIB, 4096, 7);
    const other = await open({ mode: 'read', lock: false });
    await expect(other.cache.open(at('/c.vci'))).rejects.toMatchObject({ status: 'VERR_VD_CACHE_NOT_UP_TO_DATE' });
    await other.close();
    await disk.close();
  });

  it('closed before its disk leaves that tidy all the same', async () => {
    await createImage(at('/e.vdi'), { parent: at('/a.vdi'), config: { AllocationBlockSize: 4096 } });
    const disk = await Disk.open(at('/e.vdi'), OPEN);
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await disk.write(118_784, new Uint8Array(512).fill(1));
    await disk.discard([{ offset: 118_784, length: 6144 }]);
    await disk.cache.close();
    await disk.close();
    expect((await checkImage(at('/e.vdi'), {})).findings).toEqual([]);
  });

  it('is empty when the disk could not be flushed to its end', async () => {
    let broken = false;
    const failing = forwardedProvider(provider, {
      open: async (name, mode) => {
        const storage = await provider.open(name, mode);
        if (name !== '/b.vdi') return storage;
        const flush = () => (broken ? Promise.reject(new Error('the medium is gone')) : storage.flush());
        return overriding(storage, { flush });
      },
    });
    const disk = await Disk.open(at('/b.vdi', failing), { ...OPEN, provider: failing });
    await disk.cache.create(at('/c.vci'), { size: CACHE_BYTES });
    await put(disk, 0, 512, 3);
    await disk.flush();
    await expectContent(disk);
    broken = true;
    await put(disk, MIB, 512, 4);
    await expect(disk.close()).rejects.toThrow('the medium is gone');
    expect(await inspectCache(at('/c.vci'))).toMatchObject({ cached: 0, identity: null });
  });

  it('whose header is damaged is recreated where its size is known', async () => {
    const first = await open({ cache: { file: at('/c.vci'), size: CACHE_BYTES } });
    await first.close();
    const file = await provider.open('/c.vci', 'write');
    await file.write(8, new Uint8Array(8).fill(0xff));
    await file.close();
    await expect(open({ cache: { file: at('/c.vci') } })).rejects.toMatchObject({ kind: 'limit' });
    const again = await open({ cache: { file: at('/c.vci'), size: CACHE_BYTES } });
    expect(again.warnings.join()).toContain('/c.vci was damaged');
    await expectContent(again);
    await again.close();
    expect(await checkCache(at('/c.vci'))).toEqual([]);
  });

  it('is refused for images that others may be writing', async () => {
    for (const shared of [{ forceShare: true, mode: 'read' }, { shareable: true }]) {
      const disk = await open(shared);
      const refused = { kind: 'unsupported' };
      await expect(disk.cache.create(at('/c.vci'), { size: CACHE_BYTES })).rejects.toMatchObject(refused);
      expect(await provider.lookUp('/c.vci')).toBe(null);
      await disk.close();
    }
  });
});
