/** Conformance of every cache format, by itself and below a disk of every format, over every storage. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createCache } from '../../src/disk/change/cache.ts';
import { defaultRegistry } from '../../src/formats/index.ts';
import type { CacheImage } from '../../src/image/cache.ts';
import type { Finding } from '../../src/image/findings.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { Source, Storage } from '../../src/storage/contract.ts';
import { Random } from '../../src/testing/random.ts';
import { expectSameBytes } from './expect-bytes.ts';
import { expectKind } from './expect-kind.ts';
import { randomBytes, rounds } from './random.ts';
import { type Place, STORAGE_KINDS } from './storages.ts';

const BLOCK = 512;
const MIB = 1024 * 1024;
/** Larger than the cache. */
const DISK = 6 * MIB;
const IDENTITY = {
  image: '00010203-0405-0607-0809-0a0b0c0d0e0f',
  modification: '10111213-1415-1617-1819-1a1b1c1d1e1f',
};

const writable = defaultRegistry().formats.filter(
  ({ capabilities, create }) => capabilities.write && create !== undefined,
);

describe('caches', () => {
  describe.each(STORAGE_KINDS)('over $name', (kind) => {
    describe.each(defaultRegistry().caches)('$name', (format) => {
      let place: Place;
      const at = (name: string): Source => ({ provider: place.provider, name: place.path(name) });
      const file = (mode: 'read' | 'write'): Promise<Storage> => place.provider.open(place.path('c.cache'), mode);
      const open = async (mode: 'read' | 'write' = 'write'): Promise<CacheImage> => {
        const storage = await file(mode);
        return format.open(storage, { mode }).catch(async (error: unknown) => {
          await storage.close();
          throw error;
        });
      };
      const check = async (): Promise<readonly Finding[]> => {
        const storage = await file('read');
        return format.check(storage, {}).finally(() => storage.close());
      };
      const create = (name: string, size: number, fixed: boolean): Promise<void> =>
        createCache(at(name), { format: format.name, size, fixed });
      const make = async (fixed = false): Promise<CacheImage> => {
        await create('c.cache', 2 * MIB, fixed);
        return open();
      };

      beforeEach(async () => {
        place = await kind.make();
      });
      afterEach(() => place.dispose());

      it.each([false, true])('is made empty, and not in the place of another file (fixed: %s)', async (fixed) => {
        const cache = await make(fixed);
        expect(cache.info).toMatchObject({ format: format.name, variant: fixed ? 'fixed' : 'dynamic', cached: 0 });
        expect(cache.info.capacity).toBeLessThanOrEqual(2 * MIB);
        expect(cache.info.identity).toBe(null);
        expect(cache.look(0, 5000)).toEqual({ cached: false, length: 5000 });
        await cache.close(IDENTITY);
        expect(await check()).toEqual([]);
        await expectKind(() => create('c.cache', 2 * MIB, fixed), 'exists');
        for (const size of [0, 1000, -1, Number.NaN, 2 ** 60]) {
          await expectKind(() => create('other', size, fixed), 'invalid-argument');
        }
        expect(await place.provider.lookUp(place.path('other'))).toBe(null);
      });

      it('refuses what is none', async () => {
        const storage = await place.provider.create(place.path('c.cache'));
        for (const length of [0, 100, 8192]) {
          await storage.write(0, new Uint8Array(length).fill(7));
          await expectKind(() => open(), 'invalid-format');
          await expectKind(check, 'invalid-format');
        }
        await storage.close();
      });

      it('keeps whole blocks only, and tells of runs to the block', async () => {
        const cache = await make();
        const bytes = randomBytes(new Random(1), 10 * BLOCK);
        await cache.fill(1000, bytes.subarray(1000, 1023));
        expect(cache.info.cached).toBe(0);
        await cache.fill(700, bytes.subarray(700, 4000));
        expect(cache.info.cached).toBe(5 * BLOCK);
        expect(cache.look(0, 5120)).toEqual({ cached: false, length: 1024 });
        expect(cache.look(1024, 4096)).toEqual({ cached: true, length: 2560 });
        expect(cache.look(1030, 7)).toEqual({ cached: true, length: 7 });
        const found = new Uint8Array(1000);
        await cache.read(1111, found);
        expectSameBytes(found, bytes.subarray(1111, 2111));
        cache.drop(2047, 2);
        expect(cache.look(1024, 4096)).toEqual({ cached: true, length: 512 });
        expect(cache.look(1536, 4096)).toEqual({ cached: false, length: 1024 });
        cache.clear();
        expect(cache.info.cached).toBe(0);
        expect(cache.look(0, 5120)).toEqual({ cached: false, length: 5120 });
        await cache.close(null);
      });

      it('never tells anything but what was filled last, whatever is dropped and however little room there is', async () => {
        let cache = await make();
        const random = new Random(2);
        const truth = randomBytes(random, DISK);
        const { capacity } = cache.info;
        let hits = 0;
        const requests = async (count: number): Promise<void> => {
          const focus = random.below(DISK);
          await Promise.all(
            Array.from({ length: count }, async () => {
              const start = random.chance(0.5) ? focus : random.below(DISK);
              const length = Math.min(1 + random.below(random.chance(0.1) ? MIB : 40_000), DISK - start);
              const found = new Uint8Array(length);
              for (let at = 0; at < length; ) {
                const run = cache.look(start + at, length - at);
                expect(run.length).toBeGreaterThan(0);
                const part = found.subarray(at, at + run.length);
                if (run.cached) {
                  hits++;
                  await cache.read(start + at, part);
                } else {
                  part.set(truth.subarray(start + at, start + at + run.length));
                  await cache.fill(start + at, part);
                }
                at += run.length;
              }
              expectSameBytes(found, truth.subarray(start, start + length), `the bytes from ${start}`);
            }),
          );
        };
        for (let round = 0; round < rounds(60, 1500); round++) {
          await requests(1 + random.below(8));
          if (random.chance(0.4)) {
            const start = random.below(DISK - 50_000);
            const length = 1 + random.below(50_000);
            cache.drop(start, length);
            truth.set(randomBytes(random, length), start);
          }
          if (random.chance(0.05)) cache.clear();
          expect(cache.info.cached).toBeLessThanOrEqual(capacity);
          expect(cache.storage.size).toBeLessThanOrEqual(capacity);
          if (random.chance(0.15)) {
            const { cached } = cache.info;
            await cache.close(IDENTITY);
            cache = await open();
            expect(cache.info.identity).toEqual(IDENTITY);
            expect(cache.info.cached).toBe(cached);
          }
        }
        expect(hits).toBeGreaterThan(50);
        await cache.close(null);
      });

      it('is the same when it is opened again, and empty after an end that was none', async () => {
        const bytes = randomBytes(new Random(3), 300_000);
        const cache = await make();
        await cache.fill(BLOCK, bytes);
        await cache.close(IDENTITY);
        for (let look = 0; look < 2; look++) {
          const reader = await open('read');
          expect(reader.info.identity).toEqual(IDENTITY);
          const { length } = reader.look(BLOCK, bytes.length);
          expect(length).toBe(bytes.length - (bytes.length % BLOCK));
          const found = new Uint8Array(length);
          await reader.read(BLOCK, found);
          expectSameBytes(found, bytes.subarray(0, length));
          // Only read, it keeps nothing new.
          await reader.fill(MIB, bytes);
          expect(reader.look(MIB, 1000)).toEqual({ cached: false, length: 1000 });
          await reader.close(null);
        }
        const writer = await open();
        const during = await open('read');
        expect(during.info).toMatchObject({ cached: 0, identity: null });
        await during.close(null);
        await writer.close(null);
        const last = await open();
        expect(last.info).toMatchObject({ cached: 0, identity: null });
        await last.fill(0, bytes);
        await last.close({ ...IDENTITY, image: null });
        const again = await open();
        expect(again.info.identity).toEqual({ ...IDENTITY, image: null });
        await again.close(null);
      });

      it('gives its file back once', async () => {
        const cache = await make();
        await cache.close(IDENTITY);
        await expectKind(() => cache.storage.read(0, new Uint8Array(1)), 'io');
        expect(await check()).toEqual([]);
      });

      it.each(writable)('below a disk of format $name reads what the disk holds', async (below) => {
        const image = at(`image.${below.name}`);
        await createImage(image, { format: below.name, size: 3 * MIB });
        const random = new Random(4);
        const model = new Uint8Array(3 * MIB);
        for (let session = 0; session < 3; session++) {
          const disk = await openDisk(image, { mode: 'write', format: below.name });
          const how = { format: format.name };
          if (session === 0) await disk.cache.create(at('c.cache'), { ...how, size: 2 * MIB });
          else await disk.cache.open(at('c.cache'), { ...how, stale: 'discard' });
          for (let round = 0; round < rounds(8, 100); round++) {
            const offset = random.below(2 * MIB);
            const bytes = randomBytes(random, 1 + random.below(100_000));
            await disk.write(offset, bytes);
            model.set(bytes, offset);
            const readers = Array.from({ length: 4 }, async () => {
              const found = new Uint8Array(300_000);
              await disk.read(offset, found);
              expectSameBytes(found, model.subarray(offset, offset + found.length));
            });
            await Promise.all(readers);
          }
          const all = new Uint8Array(model.length);
          await disk.read(0, all);
          expectSameBytes(all, model);
          await disk.close();
        }
      });
    });
  });
});
