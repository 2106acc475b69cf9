/**
 * Mutants of the VMDK code: each breaks one rule of the order of writes, and the power-cut suite must see it under a
 * workload that the code as it is survives.
 */
import { vi } from 'vitest';
import { SECTOR } from '../../../src/binary/numbers.ts';
import { SlotAllocator } from '../../../src/blocks/slot-allocator.ts';
import { SPARSE_HEADER } from '../../../src/formats/vmdk/layout.ts';
import type { Storage, StorageProvider } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { type CrashSuite, FaultProvider } from '../../../src/testing/index.ts';
import { overriding } from '../../../src/testing/overriding.ts';
import {
  images,
  missingDirectoryFlush,
  publishBeforeData,
  retriedFlush,
  stageLast,
  storages,
} from '../../faults/mutations.ts';
import { scattered, traffic, type Workload } from '../../faults/workloads.ts';
import type { Mutant, Mutation } from '../crash-kit.ts';
import { commentedSuite, GRAIN, splitSuite, tablelessSuite, vmdkSuite, vmdkWay } from './crash-images.ts';

const WORK = [scattered(4), traffic(40, { discards: 0.3 })];
const busy = (mutation: Mutation): CrashSuite =>
  vmdkSuite(vmdkWay('dynamic'), { seed: 21, sessions: WORK, ...mutation });
const commented = (mutation: Mutation): CrashSuite => commentedSuite({ seed: 24, ...mutation });
const ofParts = (mutation: Mutation): CrashSuite =>
  vmdkSuite(vmdkWay('split', { variant: ['split'] }), { seed: 25, sessions: [traffic(4)], ...mutation });

/** Grains that were durable are discarded, and others written in the same flush. */
const freed: Workload = async (session) => {
  await session.write(0, 10 * GRAIN);
  await session.flush();
  await session.discard(2 * GRAIN, 5 * GRAIN);
  await session.write(50 * GRAIN, 5 * GRAIN);
  await session.flush();
};

/** A flush fails in the middle; a retry must not be trusted. */
function failing(mutation: Mutation): CrashSuite {
  const medium = new FaultProvider(new MemoryProvider());
  const sessions: CrashSuite['sessions'] = [
    async (session) => {
      await session.write(0, 20);
      await session.flush();
      await session.write(0, 60);
      medium.plan({ fail: { flush: 0 } });
      await session.flush();
      await session.write(3, 1);
    },
  ];
  const suite = vmdkSuite(vmdkWay('dynamic'), { seed: 22, sessions, ...mutation });
  return { ...suite, provider: medium, expectedFailure: 'io' };
}

export const MUTANTS: readonly Mutant[] = [
  { name: 'entries before grains', mutate: publishBeforeData, suite: busy },
  {
    name: 'directory before its tables',
    mutate: stageLast,
    suite: (mutation) => tablelessSuite({ seed: 23, sessions: WORK, ...mutation }),
  },
  {
    name: 'second copies not written',
    mutate: () =>
      images((image) => ({
        seal() {
          const sealed = image.seal();
          return { ...sealed, publish: sealed.publish.slice(0, 1) };
        },
      })),
    suite: (mutation) => splitSuite({ seed: 26, sessions: WORK, ...mutation }),
  },
  {
    name: 'content ID after the data',
    mutate: () => images(() => ({ beginChanges: async () => {} })),
    suite: busy,
  },
  {
    name: 'content ID not durable before the data',
    mutate() {
      let beginning = false;
      const dropped = storages((storage) => ({ flush: async () => (beginning ? undefined : storage.flush()) }));
      const marked = images((image) => ({
        async beginChanges(what) {
          beginning = true;
          await image.beginChanges?.(what);
          beginning = false;
        },
      }));
      return { ...dropped, ...marked };
    },
    suite: (mutation) => splitSuite({ seed: 27, sessions: WORK, ...mutation }),
  },
  { name: 'mark of a session never set', mutate: () => storages(unmarked), suite: busy },
  {
    name: 'freed grain reused before the table is durable',
    mutate() {
      vi.spyOn(SlotAllocator.prototype, 'pin').mockImplementation(function (this: SlotAllocator, slot) {
        this.giveBack({ first: slot, count: 1, recycled: true });
      });
      return {};
    },
    suite: (mutation) => vmdkSuite(vmdkWay('dynamic'), { seed: 28, sessions: [freed], ...mutation }),
  },
  { name: 'descriptor rewritten without its copy', mutate: () => storages(uncopied), suite: commented },
  { name: 'missing directory flush', mutate: missingDirectoryFlush, suite: busy },
  { name: 'parts named after their descriptor', mutate: () => ({ wrap: namesTogether }), suite: ofParts },
  { name: 'retried flush', mutate: retriedFlush, suite: failing },
];

type Writing = Pick<Storage, 'write'>;

/** A header is always clean. */
function unmarked(storage: Storage): Writing {
  return {
    write(fileOffset, source, options) {
      if (fileOffset !== 0 || !(source instanceof Uint8Array) || source.length !== SECTOR)
        return storage.write(fileOffset, source, options);
      const clean = source.slice();
      SPARSE_HEADER.put(clean, 'unclean', 0);
      return storage.write(fileOffset, clean, options);
    },
  };
}

/** Copies of descriptors are not written. */
function uncopied(storage: Storage): Writing {
  const isCopy = (bytes: Uint8Array): boolean => new TextDecoder().decode(bytes.subarray(1, 8)) === 'vdkitCP';
  return {
    write: async (fileOffset, source, options) => {
      if (!(source instanceof Uint8Array) || !isCopy(source)) await storage.write(fileOffset, source, options);
    },
  };
}

/** The names of the parts are made durable with that of the descriptor. */
function namesTogether(provider: StorageProvider): StorageProvider {
  return overriding<StorageProvider>(provider, {
    syncNames: async (directory) => {
      if ((await provider.lookUp('/disk.vmdk')) !== null) await provider.syncNames(directory);
    },
  });
}
