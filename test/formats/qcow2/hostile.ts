/** QCOW2 for the hostile suite: header, extensions, L1 and L2 tables, snapshots and bitmaps, in sound images. */
import { survey } from '../../../src/formats/qcow2/check/check.ts';
import { BITMAP, EXTENSION, HEADER, HEADER_LENGTH_2, SNAPSHOT } from '../../../src/formats/qcow2/layout.ts';
import { Random } from '../../../src/testing/random.ts';
import { randomBytes } from '../../conformance/random.ts';
import type {
  Anatomy,
  Effect,
  FileSample,
  HostileKit,
  SampleFile,
  StructPlace,
  TablePlace,
} from '../../hostile/descriptor.ts';
import type { BaseImage } from '../../hostile/protocol.ts';
import { type Built, buildQcow2, type Cluster, type Recipe } from './build.ts';

const SECTOR = 512;

const EFFECTS: Readonly<Record<string, Effect>> = {
  // Without it the file is a raw disk; another version, or another cluster size, is another layout.
  magic: 'free',
  version: 'free',
  clusterBits: 'free',
  // It is not read where there is no backing file.
  backingLength: 'exact',
  size: 'prefix',
  l1Offset: 'free',
  incompatible: 'free',
  compatible: 'exact',
  autoclear: 'exact',
  padding: 'exact',
  // A damaged list does not prevent access to the disk.
  snapshotCount: 'exact',
};
/** In version 2 the header ends before these: there are extensions in their place. */
const EFFECTS_2: Readonly<Record<string, Effect>> = Object.fromEntries(
  Object.entries(HEADER.fields)
    .filter(([, { offset }]) => offset >= HEADER_LENGTH_2)
    .map(([name]) => [name, 'same']),
);
/** A link that is taken away, or leads elsewhere, changes what absent clusters read. */
const EFFECTS_LINKED: Readonly<Record<string, Effect>> = {
  backingOffset: 'free',
  backingLength: 'free',
  headerLength: 'free',
};
const EFFECTS_LIST: Readonly<Record<string, Effect>> = Object.fromEntries(
  [...Object.keys(SNAPSHOT.fields), ...Object.keys(BITMAP.fields)].map((name) => [name, 'exact']),
);

/** QCOW2's part of the hostile suite. */
export const hostile: HostileKit<FileSample> = {
  async samples() {
    return [
      sample('all kinds of clusters', { clusterBits: 12, size: 11 * 4096 + 3 * SECTOR, clusters: clusters(4096, 1) }),
      { ...differencing(), every: 3 },
      { ...sample('snapshots and bitmaps', listed()), every: 3 },
      {
        ...sample('version 2', {
          version: 2,
          clusterBits: 9,
          size: 5632,
          clusters: clusters(512, 3, ['zero', 'zero-allocated']),
        }),
        every: 4,
      },
      { ...sample('subclusters', subclusters()), every: 4 },
      {
        ...sample('zstd', { clusterBits: 12, size: 12 * 4096, compression: 'zstd', clusters: clusters(4096, 5) }),
        every: 5,
      },
      { ...dataFile(), every: 5 },
      { ...sample('a long L1 table', long()), every: 4 },
    ];
  },
  reaches: ['amend:ok'],
  /** Of clusters that no refcount structure has, nor the table of the snapshots, which may move. */
  async counts(storage) {
    const { stored, recount, header, snapshots } = await survey(storage, {});
    const first = header.snapshotsOffset / header.clusterSize;
    const end = first + Math.ceil(snapshots.tableBytes / header.clusterSize);
    const isPlain = (cluster: number): boolean =>
      recount.structures.get(cluster) === 0 && (cluster < first || cluster >= end);
    const plain = [...stored.counts.indices()].filter(isPlain);
    return new Map(plain.map((cluster) => [cluster, stored.counts.get(cluster)]));
  },
  hollow: () => [hollow('an L1 table of 32 MiB', {}), hollow('65,536 snapshots', { snapshotCount: 65_536 })],
};

/** A header, and tables that are holes. */
function hollow(name: string, values: { readonly snapshotCount?: number }): BaseImage {
  const cluster = 65_536;
  const l1Entries = 2 ** 22;
  const bytes = new Uint8Array(HEADER.size);
  const l1Offset = 2 * cluster;
  const snapshotsOffset = l1Offset + l1Entries * 8;
  const base = { ...HEADER.decode(bytes), magic: 0x5146_49fb, version: 3, clusterBits: 16, size: 2 ** 51, l1Entries };
  const places = { l1Offset, snapshotsOffset, refcountTableOffset: cluster, refcountTableClusters: 1 };
  bytes.set(HEADER.encode({ ...base, ...places, refcountOrder: 4, headerLength: 112, ...values }));
  const image = { name, size: snapshotsOffset + 65_536 * SNAPSHOT.size, pieces: [{ offset: 0, bytes }] };
  return { name, image, beside: [], content: null, differencing: false };
}

