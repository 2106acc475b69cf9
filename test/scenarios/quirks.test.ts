/**
 * Quirks of the reference that concern data (its list, 16.1 and 16.2): that vdkit does what is recommended there. Those
 * of filters and caches come with what they are about.
 */
import { describe, expect, it } from 'vitest';
import { copyImage, Disk, inspect, moveImage, setImage } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { FaultProvider } from '../../src/testing/fault-storage.ts';
import { expectSameBytes } from '../conformance/expect-bytes.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { rounds } from '../conformance/random.ts';
import {
  FIXED,
  GROWING,
  LARGE,
  LINKED,
  PAIRS,
  type Pair,
  pairsInTurn,
  SMALL,
  STAMPED_PAIRS,
  WRITABLE,
} from './formats.ts';
import { GIB, MIB, ShadowedDisk } from './shadowed-disk.ts';

const SIZE = 4 * MIB;

describe.each(pairsInTurn(2))('merge: $title', ({ lower, upper }) => {
  it('1: forward from the base moves what the child leaves to it', async () => {
    for (const honourSame of [false, true]) {
      const disk = await ShadowedDisk.make({ format: lower }, { seed: 201, size: SIZE, open: { honourSame } });
      await disk.write(0, disk.bytes(MIB));
      await disk.write(3 * MIB, disk.bytes(512));
      await disk.stack({ format: upper });
      await disk.write(MIB / 2, disk.bytes(MIB));
      await disk.disk.merge(0, 1);
      await disk.verifyTwice();
      await disk.disk.close();
    }
  });

  it('2: forward moves data that stands inside a larger block of the child', async () => {
    const disk = await ShadowedDisk.make({ format: lower, block: SMALL }, { seed: 202, size: SIZE });
    await disk.write(0, disk.bytes(MIB));
    await disk.stack({ format: upper, block: SMALL });
    for (const at of [3, 20, 47]) await disk.write(at * SMALL + 1024, disk.bytes(512));
    await disk.stack({ format: upper, block: LARGE });
    await disk.write(20 * SMALL, disk.bytes(512));
    await disk.disk.merge(1, 2);
    await disk.verifyTwice();
    await disk.disk.close();
  });

  it('8: what changes the disk while its last image merges reaches the target too, whatever the request', async () => {
    const disk = await ShadowedDisk.make({ format: lower }, { seed: 208, size: 24 * MIB });
    await disk.scatter(30);
    await disk.stack({ format: upper });
    // What the last image holds hides the base for good, also when it is discarded.
    for (let at = 0; at < disk.disk.size; at += MIB) await disk.write(at, disk.bytes(MIB));
    let step = 0;
    const changes: Promise<void>[] = [];
    const onProgress = (): void => {
      const at = step++ * MIB;
      if (at + 3 * MIB > disk.disk.size) return;
      // Behind the position of the merge, around it, and before it.
      changes.push(disk.write(at, disk.bytes(512)));
      changes.push(disk.zero(at + MIB, SMALL));
      changes.push(disk.discard([{ offset: at + 2 * MIB, length: MIB }]));
    };
    await disk.disk.merge('last', 0, { onProgress });
    await Promise.all(changes);
    expect(changes.length).toBeGreaterThan(5);
    expect(disk.names).toEqual(['/0']);
    await disk.reopen();
    await disk.verify();
    await disk.disk.close();
  });
});

describe.each(GROWING.filter(({ capabilities }) => capabilities.discard))('discard: $name', (format) => {
  it('5: what waits is zeroed when the disk is closed, and when a new image is put on top', async () => {
    for (const end of ['close', 'stack'] as const) {
      const disk = await ShadowedDisk.make({ format, block: LARGE }, { seed: 205, size: SIZE });
      const before = disk.bytes(MIB);
      await disk.write(0, before);
      await disk.discard([{ offset: 0, length: 4096 }]);
      if (end === 'close') await disk.reopen();
      else if (format.capabilities.diff) await disk.stack({ format });
      else await disk.disk.flush();
      await disk.reopen();
      await disk.verify();
      await disk.disk.close();
    }
  });
});

