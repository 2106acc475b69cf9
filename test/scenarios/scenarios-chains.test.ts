/** Scenarios of the reference about chains: snapshots, merging in both directions, copying image by image. */
import { describe, expect, it } from 'vitest';
import { compare, copyImage, Disk, inspect, type Progress } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { rounds } from '../conformance/random.ts';
import { DIFFING, LARGE, mixedLayers, PAIRS, type Pair, pairsInTurn, SMALL } from './formats.ts';
import { GIB, KIB, MIB, ShadowedDisk } from './shadowed-disk.ts';

/** Stops an operation when it reports progress for the `step`th time, from 0 on. */
function stopAt(step: number): { signal: AbortSignal; onProgress: (progress: Progress) => void; steps: () => number } {
  const stop = new AbortController();
  let steps = 0;
  const onProgress = (): void => {
    if (steps++ === step) stop.abort();
  };
  return { signal: stop.signal, onProgress, steps: () => steps };
}

/** True when the work was cancelled; other failures are thrown. */
async function isCancelled(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return false;
  } catch (error) {
    await expectKind(() => Promise.reject(error), 'aborted');
    return true;
  }
}

/** Rounds of the snapshot test: those of the reference in the long run. */
const ROUNDS = rounds(10, 30);

/** The disk of the snapshot test, in segments that change from one snapshot to the next. */
class Snapshots {
  readonly disk: ShadowedDisk;
  readonly #segments: { readonly offset: number; readonly length: number; changes: boolean }[];

  private constructor(disk: ShadowedDisk, lengths: readonly number[]) {
    let offset = 0;
    this.disk = disk;
    this.#segments = lengths.map((length) => {
      offset += length;
      return { offset: offset - length, length, changes: disk.random.chance(0.5) };
    });
  }

  static async make(pair: Pair, seed: number): Promise<Snapshots> {
    const plan = await ShadowedDisk.make({ format: pair.lower }, { seed, size: MIB });
    const { random } = plan;
    const most = rounds(128 * KIB, 10 * MIB) / 512;
    const lengths = Array.from({ length: 10 + random.below(41) }, () => 512 * (1 + random.below(most)));
    await plan.disk.close();
    const size = lengths.reduce((sum, length) => sum + length, 0);
    return new Snapshots(await ShadowedDisk.make({ format: pair.lower, block: LARGE }, { seed, size }), lengths);
  }

  async writeChanges(): Promise<void> {
    for (const { offset, length, changes } of this.#segments) {
      for (let at = 0; changes && at < length; at += MIB) {
        await this.disk.write(offset + at, this.disk.bytes(Math.min(MIB, length - at)));
      }
    }
  }

  chooseChanges(): void {
    for (const segment of this.#segments) segment.changes = this.disk.random.chance(0.5);
  }
}

/** Of the steps at which an operation is cancelled, one in this many; each pair begins at another, and meets all in the long run. */
const EVERY_STEP = rounds(3, 1);

