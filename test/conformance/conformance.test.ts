/**
 * Conformance of every writable format, in each of its variants and over every storage. The list of formats is the
 * registry's: a new one takes part by being registered.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { DiskOpenOptions } from '../../src/disk/options.ts';
import type { Format } from '../../src/image/contract.ts';
import { createImage } from '../../src/operations/create.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { Source } from '../../src/storage/contract.ts';
import { Random } from '../../src/testing/random.ts';
import { expectSameBytes } from './expect-bytes.ts';
import { expectKind } from './expect-kind.ts';
import { randomBytes, rounds } from './random.ts';
import { REGISTRY as registry } from './registry.ts';
import { type Place, STORAGE_KINDS } from './storages.ts';

const MIB = 1024 * 1024;
/** Several blocks of every format, the last of them not whole. */
const SIZE = 5 * MIB + 3 * 512;

/** One way to make an image of a format. */
interface Way {
  readonly title: string;
  readonly format: Format;
  readonly variant: readonly string[];
  readonly diff: boolean;
}

function waysToMake(format: Format): Way[] {
  const words = format.variants.map(({ word }) => word).filter((word) => word !== 'diff');
  const ways = [[], ...words.map((word) => [word])].map((variant) => {
    return { title: variant[0] ?? 'default', format, variant, diff: false };
  });
  return format.capabilities.diff ? [...ways, { title: 'diff', format, variant: [], diff: true }] : ways;
}

const writable = registry.formats.filter(({ capabilities, create }) => capabilities.write && create !== undefined);

