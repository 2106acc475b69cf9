/** Bundles for the suites of Parallels: snapshots and merges through power cuts, mutants, and wrong descriptors. */
import type { Disk } from '../../../src/index.ts';
import { checkImage } from '../../../src/operations/check.ts';
import { createImage } from '../../../src/operations/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import type { Storage, StorageProvider } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { CrashSuite } from '../../../src/testing/index.ts';
import { overriding } from '../../../src/testing/overriding.ts';
import { rounds } from '../../conformance/random.ts';
import { missingDirectoryFlush } from '../../faults/mutations.ts';
import { compacted, resized } from '../../faults/resizing.ts';
import { scattered, traffic, type Workload } from '../../faults/workloads.ts';
import type { Anatomy, Sample, SamplePart } from '../../hostile/descriptor.ts';
import type { BaseImage } from '../../hostile/protocol.ts';
import type { CrashRow, Mutant, Mutation } from '../crash-kit.ts';
import { linesOf, NOTHING } from '../toys/sample-parts.ts';

const SECTOR = 512;
const UNIT = 4096;
const SECTORS = 203 * 8 + 3;
const NAME = '/disk.hdd';
const config = { cluster_size: UNIT };

/** An image of the bundle, by its place in the order of their making. */
const shot = (number: number): string => `${NAME}/shot${number}.hds`;

/** A bundle, and whatever the sessions do with it. */
function bundleSuite(
  seed: number,
  sessions: readonly Workload[],
  { registry, wrap = (provider) => provider }: Mutation = {},
): CrashSuite {
  return {
    provider: new MemoryProvider(),
    image: NAME,
    size: SECTORS * SECTOR,
    seed,
    async build(provider) {
      const target = { provider: wrap(provider), name: NAME };
      await createImage(target, { registry, size: SECTORS * SECTOR, variant: ['bundle'], config });
    },
    async open(provider) {
      const own = wrap(provider);
      return openDisk({ provider: own, name: NAME }, { provider: own, registry, mode: 'write', flushAfterMs: 0 });
    },
    sessions,
    check: async ({ provider, stage }) => (stage === 'found' ? [] : brokenBundle(provider, NAME)),
  };
}

/** Snapshots are made while a guest works; the provider is that of the disk. */
const snapshots =
  (count: number, first = 1): Workload =>
  async (session) => {
    const disk = session.disk as Disk;
    for (let number = first; number < first + count; number++) {
      await scattered(3)(session);
      await session.structural('createDiff', () => disk.createDiff(shot(number)));
    }
    await scattered(3)(session);
    await session.flush();
  };

const merging =
  (from: number, to: number): Workload =>
  async (session) => {
    await scattered(2)(session);
    await session.merge(from, to);
    await scattered(2)(session);
  };

const dropping: Workload = async (session) => {
  const disk = session.disk as Disk;
  await session.structural('commit', () => disk.commit());
  await session.structural('closeLast', () => disk.closeLast({ remove: true }));
  await scattered(2)(session);
};

const WORK: readonly (readonly [title: string, sessions: readonly Workload[]])[] = [
  ['snapshots, merged backward', [snapshots(2), merging(2, 1), merging(1, 0)]],
  ['snapshots, merged forward', [snapshots(2), merging(0, 1), merging(0, 1)]],
  ['a snapshot that goes again', [snapshots(2), merging(1, 0), dropping]],
  ['resize and compact', [traffic(20, { discards: 0.2 }), ...resized, compacted]],
];

/** Power cuts over all that changes a descriptor. */
export const bundleRows: readonly CrashRow[] = WORK.map(([title, sessions]) => ({
  title: `bundle: ${title}`,
  suite: (seed) => bundleSuite(seed, sessions),
  options: { everyCut: rounds(64, 1) },
  states: [60, 1000],
  seeds: [1, 3],
}));

