/**
 * Images by other programs that vdkit discarded from, compacted, resized and merged: sound for both, and with the content
 * that they should have.
 */
import { rename, rm, stat } from 'node:fs/promises';
import { expect, it } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import { KITS } from '../conformance/kits.ts';
import { rounds } from '../conformance/random.ts';
import { way } from '../formats/peer-kit.ts';
import { describePairings, expectPeerSize, expectSoundForUs, fileName, type Pairing, useFolder } from './both-sides.ts';
import { type Fill, makeFills, writeRaw } from './sparse-content.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const SEED = 41;
const isLong = rounds(0, 1) === 1;
/** Programs that read every byte of a disk, holes too, are asked for no more. */
const LONGEST_STREAM = GIB;

/** Ranges of a MiB, each filled with its own byte. */
function ranges(numbers: readonly number[]): Fill[] {
  return numbers.map((number) => ({ offset: number * MIB, length: MIB, byte: 1 + (number % 200) }));
}

const takesPart = ({ peer, makeable }: Pairing): boolean =>
  makeable.length > 0 && peer.write !== undefined && peer.same !== undefined;

await describePairings('after an operation', takesPart, (pairing) => {
  const { format, kit, rules, peer, witnesses } = pairing;
  /** In the usual run each format plays half of the operations, and its neighbours the others. */
  const plays = (number: number): boolean => isLong || (number + KITS.indexOf(kit)) % 2 === 0;
  const { discard, compact, resize, diff } = format.capabilities;
  const at = useFolder();
  const { sizeUnit = 512 } = kit;
  const image = () => ({ path: at(fileName(format)), way: way('') });
  const fill = async (fills: readonly Fill[]): Promise<void> => {
    await peer.write?.(
      image(),
      fills.map((one) => ({ how: 'write', ...one })),
    );
  };
  const make = async (size: number, fills: readonly Fill[], zeroed: readonly Fill[] = []): Promise<void> => {
    await peer.make?.(image(), size);
    await fill([...fills, ...zeroed.map((one) => ({ ...one, byte: 0 }))]);
  };
  const change = async (run: (disk: ChainDisk) => Promise<void>): Promise<void> => {
    await using disk = await openDisk(image().path, { mode: 'write', format: format.name });
    await run(disk);
  };
  /** All programs find the image sound, and read these fills and zeroes elsewhere. */
  const expectSound = async (size: number, fills: readonly Fill[], isResized = false): Promise<void> => {
    const raw = at('expected.raw');
    await rm(raw, { force: true });
    await writeRaw(raw, size, fills);
    for (const {
      rules: { longest = size, keepsOriginalSize = false },
      peer: one,
    } of [{ rules, peer }, ...witnesses]) {
      if (isResized && keepsOriginalSize) continue;
      if (size > Math.min(longest, LONGEST_STREAM) && one !== peer) continue;
      await one.check?.(image());
      await expectPeerSize(one, image(), size);
      await one.same?.(image(), raw);
    }
    await expectSoundForUs(format, image(), peer);
  };
  const expectPacked = async (bytes: number): Promise<void> => {
    if (rules.packed !== undefined) expect((await stat(image().path)).size).toBe(rules.packed(bytes));
  };

  it.runIf(discard && plays(0))('discard: whole ranges, parts that make one, and the end of the disk', async () => {
    const size = 40 * MIB + sizeUnit;
    const all = ranges(Array.from({ length: 40 }, (_, number) => number));
    await make(size, [...all, { offset: 40 * MIB, length: sizeUnit, byte: 9 }]);
    await change(async (disk) => {
      await disk.discard([{ offset: 3 * MIB, length: 10 * MIB }]);
      await disk.discard([{ offset: 20 * MIB, length: MIB / 2 }]);
      await disk.discard([{ offset: 20.5 * MIB, length: MIB / 2 }]);
      await disk.discard([{ offset: 39 * MIB, length: MIB + sizeUnit }]);
    });
    const left = all.filter((_, number) => !(number >= 3 && number < 13) && number !== 20 && number !== 39);
    await expectSound(size, left);
    await expectPacked(28 * MIB);
  });

  it.runIf(compact && plays(1))('compact: stored zeroes are gone, the rest is packed, and it goes on', async () => {
    const size = 64 * MIB;
    const all = ranges(Array.from({ length: 64 }, (_, number) => (number * 37) % 64));
    const zeroed = all.filter(({ offset }) => (offset / MIB) % 3 === 0);
    const left = all.filter((one) => !zeroed.includes(one));
    await make(size, all, zeroed);
    await expectPacked(64 * MIB);
    await change((disk) => disk.compact());
    await expectSound(size, left);
    await expectPacked(left.length * MIB);
    // The program goes on with it where vdkit stopped.
    const more = ranges([0, 33]);
    await fill(more);
    await expectSound(size, [...left, ...more]);
  });

  const { longestGrown: large = 258 * GIB, longest: mostRead = large } = rules;
  it.runIf(resize && plays(1) && mostRead >= large)('resize: a large disk is grown', async () => {
    const fills = makeFills(large - 3 * GIB, SEED, 30);
    await make(large - 3 * GIB, fills);
    await change((disk) => disk.resize(large));
    await expectSound(large, fills, true);
    const more = [{ offset: large - MIB, length: MIB, byte: 3 }];
    await fill(more);
    await expectSound(large, [...fills, ...more], true);
  });

  it.runIf(resize && plays(0))('resize: grown, and cut again', async () => {
    const fills = ranges([0, 2, 3, 7, 19]);
    await createImage(image().path, { format: format.name, size: 20 * MIB });
    await fill(fills);
    await change((disk) => disk.resize(300 * MIB + sizeUnit));
    await expectSound(300 * MIB + sizeUnit, fills, true);
    await change((disk) => disk.resize(20 * MIB));
    await expectSound(20 * MIB, fills);
    await change((disk) => disk.resize(7 * MIB, { shrink: true }));
    await expectSound(7 * MIB, fills.slice(0, 3), true);
  });

  const directions = [
    ['backward', 'last', 0],
    ['forward', 0, 'last'],
  ] as const;
  it.runIf(diff).each(directions.filter((_, number) => plays(number)))(
    'merge %s: what is left is a disk without a parent',
    async (_, from, to) => {
      const size = 64 * MIB + sizeUnit;
      const below = ranges(Array.from({ length: 30 }, (_unused, number) => 2 * number));
      const above = ranges([1, 4, 31, 62]).map((one) => ({ ...one, byte: one.byte + 7 }));
      await make(size, below);
      // What is left has its name from the start: some programs look for an extent by the name that it was made with.
      const base = to === 0 ? image().path : at(fileName(format, 'base'));
      if (to !== 0) await rename(image().path, base);
      const disk = await openDisk(base, { mode: 'write', format: format.name });
      // A program may not know the units of the child, which is gone in the end.
      const config = to === 0 ? kit.units?.(2 * MIB) : {};
      await disk.createDiff(to === 0 ? at(fileName(format, 'diff')) : image().path, { config: config ?? {} });
      for (const { offset, length, byte } of above) await disk.write(offset, new Uint8Array(length).fill(byte));
      await disk.zero(10 * MIB, MIB);
      await disk.merge(from, to);
      expect(disk.label).toBe(image().path);
      await disk.close();
      const hidden = new Set([...above.map(({ offset }) => offset), 10 * MIB]);
      await expectSound(size, [...below.filter(({ offset }) => !hidden.has(offset)), ...above]);
    },
  );
});
