/** Scenarios of the reference about room: compacting, discarding, resizing. */
import { describe, expect, it } from 'vitest';
import type { Format } from '../../src/image/contract.ts';
import { rounds } from '../conformance/random.ts';
import { GROWING, LARGE, PAIRS, SMALL, tablesOf } from './formats.ts';
import { GIB, type Io, KIB, MIB, ShadowedDisk } from './shadowed-disk.ts';

const SIZE = rounds(16, 200) * MIB;
const fill = (start: number, end: number): Io => ({
  block: 64 * KIB,
  start,
  end,
  total: end - start,
  order: 'sequential',
  writes: 1,
  requests: 32,
});

/** A table of several blocks at the end fills no hole of fewer. */
const tablesInWay = (format: Format, block: number): number => {
  const table = tablesOf(format, 1);
  return table > block ? table : 0;
};

const compacting = GROWING.filter(({ capabilities }) => capabilities.compact);
const compactingPairs = PAIRS.filter(({ upper }) => upper.capabilities.compact);
const discarding = GROWING.filter(({ capabilities }) => capabilities.discard);
const resizing = GROWING.filter(({ capabilities }) => capabilities.resize);
const resizingPairs = PAIRS.filter(({ upper }) => upper.capabilities.resize);

describe.each(compacting)('compact: $name', (format) => {
  it('gives back what is zero and keeps the rest', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 21, size: SIZE });
    const empty = await disk.fileSize('/0');
    await disk.io(fill(0, SIZE));
    await disk.verify();
    // With its tables, which a flush writes.
    await disk.disk.flush();
    const full = await disk.fileSize('/0');
    // As data: a hint would give the room back at once.
    for (let at = SIZE / 2; at < (SIZE * 3) / 4; at += MIB) await disk.write(at, new Uint8Array(MIB));
    await disk.disk.compact();
    await disk.verify();
    expect(await disk.fileSize('/0')).toBeLessThanOrEqual(full - SIZE / 4);
    for (let at = 0; at < SIZE; at += MIB) await disk.write(at, new Uint8Array(MIB));
    await disk.disk.compact();
    await disk.verifyTwice();
    // A table that says so may be left.
    const kept = Math.max(disk.disk.blockSize, tablesOf(format, SIZE));
    expect(await disk.fileSize('/0')).toBeLessThanOrEqual(empty + kept);
    await disk.disk.close();
  });
});

describe.each(compactingPairs)('compact: $title', ({ lower, upper }) => {
  it('gives back what a merge made superfluous', async () => {
    const disk = await ShadowedDisk.make({ format: lower }, { seed: 22, size: SIZE, open: { honourSame: true } });
    await disk.io(fill(0, SIZE));
    await disk.stack({ format: upper });
    await disk.io(fill(0, SIZE / 2));
    await disk.stack({ format: upper });
    await disk.io(fill(SIZE / 4, SIZE / 2));
    // The same as the base, and zeroes that the base does not have.
    await disk.compare(0, MIB);
    for (let at = SIZE / 2; at < (SIZE * 3) / 4; at += MIB) {
      const same = new Uint8Array(MIB);
      disk.shadow.read(at, same);
      await disk.write(at, same);
    }
    await disk.zero(0, 2 * MIB);
    await disk.disk.merge(1, 2);
    await disk.verify();
    const before = await disk.stored(1);
    await disk.disk.compact();
    await disk.verify();
    // Zeroes without a mark are stored, and what are holes in the file may become data where they move.
    const zeroes = (await disk.holds(0, 2 * MIB)) ? 2 * MIB : 0;
    expect(await disk.stored(1)).toBeLessThanOrEqual(before + zeroes - SIZE / 4);
    await disk.reopen();
    await disk.verify();
    await disk.removeAll();
    expect(await disk.files()).toEqual([]);
  });
});