/** Clusters of every kind but those left out, in an order that is not the guest's. */
function clusters(size: number, seed: number, without: readonly Cluster['kind'][] = []): Map<number, Cluster> {
  const random = new Random(seed);
  const text = (): Uint8Array =>
    Uint8Array.from({ length: size }, (_, at) => (at % 9) * seed + (random.below(40) === 0 ? 1 : 0));
  const all: readonly [number, Cluster][] = [
    [7, { kind: 'data', bytes: randomBytes(random, size) }],
    [8, { kind: 'data', bytes: randomBytes(random, size) }],
    [2, { kind: 'compressed', bytes: text() }],
    [3, { kind: 'compressed', bytes: text() }],
    [1, { kind: 'data', bytes: randomBytes(random, size) }],
    [4, { kind: 'zero' }],
    [5, { kind: 'zero-allocated', bytes: randomBytes(random, size) }],
    [10, { kind: 'compressed', bytes: text() }],
    [11, { kind: 'data', bytes: randomBytes(random, size) }],
  ];
  return new Map(all.filter(([, { kind }]) => !without.includes(kind)));
}

function listed(): Recipe {
  const then = new Map<number, Cluster>([[0, { kind: 'data', bytes: randomBytes(new Random(7), 4096) }]]);
  return {
    clusterBits: 12,
    size: 12 * 4096,
    clusters: clusters(4096, 6),
    snapshots: [
      { name: 'first', clusters: then },
      { name: 'zweiter \u00e4', clusters: clusters(4096, 8) },
    ],
    bitmaps: ['one', 'two'],
    extensions: [{ type: 0x00c0_ffee, data: new Uint8Array(13).fill(7) }],
  };
}

/** Fields of the header that are taken for entries of the L1 table lead to other tables. */
function long(): Recipe {
  const random = new Random(11);
  const data = (number: number): [number, Cluster] => [number, { kind: 'data', bytes: randomBytes(random, 512) }];
  const now = new Map<number, Cluster>([0, 1, 70, 1000, 2047].map(data));
  const then = new Map<number, Cluster>([0, 130, 2000].map(data));
  return {
    clusterBits: 9,
    size: 2 ** 20,
    clusters: now,
    snapshots: [{ name: 'then', clusters: then }],
    bitmaps: ['one'],
  };
}

function subclusters(): Recipe {
  const size = 16_384;
  const random = new Random(9);
  const made = new Map<number, Cluster>([
    [0, { kind: 'parts', bytes: randomBytes(random, size), data: 0x0f0f_0001, zero: 0x1010_0002 }],
    [1, { kind: 'zero' }],
    [2, { kind: 'data', bytes: randomBytes(random, size) }],
    [3, { kind: 'compressed', bytes: new Uint8Array(size).fill(3) }],
    [5, { kind: 'parts', bytes: randomBytes(random, size), data: 0x8000_0000, zero: 0 }],
  ]);
  return { clusterBits: 14, size: 6 * size, extendedL2: true, clusters: made };
}

/** Over a raw parent: clusters that only one of them has, clusters of both, and zeroes that hide the parent's. */
function differencing(): FileSample {
  const base = randomBytes(new Random(10), 10 * 4096 + SECTOR);
  const backing = { name: 'base.raw', format: 'raw' };
  const recipe = { clusterBits: 12, size: 12 * 4096, clusters: clusters(4096, 2), backing };
  return sample('differencing', recipe, [{ name: 'base.raw', bytes: base }]);
}

function dataFile(): FileSample {
  const kinds: readonly Cluster['kind'][] = ['compressed', 'zero-allocated'];
  const recipe = { clusterBits: 12, size: 12 * 4096, clusters: clusters(4096, 4, kinds), dataFile: 'data.raw' };
  const { data } = buildQcow2(recipe);
  return sample('external data file', recipe, [{ name: 'data.raw', bytes: data }]);
}

function sample(name: string, recipe: Recipe, beside: readonly SampleFile[] = []): FileSample {
  const built = buildQcow2(recipe);
  const content = contentOf(recipe, recipe.backing === undefined ? null : (beside[0]?.bytes ?? null));
  const anatomy = anatomyOf(recipe, built);
  const base = { name, format: 'qcow2', bytes: built.bytes, beside, anatomy, golden: false, every: 1 };
  return { ...base, virtualSize: content.length, content, differencing: beside.length > 0 };
}

