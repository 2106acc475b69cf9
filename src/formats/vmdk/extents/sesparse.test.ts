/** seSparse extents: every kind of entry, alone and over a parent, damage, and headers that cannot be. */
import { describe, expect, it } from 'vitest';
import {
  AT,
  buildSeSparse,
  esxDescriptor,
  GRAIN,
  type GrainState,
  storedEntry,
} from '../../../../test/formats/vmdk/sesparse.ts';
import { checkImage, createImage, Disk, inspect } from '../../../index.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { SESPARSE_HEADER, SESPARSE_VOLATILE_HEADER } from '../layout.ts';

const SECTOR = 512;
/** Two tables and a part of a grain. */
const SECTORS = 2 * 4096 * 8 + 3;
const EXTENT = '/a-sesparse.vmdk';
const FIRST_TABLE = AT.tables * SECTOR;

const filled = (value: number): Uint8Array => new Uint8Array(GRAIN).fill(value);
const GRAINS: ReadonlyMap<number, GrainState> = new Map<number, GrainState>([
  [0, filled(1)],
  [1, 'zero'],
  [2, 'unmapped'],
  [3, filled(2)],
  [4096, filled(3)],
]);

async function put(provider: MemoryProvider, name: string, bytes: Uint8Array): Promise<void> {
  const storage = (await provider.lookUp(name)) ? await provider.open(name, 'write') : await provider.create(name);
  await storage.write(0, bytes);
  await storage.close();
}

interface Made {
  readonly grains?: ReadonlyMap<number, GrainState>;
  readonly last?: number;
  readonly sectors?: number;
  readonly parent?: { readonly name: string; readonly cid: string };
  readonly provider?: MemoryProvider;
}

async function made({ grains = GRAINS, last, sectors = SECTORS, parent, provider = new MemoryProvider() }: Made = {}) {
  await put(provider, EXTENT, buildSeSparse(Math.min(sectors, SECTORS), grains, last));
  await put(provider, '/a.vmdk', esxDescriptor('seSparse', `RW ${sectors} SESPARSE "a-sesparse.vmdk"`, parent));
  return provider;
}

const source = (provider: MemoryProvider) => ({ provider, name: '/a.vmdk' });

async function read(provider: MemoryProvider, ...grains: readonly number[]): Promise<number[]> {
  await using disk = await Disk.open(source(provider), { allow: ['same-directory'] });
  const bytes = new Uint8Array(SECTOR);
  const found: number[] = [];
  for (const grain of grains) {
    await disk.read(grain * GRAIN, bytes);
    found.push(bytes[0] ?? -1);
  }
  return found;
}

async function patch(provider: MemoryProvider, fileOffset: number, value: bigint): Promise<void> {
  const storage = await provider.open(EXTENT, 'write');
  await storage.write(fileOffset, new Uint8Array(new BigUint64Array([value]).buffer));
  await storage.close();
}

async function codes(provider: MemoryProvider): Promise<string[]> {
  const { findings } = await checkImage(source(provider));
  return findings.map(({ code }) => code);
}

const field = (name: keyof typeof SESPARSE_HEADER.fields): number => SESPARSE_HEADER.fields[name].offset;

it('reads grains by their types, and is sound', async () => {
  const provider = await made();
  expect(await read(provider, 0, 1, 2, 3, 4, 4095, 4096, 4097, 8191, 8192)).toEqual([1, 0, 0, 2, 0, 0, 3, 0, 0, 0]);
  expect(await codes(provider)).toEqual([]);
  expect(await inspect(source(provider))).toMatchObject({ blockSize: GRAIN, virtualSize: SECTORS * SECTOR });
});

it('decodes numbers of grains beyond the low 12 bits', async () => {
  const provider = await made({ last: 4095 });
  expect(await read(provider, 0, 3, 4096)).toEqual([1, 2, 3]);
  const grain = 0x0012_3456_7abc;
  expect(storedEntry(grain)).toBe(0x3abc_0000_0000_0000n | 0x1_2345_67n);
});

it('shows a parent where nothing is allocated, and not through zero or unmapped grains', async () => {
  const provider = new MemoryProvider();
  const size = SECTORS * SECTOR;
  await createImage({ provider, name: '/parent.vmdk' }, { format: 'vmdk', size, variant: ['fixed', 'esx'] });
  {
    await using disk = await Disk.open({ provider, name: '/parent.vmdk' }, { mode: 'write' });
    for (const grain of [0, 1, 2, 4, 4097, 8192]) await disk.write(grain * GRAIN, new Uint8Array(SECTOR).fill(9));
  }
  const { contentId: cid } = await inspect({ provider, name: '/parent.vmdk' });
  await made({ provider, parent: { name: 'parent.vmdk', cid: cid ?? '' } });
  expect(await read(provider, 0, 1, 2, 3, 4, 4096, 4097, 8192)).toEqual([1, 0, 0, 2, 9, 3, 9, 9]);
});

it('is only read', async () => {
  const provider = await made();
  await expect(Disk.open(source(provider), { mode: 'write' })).rejects.toMatchObject({ kind: 'read-only' });
  await expect(Disk.open({ provider, name: EXTENT })).rejects.toMatchObject({ kind: 'unsupported' });
});

