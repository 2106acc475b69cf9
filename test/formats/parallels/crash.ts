/** Parallels images through power cuts: both signatures, over a parent, all that can be done to them, and mutants. */
import { vi } from 'vitest';
import { SlotAllocator } from '../../../src/blocks/slot-allocator.ts';
import { HEADER, IN_USE, MAGIC } from '../../../src/formats/parallels/layout.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { type CrashCheck, type CrashSuite, FaultProvider } from '../../../src/testing/index.ts';
import { rounds } from '../../conformance/random.ts';
import { commonCrashes, crashSuite } from '../../faults/common-crashes.ts';
import { images, missingDirectoryFlush, publishBeforeData, retriedFlush, storages } from '../../faults/mutations.ts';
import { compacted, resized } from '../../faults/resizing.ts';
import { createWay, type Way, WRITABLE, waysToMake } from '../../faults/ways.ts';
import { scattered, traffic, type Workload } from '../../faults/workloads.ts';
import { fileBytes } from '../../model/extents.ts';
import type { CrashKit, CrashRow, Mutant, Mutation } from '../crash-kit.ts';
import { brokenBundle, bundleMutants, bundleRows } from './bundle.ts';

/** Sectors of a cluster of the suites. */
const BLOCK = 8;

interface Clusters {
  readonly inUse: number;
  /** Places of the clusters in use, in the order of the file. */
  readonly places: readonly number[];
  readonly clusterSize: number;
  readonly dataStart: number;
}

/** Read from the bytes without the code under test; null: they are not an image. */
function clustersOf(bytes: Uint8Array): Clusters | null {
  if (bytes.length < HEADER.size) return null;
  const { magic, tracks, entries, dataOffset, inUse } = HEADER.decode(bytes);
  if (magic !== MAGIC.classic && magic !== MAGIC.extended) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const places: number[] = [];
  for (let at = HEADER.size; at < HEADER.size + entries * 4 && at + 4 <= bytes.length; at += 4) {
    const entry = view.getUint32(at, true);
    if (entry !== 0) places.push(entry * 512 * (magic === MAGIC.extended ? tracks : 1));
  }
  const clusterSize = tracks * 512;
  return { inUse, places: places.sort((one, other) => one - other), clusterSize, dataStart: dataOffset * 512 };
}

/** Violations of the format: clusters overlap, or lie where none can be. */
async function brokenRules({ provider, image }: CrashCheck): Promise<string[]> {
  if ((await provider.lookUp(image))?.kind === 'directory') return brokenBundle(provider, image);
  const bytes = await fileBytes({ provider, name: image });
  const found = clustersOf(bytes);
  if (found === null) return [];
  const { places, clusterSize, dataStart } = found;
  const problems: string[] = [];
  for (const [index, place] of places.entries()) {
    if (place < (places[index - 1] ?? -clusterSize) + clusterSize) problems.push(`Two clusters lie at ${place}`);
    if (place < dataStart) problems.push(`A cluster lies among the metadata, at ${place}`);
    if (place + clusterSize > bytes.length) problems.push(`A cluster lies beyond the end of the file, at ${place}`);
  }
  return problems;
}

const SMALL: readonly Workload[] = [scattered(4), traffic(40, { discards: 0.3 })];

/** The table grows past the place of the first cluster, which moves; twice. */
const grown: Workload = async (session) => {
  await session.write(0, 5 * BLOCK);
  await session.write(1600, 9);
  await session.flush();
  await session.resize(9000);
  await session.write(8990, 8);
  await session.write(3, 9);
  await session.flush();
  await session.resize(17_000);
  await session.write(16_999, 1);
  await scattered(5)(session);
  await session.compact();
  await session.write(5, 2);
};