describe.each(pairsInTurn(3))('copy: $title', ({ lower, upper }) => {
  it('6: a copy that fails leaves nothing, and the chain is as it was and goes on', async () => {
    const provider = new FaultProvider(new MemoryProvider());
    const disk = await ShadowedDisk.chain([{ format: lower }, { format: upper }], { seed: 206, size: SIZE, provider });
    await disk.disk.flush();
    for (const fail of [{ read: 3 }, { write: 5 }, { growth: 1 }, { flush: 1 }, { names: 0 }]) {
      provider.plan({ fail, kind: 'no-space' });
      const copying = copyImage(disk.disk, 'last', disk.at('/copy'), { format: upper.name });
      const failed = await copying.then(
        () => false,
        () => true,
      );
      expect(failed, JSON.stringify(fail)).toBe(provider.fired);
      provider.plan({});
      if (!failed) await provider.remove('/copy');
      expect(await disk.files()).toEqual(['/0', '/1']);
      await disk.scatter(2);
      await disk.verify();
    }
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(WRITABLE)('requests: $name', (format) => {
  it('7: what fails is reported by the request that met it', async () => {
    const provider = new FaultProvider(new MemoryProvider());
    const disk = await ShadowedDisk.make({ format }, { seed: 207, size: SIZE, provider });
    await disk.write(0, disk.bytes(MIB));
    await disk.disk.flush();
    const buffer = new Uint8Array(512);
    for (const [fail, run] of [
      [{ read: 0 }, () => disk.disk.read(0, buffer)],
      [{ read: 0 }, () => disk.disk.read(512, [buffer, buffer.slice()])],
      [{ write: 0 }, () => disk.disk.write(0, buffer.fill(1))],
      [{ write: 0 }, () => disk.disk.zero(0, 512)],
      [{ flush: 0 }, () => disk.disk.write(0, buffer).then(() => disk.disk.flush())],
    ] as const) {
      provider.plan({ fail });
      await expectKind(run, 'io');
      expect(provider.fired).toBe(true);
      provider.plan({});
    }
    // What should have been durable never will be, and that is not kept quiet either.
    await expectKind(() => disk.disk.close(), 'io');
  });

  it('9: the buffer of the caller is as it was', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 209, size: SIZE });
    const bytes = disk.bytes(MIB + 512);
    const before = bytes.slice();
    await disk.disk.write(1000, bytes);
    await disk.disk.write(1000 + 512, [bytes.subarray(0, 700), bytes.subarray(700)]);
    expectSameBytes(bytes, before);
    await disk.disk.close();
  });

  it('40: requests of more than 4 GiB are done as a whole', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 240, size: 9 * GIB });
    const places = [0, 4 * GIB - 1024, 4 * GIB, 5 * GIB + 512, 8 * GIB];
    const fill = async () => {
      for (const at of places) await disk.write(at, disk.bytes(4096));
    };
    await fill();
    await disk.zero(512, 5 * GIB);
    await disk.verify();
    await fill();
    await disk.discard([{ offset: 0, length: 6 * GIB }]);
    await disk.reopen();
    await disk.verify();
    await disk.disk.close();
  });
});

/** Large units in the usual run: a format without marks for zeroes fills millions of entries with the small ones. */
const MANY = rounds(1, 0) === 0 ? {} : { block: LARGE };

