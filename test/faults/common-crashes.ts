/** Power cuts for formats whose kits define no images for them: each way to create one, under common workloads. */
import { MemoryProvider } from '../../src/storage/memory.ts';
import type { CrashSuite } from '../../src/testing/index.ts';
import type { CrashKit, Mutation } from '../formats/crash-kit.ts';
import { missingDirectoryFlush } from './mutations.ts';
import {
  createWay,
  hasInitial,
  imageOf,
  openWay,
  prepareWay,
  SECTOR,
  SECTORS,
  type Way,
  WRITABLE,
  waysToMake,
} from './ways.ts';
import { scattered, traffic, type Workload } from './workloads.ts';

/** The kit; null for a format that cannot be made and written. */
export function commonCrashes(name: string): CrashKit | null {
  const format = WRITABLE.find((one) => one.name === name);
  if (format === undefined) return null;
  const busy = traffic(50, { discards: format.capabilities.discard ? 0.15 : 0 });
  const ways = waysToMake(format);
  const [first] = ways;
  const workloads: [string, Workload[]][] = [
    ['traffic', [busy, busy]],
    ['all of it', [scattered(12), scattered(12)]],
  ];
  const rows = ways.flatMap((way) =>
    workloads.map(([title, sessions]) => ({
      title: `${way.title}: ${title}`,
      suite: (seed: number) => crashSuite(way, seed, sessions),
      options: {},
    })),
  );
  const suite = (mutation: Mutation) => crashSuite(first ?? never(name), 21, [busy], mutation);
  return {
    rows,
    seeds: [1, 11],
    states: [300, 1000],
    atLeast: [60 * rows.length, 2000 * rows.length],
    needed: [],
    mutants: [{ name: 'missing directory flush', mutate: missingDirectoryFlush, suite }],
    options: {},
  };
}

function never(name: string): never {
  throw new Error(`there is no way to make an image of ${name}`);
}

/** An image that is made in one of the ways, and whatever the sessions do with it. */
export function crashSuite(
  way: Way,
  seed: number,
  sessions: CrashSuite['sessions'],
  { registry, wrap = (provider) => provider }: Mutation = {},
): CrashSuite {
  return {
    provider: new MemoryProvider(),
    image: imageOf(way),
    size: SECTORS * SECTOR,
    seed,
    prepare: (provider) => prepareWay(provider, way),
    hasInitial: (sector) => way.diff && hasInitial(sector),
    build: (provider) => createWay(wrap(provider), way, registry),
    open: (provider) => openWay(wrap(provider), way, registry),
    sessions,
  };
}