describe.each(writable)('$name', (format) => {
  describe.each(STORAGE_KINDS)('over $name', (kind) => {
    describe.each(waysToMake(format))('$title', (way) => {
      let place: Place;
      let disks: ChainDisk[];
      /** Content of the disk before the first write. */
      let initial: Uint8Array;

      beforeEach(async () => {
        place = await kind.make();
        disks = [];
        initial = new Uint8Array(SIZE);
      });
      afterEach(async () => {
        await Promise.allSettled(disks.map((disk) => disk.close()));
        await place.dispose();
      });

      const at = (name: string): Source => ({ provider: place.provider, name: place.path(name) });
      const image = (): Source => at(`image.${format.extensions[0]?.extension ?? format.name}`);
      const base = (): Source => at('base.image');
      const open = async (source: Source, options: DiskOpenOptions = {}): Promise<ChainDisk> => {
        const parents = way.diff ? { allow: ['same-directory'] } : {};
        const disk = await openDisk(source, { registry, format: format.name, ...parents, ...options });
        disks.push(disk);
        return disk;
      };
      /** Makes the image; for a diff, a parent with content below it. */
      const create = async (): Promise<ChainDisk> => {
        if (way.diff) {
          await createImage(base(), { registry, format: format.name, size: SIZE });
          initial = patchwork();
          const parent = await open(base(), { mode: 'write' });
          await parent.write(0, initial);
          await parent.close();
        }
        await createImage(image(), makeOptions());
        return open(image(), { mode: 'write' });
      };
      const makeOptions = () => ({
        registry,
        format: format.name,
        variant: way.variant,
        ...(way.diff ? { parent: base(), parentFormat: format.name } : { size: SIZE }),
      });

      it('makes an image that reads as nothing, or as its parent', async () => {
        const disk = await create();
        expect(disk.size).toBe(SIZE);
        expectSameBytes(await readAll(disk), initial);
        await checkExtents(disk);
        await disk.close();
        const report = await inspect(image(), { registry, allow: ['same-directory'], format: format.name });
        expect(report).toMatchObject({
          format: format.name,
          virtualSize: SIZE,
          differencing: way.diff,
          dirty: falseOrNull(report.dirty),
        });
        // A format that keeps no such mark, as raw, reports none.
        if (report.variant.length > 0) expect(report.variant).toEqual(expect.arrayContaining([...way.variant]));
        if (format.capabilities.uuid) expect(report.uuid).toMatch(/^[0-9a-f-]{36}$/);
        if (way.diff && format.capabilities.uuid) {
          const parent = await inspect(base(), { registry, format: format.name });
          expect(report.parentUuid).toBe(parent.uuid);
        }
      });

      it('is recognised by its content', async () => {
        await (await create()).close();
        const report = await inspect(image(), { registry });
        expect(report.format).toBe(format.name);
        expect(report.recognisedBy).not.toBe('');
      });

      it('reads what was written, at once and after opening again', async () => {
        const disk = await create();
        const model = initial.slice();
        const random = new Random(7);
        const block = disk.blockSize || MIB;
        const edges = [0, 1, 511, 512, block - 1, block, block + 511, 2 * block - 300, SIZE - 513, SIZE - 1];
        for (const edge of edges) await writeBoth(disk, model, edge, randomBytes(random, Math.min(777, SIZE - edge)));
        await writeBoth(disk, model, block - 4096, randomBytes(random, block + 8192));
        for (let round = 0; round < rounds(40, 1500); round++) {
          const offset = random.below(SIZE);
          const length = Math.min(1 + random.below(round % 8 === 0 ? 2 * MIB : 9000), SIZE - offset);
          if (random.below(4) > 0) await writeBoth(disk, model, offset, randomBytes(random, length));
          else await zeroBoth(disk, model, offset, length);
          if (random.below(8) === 0) await disk.flush();
          await compareRange(disk, model, random.below(SIZE - 5000), 5000);
        }
        expectSameBytes(await readAll(disk), model);
        await disk.close();
        const again = await open(image());
        expectSameBytes(await readAll(again), model);
        await checkExtents(again);
        if (way.diff) expectSameBytes(await readAll(await open(base())), initial);
      });

      it('zeroes ranges for good, also over what a parent has', async () => {
        const disk = await create();
        const model = initial.slice();
        await writeBoth(disk, model, MIB / 2, randomBytes(new Random(8), 2 * MIB));
        await zeroBoth(disk, model, 0, MIB);
        await zeroBoth(disk, model, MIB + 100, MIB);
        await zeroBoth(disk, model, 3 * MIB, 2 * MIB);
        await writeBoth(disk, model, SIZE - 1000, new Uint8Array(1000));
        expectSameBytes(await readAll(disk), model);
        await disk.close();
        expectSameBytes(await readAll(await open(image())), model);
      });

      it('moves lists of buffers as one', async () => {
        const disk = await create();
        const bytes = randomBytes(new Random(9), 3 * MIB);
        await disk.write(MIB - 5, [
          bytes.subarray(0, 3),
          new Uint8Array(0),
          bytes.subarray(3, MIB),
          bytes.subarray(MIB),
        ]);
        const parts = [new Uint8Array(MIB + 17), new Uint8Array(2 * MIB - 17)];
        await disk.read(MIB - 5, parts);
        expectSameBytes(parts[0] ?? new Uint8Array(0), bytes.subarray(0, MIB + 17));
        expectSameBytes(parts[1] ?? new Uint8Array(0), bytes.subarray(MIB + 17));
      });

      it('keeps requests that overlap apart', async () => {
        const disk = await create();
        const random = new Random(10);
        const [from, length] = [MIB - 10_000, 20_000];
        await disk.write(from, new Uint8Array(length));
        for (let round = 0; round < rounds(4, 60); round++) {
          const writes = Array.from({ length: 8 }, (_, index) =>
            disk.write(from, new Uint8Array(length).fill(index + 1)),
          );
          const reads = Array.from({ length: 8 }, async () => {
            const bytes = new Uint8Array(length);
            await disk.read(from, bytes);
            expect(
              bytes.every((byte) => byte === bytes[0]),
              'one write as a whole',
            ).toBe(true);
          });
          await Promise.all([...writes, disk.flush(), ...reads]);
        }
        // Many small writes into blocks that have no place yet: each block is placed once.
        const model = await readAll(disk);
        const pieces = Array.from({ length: 256 }, (_, index) => ({
          offset: 2 * MIB + index * 8192,
          bytes: randomBytes(random, 8192),
        }));
        await Promise.all(pieces.map(({ offset, bytes }) => disk.write(offset, bytes)));
        for (const { offset, bytes } of pieces) model.set(bytes, offset);
        expectSameBytes(await readAll(disk), model);
        await disk.close();
        expectSameBytes(await readAll(await open(image())), model);
      });

      it('refuses what lies outside of the disk', async () => {
        const disk = await create();
        const one = new Uint8Array(1);
        for (const offset of [SIZE, SIZE + 1, -1, 2 ** 53, Number.NaN, 0.5]) {
          await expectKind(() => disk.read(offset, one), 'out-of-bounds', 'invalid-argument');
          await expectKind(() => disk.write(offset, one), 'out-of-bounds', 'invalid-argument');
          await expectKind(() => disk.zero(offset, 1), 'out-of-bounds', 'invalid-argument');
        }
        await expectKind(() => disk.read(SIZE - 1, new Uint8Array(2)), 'out-of-bounds');
        await expectKind(() => disk.zero(0, -1), 'out-of-bounds', 'invalid-argument');
        await disk.read(SIZE, new Uint8Array(0));
        expectSameBytes(await readAll(disk), initial);
      });

      it('refuses changes when opened for reading', async () => {
        await (await create()).close();
        const disk = await open(image());
        expect(disk.can.write).toBe(false);
        await expectKind(() => disk.write(0, new Uint8Array(512)), 'read-only');
        await expectKind(() => disk.zero(0, 512), 'read-only');
        expectSameBytes(await readAll(disk), initial);
      });

      it('stops when it is told to', async () => {
        const disk = await create();
        const options = { signal: AbortSignal.abort() };
        await expectKind(() => disk.read(0, new Uint8Array(512), options), 'aborted');
        await expectKind(() => disk.write(0, new Uint8Array(512), options), 'aborted');
        await expectKind(() => disk.zero(0, 512, options), 'aborted');
        await expectKind(() => disk.flush(options), 'aborted');
        await disk.close();
        await expectKind(() => openDisk(image(), { registry, format: format.name, ...options }), 'aborted');
        await expectKind(() => inspect(image(), { registry, format: format.name, ...options }), 'aborted');
        const other = at(`other.${format.name}`);
        await expectKind(() => createImage(other, { ...makeOptions(), ...options }), 'aborted');
        expect(await place.provider.lookUp(other.name)).toBeNull();
      });

      it('flushes and closes as often as it is asked to, and then answers nothing more', async () => {
        const disk = await create();
        await disk.flush();
        await disk.write(100, Uint8Array.of(1, 2, 3));
        await Promise.all([disk.flush(), disk.flush()]);
        await disk.flush();
        await Promise.all([disk.close(), disk.close()]);
        await disk.close();
        await expectKind(() => disk.read(0, new Uint8Array(1)), 'invalid-argument');
        await expectKind(() => disk.write(0, new Uint8Array(1)), 'invalid-argument');
        const bytes = new Uint8Array(3);
        await (await open(image())).read(100, bytes);
        expect(bytes).toEqual(Uint8Array.of(1, 2, 3));
      });

      it('waits with its end for what is still running', async () => {
        const disk = await create();
        const bytes = randomBytes(new Random(11), 2 * MIB);
        const writing = disk.write(MIB / 2, bytes);
        await disk.close();
        await writing;
        const found = new Uint8Array(bytes.length);
        await (await open(image())).read(MIB / 2, found);
        expectSameBytes(found, bytes);
      });

      it('never takes the place of a file, unless forced to', async () => {
        const disk = await create();
        await disk.write(0, Uint8Array.of(42));
        await disk.close();
        await expectKind(() => createImage(image(), makeOptions()), 'exists');
        const first = new Uint8Array(1);
        await (await open(image())).read(0, first);
        expect(first).toEqual(Uint8Array.of(42));
        await Promise.all(disks.map((one) => one.close()));
        await createImage(image(), { ...makeOptions(), force: true });
        expectSameBytes(await readAll(await open(image())), initial);
      });

      it.skipIf(way.diff)('refuses sizes that no disk has, and leaves nothing behind', async () => {
        for (const size of [-512, 511, 513, 1.5, Number.NaN, 2 ** 60]) {
          const options = { registry, format: format.name, variant: way.variant, size };
          await expectKind(() => createImage(image(), options), 'invalid-argument', 'limit', 'no-space', 'unsupported');
        }
        const left: string[] = [];
        for await (const name of place.provider.list(place.provider.directory(image().name))) left.push(name);
        expect(left).toEqual([]);
      });
    });
  });
});

