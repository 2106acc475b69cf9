/** Images of two levels for the hostile suite: header and tables of sound images, with and without a backing file. */
import { SECTOR } from '../../src/binary/numbers.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import type { Anatomy, Effect, FieldTable, FileSample, SampleFile, TablePlace } from '../hostile/descriptor.ts';
import { readGolden } from '../hostile/golden-bytes.ts';
import { fileBytes } from '../model/extents.ts';

const CLUSTERS = 12;

/** Places in an image, from its bytes. */
export interface TwoLevelPlaces {
  readonly virtualSize: number;
  readonly clusterSize: number;
  readonly l1Offset: number;
  /** Entries of the L1 table that the disk needs. */
  readonly l1Entries: number;
  readonly tableBytes: number;
  /** File offset of the cluster of an entry; null: it names none. */
  clusterOf(entry: bigint): number | null;
}

/** A format under test. */
export interface TwoLevelHostile {
  readonly format: string;
  readonly header: FieldTable;
  readonly littleEndian: boolean;
  readonly effects: Readonly<Record<string, Effect>>;
  /** Those of an image with a backing file that differ. */
  readonly childEffects: Readonly<Record<string, Effect>>;
  readonly clusterSize: number;
  readonly config: Readonly<Record<string, number>>;
  places(bytes: Uint8Array): TwoLevelPlaces;
  /** Entries that mean something, beside file offsets. */
  readonly markers: readonly bigint[];
  readonly golden: readonly string[];
}

/** Sound images of the format. */
export async function samplesOf(kit: TwoLevelHostile): Promise<FileSample[]> {
  return [await base(kit), await child(kit), ...goldenSamples(kit)];
}

/** Where everything lies. */
export function anatomyOf(kit: TwoLevelHostile, bytes: Uint8Array, isChild: boolean): Anatomy {
  const { header, littleEndian, effects, childEffects, markers, places } = kit;
  const { virtualSize, clusterSize, l1Offset, l1Entries, tableBytes, clusterOf } = places(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const numberAt = (at: number): bigint => (at + 8 <= bytes.length ? view.getBigUint64(at, littleEndian) : 0n);
  const perTable = tableBytes / 8;
  const covered = clusterSize * perTable;
  const last = Math.max(bytes.length - clusterSize, 0);
  const values = [...markers, 0n, BigInt(l1Offset), BigInt(last), BigInt(bytes.length), BigInt(bytes.length - SECTOR)];
  const table = (name: string, offset: number, count: number, first: number, unit: number): TablePlace => ({
    name,
    offset,
    count,
    entryBytes: 8,
    littleEndian,
    values,
    guestRange: (index) => [first + index * unit, Math.min(first + (index + 1) * unit, virtualSize)],
  });
  const tables = [table('L1 table', l1Offset, l1Entries, 0, covered)];
  const clusters: { readonly place: number; readonly guestOffset: number }[] = [];
  for (let index = 0; index < l1Entries; index++) {
    const place = Number(numberAt(l1Offset + index * 8));
    if (place === 0) continue;
    const count = Math.min(perTable, Math.ceil((virtualSize - index * covered) / clusterSize));
    tables.push(table(`L2 table ${index}`, place, count, index * covered, clusterSize));
    for (let entry = 0; entry < count; entry++) {
      const at = clusterOf(numberAt(place + entry * 8));
      if (at !== null) clusters.push({ place: at, guestOffset: index * covered + entry * clusterSize });
    }
  }
  return {
    structs: [
      {
        name: 'header',
        table: header,
        offset: 0,
        littleEndian,
        effects: isChild ? { ...effects, ...childEffects } : effects,
      },
    ],
    tables,
    edges: clusters.slice(0, 16).map(({ place }) => place),
    // What is missing of the last cluster reads zero.
    lost: (size) =>
      clusters
        .filter(({ place }) => place < size && place + clusterSize > size)
        .map(({ guestOffset }) => [guestOffset, Math.min(guestOffset + clusterSize, virtualSize)]),
  };
}

async function base(kit: TwoLevelHostile): Promise<FileSample> {
  const provider = new MemoryProvider();
  const name = `/image.${kit.format}`;
  const content = new Uint8Array(diskOf(kit));
  await createImage({ provider, name }, { format: kit.format, config: kit.config, size: content.length });
  await fill(kit, provider, name, content, 3);
  return sampleOf(kit, 'dynamic', await fileBytes({ provider, name }), content, []);
}

/** Its last cluster is not whole. */
function diskOf({ clusterSize }: TwoLevelHostile): number {
  return CLUSTERS * clusterSize - 3 * SECTOR;
}

/** Clusters that only one of the two has, clusters of both, and zeroes that hide those of the backing file. */
async function child(kit: TwoLevelHostile): Promise<FileSample> {
  const { format, config, clusterSize } = kit;
  const provider = new MemoryProvider();
  const [parent, name] = [`/base.${format}`, `/image.${format}`];
  const content = new Uint8Array(diskOf(kit));
  await createImage({ provider, name: parent }, { format, config, size: content.length });
  await fill(kit, provider, parent, content, 4);
  await createImage({ provider, name }, { format, config, parent: { provider, name: parent } });
  const disk = await openDisk(
    { provider, name },
    { mode: 'write', format, allow: ['same-directory'], flushAfterMs: 0 },
  );
  const changes = randomBytes(new Random(5), clusterSize + 300);
  await disk.write(clusterSize / 2, changes);
  content.set(changes, clusterSize / 2);
  await disk.zero(8 * clusterSize, clusterSize);
  content.fill(0, 8 * clusterSize, 9 * clusterSize);
  await disk.close();
  const beside = { name: parent.slice(1), bytes: await fileBytes({ provider, name: parent }) };
  return sampleOf(kit, 'differencing', await fileBytes({ provider, name }), content, [beside]);
}

async function fill(
  { format, clusterSize }: TwoLevelHostile,
  provider: MemoryProvider,
  name: string,
  content: Uint8Array,
  seed: number,
): Promise<void> {
  const random = new Random(seed);
  const disk = await openDisk({ provider, name }, { mode: 'write', format, flushAfterMs: 0 });
  for (const cluster of [7, 8, 1, 10, 11]) {
    const bytes = randomBytes(random, Math.min(clusterSize, content.length - cluster * clusterSize) - 100);
    await disk.write(cluster * clusterSize + 50, bytes);
    content.set(bytes, cluster * clusterSize + 50);
  }
  await disk.close();
}

function goldenSamples(kit: TwoLevelHostile): FileSample[] {
  const { format } = kit;
  return readGolden(format, kit.golden).map(({ name, bytes, beside, virtualSize, content }) => {
    const differencing = beside.length > 0;
    const anatomy = anatomyOf(kit, bytes, differencing);
    return { name, format, bytes, beside, anatomy, golden: true, differencing, every: 15, virtualSize, content };
  });
}

/** A sample of one file. */
export function sampleOf(
  kit: TwoLevelHostile,
  name: string,
  bytes: Uint8Array,
  content: Uint8Array,
  beside: readonly SampleFile[],
): FileSample {
  const differencing = beside.length > 0;
  const anatomy = anatomyOf(kit, bytes, differencing);
  const { format } = kit;
  return {
    name,
    format,
    bytes,
    beside,
    anatomy,
    golden: false,
    every: 1,
    virtualSize: content.length,
    content,
    differencing,
  };
}
