/** The promises of a format that can be created and written, each with the work that shows it. */
import type { ChainDisk } from '../disk/disk.ts';
import type { Source } from '../storage/contract.ts';
import {
  type Bench,
  expectBytes,
  expectEqual,
  expectExtents,
  expectFailure,
  expectThat,
  readAll,
} from './conformance-bench.ts';
import { Random } from './random.ts';
import { randomBytes } from './random-bytes.ts';

const MIB = 1024 * 1024;
const UUID = /^[0-9a-f-]{36}$/;

/** A promise of a format. */
export interface Promised {
  readonly title: string;
  readonly work: (bench: Bench) => Promise<void>;
  /** Not for differencing images. */
  readonly alone: boolean;
}

/** A promise; `alone`: not for differencing images. */
export function promise(title: string, work: Promised['work'], alone = false): Promised {
  return { title, work, alone };
}

/** All of them. */
export const PROMISES: readonly Promised[] = [
  promise('makes an image that reads as nothing, or as its parent', async (bench) => {
    const disk = await bench.create();
    expectEqual(disk.size, bench.size, 'size of the disk');
    expectBytes(await readAll(disk), bench.initial);
    await expectExtents(disk);
    await disk.close();
    await expectReport(bench);
  }),

  promise('is recognised by its content', async (bench) => {
    await (await bench.create()).close();
    const report = await bench.inspect(bench.image, { allow: undefined });
    expectEqual(report.format, bench.format.name, 'detected format');
    expectThat(report.recognisedBy !== '', 'the report does not tell how the format was detected');
  }),

  promise('reads what was written, at once and after opening again', async (bench) => {
    const disk = await bench.create();
    const model = bench.initial.slice();
    const random = new Random(7);
    await writeEdges(disk, model, random);
    for (let round = 0; round < bench.rounds; round++) {
      const offset = random.below(bench.size);
      const length = Math.min(1 + random.below(round % 8 === 0 ? 2 * MIB : 9000), bench.size - offset);
      if (random.below(4) > 0) await writeBoth(disk, model, offset, randomBytes(random, length));
      else await zeroBoth(disk, model, offset, length);
      if (random.below(8) === 0) await disk.flush();
      await expectRange(disk, model, random.below(bench.size - 5000), 5000);
    }
    expectBytes(await readAll(disk), model);
    await disk.close();
    const again = await bench.open(bench.image);
    expectBytes(await readAll(again), model);
    await expectExtents(again);
    if (bench.way.diff) expectBytes(await readAll(await bench.open(bench.base)), bench.initial, 'the parent');
  }),

  promise('zeroes ranges for good, also over what a parent has', async (bench) => {
    const disk = await bench.create();
    const model = bench.initial.slice();
    await writeBoth(disk, model, MIB / 2, randomBytes(new Random(8), 2 * MIB));
    await zeroBoth(disk, model, 0, MIB);
    await zeroBoth(disk, model, MIB + 100, MIB);
    await zeroBoth(disk, model, 3 * MIB, 2 * MIB);
    await writeBoth(disk, model, bench.size - 1000, new Uint8Array(1000));
    expectBytes(await readAll(disk), model);
    await disk.close();
    expectBytes(await readAll(await bench.open(bench.image)), model);
  }),

  promise('moves lists of buffers as one', async (bench) => {
    const disk = await bench.create();
    const bytes = randomBytes(new Random(9), 3 * MIB);
    const cut = [bytes.subarray(0, 3), new Uint8Array(0), bytes.subarray(3, MIB), bytes.subarray(MIB)];
    await disk.write(MIB - 5, cut);
    const [first, second] = [new Uint8Array(MIB + 17), new Uint8Array(2 * MIB - 17)];
    await disk.read(MIB - 5, [first, second]);
    expectBytes(first, bytes.subarray(0, MIB + 17), 'the first buffer');
    expectBytes(second, bytes.subarray(MIB + 17), 'the second buffer');
  }),

  promise('keeps requests that overlap apart', async (bench) => {
    const disk = await bench.create();
    await overlap(disk, Math.max(4, Math.round(bench.rounds / 25)));
    // Many small writes into blocks that have no place yet: each block is placed once.
    const model = await readAll(disk);
    const random = new Random(10);
    const pieces = Array.from({ length: 256 }, (_, index) => {
      return { offset: 2 * MIB + index * 8192, bytes: randomBytes(random, 8192) };
    });
    await Promise.all(pieces.map(({ offset, bytes }) => disk.write(offset, bytes)));
    for (const { offset, bytes } of pieces) model.set(bytes, offset);
    expectBytes(await readAll(disk), model);
    await disk.close();
    expectBytes(await readAll(await bench.open(bench.image)), model);
  }),

  promise('refuses what lies outside of the disk', async (bench) => {
    const disk = await bench.create();
    const one = new Uint8Array(1);
    for (const offset of [bench.size, bench.size + 1, -1, 2 ** 53, Number.NaN, 0.5]) {
      await expectFailure(() => disk.read(offset, one), 'out-of-bounds', 'invalid-argument');
      await expectFailure(() => disk.write(offset, one), 'out-of-bounds', 'invalid-argument');
      await expectFailure(() => disk.zero(offset, 1), 'out-of-bounds', 'invalid-argument');
    }
    await expectFailure(() => disk.read(bench.size - 1, new Uint8Array(2)), 'out-of-bounds');
    await expectFailure(() => disk.zero(0, -1), 'out-of-bounds', 'invalid-argument');
    await disk.read(bench.size, new Uint8Array(0));
    expectBytes(await readAll(disk), bench.initial);
  }),

  promise('refuses changes when opened for reading', async (bench) => {
    await (await bench.create()).close();
    const disk = await bench.open(bench.image);
    expectEqual(disk.can.write, false, 'can.write');
    await expectFailure(() => disk.write(0, new Uint8Array(512)), 'read-only');
    await expectFailure(() => disk.zero(0, 512), 'read-only');
    expectBytes(await readAll(disk), bench.initial);
  }),

  promise('stops when it is told to', async (bench) => {
    const disk = await bench.create();
    const options = { signal: AbortSignal.abort() };
    await expectFailure(() => disk.read(0, new Uint8Array(512), options), 'aborted');
    await expectFailure(() => disk.write(0, new Uint8Array(512), options), 'aborted');
    await expectFailure(() => disk.zero(0, 512, options), 'aborted');
    await expectFailure(() => disk.flush(options), 'aborted');
    await disk.close();
    await expectFailure(() => bench.open(bench.image, options), 'aborted');
    await expectFailure(() => bench.inspect(bench.image, { format: bench.format.name, ...options }), 'aborted');
    const other = bench.at(`other.${bench.format.name}`);
    await expectFailure(() => bench.make(other, options), 'aborted');
    expectEqual(await bench.place.provider.lookUp(other.name), null, 'what an aborted creation left');
  }),

  promise('flushes and closes as often as it is asked to, and then answers nothing more', async (bench) => {
    const disk = await bench.create();
    await disk.flush();
    await disk.write(100, Uint8Array.of(1, 2, 3));
    await Promise.all([disk.flush(), disk.flush()]);
    await disk.flush();
    await Promise.all([disk.close(), disk.close()]);
    await disk.close();
    await expectFailure(() => disk.read(0, new Uint8Array(1)), 'invalid-argument');
    await expectFailure(() => disk.write(0, new Uint8Array(1)), 'invalid-argument');
    const bytes = new Uint8Array(3);
    await (await bench.open(bench.image)).read(100, bytes);
    expectBytes(bytes, Uint8Array.of(1, 2, 3));
  }),

  promise('waits with its end for what is still running', async (bench) => {
    const disk = await bench.create();
    const bytes = randomBytes(new Random(11), 2 * MIB);
    const writing = disk.write(MIB / 2, bytes);
    await disk.close();
    await writing;
    const found = new Uint8Array(bytes.length);
    await (await bench.open(bench.image)).read(MIB / 2, found);
    expectBytes(found, bytes);
  }),

  promise('never takes the place of a file, unless forced to', async (bench) => {
    const disk = await bench.create();
    await disk.write(0, Uint8Array.of(42));
    await disk.close();
    await expectFailure(() => bench.make(bench.image), 'exists');
    const first = new Uint8Array(1);
    await (await bench.open(bench.image)).read(0, first);
    expectBytes(first, Uint8Array.of(42));
    await Promise.all(bench.disks.map((one) => one.close()));
    await bench.make(bench.image, { force: true });
    expectBytes(await readAll(await bench.open(bench.image)), bench.initial);
  }),

  promise(
    'refuses sizes that no disk has, and leaves nothing behind',
    async (bench) => {
      for (const size of [-512, 511, 513, 1.5, Number.NaN, 2 ** 60]) {
        const make = () => bench.make(bench.image, { size });
        await expectFailure(make, 'invalid-argument', 'limit', 'no-space', 'unsupported');
      }
      const left = await namesBeside(bench.image);
      expectEqual(left.join(', '), '', 'files that were left');
    },
    true,
  ),
];

