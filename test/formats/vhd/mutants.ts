/**
 * Mutants of the VHD code: each breaks one rule of the order of writes, and the power-cut suite must see it under a
 * workload that the code as it is survives.
 */
import { vi } from 'vitest';
import { SECTOR } from '../../../src/binary/numbers.ts';
import { SlotAllocator } from '../../../src/blocks/slot-allocator.ts';
import { Footers } from '../../../src/formats/vhd/footers.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { type CrashSuite, FaultProvider } from '../../../src/testing/index.ts';
import {
  images,
  missingDirectoryFlush,
  publishBeforeData,
  retriedFlush,
  stageLast,
  storages,
} from '../../faults/mutations.ts';
import { relinked } from '../../faults/relinking.ts';
import { scattered, traffic, type Workload } from '../../faults/workloads.ts';
import type { Mutant, Mutation } from '../crash-kit.ts';
import { BLOCK, CHILD, DYNAMIC, damagedFooter, PARENTS, vhdSuite } from './crash-images.ts';

const WORK: readonly Workload[] = [scattered(4), traffic(40, { discards: 0.3 })];
const busy = (mutation: Mutation): CrashSuite => vhdSuite(DYNAMIC, 21, WORK, mutation);
const ofChild = (mutation: Mutation): CrashSuite => vhdSuite(CHILD, 22, WORK, mutation);
const growing = (mutation: Mutation): CrashSuite => vhdSuite(CHILD, 23, [grown], mutation);

/** Blocks that were durable are discarded, and others written in the same flush, and in the next one. */
const freed: Workload = async (session) => {
  await session.write(0, 10 * BLOCK);
  await session.flush();
  await session.discard(2 * BLOCK, 5 * BLOCK);
  await session.write(50 * BLOCK, 5 * BLOCK);
  await session.flush();
  await session.write(60 * BLOCK, 5 * BLOCK);
  await session.flush();
};

const ofDamaged = (mutation: Mutation): CrashSuite => damagedFooter(vhdSuite(DYNAMIC, 26, WORK, mutation), 'copy');
const ofRelinked = (mutation: Mutation): CrashSuite => relinked(vhdSuite(CHILD, 27, [], mutation), PARENTS);
const ofFreed = (mutation: Mutation): CrashSuite => vhdSuite(DYNAMIC, 25, [freed, freed], mutation);

/** The table gets longer: the first blocks and the names of the parent move. */
const grown: Workload = async (session) => {
  await session.write(0, 3 * BLOCK);
  await session.flush();
  await session.resize(5000);
  await session.write(4990, 5);
};

/** A flush fails in the middle; a retry must not be trusted. */
function failing(mutation: Mutation): CrashSuite {
  const medium = new FaultProvider(new MemoryProvider());
  const sessions: readonly Workload[] = [
    async (session) => {
      await session.write(0, 20);
      await session.flush();
      await session.write(0, 60);
      medium.plan({ fail: { flush: 0 } });
      await session.flush();
      await session.write(3, 1);
    },
  ];
  return { ...vhdSuite(DYNAMIC, 24, sessions, mutation), provider: medium, expectedFailure: 'io' };
}

/** Footers are not durable when they return. */
function unflushedFooters(): Mutation {
  let writing = false;
  const { move, moveAway } = Footers.prototype;
  const marked = async (run: () => Promise<void>): Promise<void> => {
    writing = true;
    await run().finally(() => {
      writing = false;
    });
  };
  vi.spyOn(Footers.prototype, 'move').mockImplementation(function (this: Footers, at) {
    return marked(() => move.call(this, at));
  });
  vi.spyOn(Footers.prototype, 'moveAway').mockImplementation(function (this: Footers, far, near) {
    return marked(() => moveAway.call(this, far, near));
  });
  return storages((storage) => ({ flush: async () => (writing ? undefined : storage.flush()) }));
}

export const MUTANTS: readonly Mutant[] = [
  { name: 'entries before blocks', mutate: publishBeforeData, suite: ofFreed },
  { name: 'bitmap before data', mutate: publishBeforeData, suite: ofChild },
  { name: 'bitmaps of new blocks after their entries', mutate: stageLast, suite: ofChild },
  { name: 'footer before growth', mutate: unflushedFooters, suite: busy },
  {
    name: 'footer moved before its damaged copy is whole',
    mutate() {
      vi.spyOn(Footers.prototype, 'repairCopy').mockResolvedValue();
      return {};
    },
    suite: ofDamaged,
  },
  {
    name: 'freed block reused before the table is durable',
    mutate() {
      vi.spyOn(SlotAllocator.prototype, 'pin').mockImplementation(function (this: SlotAllocator, slot) {
        this.giveBack({ first: slot, count: 1, recycled: true });
      });
      return {};
    },
    suite: ofFreed,
  },
  {
    name: 'header written over the one that the footers name',
    mutate() {
      const real = Footers.prototype.replace;
      vi.spyOn(Footers.prototype, 'replace').mockImplementation(async function (this: Footers, footer, fileOffset) {
        if (footer.dataOffset === BigInt(SECTOR)) await real.call(this, footer, fileOffset);
      });
      return {};
    },
    suite: ofRelinked,
  },
  {
    name: 'restructured without flushes',
    mutate() {
      let resizing = false;
      const dropped = storages((storage) => ({ flush: async () => (resizing ? undefined : storage.flush()) }));
      const marked = images((image) => ({
        async resize(size, how) {
          resizing = true;
          try {
            await image.resize?.(size, how);
          } finally {
            resizing = false;
          }
        },
      }));
      return { ...dropped, ...marked };
    },
    suite: growing,
  },
  { name: 'missing directory flush', mutate: missingDirectoryFlush, suite: busy },
  { name: 'retried flush', mutate: retriedFlush, suite: failing },
];
