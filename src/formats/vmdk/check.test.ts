/** Check and repair of VMDK images: each fault is found by its code, and mended without loss of what can be read. */
import { describe, expect, it } from 'vitest';
import { checkImage, createImage, Disk, inspect } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const GRAIN = 65_536;
const MIB = 1024 * 1024;
/** Layout of a new image of 4 MiB: places of the directories, their tables, and the first grain. */
const AT = {
  directoryField: 56,
  unclean: 72,
  copyDirectory: 0x2a00,
  copyTable: 0x2c00,
  directory: 0x3400,
  table: 0x3600,
  grains: 0x10000,
};

/** The mark, and the first of the line ends behind it. */
const UNCLEAN = 0x0d20_0a01;

const source = (provider: MemoryProvider, name = '/a.vmdk') => ({ provider, name });

/** Grains 0 to 3 hold data. */
async function made(name = '/a.vmdk', parent?: string, provider = new MemoryProvider()): Promise<MemoryProvider> {
  const own = parent === undefined ? { size: 4 * MIB } : { parent: source(provider, parent) };
  await createImage(source(provider, name), { format: 'vmdk', ...own });
  await using disk = await Disk.open(source(provider, name), { mode: 'write', allow: ['same-directory'] });
  for (let grain = 0; grain < 4; grain++) {
    await disk.write(grain * GRAIN, new Uint8Array(GRAIN).fill(grain + (parent === undefined ? 1 : 101)));
  }
  return provider;
}

async function put(provider: MemoryProvider, fileOffset: number, value: number, name = '/a.vmdk'): Promise<void> {
  const storage = await provider.open(name, 'write');
  await storage.write(fileOffset, new Uint8Array(new Uint32Array([value]).buffer));
  await storage.close();
}

async function fileBytes(provider: MemoryProvider, name = '/a.vmdk'): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function codes(provider: MemoryProvider, name = '/a.vmdk'): Promise<string[]> {
  const { findings } = await checkImage(source(provider, name));
  return [...new Set(findings.map(({ code }) => code))].sort();
}

/** Repairs an image, after which a check finds nothing but lost room. Returns the codes of what was found before. */
async function mended(provider: MemoryProvider, name = '/a.vmdk'): Promise<string[]> {
  const before = await codes(provider, name);
  await checkImage(source(provider, name), { repair: true });
  const { findings } = await checkImage(source(provider, name));
  expect(findings.filter(({ severity }) => severity !== 'leak')).toEqual([]);
  return before;
}

async function grains(provider: MemoryProvider, name = '/a.vmdk'): Promise<number[]> {
  await using disk = await Disk.open(source(provider, name), { allow: ['same-directory'] });
  const bytes = new Uint8Array(4 * GRAIN);
  await disk.read(0, bytes);
  return [0, 1, 2, 3].map((grain) => bytes[grain * GRAIN] ?? -1);
}

interface Case {
  readonly code: string;
  readonly name: string;
  readonly patches: readonly (readonly [number, number])[];
  readonly grains: readonly number[];
}

const sector = (slot: number): number => (AT.grains + slot * GRAIN) / 512;

const CASES: readonly Case[] = [
  { code: 'copies-differ', name: 'a second copy that differs', patches: [[AT.copyTable, 0]], grains: [1, 2, 3, 4] },
  {
    code: 'grain-beyond-file',
    name: 'an entry beyond the end, with a sound copy',
    patches: [[AT.table + 4, 0x7fff_ff80]],
    grains: [1, 2, 3, 4],
  },
  {
    code: 'grain-in-metadata',
    name: 'an entry among the metadata in both copies',
    patches: [
      [AT.table + 4, 1],
      [AT.copyTable + 4, 1],
    ],
    grains: [1, 0, 3, 4],
  },
  {
    code: 'shared-grain',
    name: 'two grains in one place',
    patches: [
      [AT.table + 8, sector(0)],
      [AT.copyTable + 8, sector(0)],
    ],
    grains: [1, 2, 1, 4],
  },
  {
    code: 'broken-directory',
    name: 'a directory that leads nowhere, with a sound copy',
    patches: [[AT.directory, 0x7fff_ffff]],
    grains: [1, 2, 3, 4],
  },
  {
    code: 'broken-directory',
    name: 'a second directory that leads nowhere',
    patches: [[AT.copyDirectory, 0x7fff_ffff]],
    grains: [1, 2, 3, 4],
  },
  {
    code: 'directories-differ',
    name: 'a second directory without the table',
    patches: [[AT.copyDirectory, 0]],
    grains: [1, 2, 3, 4],
  },
];

