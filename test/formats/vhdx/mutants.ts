/** Mutants of VHDX: each breaks one rule of the order of writes. */
import { vi } from 'vitest';
import { SlotAllocator } from '../../../src/blocks/slot-allocator.ts';
import { LogWriter } from '../../../src/formats/vhdx/log-writer.ts';
import { VhdxSession } from '../../../src/formats/vhdx/session.ts';
import type { MetaWrite } from '../../../src/image/contract.ts';
import type { CrashSuite } from '../../../src/testing/index.ts';
import { missingDirectoryFlush, publishBeforeData } from '../../faults/mutations.ts';
import { scattered, traffic } from '../../faults/workloads.ts';
import type { Mutant, Mutation } from '../crash-kit.ts';
import { BLOCK, vhdxSuite } from './crash-images.ts';
import { freed, packedOnce } from './workloads.ts';

const busy = traffic(30, { discards: 0.2, unit: BLOCK });
const dynamic = (mutation: Mutation): CrashSuite => vhdxSuite('dynamic', 21, [busy], mutation);
/** Its first flush names a new sector bitmap, and blocks that need it, in two pages of the table. */
const child = (mutation: Mutation): CrashSuite => vhdxSuite('diff', 22, [scattered(2)], mutation);

const packed = (mutation: Mutation): CrashSuite => vhdxSuite('dynamic', 24, [packedOnce], mutation);
const ofFreed = (mutation: Mutation): CrashSuite => vhdxSuite('dynamic', 25, [freed], mutation);

/** Rearranges the steps of each flush. */
function steps(change: (all: MetaWrite[][]) => MetaWrite[][]): void {
  const real = LogWriter.prototype.steps;
  vi.spyOn(LogWriter.prototype, 'steps').mockImplementation(function (this: LogWriter, groups, sizes) {
    return change(real.call(this, groups, sizes));
  });
}

export const MUTANTS: readonly Mutant[] = [
  { name: 'BAT before data', mutate: publishBeforeData, suite: dynamic },
  { name: 'bitmap before data', mutate: publishBeforeData, suite: child },
  {
    name: 'BAT before log flush',
    mutate() {
      steps((all) => [all.flat()]);
      return {};
    },
    suite: child,
  },
  {
    name: 'tail before apply',
    mutate() {
      // An entry that is its own tail makes the ones before it void: their pages must be in place.
      vi.spyOn(LogWriter.prototype, 'capacity', 'get').mockReturnValue(1);
      steps((all) => {
        const entries = all.filter((_, at) => at % 2 === 0);
        const pages = all.filter((_, at) => at % 2 === 1);
        return [...entries, ...pages];
      });
      return {};
    },
    suite: child,
  },
  {
    name: 'pages that are not logged',
    mutate() {
      steps((all) => all.filter((_, at) => at % 2 === 1));
      return {};
    },
    suite: child,
  },
  {
    name: 'a log named before it has an entry',
    mutate() {
      const real = LogWriter.prototype.write;
      vi.spyOn(LogWriter.prototype, 'write').mockImplementation(async function (this: LogWriter, pages, sizes) {
        if (pages.length > 0) await real.call(this, pages, sizes);
      });
      return {};
    },
    suite: dynamic,
  },
  {
    name: 'a log that names the former length',
    mutate() {
      vi.spyOn(VhdxSession.prototype, 'settle').mockResolvedValue();
      return {};
    },
    suite: packed,
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
  { name: 'missing directory flush', mutate: missingDirectoryFlush, suite: dynamic },
];