/** Throws unless the report of the image is that of a new one. */
export async function expectReport(bench: Bench): Promise<void> {
  const { format, way } = bench;
  const report = await bench.inspect(bench.image, { format: format.name });
  expectEqual(report.format, format.name, 'format');
  expectEqual(report.virtualSize, bench.size, 'virtual size');
  expectEqual(report.differencing, way.diff, 'differencing');
  expectThat(report.dirty !== true, 'an image that was closed is marked as in use');
  // A format that keeps no such mark, as raw, reports none.
  const marked = report.variant.length === 0 || way.variant.every((word) => report.variant.includes(word));
  expectThat(marked, `the variant is ${report.variant.join(' ')}, expected ${way.variant.join(' ')}`);
  if (!format.capabilities.uuid) return;
  expectThat(UUID.test(report.uuid ?? ''), `the UUID is ${report.uuid}`);
  if (!way.diff) return;
  const parent = await bench.inspect(bench.base, { format: format.name });
  expectEqual(report.parentUuid, parent.uuid, 'UUID of the parent');
}

/** Writes that begin and end beside the edges of blocks and of the disk. */
async function writeEdges(disk: ChainDisk, model: Uint8Array, random: Random): Promise<void> {
  const block = disk.blockSize || MIB;
  const edges = [0, 1, 511, 512, block - 1, block, block + 511, 2 * block - 300, disk.size - 513, disk.size - 1];
  for (const edge of edges) await writeBoth(disk, model, edge, randomBytes(random, Math.min(777, disk.size - edge)));
  await writeBoth(disk, model, Math.max(block - 4096, 0), randomBytes(random, block + 8192));
}

