/**
 * The power-cut suite must see what is wrong: each of these mutants of the VDI code breaks one rule of the order of
 * writes, and each is caught under a workload that the code as it is survives.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { MetadataPages } from '../../src/blocks/metadata-pages.ts';
import { SlotAllocator } from '../../src/blocks/slot-allocator.ts';
import { FORMATS } from '../../src/formats/index.ts';
import type { Image, MetaWrite } from '../../src/image/contract.ts';
import type { Storage, StorageProvider } from '../../src/storage/contract.ts';
import { isPromise } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { type CrashSession, type CrashSuite, FaultProvider, runCrashSuite } from '../../src/testing/index.ts';
import { overriding, registryWith } from '../../src/testing/overriding.ts';
import {
  coveredGrowth,
  filledSuite,
  isMovedMetadata,
  MAP_OFFSET,
  scattered,
  traffic,
  UNIT,
  type VdiSuiteOptions,
  vdiSuite,
} from './vdi-suite.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

type Mutation = Pick<VdiSuiteOptions, 'registry' | 'wrap'>;

/** A mutation, and the workload that exposes it. `mutate` may patch classes; they are restored afterwards. */
interface Mutant {
  readonly name: string;
  readonly mutate: () => Mutation;
  readonly suite: (mutation: Mutation) => CrashSuite;
}

const busy = (mutation: Mutation): CrashSuite =>
  vdiSuite('dynamic', { seed: 21, sessions: [scattered(6), traffic(40, { discards: 0.3 })], ...mutation });

const images = (own: (image: Image) => Partial<Image>): Mutation => ({
  registry: registryWith(FORMATS, (image) => overriding(image, own(image))),
});

/** A provider whose storages behave otherwise. */
const storages = (own: (storage: Storage) => Partial<Storage>): Mutation => ({
  wrap: (provider) =>
    overriding<StorageProvider>(provider, {
      open: async (name, mode) => {
        const storage = await provider.open(name, mode);
        return overriding(storage, own(storage));
      },
    }),
});

/** Discards at the end of the file, then writes that make it longer again. */
async function endDiscarded(session: CrashSession): Promise<void> {
  await session.write(0, 40 * UNIT);
  await session.flush();
  await session.discard(30 * UNIT, 10 * UNIT);
  await session.write(100 * UNIT, UNIT);
  await session.flush();
}

/** A flush fails in the middle; a retry must not be trusted. */
function failingSuite(mutation: Mutation): CrashSuite {
  const medium = new FaultProvider(new MemoryProvider());
  return {
    ...vdiSuite('dynamic', {
      seed: 22,
      sessions: [
        async (session) => {
          await session.write(0, 20);
          await session.flush();
          await session.write(0, 60);
          medium.plan({ fail: { flush: 0 } });
          await session.flush();
          await session.write(3, 1);
        },
      ],
      ...mutation,
    }),
    provider: medium,
    expectedFailure: 'io',
  };
}

const MUTANTS: readonly Mutant[] = [
  {
    name: 'publish before data',
    mutate: () =>
      images((image) => ({
        seal() {
          const { stage, root, publish } = image.seal();
          return { stage: [...stage, ...publish.flat()], root, publish: [] };
        },
      })),
    suite: busy,
  },
  {
    name: 'map before header',
    mutate: () =>
      images((image) => ({
        seal() {
          const { stage, root, publish } = image.seal();
          return { stage: [], root, publish: [...publish, stage] };
        },
      })),
    suite: busy,
  },
  {
    name: 'early reuse',
    mutate() {
      vi.spyOn(SlotAllocator.prototype, 'pin').mockImplementation(function (this: SlotAllocator, slot) {
        this.giveBack({ first: slot, count: 1, recycled: true });
      });
      return {};
    },
    suite: busy,
  },
  {
    name: 'early truncate',
    mutate: () =>
      images((image) => ({
        async unmap(offset, length, to) {
          await image.unmap?.(offset, length, to);
          await image.storages()[0]?.resize(await endOfData(image));
        },
      })),
    suite: (mutation) => vdiSuite('dynamic', { seed: 23, sessions: [endDiscarded], ...mutation }),
  },
  {
    name: 'unfrozen page',
    mutate() {
      const seal = MetadataPages.prototype.seal;
      vi.spyOn(MetadataPages.prototype, 'seal').mockImplementation(function (this: MetadataPages) {
        return seal.call(this).map((write) => liveWrite(this, write));
      });
      return {};
    },
    suite: busy,
  },
  {
    name: 'links before data',
    mutate() {
      // While the map moves, nothing is durable before what points at it.
      let moving = false;
      const dropped = storages((storage) => ({ flush: async () => (moving ? undefined : storage.flush()) }));
      const marked = images((image) => ({
        async resize(size, how) {
          moving = true;
          try {
            await image.resize?.(size, how);
          } finally {
            moving = false;
          }
        },
      }));
      return { ...dropped, ...marked };
    },
    suite: (mutation) => filledSuite('dynamic', { seed: 24, sessions: [coveredGrowth], ...mutation }),
  },
  {
    name: 'missing directory flush',
    mutate: () => ({ wrap: (provider) => overriding<StorageProvider>(provider, { syncNames: async () => {} }) }),
    suite: busy,
  },
  {
    name: 'retried flush',
    mutate: () => storages((storage) => ({ flush: () => storage.flush().catch(() => storage.flush()) })),
    suite: failingSuite,
  },
];

async function problemsOf(suite: CrashSuite): Promise<string[]> {
  const report = await runCrashSuite(suite, { maxStates: 600, isMetadata: isMovedMetadata, stopAfter: 3 });
  return report.violations.map(({ problem }) => problem);
}

describe('a mutant of the VDI code', () => {
  it.each(MUTANTS)('is caught: $name', async ({ mutate, suite }) => {
    expect(await problemsOf(suite({}))).toEqual([]);
    expect(await problemsOf(suite(mutate()))).not.toEqual([]);
  });
});

/** One more than the last byte that the map refers to. */
async function endOfData(image: Image): Promise<number> {
  let end = 0;
  for (let at = 0; at < image.info.virtualSize; ) {
    const answer = image.map(at, image.info.virtualSize - at);
    const mapping = isPromise(answer) ? await answer : answer;
    if (mapping.kind === 'data') end = Math.max(end, mapping.fileOffset + mapping.length);
    at += mapping.length;
  }
  return end;
}

/** The same sectors, with what the page holds when they are written. The map is a single page here. */
function liveWrite(pages: MetadataPages, { storage, fileOffset: offset, bytes }: MetaWrite): MetaWrite {
  const start = offset - MAP_OFFSET;
  return {
    storage,
    fileOffset: offset,
    get bytes() {
      return pages.peek(0)?.bytes.slice(start, start + bytes.length) ?? bytes;
    },
  };
}
