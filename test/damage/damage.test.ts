/**
 * Damaged images of every format, by its kit: cut off anywhere, with tables that lie, with data files and parents cut
 * off. Reading is the judge: a salvage keeps each byte that a read returns and lists each other one with a reason, the
 * map marks nothing that can be read, and a check of an image that cannot be read in full finds a corruption.
 */
import { describe, expect, it } from 'vitest';
import { alignUp } from '../../src/binary/numbers.ts';
import { FORMATS } from '../../src/formats/index.ts';
import { type BlockDevice, checkImage, compare, convert, createImage, Disk, isImageError } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { Random } from '../../src/testing/random.ts';
import { expectSameBytes } from '../conformance/expect-bytes.ts';
import { oneIn, randomBytes, rounds } from '../conformance/random.ts';
import type { Sample, SampleFile } from '../hostile/descriptor.ts';
import { type Mutation, mutationsOf } from '../hostile/mutations.ts';
import { ownFiles } from '../hostile/sample-files.ts';
import { hostileKits } from '../hostile/suite.ts';
import { fileBytes } from '../model/extents.ts';

const SECTOR = 512;
const BOX = '/box';
/** Disks up to this size are read. */
const LONGEST = 2 ** 30;
const ALLOWED = { allow: ['same-directory'], flushAfterMs: 0 } as const;
/** Of all cuts and of all changes of tables, a fraction is tried; larger disks take longer. */
const ONE_IN = { cuts: 8, tables: 50, above: 3 };
const AMOUNT = { entries: rounds(6, 64), flips: 0, swaps: false, every: 1, seed: 1 };

/** Files with damage in one of them, and the image to read. */
interface Case {
  readonly title: string;
  /** Of the image: a file or a directory. */
  readonly name: string;
  readonly files: readonly SampleFile[];
  readonly format: string;
}

/** Result of reading an image. */
type Verdict = 'refused' | 'sound' | 'damaged';

const DAMAGED = await Promise.all(
  hostileKits().map(
    async ({ format, samples, damagedEvery = ONE_IN.tables, damagedFlips = 0, damagedLeast = [10, 10] }) => {
      const images = await made(samples);
      const bases = images.filter(({ differencing, beside }) => !differencing && beside.length === 0);
      return {
        format,
        images,
        bases,
        how: { every: damagedEvery, flips: damagedFlips },
        least: { sound: damagedLeast[0], damaged: damagedLeast[1] },
      };
    },
  ),
);

describe.each(DAMAGED)('$format', ({ images, bases, how, least }) => {
  it('saves every byte that can be read, and lists and maps the others', { timeout: 120_000 }, async () => {
    const seen = { refused: 0, sound: 0, damaged: 0 };
    for (const sample of images) for (const one of casesOf(sample, how)) seen[await judged(one)]++;
    expect(seen.sound).toBeGreaterThanOrEqual(least.sound);
    expect(seen.damaged).toBeGreaterThanOrEqual(least.damaged);
  });

  it.runIf(bases.length > 0)('does so below another image', { timeout: 120_000 }, async () => {
    const seen = { refused: 0, sound: 0, damaged: 0 };
    for (const sample of bases.slice(0, 3)) {
      const above = await aboveOf(sample);
      for (const { title, files } of oneIn(ONE_IN.above, casesOf(sample, how))) {
        seen[await judged({ title, name: above.name, format: 'qcow2', files: [above, ...files] })]++;
      }
    }
    expect(seen.damaged).toBeGreaterThanOrEqual(Math.min(least.damaged, 3));
  });
});

