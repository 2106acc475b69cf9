/** VMDK images that are resized and compacted between power cuts. */
import type { StorageProvider } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { CrashSuite } from '../../../src/testing/index.ts';
import { crashSuite } from '../../faults/common-crashes.ts';
import { compacted, resized } from '../../faults/resizing.ts';
import { imageOf, openWay, SECTOR, SECTORS, type Way } from '../../faults/ways.ts';
import type { Workload } from '../../faults/workloads.ts';
import type { CrashRow } from '../crash-kit.ts';

/** Entries of a table of the hand-made image, and sectors of its grains. */
const ENTRIES = 128;
const GRAIN = 8;
/** Sectors of a disk whose directory fills its sector. */
const FULL = 128 * ENTRIES * GRAIN;

/** Extents that share a file cannot become longer: further ones are made, and deleted again. */
const extentsComeAndGo: readonly Workload[] = [
  async (session) => {
    await session.write(SECTORS - 20, 20);
    await session.resize(SECTORS + 60);
    await session.write(SECTORS - 3, 40);
    await session.flush();
    await session.resize(SECTORS + 7);
    await session.write(SECTORS + 1, 6);
    await session.resize(SECTORS);
    await session.resize(SECTORS + 30);
    await session.write(SECTORS + 5, 4);
  },
  async (session) => {
    await session.resize(SECTORS - 900);
    await session.write(3, 3);
    await session.resize(SECTORS + 11);
    await session.write(SECTORS - 5, 9);
  },
];

/** The directories get a second sector, behind the grains. */
const directoriesMove: readonly Workload[] = [
  async (session) => {
    await session.write(5, 3);
    await session.write(FULL - 12, 12);
    await session.resize(FULL + 2000);
    await session.write(FULL - 2, 9);
    await session.flush();
    await session.resize(FULL - 4);
    await session.write(FULL - 7, 3);
  },
];

/** Rows of `makeCrash`, by the ways to make an image. */
export function resizeRows(ways: readonly Way[]): CrashRow[] {
  const [first] = ways;
  if (first === undefined) throw new Error('VMDK can be made and written');
  const usual = { options: {}, states: [125, 1000] } as const;
  const rows = ways
    .filter(({ variant }) => variant[0] !== 'esx')
    .map((way): CrashRow => {
      const sessions = way.variant.includes('fixed') ? resized : [...resized, compacted];
      return { title: `${way.title}: resize and compact`, suite: (seed) => crashSuite(way, seed, sessions), ...usual };
    });
  const shared = (seed: number) =>
    handMade(first, sharedExtents, { sectors: SECTORS, seed, sessions: extentsComeAndGo });
  const full = (seed: number) => handMade(first, fullDirectory, { sectors: FULL, seed, sessions: directoriesMove });
  return [
    ...rows,
    { title: 'extents come and go', suite: shared, ...usual },
    // Each state is a disk of 64 MiB.
    { title: 'directories move', suite: full, options: {}, seeds: [1, 2], states: [40, 400] },
  ];
}

function handMade(
  way: Way,
  build: (provider: StorageProvider, name: string) => Promise<void>,
  { sectors, seed, sessions }: Pick<CrashSuite, 'sessions'> & { readonly sectors: number; readonly seed: number },
): CrashSuite {
  const image = imageOf(way);
  return {
    provider: new MemoryProvider(),
    image,
    size: sectors * SECTOR,
    seed,
    prepare: (provider) => build(provider, image),
    build: async () => {},
    open: (provider) => openWay(provider, way),
    sessions,
  };
}

async function put(provider: StorageProvider, name: string, bytes: Uint8Array, size = bytes.length): Promise<void> {
  const storage = await provider.create(name);
  await storage.write(0, bytes);
  await storage.resize(size);
  await storage.flush();
  await storage.close();
  await provider.syncNames(provider.directory(name));
}

function descriptor(createType: string, lines: readonly string[]): Uint8Array {
  const head = `# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="${createType}"\n\n`;
  const end = '\n# The Disk Data Base\n#DDB\n\nddb.adapterType = "ide"\n';
  return new TextEncoder().encode(`${head}# Extent description\n${lines.map((line) => `${line}\n`).join('')}${end}`);
}

async function sharedExtents(provider: StorageProvider, name: string): Promise<void> {
  const first = 1000;
  await put(provider, '/disk-f001.vmdk', new Uint8Array(SECTORS * SECTOR));
  const lines = [`RW ${first} FLAT "disk-f001.vmdk" 0`, `RW ${SECTORS - first} FLAT "disk-f001.vmdk" ${first}`];
  await put(provider, name, descriptor('twoGbMaxExtentFlat', lines));
}

async function fullDirectory(provider: StorageProvider, name: string): Promise<void> {
  const tableSectors = (ENTRIES * 4) / SECTOR;
  const room = 20;
  const redundant = 1 + room;
  const directory = redundant + 1 + 128 * tableSectors;
  const overhead = Math.ceil((directory + 1 + 128 * tableSectors) / GRAIN) * GRAIN;
  const bytes = new Uint8Array(overhead * SECTOR);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x564d_444b, true);
  view.setUint32(4, 1, true);
  view.setUint32(8, 3, true);
  const sizes: readonly (readonly [at: number, value: number])[] = [
    [12, FULL],
    [20, GRAIN],
    [28, 1],
    [36, room],
    [48, redundant],
    [56, directory],
    [64, overhead],
  ];
  for (const [at, value] of sizes) view.setBigUint64(at, BigInt(value), true);
  view.setUint32(44, ENTRIES, true);
  bytes.set([0x0a, 0x20, 0x0d, 0x0a], 73);
  bytes.set(descriptor('monolithicSparse', [`RW ${FULL} SPARSE "disk.vmdk"`]), SECTOR);
  for (const at of [redundant, directory]) {
    for (let table = 0; table < 128; table++) {
      view.setUint32(at * SECTOR + table * 4, at + 1 + table * tableSectors, true);
    }
  }
  await put(provider, name, bytes);
}
