/**
 * The power-cut suites of QCOW2 must see what is wrong: each of these mutants breaks one rule of the order of writes, and
 * each is caught under a workload that the code as it is survives.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { MetadataPages } from '../../src/blocks/metadata-pages.ts';
import { FORMATS } from '../../src/formats/index.ts';
import { RefcountStore } from '../../src/formats/qcow2/clusters/refcount-store.ts';
import type { Encoder, Image, MetaWrite, SnapshotStore } from '../../src/image/contract.ts';
import { createImage, type Disk } from '../../src/index.ts';
import type { Storage, StorageProvider, WriteSource } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { type CrashSession, type CrashSuite, FaultProvider, runCrashSuite } from '../../src/testing/index.ts';
import { overriding, registryWith } from '../../src/testing/overriding.ts';
import { compressedSuite } from './qcow2-compressed-suite.ts';
import { NAME, open, problemsOf, record, SECTOR } from './qcow2-snapshots-suite.ts';
import { type Mutation, qcow2Suite } from './qcow2-suite.ts';
import { scattered, traffic } from './vdi-suite.ts';

/** Switch for "apply in place": tables of snapshots are allocated and freed in place. */
const places = vi.hoisted(() => ({ inPlace: false }));
vi.mock('../../src/formats/qcow2/clusters/table-room.ts', async (importOriginal) => {
  const real = await importOriginal<typeof import('../../src/formats/qcow2/clusters/table-room.ts')>();
  return {
    ...real,
    takeRooms: async (...[host, sizes]: Parameters<typeof real.takeRooms>) => {
      if (!places.inPlace) return real.takeRooms(host, sizes);
      const { l1Offset, clusterSize } = host.header;
      return [{ run: { first: l1Offset / clusterSize, count: 1 }, offset: l1Offset }];
    },
    lowerTable: async (...args: Parameters<typeof real.lowerTable>) => {
      if (!places.inPlace) await real.lowerTable(...args);
    },
  };
});

afterEach(() => {
  places.inPlace = false;
  vi.restoreAllMocks();
});

/** A mutation, and the workload that exposes it. `mutate` may patch classes; they are restored afterwards. */
interface Mutant {
  readonly name: string;
  readonly mutate: () => Mutation;
  readonly suite: (mutation: Mutation) => CrashSuite;
}

const SMALL = { clusterSize: 512, clusters: 1200 };
const busy = (mutation: Mutation): CrashSuite =>
  qcow2Suite(SMALL, 21, [scattered(6), traffic(40, { discards: 0.3 })], mutation);

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

/** While one operation of images runs, no storage flush happens. */
function withoutFlushes(operation: 'resize' | 'trim'): Mutation {
  let running = false;
  const noted = async (run: () => Promise<void> | undefined): Promise<void> => {
    running = true;
    try {
      await run();
    } finally {
      running = false;
    }
  };
  return {
    ...storages((storage) => ({ flush: async () => (running ? undefined : storage.flush()) })),
    ...images((image) =>
      operation === 'trim'
        ? { trim: () => noted(() => image.trim?.()) }
        : { resize: (size, how) => noted(() => image.resize?.(size, how)) },
    ),
  };
}

/** Blocks of a few counts each, so that the refcount table changes. */
const wide = (mutation: Mutation): CrashSuite =>
  qcow2Suite({ ...SMALL, config: { refcount_bits: 64 } }, 25, [scattered(8), traffic(20)], mutation);

/** A flush fails in the middle; a retry must not be trusted. */
function failingSuite(mutation: Mutation): CrashSuite {
  const medium = new FaultProvider(new MemoryProvider());
  const session = async (disk: CrashSession): Promise<void> => {
    await disk.write(0, 20);
    await disk.flush();
    await disk.write(0, 60);
    medium.plan({ fail: { flush: 0 } });
    await disk.flush();
    await disk.write(3, 1);
  };
  return { ...qcow2Suite(SMALL, 22, [session], mutation), provider: medium, expectedFailure: 'io' };
}

/** Room is given up at the end of the file, which is cut off. */
async function packed(session: CrashSession): Promise<void> {
  await session.write(0, 200);
  await session.flush();
  await session.discard(20, 160);
  await session.compact();
  await session.write(300, 40);
  await session.flush();
}