describe('checking a VMDK image', () => {
  it('finds nothing in a sound one, of one file or several', async () => {
    expect(await codes(await made())).toEqual([]);
    const provider = new MemoryProvider();
    for (const variant of ['split', 'fixed']) {
      await createImage(source(provider, `/${variant}.vmdk`), { format: 'vmdk', size: 4 * MIB, variant: [variant] });
      expect(await codes(provider, `/${variant}.vmdk`)).toEqual([]);
    }
  });

  it.each(CASES)('finds and mends $name', async ({ code, patches, grains: wanted }) => {
    const provider = await made();
    for (const [at, value] of patches) await put(provider, at, value);
    expect(await mended(provider)).toContain(code);
    expect(await grains(provider)).toEqual(wanted);
    await using disk = await Disk.open(source(provider), { mode: 'write' });
    await disk.write(5 * GRAIN, new Uint8Array(GRAIN).fill(9));
    await disk.close();
    expect(await grains(provider)).toEqual(wanted);
  });

  const OVERLAPS = [
    { name: 'a table over the descriptor', patches: [[AT.directory, 2]] },
    { name: 'a second table over its directory', patches: [[AT.copyDirectory, AT.copyDirectory / 512]] },
    { name: 'two tables in one place', patches: [[AT.copyDirectory, AT.table / 512]] },
    { name: 'a directory that the file has no room for', patches: [[AT.directoryField, 0x7fff_ffff]] },
  ] as const;

  it.each(OVERLAPS)('changes nothing of $name, where a repair would destroy what it lies over', async ({ patches }) => {
    const provider = await made();
    // Something that could be repaired otherwise.
    for (const [at, value] of [...patches, [AT.unclean, UNCLEAN]] as const) await put(provider, at, value);
    const before = await fileBytes(provider);
    const { findings, repairs } = await checkImage(source(provider), { repair: true });
    expect(findings).toContainEqual(expect.objectContaining({ code: 'overlapping-metadata', severity: 'corruption' }));
    expect([...findings.filter(({ repairable }) => repairable), ...repairs]).toEqual([]);
    expect(await fileBytes(provider)).toEqual(before);
  });

  it('gives a lost grain of a child zeroes, so that no parent shows through', async () => {
    const provider = await made();
    await made('/c.vmdk', '/a.vmdk', provider);
    await put(provider, AT.table + 4, 1, '/c.vmdk');
    await put(provider, AT.copyTable + 4, 1, '/c.vmdk');
    expect(await mended(provider, '/c.vmdk')).toEqual(['grain-in-metadata']);
    expect(await grains(provider, '/c.vmdk')).toEqual([101, 0, 103, 104]);
  });

  it('counts room that no table names, which compaction gives back', async () => {
    const provider = await made();
    for (const at of [AT.table + 4, AT.copyTable + 4]) await put(provider, at, 0);
    const { size } = (await provider.lookUp('/a.vmdk')) ?? { size: 0 };
    await put(provider, size + 3 * GRAIN, 0);
    const { clean, findings } = await checkImage(source(provider));
    expect(clean).toBe(false);
    expect(findings.map(({ severity, code }) => [severity, code])).toEqual([
      ['leak', 'unused-grains'],
      ['leak', 'file-too-long'],
    ]);
    expect(findings[0]?.message).toContain('1 of 4 grains');
    await using disk = await Disk.open(source(provider), { mode: 'write' });
    await disk.compact();
    await disk.close();
    expect(await codes(provider)).toEqual([]);
    expect(await grains(provider)).toEqual([1, 0, 3, 4]);
    expect((await provider.lookUp('/a.vmdk'))?.size).toBe(size - GRAIN);
  });

  it('clears the mark of an unclean end, and then changes nothing that children look at', async () => {
    const provider = await made();
    const storage = await provider.open('/a.vmdk', 'write');
    await storage.write(72, new Uint8Array([1]));
    await storage.close();
    const before = await inspect(source(provider));
    expect(await mended(provider)).toEqual(['unclean']);
    expect((await inspect(source(provider))).contentId).toBe(before.contentId);
  });

  it('makes a flat extent that was cut off whole, and reports one that is missing', async () => {
    const provider = new MemoryProvider();
    await createImage(source(provider), { format: 'vmdk', size: 4 * MIB, variant: ['fixed'] });
    const storage = await provider.open('/a-flat.vmdk', 'write');
    await storage.resize(MIB);
    await storage.close();
    expect(await mended(provider)).toEqual(['extent-too-short']);
    await provider.remove('/a-flat.vmdk');
    expect(await codes(provider)).toEqual(['extent-missing']);
  });
});

