/**
 * A cache through power cuts: its file and those of the images are cut at any moment, and what is read through it is what
 * the images hold. Also: the suite sees what is wrong.
 */
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { ActiveImage } from '../../src/disk/path/active-image.ts';
import { VciCache } from '../../src/formats/vci/cache.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { overriding } from '../../src/testing/overriding.ts';
import { rounds } from '../conformance/random.ts';
import { checkCacheRun, IN_THE_MIDDLE, ONLY_READING, recordCacheRun, type WrapProvider } from './cache-suite.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe('a power cut of images and their cache', () => {
  const sum = { states: 0, believed: 0, unclean: 0 };
  const seeds = Array.from({ length: rounds(2, 60) }, (_, index) => index + 1);
  afterAll(() => {
    const { states, believed, unclean } = sum;
    console.log(`cache: ${states} states after a power cut; the cache believed in ${believed}, unclean in ${unclean}`);
  });

  it.each(seeds)('seed %i: what is read through the cache is what the images hold', async (seed) => {
    const report = await checkCacheRun(await recordCacheRun(seed), { states: rounds(120, 450), seed });
    expect(report.violations).toEqual([]);
    sum.states += report.states;
    sum.believed += report.believed;
    sum.unclean += report.unclean;
  });

  it('was tried in thousands of states, with the cache in use and not', () => {
    expect(sum.states).toBeGreaterThanOrEqual(rounds(220, 33_000));
    expect(sum.believed).toBeGreaterThanOrEqual(rounds(3, 600));
    expect(sum.unclean).toBeGreaterThanOrEqual(rounds(110, 18_000));
  });
});

/** Leaves out the flush that makes data, tree and map durable before the header says that they are right. */
const flushesOnlyHeaders: WrapProvider = (provider) => {
  const own: Partial<StorageProvider> = {
    open: async (name, mode) => {
      const storage = await provider.open(name, mode);
      if (!name.endsWith('.vci')) return storage;
      let header = false;
      return overriding(storage, {
        write: async (offset, source) => {
          header = offset === 0;
          await storage.write(offset, source);
        },
        flush: async () => {
          if (header) await storage.flush();
        },
      });
    },
  };
  return overriding(provider, own);
};

describe('the suite sees a cache', () => {
  it.each<[string, string, () => WrapProvider | undefined]>([
    [
      'that does not say that it is in use',
      ONLY_READING,
      () => {
        vi.spyOn(VciCache.prototype, 'begin').mockResolvedValue();
        return undefined;
      },
    ],
    [
      'that says so without a flush',
      ONLY_READING,
      () => {
        vi.spyOn(VciCache.prototype, 'begin').mockImplementation(function (this: VciCache) {
          const { storage } = this;
          const unclean = Uint8Array.of(1);
          return storage.write(0x10, unclean);
        });
        return undefined;
      },
    ],
    ['whose header is written before the rest is durable', ONLY_READING, () => flushesOnlyHeaders],
    [
      'that keeps what was written since',
      ONLY_READING,
      () => {
        vi.spyOn(VciCache.prototype, 'drop').mockImplementation(() => {});
        return undefined;
      },
    ],
    [
      'closed in the middle of a session that goes on under the same identity',
      IN_THE_MIDDLE,
      () => {
        vi.spyOn(ActiveImage.prototype, 'renew').mockResolvedValue();
        return undefined;
      },
    ],
  ])('%s', async (_what, during, mutate) => {
    const wrap = mutate();
    for (let seed = 1; seed <= 4; seed++) {
      const run = await recordCacheRun(seed, wrap);
      // What opens afterwards is sound again.
      const report = await checkCacheRun(run, { states: 50, seed, stopAfter: 1, during });
      if (report.violations.length > 0) return;
    }
    expect.fail('nothing was noticed');
  });
});