/** Content of the disk. */
export function contentOf(recipe: Recipe, parent: Uint8Array | null): Uint8Array {
  const cluster = 2 ** recipe.clusterBits;
  const content = new Uint8Array(recipe.size - (recipe.size % SECTOR));
  if (parent !== null) content.set(parent.subarray(0, content.length));
  for (const [number, what] of recipe.clusters) {
    const whole = content.subarray(number * cluster, (number + 1) * cluster);
    if (what.kind === 'zero' || what.kind === 'zero-allocated') whole.fill(0);
    else if (what.kind !== 'parts') whole.set(what.bytes.subarray(0, whole.length));
    for (let part = 0; what.kind === 'parts' && part < 32; part++) {
      const [start, end] = [(part * cluster) / 32, ((part + 1) * cluster) / 32];
      if (((what.data >>> part) & 1) === 1) whole.set(what.bytes.subarray(start, end), start);
      if (((what.zero >>> part) & 1) === 1) whole.fill(0, start, end);
    }
  }
  return content;
}

function anatomyOf(recipe: Recipe, built: Built): Anatomy {
  const cluster = 2 ** recipe.clusterBits;
  const version2 = recipe.version === 2;
  const effects = {
    ...EFFECTS,
    ...(version2 ? EFFECTS_2 : {}),
    ...(recipe.backing === undefined ? {} : EFFECTS_LINKED),
    // A data file that is raw must not have a backing file, and has none here.
    ...(recipe.compression === 'zstd' ? { compressionType: 'free' as const, headerLength: 'free' as const } : {}),
  };
  const structs: StructPlace[] = [place('header', HEADER, 0, effects)];
  // What an extension says may take parents away, but never shows other content of this file.
  const extensionEffect: Effect = recipe.backing === undefined && recipe.dataFile === undefined ? 'same' : 'free';
  const firstExtension = version2 ? HEADER_LENGTH_2 : HEADER.size;
  structs.push(place('extension', EXTENSION, firstExtension, { type: extensionEffect, length: extensionEffect }));
  if (built.snapshotsOffset > 0) structs.push(place('snapshot', SNAPSHOT, built.snapshotsOffset, EFFECTS_LIST));
  if (built.bitmapsOffset > 0) structs.push(place('bitmap', BITMAP, built.bitmapsOffset, EFFECTS_LIST));
  const fileClusters = built.bytes.length / cluster;
  const edges = Array.from({ length: Math.min(fileClusters, 16) }, (_, index) => index * cluster);
  return {
    structs,
    tables: tablesOf(recipe, built),
    edges: [...edges, built.bytes.length - SECTOR, built.bytes.length],
    // A cluster that begins at most one cluster behind the end reads zero where the file has no bytes. A compressed one
    // has no checksum: zeroes in place of its end may decode to something.
    lost: (size) =>
      built.stored
        .filter(({ start, end }) => end > size && start < size + cluster)
        .map(({ cluster: number }): [number, number] => [number * cluster, (number + 1) * cluster]),
  };
}

function place(
  name: string,
  table: StructPlace['table'],
  offset: number,
  effects: StructPlace['effects'],
): StructPlace {
  return { name, table, offset, littleEndian: false, effects };
}

function tablesOf(recipe: Recipe, built: Built): TablePlace[] {
  const cluster = 2 ** recipe.clusterBits;
  const end = BigInt(built.bytes.length);
  const flags = [1n, 1n << 62n, 1n << 63n, (1n << 63n) | 1n, (1n << 56n) - 512n];
  const values = [
    ...flags,
    BigInt(cluster),
    BigInt(cluster) | (1n << 63n),
    end - BigInt(cluster),
    end,
    end + BigInt(cluster),
  ];
  const range = (first: number, count: number): [number, number] => [
    first * cluster,
    Math.min((first + count) * cluster, recipe.size),
  ];
  const base = { entryBytes: 8 as const, littleEndian: false, values };
  const perCluster = built.entryBytes / 8;
  return [
    {
      ...base,
      name: 'L1 table',
      offset: built.l1.offset,
      count: built.l1.entries,
      guestRange: (index) => range(index * built.l2Entries, built.l2Entries),
    },
    ...built.l2.map(({ offset, firstCluster }) => ({
      ...base,
      name: `L2 table of cluster ${firstCluster}`,
      offset,
      count: Math.min(built.l2Entries, Math.ceil(recipe.size / cluster) - firstCluster) * perCluster,
      guestRange: (index: number) => range(firstCluster + Math.floor(index / perCluster), 1),
    })),
  ];
}
