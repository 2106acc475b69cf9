/**
 * Internal snapshots under power cuts. Each operation runs alone on a durable image with snapshots; wherever it is cut,
 * the image opens, the disk and each snapshot are as before or as after, all of it together, nothing is counted too low
 * and no flag allows to overwrite what is shared. After writing to what is left, every snapshot still reads the same.
 */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createImage, Disk, inspect, isImageError } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { crashStates, FaultProvider, type OperationLog, Random, RecordingProvider } from '../../src/testing/index.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { randomBytes, rounds } from '../conformance/random.ts';
import { buildQcow2, type Cluster, type Recipe } from '../hostile/qcow2-build.ts';
import { recount } from './qcow2-recount.ts';

const NAME = '/disk.qcow2';
const SECTOR = 512;
const SMALL = { cluster_size: 512 };

/** What can be read: the disk, and each snapshot by its id. */
type World = ReadonlyMap<string, string>;

interface Operation {
  readonly name: string;
  run(disk: Disk): Promise<unknown>;
}

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
      if ((await problemsOf(run, flush.number)).length > 0) missed++;
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

/** One operation, written down on its way to the medium. */
interface Run {
  readonly log: OperationLog;
  /** Position at which it had ended. */
  readonly doneAt: number;
  readonly provider: StorageProvider;
  readonly before: World;
  readonly after: World;
}

async function record(provider: StorageProvider, operation: Operation, seed: number): Promise<Run> {
  const before = await worldOf(provider);
  const random = new Random(seed);
  const recording = new RecordingProvider(provider, { turns: (kind) => random.below(kind === 'flush' ? 20 : 5) });
  let doneAt = 0;
  {
    await using disk = await open(recording);
    await operation.run(disk);
    doneAt = recording.log.mark('done');
  }
  const after = await worldOf(provider);
  expect(after).not.toEqual(before);
  expect(await rulesBroken(provider)).toEqual([]);
  return { log: recording.log, doneAt, provider, before, after };
}

/** What is wrong with what some cut leaves. */
async function problemsOf({ log, doneAt, provider, before, after }: Run, dropFlush?: number): Promise<string[]> {
  const options = { maxStates: rounds(200, 3000), ...(dropFlush === undefined ? {} : { dropFlush }) };
  const problems: string[] = [];
  let visited = 0;
  for (const state of crashStates(log, provider, options)) {
    const found = await problemsIn(
      state.provider,
      state.cutAt > doneAt ? [after] : [before, after],
      visited++ % 4 === 0,
    );
    problems.push(...found.map((problem) => `${problem} (${state.describe()})`));
    if (problems.length > 5) break;
  }
  return problems;
}

async function problemsIn(provider: StorageProvider, allowed: readonly World[], rewrite: boolean): Promise<string[]> {
  try {
    const found = await worldOf(provider);
    if (!allowed.some((world) => sameWorld(world, found))) return [`reads ${JSON.stringify([...found])}`];
    const broken = await rulesBroken(provider);
    if (broken.length > 0 || !rewrite) return broken;
    await fill(provider, new Random(99), 4);
    const again = await worldOf(provider);
    const changed = [...found].filter(([what, content]) => what !== ACTIVE && again.get(what) !== content);
    return [...changed.map(([what]) => `writing changed ${what}`), ...(await rulesBroken(provider))];
  } catch (error) {
    return [String(isImageError(error) ? error.message : error)];
  }
}

async function bytesOf(provider: StorageProvider): Promise<Uint8Array> {
  const storage = await provider.open(NAME, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function rulesBroken(provider: StorageProvider): Promise<string[]> {
  const { low, unsafe } = recount(await bytesOf(provider));
  return [...low, ...unsafe];
}

const ACTIVE = 'the disk';

async function worldOf(provider: StorageProvider): Promise<World> {
  const world = new Map<string, string>();
  const { snapshots = [] } = await inspect({ provider, name: NAME }, { format: 'qcow2' });
  for (const snapshot of [null, ...(snapshots ?? [])]) {
    const how = snapshot === null ? {} : { snapshot: snapshot.id };
    await using disk = await Disk.open({ provider, name: NAME }, { format: 'qcow2', ...how });
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    const what = snapshot === null ? ACTIVE : `snapshot ${snapshot.id} ${snapshot.name}`;
    world.set(what, createHash('sha1').update(bytes).digest('hex'));
  }
  return world;
}

function sameWorld(one: World, other: World): boolean {
  return one.size === other.size && [...one].every(([what, content]) => other.get(what) === content);
}

function open(provider: StorageProvider): Promise<Disk> {
  return Disk.open({ provider, name: NAME }, { mode: 'write', format: 'qcow2', flushAfterMs: 0 });
}

async function snapshot(provider: StorageProvider, name: string): Promise<void> {
  await using disk = await open(provider);
  await disk.snapshots.create(name, { createdMs: 1 });
}

/** Some writes, durable. Every content is another one. */
async function fill(provider: StorageProvider, random: Random, writes = 12): Promise<void> {
  await using disk = await open(provider);
  for (let n = 0; n < writes; n++) {
    const first = random.below(disk.size / SECTOR);
    const length = Math.min(1 + random.below(6), disk.size / SECTOR - first) * SECTOR;
    await disk.write(first * SECTOR, randomBytes(random, length));
  }
}