describe('a parent that cannot be opened', () => {
  it.each(['vdi', 'qcow2'])('costs only what it holds: %s', async (format) => {
    const size = 64 * 1024;
    const provider = await holding([{ name: 'beside', bytes: new Uint8Array(1) }]);
    const at = (name: string) => ({ provider, name: `${BOX}/${name}.${format}` });
    for (const [n, name] of ['low', 'middle', 'high'].entries()) {
      const parent = ['low', 'middle'][n - 1];
      const below = parent === undefined ? {} : { parent: at(parent), parentFormat: format };
      const config = format === 'vdi' ? { AllocationBlockSize: 4096 } : { cluster_size: 4096 };
      await createImage(at(name), { ...ALLOWED, format, config, size, ...below });
      await using disk = await Disk.open(at(name), { ...ALLOWED, mode: 'write', format });
      await disk.write(n * 8192, new Uint8Array(12_288).fill(n + 1));
    }
    const wanted = new Uint8Array(size).fill(2, 8192, 16_384).fill(3, 16_384, 28_672);
    const low = await provider.open(at('low').name, 'write');
    await low.write(0, new Uint8Array(4096).fill(0x55));
    await low.close();
    const target = { provider, name: '/out' };
    const options = { ...ALLOWED, sourceFormat: format, format: 'raw' };
    await expect(convert(at('high'), target, options)).rejects.toThrow();
    const { unreadable, warnings } = await convert(at('high'), target, { ...options, salvage: true });
    expectSameBytes(await fileBytes({ provider, name: '/out' }), wanted);
    expect(unreadable.map(({ offset, length }) => [offset, length])).toEqual([
      [0, 8192],
      [28_672, size - 28_672],
    ]);
    await using alone = await Disk.open(at('high'), { format, withoutParents: true });
    await expect(convert(alone, target, { format: 'raw', force: true })).rejects.toMatchObject({ kind: 'not-found' });
    await using out = await Disk.open(target, { format: 'raw' });
    await expect(compare(alone, out)).rejects.toMatchObject({ kind: 'not-found' });
    expect(warnings.join()).toMatch(/parent of .*middle\..* is left out/);
  });
});

/** Those of other programs are large for what they hold. */
async function made(samples: () => Promise<readonly Sample[]>): Promise<Sample[]> {
  return (await samples()).filter(({ golden }) => !golden);
}

/** Extent of the damage. */
interface DamageHow {
  /** Of the changes of tables one in this many. */
  readonly every: number;
  /** Changed bits. */
  readonly flips: number;
}

/** The image cut off and with changed tables, and with each file beside it cut off. */
function casesOf(sample: Sample, { every: damagedEvery, flips }: DamageHow): Case[] {
  const { anatomy, parts = [], beside, format, every } = sample;
  const tables = [anatomy, ...parts.map((part) => part.anatomy)].flatMap((one) => one.tables);
  const isTable = ({ title }: Mutation): boolean => tables.some(({ name }) => title.includes(`${name}: `));
  const all = [...mutationsOf(sample, AMOUNT)];
  const picked = [
    ...oneIn(
      ONE_IN.cuts * every,
      all.filter(({ title }) => title.includes('cut off at ')),
    ),
    ...oneIn(damagedEvery * every, all.filter(isTable)),
    ...flipsOf(sample, flips),
  ];
  const name = nameOf(sample);
  const own = picked.map((mutation) => {
    return { title: `${sample.name}: ${mutation.title}`, name, format, files: [...ownOf(sample, mutation), ...beside] };
  });
  const others = beside.flatMap((cut) =>
    [1, SECTOR, SECTOR + 1, cut.bytes.length >> 1].map((missing) => ({
      title: `${sample.name}: ${cut.name} without its last ${missing} bytes`,
      name,
      format,
      files: [
        ...ownOf(sample),
        ...beside.map((one) => (one === cut ? { ...cut, bytes: cut.bytes.slice(0, -missing) } : one)),
      ],
    })),
  );
  return [...own, ...others];
}

/** A changed bit each, all over the main file. */
function flipsOf({ bytes }: Sample, count: number): Mutation[] {
  if (bytes === null) return [];
  const expect = { opens: false, unchanged: [], sameSize: false };
  return Array.from({ length: count }, (_, number) => {
    const offset = Math.floor(((number + 0.5) * bytes.length) / count);
    const edits = [{ offset, bytes: Uint8Array.of((bytes[offset] ?? 0) ^ 0x10) }];
    return { title: `a changed bit at ${offset}`, file: null, edits, size: bytes.length, expect };
  });
}

/** In the box. */
function nameOf({ format }: Sample): string {
  return `image.${format}`;
}

/** The files of the image, the main one first, by their names in the box. */
function ownOf(sample: Sample, mutation?: Mutation): SampleFile[] {
  return ownFiles(sample, `/${nameOf(sample)}`, mutation).map(({ name, bytes }) => ({
    name: name.slice(1),
    bytes,
  }));
}