/** Content with data, zeroes and everything between in all places. */
function patchwork(): Uint8Array {
  const bytes = randomBytes(new Random(6), SIZE);
  bytes.fill(0, MIB + 4096, 2 * MIB + 4096);
  bytes.fill(0, 4 * MIB, 4 * MIB + 512);
  return bytes;
}

async function readAll(disk: ChainDisk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

async function writeBoth(disk: ChainDisk, model: Uint8Array, offset: number, bytes: Uint8Array): Promise<void> {
  await disk.write(offset, bytes);
  model.set(bytes, offset);
}

async function zeroBoth(disk: ChainDisk, model: Uint8Array, offset: number, length: number): Promise<void> {
  await disk.zero(offset, length);
  model.fill(0, offset, offset + length);
}

async function compareRange(disk: ChainDisk, model: Uint8Array, offset: number, length: number): Promise<void> {
  const bytes = new Uint8Array(length);
  await disk.read(offset, bytes);
  expectSameBytes(bytes, model.subarray(offset, offset + length), `the bytes from ${offset}`);
}

/** The extents cover the disk in order, and what they call zero or absent reads zero. */
async function checkExtents(disk: ChainDisk): Promise<void> {
  const bytes = await readAll(disk);
  let end = 0;
  for await (const extent of disk.extents()) {
    expect(extent.offset).toBe(end);
    expect(extent.length).toBeGreaterThan(0);
    end += extent.length;
    if (extent.state === 'zero' || extent.state === 'absent') {
      expect(bytes.subarray(extent.offset, end).every((byte) => byte === 0)).toBe(true);
    }
  }
  expect(end).toBe(disk.size);
}

/** Formats without such a mark say null. */
function falseOrNull(dirty: boolean | null): boolean | null {
  return dirty === null ? null : false;
}