/** The kit. */
export function makeCrash(): CrashKit {
  const common = commonCrashes('parallels');
  const ways = WRITABLE.filter(({ name }) => name === 'parallels').flatMap(waysToMake);
  const [base] = ways;
  if (common === null || base === undefined) throw new Error('Parallels images can be made and written');
  const suiteOf = (way: Way, seed: number, sessions: readonly Workload[], mutation: Mutation = {}): CrashSuite => ({
    ...crashSuite(way, seed, sessions, mutation),
    check: brokenRules,
  });
  /** The file does not name its parent: it is made alone, and opened with it. */
  const overParent = (seed: number, sessions: readonly Workload[], mutation: Mutation = {}): CrashSuite => {
    const suite = suiteOf({ ...base, diff: true }, seed, sessions, mutation);
    const { registry, wrap = (provider) => provider } = mutation;
    return { ...suite, build: (provider) => createWay(wrap(provider), base, registry) };
  };
  const rows = common.rows.map((row): CrashRow => {
    return {
      ...row,
      suite: (seed) => ({ ...row.suite(seed), check: brokenRules }),
      options: { everyCut: rounds(row.title.startsWith('bundle') ? 96 : 26, 1) },
    };
  });
  const work: readonly (readonly [title: string, sessions: readonly Workload[]])[] = [
    ['resize and compact', [...resized, compacted]],
    ['a longer table', [grown]],
  ];
  const maintained = ways.flatMap((way) =>
    work.map(([title, sessions]): CrashRow => {
      return {
        title: `${way.title}: ${title}`,
        suite: (seed) => suiteOf(way, seed, sessions),
        options: { everyCut: rounds(96, 1) },
        states: [70, 1000],
        seeds: [1, 3],
      };
    }),
  );
  const child: CrashRow = {
    title: 'over a parent: traffic, resize and compact',
    suite: (seed) => overParent(seed, [...SMALL, ...resized, compacted]),
    options: { everyCut: rounds(96, 1) },
    states: [100, 1000],
    seeds: [1, 3],
  };
  return {
    ...common,
    rows: [...rows, ...maintained, child, ...bundleRows],
    states: [100, 1000],
    atLeast: [230, 10_000],
    mutants: [
      ...mutantsOf((sessions, mutation) => suiteOf(base, 21, sessions, mutation), overParent),
      ...bundleMutants,
    ],
  };
}

type Make = (sessions: readonly Workload[], mutation: Mutation) => CrashSuite;
type MakeChild = (seed: number, sessions: readonly Workload[], mutation: Mutation) => CrashSuite;

/** Clusters that get places one after the other, each durable. */
const ONE_BY_ONE = 4;
const oneByOne: Workload = async (session) => {
  for (let cluster = 0; cluster < ONE_BY_ONE; cluster++) {
    await session.write(3 * cluster * BLOCK, BLOCK);
    await session.flush();
  }
};

/** An image in which only some of those clusters have places is marked as open. */
async function isMarked(context: CrashCheck): Promise<string[]> {
  const problems = await brokenRules(context);
  const found = clustersOf(await fileBytes({ provider: context.provider, name: context.image }));
  if (context.stage !== 'found' || found === null) return problems;
  const { places, inUse } = found;
  const isBetween = places.length > 0 && places.length < ONE_BY_ONE;
  return isBetween && inUse !== IN_USE.open ? [...problems, 'It was changed without the mark of use'] : problems;
}

/** Clusters that were durable are discarded, and others written in the same flush. */
const freed: Workload = async (session) => {
  await session.write(0, 10 * BLOCK);
  await session.flush();
  await session.discard(2 * BLOCK, 5 * BLOCK);
  await session.write(50 * BLOCK, 5 * BLOCK);
  await session.flush();
};

/** A flush fails in the middle; a retry must not be trusted. */
function failing(make: Make, mutation: Mutation): CrashSuite {
  const medium = new FaultProvider(new MemoryProvider());
  const session: Workload = async (one) => {
    await one.write(0, 20);
    await one.flush();
    await one.write(0, 60);
    medium.plan({ fail: { flush: 0 } });
    await one.flush();
    await one.write(3, 1);
  };
  return { ...make([session], mutation), provider: medium, expectedFailure: 'io' };
}

function mutantsOf(make: Make, makeChild: MakeChild): readonly Mutant[] {
  const busy = (mutation: Mutation): CrashSuite => makeChild(21, SMALL, mutation);
  return [
    { name: 'entries before clusters', mutate: publishBeforeData, suite: busy },
    {
      name: 'mark of use after the first change',
      mutate: () => images(() => ({ beginChanges: async () => {} })),
      suite: (mutation) => ({ ...make([oneByOne], mutation), check: isMarked }),
    },
    {
      name: 'freed cluster reused before the table is durable',
      mutate() {
        vi.spyOn(SlotAllocator.prototype, 'pin').mockImplementation(function (this: SlotAllocator, slot) {
          this.giveBack({ first: slot, count: 1, recycled: true });
        });
        return {};
      },
      suite: (mutation) => make([freed], mutation),
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
      suite: (mutation) => make([grown], mutation),
    },
    { name: 'missing directory flush', mutate: missingDirectoryFlush, suite: busy },
    { name: 'retried flush', mutate: retriedFlush, suite: (mutation) => failing(make, mutation) },
  ];
}
