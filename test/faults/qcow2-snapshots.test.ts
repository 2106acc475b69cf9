/**
 * Internal snapshots under power cuts. Each operation runs alone on a durable image with snapshots; wherever it is cut,
 * the image opens, the disk and each snapshot are as before or as after, all of it together, nothing is counted too low
 * and no flag allows to overwrite what is shared. After writing to what is left, every snapshot still reads the same.
 */
import { describe, expect, it } from 'vitest';
import { createImage } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { FaultProvider, Random } from '../../src/testing/index.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { randomBytes, rounds } from '../conformance/random.ts';
import { buildQcow2, type Cluster, type Recipe } from '../formats/qcow2/build.ts';
import {
  bytesOf,
  fill,
  NAME,
  type Operation,
  open,
  problemsOf,
  record,
  rulesBroken,
  SECTOR,
  sameWorld,
  snapshot,
  worldOf,
} from './qcow2-snapshots-suite.ts';

const SMALL = { cluster_size: 512 };

const OPERATIONS: readonly Operation[] = [
  { name: 'create', run: (disk) => disk.snapshots.create('new', { createdMs: 5 }) },
  { name: 'apply', run: (disk) => disk.snapshots.apply('first') },
  { name: 'apply the latest', run: (disk) => disk.snapshots.apply('second') },
  { name: 'delete', run: (disk) => disk.snapshots.delete('second') },
  { name: 'delete the first', run: (disk) => disk.snapshots.delete('first') },
  { name: 'rename', run: (disk) => disk.snapshots.rename('second', 'x'.repeat(200)) },
];

interface Kind {
  readonly name: string;
  readonly config: Readonly<Record<string, string | number>>;
  readonly size: number;
}

const KINDS: readonly Kind[] = [
  { name: 'small clusters', config: { cluster_size: 512 }, size: 120 * SECTOR },
  { name: 'an L1 table of several clusters', config: { cluster_size: 512 }, size: 70 * 64 * SECTOR },
  { name: 'narrow counts', config: { cluster_size: 1024, refcount_bits: 4 }, size: 64 * 1024 },
  { name: 'version 2', config: { cluster_size: 1024, compat: '0.10' }, size: 64 * 1024 },
  { name: 'subclusters', config: { cluster_size: 16_384, extended_l2: 'on' }, size: 12 * 16_384 },
];

describe.each(KINDS)('qcow2 snapshots and power cuts, $name', ({ config, size }) => {
  it.each(OPERATIONS)('$name', async (operation) => {
    for (let seed = 1; seed <= rounds(1, 10); seed++) {
      const provider = new MemoryProvider();
      await createImage({ provider, name: NAME }, { size, format: 'qcow2', config });
      const random = new Random(seed);
      await fill(provider, random);
      await snapshot(provider, 'first');
      await fill(provider, random);
      await snapshot(provider, 'second');
      await fill(provider, random);
      expect(await problemsOf(await record(provider, operation, seed))).toEqual([]);
    }
  });
});

describe('qcow2 snapshots and power cuts, compressed clusters', () => {
  it.each(OPERATIONS)('$name', async (operation) => {
    const clusters = new Map<number, Cluster>();
    for (let n = 0; n < 20; n += 3) {
      clusters.set(n, { kind: 'compressed', bytes: new Uint8Array(1024).fill(n + 1) });
      clusters.set(n + 1, { kind: 'zero-allocated', bytes: randomBytes(new Random(n), 1024) });
    }
    const recipe: Recipe = { clusterBits: 10, size: 24 * 1024, clusters };
    const provider = new MemoryProvider();
    const storage = await provider.create(NAME);
    await storage.write(0, buildQcow2(recipe).bytes);
    await storage.close();
    await snapshot(provider, 'first');
    await fill(provider, new Random(1), 3);
    await snapshot(provider, 'second');
    await fill(provider, new Random(2), 2);
    expect(await problemsOf(await record(provider, operation, 1))).toEqual([]);
  });
});

describe('qcow2 snapshots without one of the flushes', () => {
  it.each(OPERATIONS)('$name: that before the switch is missed, and that after it', async (operation) => {
    const provider = new MemoryProvider();
    await createImage({ provider, name: NAME }, { size: 120 * SECTOR, format: 'qcow2', config: { cluster_size: 512 } });
    const random = new Random(3);
    for (const name of ['first', 'second']) {
      await fill(provider, random);
      await snapshot(provider, name);
    }
    await fill(provider, random);
    const run = await record(provider, operation, 1);
    let missed = 0;
    for (const flush of run.log.flushes) {
      if ((await problemsOf(run, { dropFlush: flush.number })).length > 0) missed++;
    }
    expect(missed).toBeGreaterThanOrEqual(2);
  });
});

describe('qcow2 snapshots on a failing medium', () => {
  it.each(OPERATIONS)('$name: fails, takes no more writes, and leaves one of the two states', async (operation) => {
    const inner = new MemoryProvider();
    const source = new MemoryProvider();
    await createImage({ provider: source, name: NAME }, { size: 120 * SECTOR, format: 'qcow2', config: SMALL });
    const random = new Random(4);
    for (const name of ['first', 'second']) {
      await fill(source, random);
      await snapshot(source, name);
    }
    await fill(source, random);
    const image = await bytesOf(source);
    const before = await worldOf(source);
    {
      await using disk = await open(source);
      await operation.run(disk);
    }
    const after = await worldOf(source);
    for (const point of ['write', 'flush'] as const) {
      for (let number = 0; ; number++) {
        const place = await inner.create(NAME);
        await place.write(0, image);
        await place.close();
        const failing = new FaultProvider(inner);
        const disk = await open(failing);
        failing.plan({ fail: { [point]: number }, half: number % 2 === 1, kind: number % 3 === 0 ? 'no-space' : 'io' });
        const failed = await operation.run(disk).then(
          () => false,
          () => true,
        );
        expect(failed).toBe(failing.fired);
        if (failed) await expectKind(() => disk.write(0, randomBytes(random, 3 * SECTOR)), 'io');
        // It rejects where there was something to flush.
        await disk.close().catch(() => {});
        const found = await worldOf(inner);
        expect([before, after].some((world) => sameWorld(world, found))).toBe(true);
        expect(await rulesBroken(inner)).toEqual([]);
        await inner.remove(NAME);
        if (!failed) break;
      }
    }
  });
});
