/**
 * Mutants of the VDI code: each breaks one rule of the order of writes, and the power-cut suite must see it under a
 * workload that the code as it is survives.
 */
import { vi } from 'vitest';
import { MetadataPages } from '../../../src/blocks/metadata-pages.ts';
import { SlotAllocator } from '../../../src/blocks/slot-allocator.ts';
import type { Image, MetaWrite } from '../../../src/image/contract.ts';
import { isPromise } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { type CrashSession, type CrashSuite, FaultProvider } from '../../../src/testing/index.ts';
import {
  images,
  missingDirectoryFlush,
  publishBeforeData,
  retriedFlush,
  stageLast,
  storages,
} from '../../faults/mutations.ts';
import { scattered, traffic, UNIT } from '../../faults/workloads.ts';
import type { Mutant, Mutation } from '../crash-kit.ts';
import { coveredGrowth, filledSuite, MAP_OFFSET, vdiSuite } from './crash-images.ts';

const busy = (mutation: Mutation): CrashSuite =>
  vdiSuite('dynamic', { seed: 21, sessions: [scattered(6), traffic(40, { discards: 0.3 })], ...mutation });

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

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'publish before data',
    mutate: publishBeforeData,
    suite: busy,
  },
  {
    name: 'map before header',
    mutate: stageLast,
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
    mutate: missingDirectoryFlush,
    suite: busy,
  },
  {
    name: 'retried flush',
    mutate: retriedFlush,
    suite: failingSuite,
  },
];

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
