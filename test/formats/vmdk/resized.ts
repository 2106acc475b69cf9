/** VMDK images that are resized, for tests of what ends a resize halfway: how they are made, and what they hold then. */
import { createImage, Disk } from '../../../src/index.ts';
import type { CreateMode, OpenMode, Storage, StorageProvider } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';

const MIB = 1024 * 1024;
const SECTOR = 512;
const EXTENT = 2047 * MIB;
export const NAME = '/a.vmdk';
const PARENT = '/base.vmdk';
export const OPEN = { mode: 'write', flushAfterMs: 0, format: 'vmdk', allow: ['/'] } as const;
const small = { grain_size: 4096 };

/** Files that get their room without being written, so that large ones are cheap. */
export class Reserving extends MemoryProvider {
  override async create(name: string, how?: CreateMode): Promise<Storage> {
    return reserving(await super.create(name, how));
  }

  override async open(name: string, mode: OpenMode): Promise<Storage> {
    return reserving(await super.open(name, mode));
  }
}

function reserving(storage: Storage): Storage {
  storage.allocate = async (offset, length) => {
    if (storage.size < offset + length) await storage.resize(offset + length);
  };
  return storage;
}

/** A way to make an image that is resized. */
export interface Case {
  readonly title: string;
  readonly variant: readonly string[];
  readonly config?: Readonly<Record<string, string | number>>;
  /** Bytes of the smaller and of the larger disk. */
  readonly sizes: readonly [number, number];
  /** A parent as long as the larger disk, with data everywhere. */
  readonly child?: boolean;
  /** Two extents in one file, so that a larger disk needs further ones. */
  readonly shared?: boolean;
}

export const CASES: readonly Case[] = [
  { title: 'sparse', variant: [], config: small, sizes: [MIB + 1536, 5 * MIB + 512] },
  { title: 'sparse, directories move', variant: [], config: small, sizes: [3 * MIB, 270 * MIB] },
  { title: 'flat', variant: ['fixed'], sizes: [MIB + 512, 3 * MIB] },
  { title: 'split', variant: ['split'], sizes: [EXTENT - MIB, 2 * EXTENT + 2 * MIB] },
  { title: 'flat, split', variant: ['fixed', 'split'], sizes: [EXTENT - MIB, 2 * EXTENT + 2 * MIB] },
  { title: 'extents that share a file', variant: ['fixed'], sizes: [MIB, 3 * MIB], shared: true },
  { title: 'delta file of ESX', variant: ['dynamic', 'esx'], sizes: [MIB + 512, 3 * MIB] },
  { title: 'delta file of ESX, its directory moves', variant: ['dynamic', 'esx'], sizes: [3 * MIB, 270 * MIB] },
  { title: 'child of a longer parent', variant: [], config: small, sizes: [MIB + 1536, 3 * MIB], child: true },
];

/** Places of data: at both ends of each size, and in between. */
function marksOf({ sizes: [smaller, larger] }: Case): number[] {
  const all = [0, smaller / 2, smaller - SECTOR, smaller, (smaller + larger) / 2, larger - SECTOR];
  return all.map((offset) => offset - (offset % SECTOR));
}

/** Makes an image of the size that it has before, with data. */
export async function start(files: StorageProvider, one: Case, grows: boolean): Promise<void> {
  const { variant, config = {}, sizes, child = false } = one;
  const size = sizes[grows ? 0 : 1];
  if (child) await makeParent(files, one);
  const parent = child ? { parent: { provider: files, name: PARENT } } : {};
  if (one.shared === true) await makeShared(files, one);
  else await createImage({ provider: files, name: NAME }, { format: 'vmdk', variant, config, size, ...parent });
  if (one.shared === true && !grows) await resize(files, size);
  await using disk = await Disk.open({ provider: files, name: NAME }, OPEN);
  for (const [index, offset] of marksOf(one).entries()) {
    // A child shows its parent in between.
    if (offset < size && (!child || index % 2 === 0)) await disk.write(offset, sectorOf(index + 1));
  }
}

async function makeShared(files: StorageProvider, { sizes: [size] }: Case): Promise<void> {
  await createImage({ provider: files, name: NAME }, { format: 'vmdk', variant: ['fixed'], size });
  const storage = await files.open(NAME, 'write');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  const half = size / SECTOR / 2;
  const line = (offset: number): string => `RW ${half} FLAT "a-flat.vmdk" ${offset}`;
  const text = new TextDecoder()
    .decode(bytes)
    .replace('monolithicFlat', 'twoGbMaxExtentFlat')
    .replace(/^RW .*$/m, `${line(0)}\n${line(half)}`);
  await storage.write(0, new TextEncoder().encode(text));
  await storage.flush();
  await storage.close();
}

async function makeParent(files: StorageProvider, one: Case): Promise<void> {
  await createImage({ provider: files, name: PARENT }, { format: 'vmdk', size: one.sizes[1] });
  await using disk = await Disk.open({ provider: files, name: PARENT }, OPEN);
  for (const offset of marksOf(one)) await disk.write(offset, sectorOf(200));
}

const sectorOf = (value: number): Uint8Array => new Uint8Array(SECTOR).fill(value);

/** Sectors at and beside the marks. */
export async function contentOf(
  files: StorageProvider,
  one: Case,
): Promise<{ size: number; found: Map<number, number> }> {
  await using disk = await Disk.open({ provider: files, name: NAME }, { ...OPEN, lock: false, mode: 'read' });
  const found = new Map<number, number>();
  for (const mark of marksOf(one)) {
    for (const offset of [mark - SECTOR, mark, mark + SECTOR]) {
      if (offset < 0 || offset >= disk.size) continue;
      const bytes = new Uint8Array(SECTOR);
      await disk.read(offset, bytes);
      const value = bytes[0] ?? -1;
      found.set(offset, bytes.every((byte) => byte === value) ? value : -1);
    }
  }
  return { size: disk.size, found };
}

/** Names of all files. */
export async function namesIn(files: StorageProvider): Promise<string[]> {
  const names: string[] = [];
  for await (const name of files.list('/')) names.push(name);
  return names.sort();
}

/** An image before and after a resize that nothing disturbed. */
export interface Ends {
  readonly to: number;
  readonly states: ReadonlyMap<number, { readonly content: Map<number, number>; readonly names: readonly string[] }>;
}

/** The states of an image before a resize and after it. */
export async function endsOf(one: Case, grows: boolean): Promise<Ends> {
  const files = new Reserving();
  await start(files, one, grows);
  const states = new Map<number, { content: Map<number, number>; names: string[] }>();
  const note = async (): Promise<void> => {
    const { size, found } = await contentOf(files, one);
    states.set(size, { content: found, names: await namesIn(files) });
  };
  await note();
  const to = one.sizes[grows ? 1 : 0];
  await resize(files, to);
  await note();
  return { to, states };
}

/** Resizes the image, as a command does. */
export async function resize(provider: StorageProvider, size: number, signal?: AbortSignal): Promise<void> {
  const disk = await Disk.open({ provider, name: NAME }, OPEN);
  try {
    await disk.resize(size, { shrink: true, signal });
  } finally {
    await disk.close();
  }
}
