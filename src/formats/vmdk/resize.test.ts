/** Resizing VMDK images of every subformat: what is in range stays, what comes back reads zero. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { Reserving } from '../../../test/formats/vmdk/resized.ts';
import { checkImage, createImage, Disk, inspect } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { SPARSE_HEADER } from './layout.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const EXTENT = 2047 * MIB;
const SECTOR = 512;
const NAME = '/a.vmdk';
const everything = { allow: ['/'] } as const;

interface Made {
  readonly provider: MemoryProvider;
  readonly variant: readonly string[];
  readonly size: number;
  readonly config?: Readonly<Record<string, string | number>>;
}

async function make({ provider, variant, size, config }: Made): Promise<void> {
  await createImage({ provider, name: NAME }, { size, format: 'vmdk', variant, config: config ?? {} });
}

function open(provider: MemoryProvider, name = NAME): Promise<Disk> {
  return Disk.open({ provider, name }, { mode: 'write', ...everything });
}

/** A disk, and the sectors of it that are not zero. */
class Marked {
  readonly #marks = new Map<number, number>();
  #next = 1;

  disk: Disk;

  constructor(disk: Disk) {
    this.disk = disk;
  }

  async mark(...offsets: number[]): Promise<void> {
    for (const offset of offsets) {
      const at = offset - (offset % SECTOR);
      const value = (this.#next++ % 255) + 1;
      await this.disk.write(at, new Uint8Array(SECTOR).fill(value));
      this.#marks.set(at, value);
    }
  }

  async resize(size: number): Promise<void> {
    await this.disk.resize(size, { shrink: true });
    expect(this.disk.size).toBe(size);
    for (const at of [...this.#marks.keys()]) if (at >= size) this.#marks.delete(at);
    await this.verify(this.disk);
  }

  /** Marks, and the sectors beside them and at the ends of all sizes so far. */
  async verify(disk: Disk, further: readonly number[] = []): Promise<void> {
    const wanted = new Set([0, disk.size - SECTOR, ...further.filter((at) => at < disk.size)]);
    for (const at of this.#marks.keys()) {
      for (const one of [at - SECTOR, at, at + SECTOR]) if (one >= 0 && one < disk.size) wanted.add(one);
    }
    const sector = new Uint8Array(SECTOR);
    for (const at of wanted) {
      await disk.read(at, sector);
      const value = this.#marks.get(at) ?? 0;
      expect([at, sector.every((byte) => byte === value)]).toEqual([at, true]);
    }
  }
}

/** Codes of all findings. */
async function findings(provider: MemoryProvider): Promise<string[]> {
  const { findings: found } = await checkImage({ provider, name: NAME }, everything);
  return found.map(({ code }) => code);
}

async function names(provider: MemoryProvider): Promise<string[]> {
  const all: string[] = [];
  for await (const name of provider.list('/')) all.push(name);
  return all.sort();
}

async function headerOf(provider: MemoryProvider, name = NAME) {
  const storage = await provider.open(name, 'read');
  const sector = new Uint8Array(512);
  await storage.read(0, sector);
  return SPARSE_HEADER.decode(sector);
}

const WAYS: readonly (readonly [string, Omit<Made, 'provider' | 'size'>])[] = [
  ['monolithicSparse', { variant: [] }],
  ['monolithicSparse, small grains', { variant: [], config: { grain_size: 4096 } }],
  ['monolithicSparse, zeroed grains', { variant: [], config: { grain_size: 4096, zeroed_grain: 'on' } }],
  ['monolithicFlat', { variant: ['fixed'] }],
  ['vmfs', { variant: ['esx'] }],
  ['twoGbMaxExtentSparse', { variant: ['split'] }],
  ['twoGbMaxExtentFlat', { variant: ['fixed', 'split'] }],
];

describe.each(WAYS)('%s', (_title, way) => {
  it('keeps what is in range, and reads zero where the disk was cut and grew again', async () => {
    const provider = new MemoryProvider();
    const sizes = [1 * MIB + 512, 3 * MIB, 2 * MIB + 1536, 1 * MIB, 1 * MIB + 30 * KIB, 9 * MIB + 512, 512, 4 * MIB];
    await make({ provider, ...way, size: 1 * MIB + 512 });
    await using disk = await open(provider);
    const marked = new Marked(disk);
    for (const size of sizes) {
      await marked.resize(size);
      await marked.mark(0, size / 3, size / 2, size - SECTOR);
    }
    await disk.close();
    expect(await findings(provider)).toEqual([]);
    await using again = await open(provider);
    expect(again.size).toBe(4 * MIB);
    await marked.verify(again, sizes);
    expect((await inspect({ provider, name: NAME })).geometry.physical?.cylinders).toBe(
      Math.floor((4 * MIB) / 516_096),
    );
  });
});

describe('a sparse extent', () => {
  it('gets larger directories behind its grains, both of them, and more later', async () => {
    const provider = new MemoryProvider();
    await make({ provider, variant: [], size: 3 * MIB, config: { grain_size: 4096 } });
    const before = await headerOf(provider);
    const disk = await open(provider);
    const marked = new Marked(disk);
    await marked.mark(0, 1 * MIB, 3 * MIB - SECTOR);
    // A directory of one sector names 128 tables of 2 MiB.
    for (const size of [200 * MIB, 300 * MIB, 301 * MIB, 900 * MIB]) {
      await marked.resize(size);
      await marked.mark(size - SECTOR, size / 2, size / 3);
    }
    await disk.close();
    const after = await headerOf(provider);
    expect(after.directoryOffset).toBeGreaterThan(before.directoryOffset);
    expect(after.redundantOffset).toBeGreaterThan(before.redundantOffset);
    expect(after.overhead).toBe(before.overhead);
    expect(after.unclean).toBe(0);
    expect(await findings(provider)).toEqual([]);
    const again = await open(provider);
    await marked.verify(again);
    // The old place of the directories is room for grains.
    await again.compact();
    await marked.verify(again);
    await again.close();
    expect(await findings(provider)).toEqual([]);
  });

  it('clears what other programs left behind the end of the disk', async () => {
    const provider = new MemoryProvider();
    await make({ provider, variant: [], size: 2 * MIB });
    const disk = await open(provider);
    await new Marked(disk).mark(1 * MIB + SECTOR, 1 * MIB + 64 * KIB, 2 * MIB - SECTOR);
    await disk.close();
    await patchText(provider, 'RW 4096 SPARSE', 'RW 2049 SPARSE');
    const shorter = await open(provider);
    expect(shorter.size).toBe(1 * MIB + SECTOR);
    const marked = new Marked(shorter);
    await marked.resize(2 * MIB);
    await marked.verify(shorter, [1 * MIB + SECTOR, 1 * MIB + 64 * KIB]);
    await shorter.close();
  });

  it('refuses more tables than are read, before anything changes', async () => {
    const provider = new MemoryProvider();
    await make({ provider, variant: [], size: 1 * MIB, config: { grain_size: 4096 } });
    const disk = await open(provider);
    const { contentId } = await inspect({ provider, name: NAME });
    await expectKind(() => disk.resize(2 ** 45), 'limit');
    await disk.close();
    expect((await inspect({ provider, name: NAME })).contentId).toBe(contentId);
  });
});

describe('a split image', () => {
  it.each([
    ['split', 's'],
    ['fixed,split', 'f'],
  ])('gets and loses extents (%s)', async (words, letter) => {
    const provider = new Reserving();
    const variant = words.split(',');
    await make({ provider, variant, size: EXTENT - MIB });
    const disk = await open(provider);
    const marked = new Marked(disk);
    const file = (number: number) => `/a-${letter}00${number}.vmdk`;
    await marked.mark(0, EXTENT - MIB - SECTOR);
    await marked.resize(EXTENT);
    expect(await names(provider)).toEqual([file(1), NAME].sort());
    await marked.resize(2 * EXTENT + SECTOR);
    expect(await names(provider)).toEqual([file(1), file(2), file(3), NAME].sort());
    await marked.mark(EXTENT - SECTOR, EXTENT, 2 * EXTENT - SECTOR, 2 * EXTENT);
    await disk.close();
    expect(await findings(provider)).toEqual([]);
    const again = await open(provider);
    await marked.verify(again);
    marked.disk = again;
    await marked.resize(EXTENT + 64 * KIB);
    expect(await names(provider)).toEqual([file(1), file(2), NAME].sort());
    await marked.resize(EXTENT);
    expect(await names(provider)).toEqual([file(1), NAME].sort());
    await marked.resize(3 * EXTENT);
    await marked.verify(again, [EXTENT, 2 * EXTENT - SECTOR, 2 * EXTENT]);
    await again.close();
    expect(await findings(provider)).toEqual([]);
  });

  it('leaves a file alone that has the name of its next extent', async () => {
    const provider = new MemoryProvider();
    await make({ provider, variant: ['split'], size: EXTENT });
    const other = await provider.create('/a-s002.vmdk');
    await other.write(0, new Uint8Array(10).fill(7));
    const disk = await open(provider);
    await disk.resize(EXTENT + MIB);
    await disk.close();
    expect(await names(provider)).toEqual(['/a-s001.vmdk', '/a-s002.vmdk', '/a-s003.vmdk', NAME]);
    expect(other.size).toBe(10);
  });
});

describe('a child of a longer parent', () => {
  it.each([
    ['monolithicSparse', [], {}],
    ['zeroed grains', [], { zeroed_grain: 'on' }],
    ['split', ['split'], {}],
  ] as const)('reads zero where it grows (%s)', async (_title, variant, config) => {
    const provider = new MemoryProvider();
    const size = variant.length > 0 ? EXTENT - 32 * KIB : 3 * MIB + 32 * KIB;
    const longer = size + 8 * MIB;
    await createImage({ provider, name: '/base.vmdk' }, { size: longer, format: 'vmdk' });
    const base = await open(provider, '/base.vmdk');
    for (let at = size - MIB; at < longer; at += MIB / 4) await base.write(at, new Uint8Array(SECTOR).fill(9));
    await base.close();
    const parent = { provider, name: '/base.vmdk' };
    await createImage({ provider, name: NAME }, { format: 'vmdk', variant, config, parent, size });
    const disk = await open(provider);
    const read = async (at: number): Promise<number> => {
      const sector = new Uint8Array(SECTOR);
      await disk.read(at, sector);
      return sector[0] ?? -1;
    };
    await disk.resize(longer - 2 * MIB);
    await disk.resize(longer + MIB);
    for (let at = size - MIB; at < longer; at += MIB / 4) expect([at, await read(at)]).toEqual([at, at < size ? 9 : 0]);
    expect(await read(longer)).toBe(0);
    await disk.write(size + 3 * MIB, new Uint8Array(SECTOR).fill(1));
    expect(await read(size + 3 * MIB)).toBe(1);
    expect(await read(size + 3 * MIB + MIB / 4)).toBe(0);
    await disk.close();
    expect(await findings(provider)).toEqual([]);
  });
});

describe('an extent with room for less than its part of the disk', () => {
  it('does not grow, which would show what lies behind its end', async () => {
    const provider = new MemoryProvider();
    await createImage({ provider, name: NAME }, { format: 'vmdk', size: 4 * MIB });
    await using disk = await Disk.open({ provider, name: NAME }, { mode: 'write' });
    await disk.write(3 * MIB, new Uint8Array(SECTOR).fill(9));
    await disk.close();
    const storage = await provider.open(NAME, 'write');
    const header = new Uint8Array(SECTOR);
    await storage.read(0, header);
    SPARSE_HEADER.put(header, 'capacity', (2 * MIB) / SECTOR);
    await storage.write(0, header);
    await storage.close();
    await using damaged = await Disk.open({ provider, name: NAME }, { mode: 'write' });
    const read = async (): Promise<number> => {
      const sector = new Uint8Array(SECTOR);
      await damaged.read(3 * MIB, sector);
      return sector[0] ?? -1;
    };
    expect(await read()).toBe(0);
    await expectKind(() => damaged.resize(8 * MIB), 'unsupported');
    expect(await read()).toBe(0);
  });
});

/** Replaces text in the descriptor by text that is as long. */
async function patchText(provider: MemoryProvider, old: string, text: string): Promise<void> {
  expect(text.length).toBe(old.length);
  const storage = await provider.open(NAME, 'write');
  const bytes = new Uint8Array(Math.min(storage.size, 20 * KIB));
  await storage.read(0, bytes);
  const at = new TextDecoder('latin1').decode(bytes).indexOf(old);
  expect(at).toBeGreaterThan(0);
  await storage.write(at, new TextEncoder().encode(text));
}