describe.each(pairsInTurn(4))('more than 4 GiB: $title', ({ lower, upper }) => {
  it('40: of a parent are hidden, merged and copied', async () => {
    const disk = await ShadowedDisk.make({ format: lower, ...MANY }, { seed: 241, size: 6 * GIB });
    for (const at of [0, GIB, 4 * GIB, 5 * GIB]) await disk.write(at, disk.bytes(4096));
    await disk.stack({ format: upper, ...MANY });
    await disk.write(5 * GIB + MIB, disk.bytes(4096));
    await disk.zero(MIB, 4 * GIB + MIB);
    await disk.verify();
    const target = { provider: new MemoryProvider(), name: '/copy' };
    await copyImage(disk.disk, 'last', target, { format: upper.name });
    await using copy = await Disk.open(target);
    await disk.verify(copy);
    // Nothing but the data moves.
    await disk.stack({ format: upper, ...MANY });
    await disk.write(5 * GIB + 2 * MIB, disk.bytes(4096));
    await disk.disk.merge(2, 1);
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

/** Each format to two others in the usual run, and to all in the long one. */
const moves = WRITABLE.flatMap((from, number) => {
  const others = [...WRITABLE.slice(number + 1), ...WRITABLE.slice(0, number)];
  return others.slice(0, rounds(2, others.length)).map((to) => [from.name, to.name, from]);
});
describe.each(moves as [string, string, (typeof WRITABLE)[number]][])('moving: %s to %s', (from, to, format) => {
  it('10: copies, compares and then deletes where a name is not enough', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 210, size: SIZE });
    await disk.scatter(4);
    await disk.disk.close();
    await moveImage(disk.at('/0'), disk.at('/moved'), { format: from, to });
    expect(await disk.files()).toEqual(['/moved']);
    await using moved = await Disk.open(disk.at('/moved'), { format: to });
    await disk.verify(moved);
  });
});

const closedPair = async ({ lower, upper }: Pair, seed: number): Promise<ShadowedDisk> => {
  const disk = await ShadowedDisk.chain([{ format: lower }, { format: upper }], { seed, size: SIZE });
  await disk.disk.close();
  return disk;
};
const openPair = (disk: ShadowedDisk, linkage: 'off' | 'warn' | 'strict') =>
  Disk.open([disk.at('/0'), disk.at('/1')], { linkage });

describe.each(STAMPED_PAIRS)('links: $title', (pair) => {
  it('12: tell of a parent that was written since, as strictly as the caller wants', async () => {
    const disk = await closedPair(pair, 212);
    await using base = await Disk.open(disk.at('/0'), { mode: 'write' });
    await base.write(0, new Uint8Array(512).fill(1));
    await base.close();
    await expect(openPair(disk, 'strict')).rejects.toMatchObject({ kind: 'corrupt', status: 'VERR_VD_UUID_MISMATCH' });
    await using warned = await openPair(disk, 'warn');
    expect(warned.warnings).toHaveLength(1);
    await using quiet = await openPair(disk, 'off');
    expect(quiet.warnings).toEqual([]);
  });
});

describe.each(LINKED)('links: $title', (pair) => {
  it('12: tell of another parent', async () => {
    const disk = await closedPair(pair, 213);
    await setImage(disk.at('/0'), { uuid: 'random' });
    for (const linkage of ['strict', 'warn'] as const) {
      await expect(openPair(disk, linkage)).rejects.toMatchObject({ kind: 'corrupt', status: 'VERR_VD_UUID_MISMATCH' });
    }
    await using quiet = await openPair(disk, 'off');
    await disk.verify(quiet);
  });
});

describe.each(PAIRS.filter(({ upper }) => upper.capabilities.compact))('compact: $title', ({ lower, upper }) => {
  it('14: leaves out what the parent reads the same, and goes on hiding it with zeroes', async () => {
    const disk = await ShadowedDisk.make({ format: lower }, { seed: 214, size: SIZE });
    await disk.write(0, disk.bytes(MIB));
    await disk.write(MIB, disk.bytes(MIB));
    await disk.stack({ format: upper, block: LARGE });
    await disk.reopen({ honourSame: true, honourZeroes: true });
    const same = new Uint8Array(MIB);
    disk.shadow.read(0, same);
    await disk.write(0, same);
    await disk.write(MIB, new Uint8Array(MIB));
    await disk.write(2 * MIB, disk.bytes(MIB));
    expect(await disk.stored(1)).toBe(3 * MIB);
    await disk.disk.compact();
    // Without a mark for zero, zeroes that hide the parent stay; then nothing can be discarded either.
    expect(await disk.stored(1)).toBe(disk.disk.can.discard ? MIB : 2 * MIB);
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(GROWING.filter(({ capabilities }) => capabilities.resize))('resize: $name', (format) => {
  it('15: shrinks only when told to where data would be lost', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 215, size: SIZE });
    await disk.write(3 * MIB, disk.bytes(512));
    const shrinking = disk.disk.resize(2 * MIB);
    await expect(shrinking).rejects.toMatchObject({ kind: 'unsupported', status: 'VERR_VD_SHRINK_NOT_SUPPORTED' });
    await disk.verify();
    await disk.resize(2 * MIB, { shrink: true });
    await disk.resize(SIZE);
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(WRITABLE)('discard: $name', (format) => {
  it('16: is taken by everything that can be written', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 216, size: SIZE });
    await disk.write(0, disk.bytes(2 * MIB));
    expect(disk.disk.can.discard).toBe(true);
    await disk.discard([
      { offset: 512, length: MIB },
      { offset: 0, length: 512 },
    ]);
    await disk.reopen();
    await disk.verify();
    await disk.disk.close();
  });
});

describe.each(FIXED)('a fixed image: $name', (format) => {
  it('24: stores what is written, also what it reads already', async () => {
    const disk = await ShadowedDisk.make({ format, variant: ['fixed'] }, { seed: 224, size: SIZE });
    const before = await inspect(disk.at('/0'), { format: format.name });
    await disk.write(0, new Uint8Array(MIB));
    await disk.scatter(5);
    await disk.disk.flush();
    const after = await inspect(disk.at('/0'), { format: format.name });
    expect([after.fileSize, after.allocatedSize]).toEqual([before.fileSize, before.allocatedSize]);
    await disk.verifyTwice();
    await disk.disk.close();
  });
});
