/** Disks over forward-only storages: reads arrive in order, and impossible ones are refused. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { expectSameBytes } from '../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { rounds } from '../../test/conformance/random.ts';
import { compare, convert, copyImage, copyInto, Disk, detectFormat, inspect } from '../index.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { Random } from '../testing/random.ts';
import { insideSource } from './source.ts';
import { readableStorage } from './stream-storage.ts';

const MIB = 1024 ** 2;
/** Several runs of the copy engine, and an end inside of one. */
const SIZE = 17 * MIB + 512;

const clock = vi.hoisted(() => ({ now: 0, step: (): number => 0 }));
// Reads are quick or slow as the seed wants it: the copy engine reads ahead of slow ones.
vi.mock('../storage/clock.ts', () => ({
  nowMs: () => {
    clock.now += clock.step();
    return clock.now;
  },
}));
beforeEach(() => {
  clock.step = () => 0;
});

/** Each sector is unique, so that none can be mistaken for another; some are zero. */
function content(): Uint8Array {
  const bytes = new Uint8Array(SIZE);
  const words = new Uint32Array(bytes.buffer);
  for (let sector = 0; sector < SIZE / 512; sector++)
    if (sector % 5 !== 4) words.fill(sector + 1, sector * 128, sector * 128 + 100);
  return bytes;
}
const CONTENT = content();

/** Gives pieces of any length, each after some turns of the event loop. */
function streamOf(bytes: Uint8Array, random: Random): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      for (let turns = random.below(4); turns > 0; turns--) await new Promise(setImmediate);
      const longest = random.pick([512, 70_000, 5 * MIB]);
      const end = Math.min(at + 1 + random.below(longest), bytes.length);
      controller.enqueue(bytes.slice(at, end));
      at = end;
      if (at === bytes.length) controller.close();
    },
  });
}

const PROVIDER = new MemoryProvider();
const place = (name: string) => ({ provider: PROVIDER, name });

function streamSource(random = new Random(1)) {
  return insideSource(readableStorage(streamOf(CONTENT, random), { size: SIZE }));
}

function openStream(): Promise<Disk> {
  return Disk.open(streamSource(), { format: 'raw' });
}

async function expectContent(name: string, format: string): Promise<void> {
  await using disk = await Disk.open(place(name), { format });
  const bytes = new Uint8Array(SIZE);
  await disk.read(0, bytes);
  expectSameBytes(bytes, CONTENT);
}

const TARGETS = [
  ['raw', {}],
  ['vdi', {}],
  ['qcow2', {}],
  ['qcow2', { compress: true }],
  ['vdi', { rateLimit: 2 ** 40 }],
  ['raw', { sparseSize: 0, salvage: true }],
] as const;

describe('a stream as the source of a conversion', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('is read in order, with %i runs in flight', async (parallel) => {
    for (let seed = 1; seed <= rounds(6, 200); seed++) {
      const random = new Random(seed * 8 + parallel);
      clock.step = () => random.pick([0, 1, 20]);
      const [format, options] = TARGETS[seed % TARGETS.length] ?? TARGETS[0];
      const { written } = await convert(streamSource(random), place('/out'), {
        sourceFormat: 'raw',
        format,
        parallel,
        force: true,
        ...options,
      });
      expect(written, `seed ${seed}`).toBeGreaterThan(0);
      await expectContent('/out', format);
    }
  });

  it('is read in order into an image that is there, as a copy, and by a comparison', async () => {
    for (let seed = 1; seed <= rounds(3, 60); seed++) {
      const random = new Random(seed);
      clock.step = () => random.pick([0, 1, 20]);
      await using target = await Disk.create(place('/there'), { format: 'qcow2', size: SIZE, force: true });
      {
        await using source = await openStream();
        await copyInto(source, 'last', target, { parallel: 4 });
      }
      await target.flush();
      {
        await using source = await openStream();
        await copyImage(source, 'last', place('/copy'), { format: 'vdi', force: true, parallel: 5 });
      }
      await expectContent('/copy', 'vdi');
      await using source = await openStream();
      await expect(compare(source, target, { parallel: 6 })).resolves.toMatchObject({ same: true });
    }
  });

  it('tells what broke, and reads nothing twice to save something', async () => {
    const short = readableStorage(streamOf(CONTENT.subarray(0, 5 * MIB), new Random(3)), { size: SIZE });
    const broken = convert(insideSource(short), place('/broken'), {
      sourceFormat: 'raw',
      format: 'raw',
      salvage: true,
    });
    await expect(broken).rejects.toMatchObject({ kind: 'io', status: 'VERR_EOF' });
    expect(await PROVIDER.lookUp('/broken')).toBeNull();
  });
});

describe('a disk over a stream', () => {
  it('says that it goes forwards only', async () => {
    await using disk = await openStream();
    expect(disk.can).toEqual({ write: false, zero: false, discard: false, random: false });
    expect(disk.layers(0, 0).can.random).toBe(false);
    await using plain = await Disk.create(place('/plain'), { format: 'raw', size: 512 });
    expect(plain.can.random).toBe(true);
  });

  it('is read from front to back, and no other way', async () => {
    await using disk = await openStream();
    const [first, later] = [new Uint8Array(1024), new Uint8Array(1024)];
    await disk.read(0, first);
    await disk.read(MIB, later);
    expectSameBytes(first, CONTENT.subarray(0, 1024));
    expectSameBytes(later, CONTENT.subarray(MIB, MIB + 1024));
    await expectKind(() => disk.read(512, first), 'unsupported');
  });

  it('refuses what would need it again, before anything is read or made', async () => {
    const options = { sourceFormat: 'raw', format: 'raw' };
    const convertAs = (more: object) => () => convert(streamSource(), place('/no'), { ...options, ...more });
    await expectKind(convertAs({ verify: true }), 'unsupported');
    await expectKind(convertAs({ size: 16 * MIB, shrink: true }), 'unsupported');
    await using disk = await openStream();
    await expectKind(() => copyImage(disk, 'last', place('/no'), { format: 'raw', verify: true }), 'unsupported');
    expect(await PROVIDER.lookUp('/no')).toBeNull();
    await disk.read(0, new Uint8Array(512));
  });

  it('is not looked into, and is no image whose parts come in any order', async () => {
    await expectKind(() => Disk.open(streamSource()), 'unsupported');
    await expectKind(() => inspect(streamSource()), 'unsupported');
    await expectKind(() => detectFormat(streamSource()), 'unsupported');
    await expectKind(() => convert(streamSource(), place('/no'), { format: 'raw' }), 'unsupported');
    for (const format of ['vdi', 'qcow2', 'vmdk']) {
      await expectKind(() => Disk.open(streamSource(), { format }), 'unsupported');
    }
    const source = streamSource();
    await expectKind(() => Disk.open(source), 'unsupported');
    // Nothing of it is gone.
    await convert(source, place('/out'), { sourceFormat: 'raw', format: 'raw', force: true });
    await expectContent('/out', 'raw');
  });
});