describe.each(pairsInTurn(6))('snapshots: $title', (pair) => {
  it.each(['forward', 'backward'])('read right through rounds of changing, stacking and merging %s', async (way) => {
    const snapshots = await Snapshots.make(pair, 0x1234_5678);
    const { disk } = snapshots;
    const { random } = disk;
    for (let round = 0; round < ROUNDS; round++) {
      await snapshots.writeChanges();
      const { length } = disk.names;
      if (length - 1 < 5 || random.chance(0.5)) {
        await disk.stack({ format: pair.upper, block: random.pick([SMALL, LARGE]) });
        snapshots.chooseChanges();
        continue;
      }
      // Never the base.
      const low = 1 + random.below(length - 2);
      const high = low + 1 + random.below(length - 1 - low);
      await (way === 'forward' ? disk.disk.merge(low, high) : disk.disk.merge(high, low));
      expect(disk.names).toHaveLength(length - (high - low));
      await disk.verify();
    }
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(pairsInTurn(7))('merge: $title', (pair) => {
  const chain = (seed: number, honourSame: boolean, blocks = mixedLayers(pair, 3)): Promise<ShadowedDisk> =>
    ShadowedDisk.chain(blocks, { seed, size: 12 * MIB + 512, open: { honourSame } });

  it.each([false, true])('forward from the base loses nothing, honourSame %s', async (honourSame) => {
    const disk = await chain(11, honourSame);
    await disk.disk.merge(0, 2);
    expect(disk.names).toEqual(['/2']);
    expect(await disk.files()).toEqual(['/2']);
    await disk.verifyTwice();
    expect(disk.disk.images[0]?.info.parentUuid).toBe(null);
    await disk.disk.close();
  });

  it.each([
    ['larger', SMALL, LARGE],
    ['smaller', LARGE, SMALL],
  ])('forward into %s units keeps what stands inside them', async (_, from, to) => {
    const layers = [
      { format: pair.lower, block: from },
      { format: pair.upper, block: from },
      { format: pair.upper, block: to },
    ];
    for (const first of [0, 1]) {
      const disk = await chain(12, false, layers);
      await disk.disk.merge(first, 2);
      await disk.verifyTwice();
      await disk.disk.close();
    }
  });

  it.each([
    ['forward', 1, 2],
    ['backward', 2, 0],
  ])('%s reads as before when it is cancelled at any step, and can be run again', async (_, from, to) => {
    const first = PAIRS.indexOf(pair) % EVERY_STEP;
    for (let step = first; ; step += EVERY_STEP) {
      const disk = await chain(13, false);
      const { steps, ...stop } = stopAt(step);
      const cancelled = await isCancelled(disk.disk.merge(from, to, stop));
      await disk.verify();
      if (!cancelled) {
        expect(step).toBeGreaterThan(first);
        expect(steps()).toBeLessThanOrEqual(step + 1);
        expect(steps()).toBeGreaterThan(step + 1 - EVERY_STEP);
        await disk.disk.close();
        return;
      }
      expect(disk.names).toHaveLength(3);
      await disk.verifyTwice();
      await disk.disk.merge(from, to);
      await disk.verifyTwice();
      await disk.disk.close();
    }
  });
});

describe.each(pairsInTurn(8))('copying a chain: $title', (pair) => {
  const { lower, upper } = pair;
  const size = GIB;

  async function makeSource(): Promise<ShadowedDisk> {
    const disk = await ShadowedDisk.make({ format: lower }, { seed: 14, size });
    const data = rounds(3, 256) * MIB;
    const common = { block: 64 * KIB, total: data, requests: 32, order: 'random' } as const;
    await disk.io({ ...common, start: 0, end: rounds(6 * MIB, size / 2), writes: 1 });
    await disk.stack({ format: upper });
    await disk.io({ ...common, start: size / 2, end: size / 2 + rounds(6 * MIB, size / 2), writes: 0.5 });
    for (let n = 2; n <= 4; n++) {
      await disk.stack({ format: upper });
      const total = rounds(2, 45) * MIB;
      await disk.io({ block: MIB, start: 0, end: size, total, requests: 32, order: 'random', writes: 1 });
    }
    return disk;
  }

  it('image by image, with what both chains have in common, makes the same disk in no more room', async () => {
    const source = await makeSource();
    const provider = new MemoryProvider();
    const targets = source.names.map((name) => ({ provider, name }));
    for (const [number, target] of targets.entries()) {
      const parent = targets[number - 1];
      const format = source.disk.images[number]?.format ?? '';
      await copyImage(source.disk, number, target, {
        format,
        ...(parent === undefined
          ? {}
          : {
              parent,
              parentFormat: number === 1 ? lower.name : upper.name,
              parentChain: targets.slice(0, number),
              fromSame: number - 1,
            }),
      });
    }
    const copy = await Disk.open(targets, { format: upper.name });
    expect(await compare(source.disk, copy, { strict: true })).toMatchObject({ same: true });
    await source.verify(copy);
    await source.disk.flush();
    for (const [number, target] of targets.entries()) {
      const { size: bytes } = (await provider.lookUp(target.name)) ?? { size: Number.NaN };
      expect(bytes, `image ${number}`).toBeLessThanOrEqual(await source.fileSize(target.name));
    }
    await copy.close();
    await source.disk.close();
  });

  it('as a whole into a base makes the same disk', async () => {
    const source = await makeSource();
    const target = { provider: new MemoryProvider(), name: '/copy' };
    await copyImage(source.disk, 'last', target, { format: upper.name });
    const copy = await Disk.open(target, { format: upper.name });
    await source.verify(copy);
    await copy.close();
    await source.disk.close();
  });

  it('leaves nothing of the copy when it is cancelled at any step', async () => {
    const source = await ShadowedDisk.chain([{ format: lower }, { format: upper }], { seed: 15, size: 5 * MIB });
    const target = source.at('/copy');
    const first = PAIRS.indexOf(pair) % EVERY_STEP;
    for (let step = first; ; step += EVERY_STEP) {
      const { steps, ...stop } = stopAt(step);
      const cancelled = await isCancelled(copyImage(source.disk, 'last', target, { format: upper.name, ...stop }));
      if (!cancelled) {
        expect(step).toBeGreaterThan(first);
        expect(steps()).toBeGreaterThan(1);
        break;
      }
      expect(await source.files()).toEqual(['/0', '/1']);
      await source.verify();
    }
    await source.disk.close();
  });
});

describe.each(pairsInTurn(9))('parents: $title', ({ lower, upper }) => {
  const lockOf = async (disk: ShadowedDisk, name: string) => (await inspect(disk.at(name))).lock.held;

  it('are only read while something stands on them, and written again when it is gone', async () => {
    const disk = await ShadowedDisk.make({ format: lower }, { seed: 16, size: 4 * MIB });
    await disk.write(0, disk.bytes(SMALL));
    expect(await lockOf(disk, '/0')).toBe('exclusive');
    await disk.stack({ format: upper });
    await disk.stack({ format: upper });
    expect(await Promise.all(disk.names.map((name) => lockOf(disk, name)))).toEqual(['shared', 'shared', 'exclusive']);
    await disk.disk.closeLast({ remove: true });
    expect(await Promise.all(disk.names.map((name) => lockOf(disk, name)))).toEqual(['shared', 'exclusive']);
    await disk.scatter(2);
    await disk.stack({ format: upper });
    await disk.disk.merge(2, 1);
    expect(await Promise.all(disk.names.map((name) => lockOf(disk, name)))).toEqual(['shared', 'exclusive']);
    await disk.disk.merge('last', 0);
    expect(await lockOf(disk, '/0')).toBe('exclusive');
    await disk.scatter(2);
    await disk.verifyTwice();
    await disk.disk.close();
    expect(await lockOf(disk, '/0')).toBe('none');
  });

  it('stay as they were when the disk was opened for reading', async () => {
    const disk = await ShadowedDisk.chain([{ format: lower }, { format: upper }], { seed: 17, size: 4 * MIB });
    await disk.reopen({ mode: 'read' });
    await disk.disk.closeLast();
    expect(disk.disk.can.write).toBe(false);
    expect(await lockOf(disk, '/0')).toBe('shared');
    await disk.disk.close();
  });
});

describe.each(DIFFING)('an empty chain: $name', (format) => {
  it('tells of reads that met nothing, in images between too', async () => {
    const disk = await ShadowedDisk.make({ format, block: LARGE }, { seed: 18, size: 4 * MIB });
    const unallocated = async (offset: number) => (await disk.disk.read(offset, new Uint8Array(512))).unallocated;
    await disk.write(2 * MIB, disk.bytes(512));
    await disk.stack({ format });
    expect([await unallocated(0), await unallocated(2 * MIB)]).toEqual([true, false]);
    // Zeroes that hide the parent are something.
    await disk.zero(2 * MIB, MIB);
    expect([await unallocated(0), await unallocated(2 * MIB)]).toEqual([true, false]);
    await disk.verifyTwice();
    await disk.disk.close();
  });
});
