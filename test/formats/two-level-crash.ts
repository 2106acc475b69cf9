/** Images of two levels through power cuts: every way to create one, all that can be done to them, and mutants. */
import { vi } from 'vitest';
import { SECTOR } from '../../src/binary/numbers.ts';
import { UnitRoom } from '../../src/blocks/unit-room.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { type CrashCheck, type CrashSuite, FaultProvider } from '../../src/testing/index.ts';
import { rounds } from '../conformance/random.ts';
import { commonCrashes, crashSuite } from '../faults/common-crashes.ts';
import {
  images,
  missingDirectoryFlush,
  publishBeforeData,
  retriedFlush,
  stageLast,
  storages,
} from '../faults/mutations.ts';
import { compacted, resized } from '../faults/resizing.ts';
import { type Way, WRITABLE, waysToMake } from '../faults/ways.ts';
import { scattered, traffic, type Workload } from '../faults/workloads.ts';
import { fileBytes } from '../model/extents.ts';
import type { CrashKit, CrashRow, Mutant, Mutation } from './crash-kit.ts';

/** The tables of an image, read from its bytes without the code under test. */
export interface TablesOf {
  readonly clusterSize: number;
  readonly tableBytes: number;
  readonly headerEnd: number;
  readonly l1: { readonly offset: number; readonly entries: number };
  /** A number of eight bytes. */
  numberAt(view: DataView, at: number): bigint;
  /** File offset of the cluster that an entry of an L2 table names; null: it names none. */
  clusterOf(entry: bigint): number | null;
}

/** What differs between the formats. */
export interface TwoLevelCrash {
  readonly format: string;
  /** Null: the bytes are not an image. */
  tables(bytes: Uint8Array): TablesOf | null;
  /** Further mutants. */
  readonly mutants?: readonly Mutant[];
}

/** Violations of the format: clusters and tables overlap, or lie where there is nothing. */
function brokenRules({ tables }: TwoLevelCrash, bytes: Uint8Array): string[] {
  const found = tables(bytes);
  if (found === null) return [];
  const { l1, tableBytes, clusterSize, headerEnd } = found;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const taken: [start: number, end: number][] = [[0, headerEnd]];
  const read = (offset: number, entries: number): bigint[] =>
    Array.from({ length: entries }, (_, index) => offset + index * 8)
      .filter((at) => at + 8 <= bytes.length)
      .map((at) => found.numberAt(view, at));
  taken.push([l1.offset, l1.offset + l1.entries * 8]);
  const places = read(l1.offset, l1.entries).filter((place) => place !== 0n);
  for (const place of places.map(Number)) {
    taken.push([place, place + tableBytes]);
    for (const entry of read(place, tableBytes / 8)) {
      const cluster = found.clusterOf(entry);
      if (cluster !== null) taken.push([cluster, cluster + clusterSize]);
    }
  }
  taken.sort(([one], [other]) => one - other);
  const problems: string[] = [];
  for (const [index, [start, end]] of taken.entries()) {
    if (start < (taken[index - 1]?.[1] ?? 0)) problems.push(`Two things lie at ${start}`);
    if (start >= bytes.length && end > 0) problems.push(`Something lies beyond the end of the file, at ${start}`);
  }
  return problems;
}

const BLOCK = 8;

/** The kit of a format. */
export function twoLevelCrash(kit: TwoLevelCrash): CrashKit {
  const common = commonCrashes(kit.format);
  if (common === null) throw new Error(`${kit.format} can be made and written`);
  const check = async ({ provider, image }: CrashCheck): Promise<string[]> =>
    brokenRules(kit, await fileBytes({ provider, name: image }));
  const ways = WRITABLE.filter(({ name }) => name === kit.format).flatMap(waysToMake);
  const suiteOf = (way: Way, seed: number, sessions: readonly Workload[], mutation: Mutation = {}): CrashSuite => ({
    ...crashSuite(way, seed, sessions, mutation),
    check,
  });
  const rows = common.rows.map((row): CrashRow => {
    return { ...row, suite: (seed) => ({ ...row.suite(seed), check }), options: { everyCut: rounds(14, 1) } };
  });
  const maintained = ways.map((way): CrashRow => {
    return {
      title: `${way.title}: resize and compact`,
      suite: (seed) => suiteOf(way, seed, [...resized, compacted]),
      options: { everyCut: rounds(64, 1) },
      states: [100, 1000],
      seeds: [1, 3],
    };
  });
  const [base] = ways;
  const child = ways.find(({ diff }) => diff);
  if (base === undefined || child === undefined) throw new Error(`${kit.format} has bases and children`);
  return {
    ...common,
    rows: [...rows, ...maintained],
    states: [150, 1000],
    atLeast: [350, 20_000],
    mutants: [
      ...mutantsOf((way, sessions, mutation) => suiteOf(way === 'base' ? base : child, 21, sessions, mutation)),
    ],
  };
}

type Make = (way: 'base' | 'child', sessions: readonly Workload[], mutation: Mutation) => CrashSuite;

function mutantsOf(make: Make): readonly Mutant[] {
  const work: readonly Workload[] = [scattered(4), traffic(40, { discards: 0.3 })];
  // A child copies what its parent has around a write, and no mark makes the next writer check it.
  const busy = (mutation: Mutation): CrashSuite => make('child', work, mutation);
  /** Clusters that were durable are discarded, and others written in the same flush. */
  const freed: Workload = async (session) => {
    await session.write(0, 10 * BLOCK);
    await session.flush();
    await session.discard(2 * BLOCK, 5 * BLOCK);
    await session.write(50 * BLOCK, 5 * BLOCK);
    await session.flush();
  };
  /** Tables that move, and a cluster of which a smaller disk has a part. */
  const resizes: Workload = async (session) => {
    await session.write(0, 3 * BLOCK);
    await session.flush();
    await session.resize(5000);
    await session.write(4990, 5);
    await session.write(2000, 8);
    await session.flush();
    await session.resize(2003);
    await session.resize(3000);
  };
  /** A flush fails in the middle; a retry must not be trusted. */
  const failing = (mutation: Mutation): CrashSuite => {
    const medium = new FaultProvider(new MemoryProvider());
    const session: Workload = async (one) => {
      await one.write(0, 20);
      await one.flush();
      await one.write(0, 60);
      medium.plan({ fail: { flush: 0 } });
      await one.flush();
      await one.write(3, 1);
    };
    return { ...make('base', [session], mutation), provider: medium, expectedFailure: 'io' };
  };
  return [
    { name: 'entries before clusters', mutate: publishBeforeData, suite: busy },
    { name: 'new tables after their entries', mutate: stageLast, suite: busy },
    {
      name: 'freed cluster reused before the table is durable',
      mutate() {
        vi.spyOn(UnitRoom.prototype, 'pin').mockImplementation(function (this: UnitRoom, slot) {
          this.giveBack({ first: slot, count: 1, recycled: true });
        });
        return {};
      },
      suite: (mutation) => make('base', [freed], mutation),
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
      suite: (mutation) => make('child', [resizes], mutation),
    },
    { name: 'missing directory flush', mutate: missingDirectoryFlush, suite: busy },
    { name: 'retried flush', mutate: retriedFlush, suite: failing },
  ];
}

/** A header at the start of the file. */
export function hasHeader(bytes: Uint8Array): boolean {
  return bytes.length >= SECTOR && bytes.subarray(0, SECTOR).some((byte) => byte !== 0);
}