/** The L1 table becomes longer than its cluster. */
async function grown(session: CrashSession): Promise<void> {
  await scattered(2)(session);
  await session.flush();
  await session.resize(4500);
  await session.write(4400, 8);
  await session.flush();
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
    name: 'entries before counts',
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
    name: 'refcount table before its blocks',
    mutate: () =>
      images((image) => ({
        seal() {
          const { stage, root, publish } = image.seal();
          return { stage: root.flat(), root: [], publish: [stage, ...publish] };
        },
      })),
    suite: wide,
  },
  {
    name: 'entries before the refcount table',
    mutate: () =>
      images((image) => ({
        seal() {
          const { stage, root, publish } = image.seal();
          return { stage, root: publish, publish: root };
        },
      })),
    suite: wide,
  },
  {
    name: 'early reuse',
    mutate() {
      vi.spyOn(RefcountStore.prototype, 'release').mockImplementation(function (this: RefcountStore, cluster) {
        this.letGo(cluster);
        this.lower(cluster);
      });
      return {};
    },
    suite: busy,
  },
  {
    name: 'early truncate',
    mutate: () => withoutFlushes('trim'),
    suite: (mutation) => qcow2Suite(SMALL, 23, [packed, packed], mutation),
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
    mutate: () => withoutFlushes('resize'),
    suite: (mutation) => qcow2Suite(SMALL, 24, [grown], mutation),
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
  {
    name: 'shared tail sector',
    mutate: () => images((image) => ({ encoder: tearing(image.encoder ?? null) })),
    suite: (mutation) => {
      const suite = compressedSuite(300, { cluster_size: 1024 }, { seed: 1, ...mutation });
      // Nobody reads while it runs, so that only a cut shows it.
      return { ...suite, sessions: suite.sessions.slice(0, 1) };
    },
  },
];

async function violations(suite: CrashSuite): Promise<string[]> {
  const report = await runCrashSuite(suite, { maxStates: 600, stopAfter: 3 });
  return report.violations.map(({ problem }) => problem);
}

describe('a mutant of the QCOW2 code', () => {
  it.each([...new Set(MUTANTS.map(({ suite }) => suite))])('would not be caught if it were none', async (suite) => {
    expect(await violations(suite({}))).toEqual([]);
  });

  it.each(MUTANTS)('is caught: $name', async ({ mutate, suite }) => {
    expect(await violations(suite(mutate()))).not.toEqual([]);
  });
});

/** Two clusters of L1 entries, with data in both of them, in the disk and in the snapshot. */
async function withSnapshot(): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const size = 70 * 64 * SECTOR;
  await createImage({ provider, name: NAME }, { size, format: 'qcow2', config: { cluster_size: 512 } });
  await using disk = await open(provider);
  for (const content of [1, 2]) {
    for (const at of [0, 10, 69]) await disk.write(at * 64 * SECTOR, new Uint8Array(3 * SECTOR).fill(content));
    if (content === 1) await disk.snapshots.create('first', { createdMs: 1 });
  }
  return provider;
}

describe('a mutant of the code for snapshots', () => {
  const problems = async (run: (disk: Disk) => Promise<unknown>, mutation: Mutation): Promise<string[]> => {
    const inner = await withSnapshot();
    const operation = { name: 'mutant', run };
    return problemsOf(await record(inner, operation, 1, mutation));
  };

  it('is caught: COPIED late', async () => {
    const create = (disk: Disk): Promise<unknown> => disk.snapshots.create('second', { createdMs: 2 });
    expect(await problems(create, {})).toEqual([]);
    expect(await problems(create, copiedLate())).not.toEqual([]);
  });

  it('is caught: apply in place', async () => {
    const apply =
      (inPlace: boolean) =>
      async (disk: Disk): Promise<void> => {
        places.inPlace = inPlace;
        await disk.snapshots.apply('first');
      };
    expect(await problems(apply(false), {})).toEqual([]);
    expect(await problems(apply(true), {})).not.toEqual([]);
  });
});

/** Flags are cleared only when the snapshot is there already: what is written before the first flush comes last. */
function copiedLate(): Mutation {
  let held: [offset: number, source: WriteSource][] | null = null;
  let holding = false;
  return {
    ...storages((storage) => ({
      async write(offset, source) {
        if (holding) {
          held?.push([offset, source]);
          return;
        }
        await storage.write(offset, source);
        if (offset !== 0 || held === null) return;
        await storage.flush();
        for (const [at, bytes] of held) await storage.write(at, bytes);
        held = null;
      },
      async flush() {
        holding = false;
        await storage.flush();
      },
    })),
    ...images((image) =>
      image.snapshots === undefined
        ? {}
        : {
            snapshots: overriding<SnapshotStore>(image.snapshots, {
              create: (name, how) => {
                [held, holding] = [[], true];
                return image.snapshots?.create(name, how) ?? Promise.reject(new Error('internal'));
              },
            }),
          },
    ),
  };
}

/** The sector in which the last stream ends is written twice: at first without what it holds. */
function tearing(encoder: Encoder | null): Encoder | null {
  if (encoder === null) return null;
  return overriding<Encoder>(encoder, {
    async prepare(units) {
      const slot = await encoder.prepare(units);
      const hasHead = slot.buffers[0] !== units[0]?.bytes;
      if (hasHead) await slot.storage.write(slot.fileOffset, new Uint8Array(SECTOR));
      return slot;
    },
  });
}

/** The same sectors, with what the page holds when they are written. */
function liveWrite(pages: MetadataPages, { storage, fileOffset: offset, bytes }: MetaWrite): MetaWrite {
  const start = offset % pages.pageBytes;
  return {
    storage,
    fileOffset: offset,
    get bytes() {
      return pages.peek(Math.floor(offset / pages.pageBytes))?.bytes.slice(start, start + bytes.length) ?? bytes;
    },
  };
}