/** New files of some names are said to be durable when they are not. */
const unflushed = (isMeant: (name: string) => boolean) => (): Mutation => ({
  wrap: (provider) =>
    overriding<StorageProvider>(provider, {
      async create(name, how): Promise<Storage> {
        const storage = await provider.create(name, how);
        return isMeant(name) ? overriding(storage, { flush: async () => {} }) : storage;
      },
    }),
});

/** Defects of the order in which descriptor and files change. */
export const bundleMutants: readonly Mutant[] = [
  {
    name: 'snapshot named before its file is durable',
    mutate: unflushed((name) => name.includes('shot')),
    suite: (mutation) => bundleSuite(21, [snapshots(2)], mutation),
  },
  {
    name: 'descriptor that takes its name before it is durable',
    mutate: unflushed((name) => name.includes('DiskDescriptor')),
    suite: (mutation) => bundleSuite(21, [snapshots(1)], mutation),
  },
  {
    name: 'merged file deleted before the descriptor is durable',
    mutate: missingDirectoryFlush,
    suite: (mutation) => bundleSuite(21, [snapshots(1), merging(1, 0)], mutation),
  },
];

/** The disk of a bundle in files without headers and in expandable ones: each kind of part, and a snapshot. */
export async function bundleSample(): Promise<Sample> {
  const provider = new MemoryProvider();
  const source = { provider, name: NAME };
  await createImage(source, { size: 24 * UNIT, variant: ['bundle'], config });
  const content = new Uint8Array(24 * UNIT);
  const write = async (unit: number, byte: number): Promise<void> => {
    await using disk = await openDisk(source, { mode: 'write', flushAfterMs: 0 });
    await disk.write(unit * UNIT, new Uint8Array(UNIT).fill(byte));
    content.fill(byte, unit * UNIT, (unit + 1) * UNIT);
  };
  await write(1, 1);
  await write(5, 2);
  await createImage({ provider, name: shot(1) }, { parent: source });
  await write(5, 3);
  const parts: SamplePart[] = [];
  for await (const name of provider.list(NAME)) {
    const bytes = await bytesOf(provider, name);
    const anatomy: Anatomy = name.endsWith('.xml') ? linesOf(bytes, 'free') : NOTHING;
    parts.push({ name: name.slice(NAME.length + 1), bytes, anatomy });
  }
  return {
    name: 'bundle with a snapshot',
    format: 'parallels',
    bytes: null,
    parts,
    beside: [{ name: 'beside.hds', bytes: new Uint8Array(SECTOR) }],
    anatomy: NOTHING,
    virtualSize: content.length,
    content,
    golden: false,
    every: 3,
    differencing: false,
  };
}

async function bytesOf(provider: StorageProvider, name: string): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

/** Descriptors that are a hole, nested deeply, or full of snapshots. */
export function bundleHollows(): BaseImage[] {
  const base = { image: null, beside: [], content: null, differencing: false };
  const of = (name: string, size: number, text: string): BaseImage => {
    const pieces = text === '' ? [] : [{ offset: 0, bytes: new TextEncoder().encode(text) }];
    return { ...base, name, parts: [{ name: 'DiskDescriptor.xml', size, pieces }] };
  };
  const deep = '<a>'.repeat(300_000);
  const shots = '<Shot><GUID>{1}</GUID></Shot>'.repeat(30_000);
  const many = `<Parallels_disk_image Version="1.0"><Snapshots>${shots}</Snapshots></Parallels_disk_image>`;
  return [
    of('a descriptor of 1 GiB', 2 ** 30, ''),
    of('deep elements', deep.length, deep),
    of('many snapshots', many.length, many),
  ];
}

/** Damage that the check of a bundle finds. A file that nothing names may be left. */
export async function brokenBundle(provider: StorageProvider, name: string): Promise<string[]> {
  const { findings } = await checkImage({ provider, name }, { lock: false });
  return findings.filter(({ severity }) => severity === 'corruption').map(({ message }) => message);
}
