/** Conformance of every storage and its provider, whatever is behind them. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Storage, StorageProvider } from '../../src/storage/contract.ts';
import { Random } from '../../src/testing/random.ts';
import { expectSameBytes } from './expect-bytes.ts';
import { expectKind } from './expect-kind.ts';
import { randomBytes, rounds } from './random.ts';
import { type Place, STORAGE_KINDS } from './storages.ts';
import { VIEW_KINDS } from './views.ts';

describe.each([...STORAGE_KINDS, ...VIEW_KINDS])('storage: $name', (kind) => {
  let place: Place;
  let provider: StorageProvider;
  let opened: Storage[];

  beforeEach(async () => {
    place = await kind.make();
    provider = place.provider;
    opened = [];
  });
  afterEach(async () => {
    for (const storage of opened) await storage.close();
    await place.dispose();
  });

  const keep = (storage: Storage): Storage => {
    opened.push(storage);
    return storage;
  };
  const create = async (name = 'file') => keep(await provider.create(place.path(name)));
  const readAll = async (storage: Storage): Promise<Uint8Array> => {
    const bytes = new Uint8Array(storage.size);
    await storage.read(0, bytes);
    return bytes;
  };

  it('makes an empty storage, and never over one that is there', async () => {
    const storage = await create();
    expect(storage.size).toBe(0);
    expect(storage.can).toMatchObject({ write: true, resize: true, random: true });
    expect(storage.label).not.toBe('');
    await storage.write(0, Uint8Array.of(1, 2, 3));
    await expectKind(() => provider.create(place.path('file')), 'exists');
    expectSameBytes(await readAll(storage), Uint8Array.of(1, 2, 3));
  });

  it('grows by writes, with zeroes between', async () => {
    const storage = await create();
    await storage.write(5000, Uint8Array.of(7));
    expect(storage.size).toBe(5001);
    const bytes = await readAll(storage);
    expect(bytes.findIndex((byte) => byte !== 0)).toBe(5000);
    expect(bytes[5000]).toBe(7);
  });

  it('counts a write that has only been started', async () => {
    const storage = await create();
    const writing = storage.write(100, new Uint8Array(100));
    expect(storage.size).toBe(200);
    await writing;
  });

  it('refuses reads past the end', async () => {
    const storage = await create();
    await storage.write(0, new Uint8Array(1000));
    await expectKind(() => storage.read(999, new Uint8Array(2)), 'out-of-bounds');
    await expectKind(() => storage.read(1000, new Uint8Array(1)), 'out-of-bounds');
    await expectKind(() => storage.read(-1, new Uint8Array(1)), 'out-of-bounds', 'invalid-argument');
    await storage.read(1000, new Uint8Array(0));
  });

  it('reads and writes lists of buffers as one', async () => {
    const storage = await create();
    await storage.write(3, [Uint8Array.of(1, 2), new Uint8Array(0), Uint8Array.of(3, 4, 5)]);
    const parts = [new Uint8Array(1), new Uint8Array(0), new Uint8Array(4)];
    await storage.read(3, parts);
    expect(parts).toEqual([Uint8Array.of(1), new Uint8Array(0), Uint8Array.of(2, 3, 4, 5)]);
    const many = Array.from({ length: 3000 }, (_, index) => Uint8Array.of(index & 0xff));
    await storage.write(0, many);
    expectSameBytes(
      await readAll(storage),
      Uint8Array.from({ length: 3000 }, (_, index) => index & 0xff),
    );
  });

  it.each([{ punch: true }, { punch: false }])('zeroes a range inside ($punch)', async (how) => {
    const storage = await create();
    const model = randomBytes(new Random(1), 300_000);
    await storage.write(0, model);
    for (const [offset, length] of [
      [4096, 65536],
      [100_001, 77],
      [262_144, 300_000 - 262_144],
    ] as const) {
      await storage.zero(offset, length, how);
      model.fill(0, offset, offset + length);
    }
    expect(storage.size).toBe(300_000);
    expectSameBytes(await readAll(storage), model);
  });

  it('resizes: cuts off, and grows by zeroes', async () => {
    const storage = await create();
    await storage.write(0, new Uint8Array(10_000).fill(9));
    await storage.resize(5_000);
    expect(storage.size).toBe(5_000);
    await storage.resize(20_000);
    expect(storage.size).toBe(20_000);
    const bytes = await readAll(storage);
    expect(bytes.subarray(0, 5_000).every((byte) => byte === 9)).toBe(true);
    expect(bytes.subarray(5_000).every((byte) => byte === 0)).toBe(true);
  });

  it('tells runs that cover everything; holes read zero', async () => {
    const storage = await create();
    await storage.resize(4_000_000);
    await storage.write(1_000_000, randomBytes(new Random(2), 200_000));
    await storage.write(3_999_999, Uint8Array.of(1));
    const bytes = await readAll(storage);
    for (let at = 0; at < storage.size; ) {
      const run = await storage.extentAt(at);
      expect(run.start).toBeLessThanOrEqual(at);
      expect(run.end).toBeGreaterThan(at);
      if (!run.data) expect(bytes.subarray(at, run.end).every((byte) => byte === 0)).toBe(true);
      at = run.end;
    }
    // What was just told must not outlive a write.
    await storage.write(500_000, Uint8Array.of(5));
    expect((await storage.extentAt(500_000)).data).toBe(true);
  });

  it('keeps what was written after flush, close and open', async () => {
    const storage = await create();
    const bytes = randomBytes(new Random(3), 123_457);
    await storage.write(0, bytes);
    await storage.flush();
    await storage.flush();
    await storage.close();
    await storage.close();
    const again = keep(await provider.open(place.path('file'), 'read'));
    expectSameBytes(await readAll(again), bytes);
    await expectKind(() => storage.read(0, new Uint8Array(1)), 'io', 'invalid-argument');
  });

  it('refuses changes through a handle for reading', async () => {
    const storage = await create();
    await storage.write(0, new Uint8Array(10));
    const reader = keep(await provider.open(place.path('file'), 'read'));
    expect(reader.can.write).toBe(false);
    await expectKind(() => reader.write(0, new Uint8Array(1)), 'read-only');
    await expectKind(() => reader.zero(0, 1, { punch: false }), 'read-only');
    await expectKind(() => reader.resize(1), 'read-only');
    expect(reader.size).toBe(10);
  });

  it('reads without waiting either right or not at all', async () => {
    const storage = await create();
    const bytes = randomBytes(new Random(4), 5000);
    await storage.write(0, bytes);
    const target = new Uint8Array(100);
    const read = storage.readNow?.(50, target) ?? false;
    expect(target).toEqual(read ? bytes.subarray(50, 150) : new Uint8Array(100));
  });

  it('knows one storage under two names of it', async () => {
    const first = await create('one');
    const other = await create('two');
    const again = keep(await provider.open(place.path('one'), 'read'));
    const [a, b, c] = [await first.identity(), await again.identity(), await other.identity()];
    expect(b.key).toBe(a.key);
    expect(c.key).not.toBe(a.key);
    expect((await provider.lookUp(place.path('one')))?.key).toBe(a.key);
  });

  it('does many overlapping calls at once', async () => {
    const storage = await create();
    const random = new Random(5);
    const model = new Uint8Array(64 * 1024);
    await storage.write(0, model);
    for (let round = 0; round < rounds(5, 100); round++) {
      // Writes to separate places, reads anywhere: no promise about an order is needed.
      const pieces = Array.from({ length: 64 }, (_, index) => ({ at: index * 1024, bytes: randomBytes(random, 1024) }));
      const reads = pieces.map(() => storage.read(random.below(60_000), new Uint8Array(1000)));
      await Promise.all([...pieces.map(({ at, bytes }) => storage.write(at, bytes)), ...reads]);
      for (const { at, bytes } of pieces) model.set(bytes, at);
      expectSameBytes(await readAll(storage), model);
    }
  });

  it('opens only what is there', async () => {
    await expectKind(() => provider.open(place.path('nothing'), 'read'), 'not-found');
    await expectKind(() => provider.open(place.path('nothing'), 'write'), 'not-found');
    await expectKind(() => provider.remove(place.path('nothing')), 'not-found');
    expect(await provider.lookUp(place.path('nothing'))).toBeNull();
  });

  it('renames, and replaces only when told to', async () => {
    await (await create('a')).write(0, Uint8Array.of(1));
    await (await create('b')).write(0, Uint8Array.of(2));
    await expectKind(() => provider.rename(place.path('a'), place.path('b'), { replace: false }), 'exists');
    await provider.rename(place.path('a'), place.path('c'), { replace: false });
    await provider.rename(place.path('c'), place.path('b'), { replace: true });
    await provider.syncNames(provider.directory(place.path('b')));
    expect(await provider.lookUp(place.path('a'))).toBeNull();
    expect(await provider.lookUp(place.path('c'))).toBeNull();
    expectSameBytes(await readAll(keep(await provider.open(place.path('b'), 'read'))), Uint8Array.of(1));
  });

  describe('locks', () => {
    const open = async (mode: 'read' | 'write') => keep(await provider.open(place.path('file'), mode));

    it('let readers in together, and no writer beside them', async () => {
      await (await create()).close();
      const [one, other] = [await open('read'), await open('read')];
      await one.lock('shared');
      await other.lock('shared');
      const writer = await open('write');
      await expectKind(() => writer.lock('exclusive'), 'locked');
      await one.close();
      await expectKind(() => writer.lock('exclusive'), 'locked');
      await other.close();
      await writer.lock('exclusive');
    });

    it('exclude others beside a writer, until it closes', async () => {
      const writer = await create();
      await writer.lock('exclusive');
      const [reader, second] = [await open('read'), await open('write')];
      await expectKind(() => reader.lock('shared'), 'locked');
      await expectKind(() => second.lock('exclusive'), 'locked');
      await expectKind(() => second.lock('exclusive', { shareable: true }), 'locked');
      await writer.close();
      await reader.lock('shared');
    });

    it('let writers in together when all of them agree', async () => {
      const writer = await create();
      await writer.lock('exclusive', { shareable: true });
      const [second, reader, careful] = [await open('write'), await open('read'), await open('read')];
      await second.lock('exclusive', { shareable: true });
      await reader.lock('shared', { shareable: true });
      await expectKind(() => careful.lock('shared'), 'locked');
    });

    it('can be changed, and stay what they were when that fails', async () => {
      const writer = await create();
      await writer.lock('shared');
      const reader = await open('read');
      await reader.lock('shared');
      await expectKind(() => writer.lock('exclusive'), 'locked');
      const stranger = await open('write');
      await reader.close();
      await expectKind(() => stranger.lock('exclusive'), 'locked');
      await writer.lock('exclusive');
      const late = await open('read');
      await expectKind(() => late.lock('shared'), 'locked');
      await writer.lock('shared');
      await late.lock('shared');
    });

    it('are known to every caller', async () => {
      const storage = await create();
      const watcher = await open('read');
      expect(await watcher.lockState()).toEqual({ held: 'none', holders: [] });
      await storage.lock('shared');
      expect((await watcher.lockState()).held).toBe('shared');
      await storage.lock('exclusive');
      expect((await watcher.lockState()).held).toBe('exclusive');
      await storage.close();
      expect((await watcher.lockState()).held).toBe('none');
    });

    it('do not prevent reads and writes: they are advisory', async () => {
      const writer = await create();
      await writer.lock('exclusive');
      const other = await open('write');
      await other.write(0, Uint8Array.of(5));
      expectSameBytes(await readAll(other), Uint8Array.of(5));
    });

    it('are refused by a closed storage', async () => {
      const storage = await create();
      await storage.close();
      await expectKind(() => storage.lock('shared'), 'io');
    });
  });

  it('lists, resolves and removes names', async () => {
    await create('a');
    await create('b');
    const directory = provider.directory(place.path('a'));
    const names: string[] = [];
    for await (const name of provider.list(directory)) names.push(provider.resolve(name, place.path('a')));
    expect(names.sort()).toEqual([place.path('a'), place.path('b')].sort());
    expect(provider.resolve('b', place.path('a'))).toBe(place.path('b'));
    await provider.remove(place.path('a'));
    expect(await provider.lookUp(place.path('a'))).toBeNull();
    expect((await provider.lookUp(place.path('b')))?.kind).toBe('file');
  });

  it('gives temporary names that are free, in the same directory', () => {
    const name = place.path('image');
    const names = Array.from({ length: 20 }, () => provider.temporaryName(name));
    expect(new Set([...names, name]).size).toBe(21);
    for (const one of names) expect(provider.directory(one)).toBe(provider.directory(name));
  });
});