/** A child with some data. */
async function aboveOf(sample: Sample): Promise<SampleFile> {
  const files = ownOf(sample);
  const provider = await holding(files);
  const child = { provider, name: `${BOX}/above.qcow2` };
  const config = { cluster_size: SECTOR };
  await createImage(child, {
    ...ALLOWED,
    format: 'qcow2',
    config,
    parent: `${BOX}/${nameOf(sample)}`,
    parentFormat: sample.format,
    provider,
  });
  {
    await using disk = await Disk.open(child, { ...ALLOWED, mode: 'write', format: 'qcow2' });
    const piece = randomBytes(new Random(1), 3 * SECTOR);
    for (let at = 2 * SECTOR; at + piece.length < disk.size; at += 16 * SECTOR) await disk.write(at, piece);
  }
  return { name: 'above.qcow2', bytes: await fileBytes(child) };
}

async function holding(files: readonly SampleFile[]): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  for (const { name, bytes } of files) {
    const storage = await provider.create(`${BOX}/${name}`);
    if (bytes.length > 0) await storage.write(0, bytes);
    await storage.close();
  }
  return provider;
}

/** Holds salvage, map and check of the image to what reading says. */
async function judged({ title, name, files, format }: Case): Promise<Verdict> {
  const provider = await holding(files);
  const image = { provider, name: `${BOX}/${name}` };
  const disk = await Disk.open(image, { ...ALLOWED, format }).catch((error: unknown) => {
    if (isImageError(error)) return null;
    throw error;
  });
  if (disk === null) return 'refused';
  if (disk.size > LONGEST) {
    // A size that changed by itself: nothing in the file tells another.
    await disk.close();
    return 'refused';
  }
  const read = await readAll(disk);
  const out = new MemoryProvider();
  const { unreadable } = await convert(disk, { provider: out, name: '/out' }, { format: 'raw', salvage: true });
  expectSameBytes(await fileBytes({ provider: out, name: '/out' }), read.bytes, title);
  const listed = new Uint8Array(disk.size);
  for (const { offset, length, reason } of unreadable) {
    listed.fill(1, offset, offset + length);
    expect(reason, title).toContain('/box/');
  }
  expectSameBytes(listed, read.lost, `what is listed: ${title}`);
  await expectMap(disk, read.lost, title);
  await disk.close();
  if (!read.lost.includes(1)) return 'sound';
  if (files.length === 1 && FORMATS.find(({ name }) => name === format)?.capabilities.check === true) {
    const { findings } = await checkImage(image, { format });
    expect(
      findings.map(({ severity }) => severity),
      title,
    ).toContain('corruption');
  }
  return 'damaged';
}

/** Each run once; nothing is marked that can be read, and where nothing is marked reading fails by its content only. */
async function expectMap(disk: Disk, lost: Uint8Array, title: string): Promise<void> {
  let end = 0;
  const { size } = disk;
  for await (const { offset, length, state, reason, compressed } of disk.extents(0, size, { damaged: true })) {
    expect(offset, title).toBe(end);
    end = offset + length;
    const range = lost.subarray(offset, end);
    if (state === 'damaged') {
      expect(range.includes(0), `${offset} is marked, but can be read: ${title}`).toBe(false);
      expect(reason, title).toContain('/box/');
    } else if (!compressed) {
      expect(range.includes(1), `${offset} is not marked, but cannot be read: ${title}`).toBe(false);
    }
  }
  expect(end, title).toBe(size);
}

/** Everything that reading gives; `lost` has 1 for each byte that it does not. */
async function readAll(disk: BlockDevice): Promise<{ readonly bytes: Uint8Array; readonly lost: Uint8Array }> {
  const bytes = new Uint8Array(disk.size);
  const lost = new Uint8Array(disk.size);
  const reads = (start: number, end: number): Promise<boolean> =>
    disk.read(start, bytes.subarray(start, end)).then(
      () => true,
      (error: unknown) => {
        if (isImageError(error)) return false;
        throw error;
      },
    );
  const read = async (start: number, end: number): Promise<void> => {
    if (await reads(start, end)) return;
    const length = end - start;
    // A sector whose ends cannot be read has nothing that can.
    const whole = length === SECTOR && !(await reads(start, start + 1)) && !(await reads(end - 1, end));
    if (length === 1 || whole) {
      bytes.fill(0, start, end);
      lost.fill(1, start, end);
      return;
    }
    const half = length > SECTOR ? alignUp(length / 2, SECTOR) : length >> 1;
    await read(start, start + half);
    await read(start + half, end);
  };
  if (disk.size > 0) await read(0, disk.size);
  return { bytes, lost };
}