it('leaves a hole where its capacity is less than the extent', async () => {
  const provider = await made({ sectors: SECTORS + 8 });
  expect(await read(provider, 0, 8192)).toEqual([1, 0]);
  expect(await codes(provider)).toEqual(['extent-too-small']);
});

describe('a journal with changes', () => {
  it('is refused with a hint, and found by a check', async () => {
    const provider = await made();
    await patch(provider, AT.volatile * SECTOR + SESPARSE_VOLATILE_HEADER.fields.replayJournal.offset, 1n);
    await expect(read(provider, 0)).rejects.toThrow(/journal of the seSparse extent holds changes/);
    expect(await codes(provider)).toEqual(['journal']);
  });
});

describe('a header', () => {
  const WRONG = 2n ** 50n;
  it.each([
    ['magic', 0xcafe_babfn, 'invalid-format'],
    ['version', 0x0000_0002_0000_0002n, 'unsupported'],
    ['flags', 1n, 'unsupported'],
    ['grainSize', 16n, 'unsupported'],
    ['tableSize', 32n, 'unsupported'],
    ['reserved3', 1n, 'unsupported'],
    ['rest', 1n, 'unsupported'],
    ['capacity', 2n ** 43n, 'limit'],
    ['capacity', WRONG, 'limit'],
    ['volatileOffset', 0n, 'corrupt'],
    ['volatileOffset', AT.directory, 'corrupt'],
    ['volatileOffset', 2n ** 30n, 'corrupt'],
    ['volatileSize', 0n, 'corrupt'],
    ['directoryOffset', 0n, 'corrupt'],
    ['directoryOffset', WRONG, 'limit'],
    ['directoryOffset', 2n ** 64n - 1n, 'limit'],
    ['directorySize', 0n, 'corrupt'],
    ['capacity', 65n * 4096n * 8n, 'corrupt'],
  ] as const)('whose %s is %s is refused', async (name, value, kind) => {
    const provider = await made();
    await patch(provider, field(name), BigInt(value));
    await expect(read(provider, 0)).rejects.toMatchObject({ kind });
  });

  it('with areas over each other, or beyond the end, is found by a check', async () => {
    const provider = await made();
    await patch(provider, field('backmapOffset'), BigInt(AT.tables));
    await patch(provider, field('freeBitmapOffset'), 2n ** 30n);
    expect(await read(provider, 0)).toEqual([1]);
    expect((await codes(provider)).sort()).toEqual(['area-beyond-file', 'overlapping-metadata']);
  });
});

describe('damage', () => {
  it.each([
    ['unknown-entry', 'of type 4', 0x4000_0000_0000_0000n],
    ['unknown-entry', 'of type 15', 2n ** 64n - 1n],
    ['unknown-entry', 'of type 0 with a number', 1n],
    ['grain-outside-area', 'just behind the area', storedEntry(4096)],
    ['grain-outside-area', 'as far as there are numbers', 0x3fff_ffff_ffff_ffffn],
    ['grain-beyond-file', 'behind the end of the file', storedEntry(4095)],
  ])('%s: an entry %s fails for its grain only', async (code, _what, entry) => {
    const provider = await made();
    await patch(provider, FIRST_TABLE + 3 * 8, entry);
    await expect(read(provider, 3)).rejects.toMatchObject({ kind: 'corrupt' });
    expect(await read(provider, 0, 2, 4, 4096)).toEqual([1, 0, 0, 3]);
    expect(await codes(provider)).toEqual([code]);
  });

  it('two grains in one place are found', async () => {
    const provider = await made();
    const storage = await provider.open(EXTENT, 'read');
    const entry = new Uint8Array(8);
    await storage.read(FIRST_TABLE, entry);
    await storage.close();
    await patch(provider, FIRST_TABLE + 3 * 8, new DataView(entry.buffer).getBigUint64(0, true));
    expect(await codes(provider)).toEqual(['shared-grain']);
  });

  it.each([
    ['table-lost', 'without its mark', 0x2000_0000_0000_0000n],
    ['table-lost', 'of a table outside the area', 0x1000_0000_0000_0008n],
    ['table-lost', 'of a far table', 0x1000_0000_ffff_ffffn],
    ['shared-table', 'of the other table', 0x1000_0000_0000_0000n],
  ])('%s: a directory entry %s', async (code, _what, entry) => {
    const provider = await made();
    await patch(provider, AT.directory * SECTOR + 8, entry);
    if (code === 'table-lost') await expect(read(provider, 4096)).rejects.toMatchObject({ kind: 'corrupt' });
    expect(await read(provider, 0)).toEqual([1]);
    expect(await codes(provider)).toEqual([code]);
  });

  it('a last grain that is cut off reads zero behind the end', async () => {
    const provider = await made();
    const storage = await provider.open(EXTENT, 'write');
    await storage.resize(storage.size - GRAIN + SECTOR);
    await storage.close();
    expect(await codes(provider)).toEqual(['grain-cut-off']);
    expect(await read(provider, 0)).toEqual([1]);
  });
});