describe.each(discarding)('discard: $name', (format) => {
  it('gives a block back when nothing of it is used any more, and no sooner', async () => {
    const make = (how: { readonly block?: number }) =>
      ShadowedDisk.make({ format, ...how }, { seed: 23, size: 2 * GIB });
    let disk = await make({});
    if (disk.disk.blockSize > rounds(LARGE, GIB)) {
      await disk.disk.close();
      disk = await make({ block: LARGE });
    }
    const block = disk.disk.blockSize;
    const data = Math.max(24 * block, rounds(24, 200) * MIB);
    await disk.io(fill(0, data));
    await disk.io({ ...fill(0, data), writes: 0 });
    await disk.reopen();

    let blocks = await disk.blocks();
    let bytes = await disk.fileSize('/0');
    /** Discards, and says how many blocks went. */
    const discard = async (ranges: readonly (readonly [offset: number, length: number])[]): Promise<number> => {
      await disk.discard(ranges.map(([offset, length]) => ({ offset, length })));
      await disk.disk.flush();
      const [blocksNow, bytesNow] = [await disk.blocks(), await disk.fileSize('/0')];
      const gone = blocks - blocksNow;
      expect(bytesNow).toBeLessThanOrEqual(bytes);
      [blocks, bytes] = [blocksNow, bytesNow];
      return gone;
    };
    const before = bytes;
    const halves = (first: number) => Array.from({ length: 6 }, (_, n) => [(first + n) * block, block / 2] as const);

    expect(await discard(halves(0))).toBe(0);
    expect(await discard(halves(6))).toBe(0);
    expect(await discard([[block / 2, block / 2]])).toBe(1);
    expect(await discard([[block, block / 16]])).toBe(0);
    expect(await discard([[20 * block, block]])).toBe(1);
    expect(
      await discard([
        [21 * block, block / 2],
        [21 * block + block / 2, block / 2],
      ]),
    ).toBe(1);
    if (format.capabilities.compact) {
      await disk.disk.compact();
      const least = before - 3 * block + tablesInWay(format, block);
      expect(await disk.fileSize('/0')).toBeLessThanOrEqual(least);
    }
    await disk.reopen();
    await disk.verify();
    await disk.disk.close();
  });

  it('and writes of the same blocks go together', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 24, size: 16 * MIB });
    const block = disk.disk.blockSize;
    await disk.io(fill(0, 16 * MIB));
    for (let round = 0; round < rounds(60, 2000); round++) {
      const sectors = 1 + disk.random.below((2 * block) / 512);
      const offset = 512 * disk.random.below((16 * MIB) / 512 - sectors);
      const length = Math.min(512 * sectors, MIB);
      if (disk.random.chance(0.5)) await disk.discard([{ offset, length }]);
      else await disk.write(offset, disk.bytes(length));
      // Discards that wait show up when somebody else has the image.
      if (disk.random.chance(0.1)) await disk.reopen().then(() => disk.verify());
    }
    await disk.reopen();
    await disk.verify();
    await disk.disk.close();
  });
});

describe.each(resizing)('resize: $name', (format) => {
  it('grows a large disk, and what stands at 255 GiB stays', async () => {
    const gibs = rounds(300, 1024);
    const disk = await ShadowedDisk.make({ format }, { seed: 25, size: gibs * GIB });
    const data = rounds(3, 2048) * MIB;
    await disk.io(fill(255 * GIB, 255 * GIB + data));
    for (const gib of [256, 257, gibs - 1]) await disk.io(fill(gib * GIB, gib * GIB + 2 * MIB));
    const grown = gibs * 1300 * MIB;
    await disk.resize(grown);
    await disk.verify();
    await disk.io(fill(grown - 2 * MIB, grown));
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(resizingPairs)('resize: $title', ({ lower, upper }) => {
  it('grows and shrinks the last image, and new room is empty', async () => {
    const disk = await ShadowedDisk.make({ format: lower }, { seed: 26, size: 8 * MIB });
    await disk.io(fill(0, 8 * MIB));
    await disk.stack({ format: upper, block: SMALL });
    await disk.scatter(8);
    for (const [size, shrink] of [
      [5 * MIB + 512, true],
      [9 * MIB, false],
      [8 * MIB, false],
      [40 * MIB, false],
    ] as const) {
      await disk.resize(size, { shrink });
      await disk.verify();
    }
    await disk.scatter(8);
    await disk.verifyTwice();
    await disk.disk.close();
  });
});