describe('a grain table among the grains', () => {
  it('keeps its room when the image is opened again', async () => {
    const provider = await made();
    // Without tables: the next write puts one among the grains.
    for (const at of [AT.directory, AT.copyDirectory]) await put(provider, at, 0);
    for (let round = 0; round < 2; round++) {
      await using disk = await Disk.open(source(provider), { mode: 'write' });
      for (let grain = 0; grain < 2; grain++) {
        await disk.write((2 * round + grain) * GRAIN, new Uint8Array(GRAIN).fill(10 * round + grain + 1));
      }
    }
    expect(await codes(provider)).toEqual([]);
    expect(await grains(provider)).toEqual([1, 2, 11, 12]);
  });
});

describe('an image that a cut left unclean', () => {
  /** The second copy of the table lacks grain 1, as after a cut between the copies. */
  async function cut(): Promise<MemoryProvider> {
    const provider = await made();
    await put(provider, AT.copyTable + 4, 0);
    await put(provider, AT.unclean, UNCLEAN);
    return provider;
  }

  it('is clean, with equal copies, after a session that only writes over its grains', async () => {
    const provider = await cut();
    expect(await codes(provider)).toEqual(['copies-differ', 'unclean']);
    expect((await inspect(source(provider))).dirty).toBe(true);
    {
      await using disk = await Disk.open(source(provider), { mode: 'write', flushAfterMs: 0 });
      await disk.write(0, new Uint8Array(GRAIN).fill(9));
      await disk.flush();
      expect(disk.images[0]?.info.dirty).toBe(true);
    }
    expect(await codes(provider)).toEqual([]);
    expect((await inspect(source(provider))).dirty).toBe(false);
    expect(await grains(provider)).toEqual([9, 2, 3, 4]);
  });

  it('stays as it is in a session without changes', async () => {
    const provider = await cut();
    const before = await fileBytes(provider);
    await (await Disk.open(source(provider), { mode: 'write' })).close();
    expect(await fileBytes(provider)).toEqual(before);
  });

  it.each([
    ['longer', 40 * MIB],
    ['shorter', 3 * MIB],
  ])('has equal copies when it becomes %s', async (_, size) => {
    const provider = await cut();
    {
      await using disk = await Disk.open(source(provider), { mode: 'write', flushAfterMs: 0 });
      await disk.resize(size);
    }
    expect(await codes(provider)).toEqual([]);
    expect(await grains(provider)).toEqual([1, 2, 3, 4]);
  });

  it('is clean in all extents after a session that changes one', async () => {
    const provider = new MemoryProvider();
    const size = 2047 * MIB + GRAIN;
    await createImage(source(provider), { format: 'vmdk', size, variant: ['split'] });
    for (const part of ['/a-s001.vmdk', '/a-s002.vmdk']) await put(provider, AT.unclean, UNCLEAN, part);
    {
      await using disk = await Disk.open(source(provider), { mode: 'write', flushAfterMs: 0 });
      await disk.write(0, new Uint8Array(GRAIN).fill(9));
    }
    expect(await codes(provider)).toEqual([]);
  });

  it('keeps its mark when its tables are damaged, until a repair', async () => {
    const provider = await cut();
    for (const at of [AT.table + 8, AT.copyTable + 8]) await put(provider, at, 1);
    const opening = Disk.open(source(provider), { mode: 'write', flushAfterMs: 0 });
    await expect(opening).rejects.toMatchObject({ kind: 'read-only' });
    expect(await mended(provider)).toContain('unclean');
  });
});