/** Writes of the same range at the same time, and reads of it, which see one write as a whole. */
async function overlap(disk: ChainDisk, rounds: number): Promise<void> {
  const [from, length] = [MIB - 10_000, 20_000];
  await disk.write(from, new Uint8Array(length));
  for (let round = 0; round < rounds; round++) {
    const writes = Array.from({ length: 8 }, (_, index) => disk.write(from, new Uint8Array(length).fill(index + 1)));
    const reads = Array.from({ length: 8 }, async () => {
      const bytes = new Uint8Array(length);
      await disk.read(from, bytes);
      const whole = bytes.every((byte) => byte === bytes[0]);
      expectThat(whole, 'a read saw parts of two writes of the same range');
    });
    await Promise.all([...writes, disk.flush(), ...reads]);
  }
}

async function writeBoth(disk: ChainDisk, model: Uint8Array, offset: number, bytes: Uint8Array): Promise<void> {
  await disk.write(offset, bytes);
  model.set(bytes, offset);
}

async function zeroBoth(disk: ChainDisk, model: Uint8Array, offset: number, length: number): Promise<void> {
  await disk.zero(offset, length);
  model.fill(0, offset, offset + length);
}

async function expectRange(disk: ChainDisk, model: Uint8Array, offset: number, length: number): Promise<void> {
  const bytes = new Uint8Array(length);
  await disk.read(offset, bytes);
  expectBytes(bytes, model.subarray(offset, offset + length), `the bytes from ${offset}`);
}

async function namesBeside({ provider, name }: Source): Promise<string[]> {
  const names: string[] = [];
  for await (const one of provider.list(provider.directory(name))) names.push(one);
  return names;
}
