/**
 * Amending under power cuts. Wherever a change is cut, the image opens, says what it said before or says afterwards (or
 * in between, where several options change one after another), reads the same, in its snapshots too, and counts nothing
 * too low. Run again, it ends as it would have.
 */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Qcow2Header } from '../../src/formats/qcow2/header/header.ts';
import { readHeader } from '../../src/formats/qcow2/open.ts';
import { amendImage, createImage, Disk, inspect, isImageError } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { crashStates, FaultProvider, type OperationLog, Random, RecordingProvider } from '../../src/testing/index.ts';
import { randomBytes, rounds } from '../conformance/random.ts';
import { recount } from './qcow2-recount.ts';

const NAME = '/disk.qcow2';
const SIZE = 128 * 1024;

type Values = Readonly<Record<string, string | number>>;

interface Kind {
  readonly name: string;
  readonly made: Values;
  readonly parent?: string;
  readonly snapshots: number;
  readonly asked: Values;
  /** Intermediate states before the amendment. */
  readonly steps?: readonly Values[];
}

const LONG = `/${'b'.repeat(400)}.raw`;
const PARENTS = ['/base.raw', LONG];

const KINDS: readonly Kind[] = [
  { name: 'to wide refcounts', made: { cluster_size: 512 }, snapshots: 1, asked: { refcount_bits: 64 } },
  { name: 'to narrow refcounts', made: { cluster_size: 512 }, snapshots: 1, asked: { refcount_bits: 2 } },
  {
    name: 'to refcounts of a bit',
    made: { cluster_size: 4096, refcount_bits: 64 },
    snapshots: 0,
    asked: { refcount_bits: 1 },
  },
  { name: 'to version 2', made: { cluster_size: 512 }, snapshots: 0, asked: { compat: '0.10' } },
  { name: 'to version 2, snapshots', made: { cluster_size: 1024 }, snapshots: 2, asked: { compat: '0.10' } },
  {
    name: 'to version 2, a parent',
    made: { cluster_size: 1024 },
    parent: '/base.raw',
    snapshots: 1,
    asked: { compat: '0.10' },
  },
  {
    name: 'to version 2, names of features behind a long parent',
    made: { cluster_size: 8192 },
    parent: LONG,
    snapshots: 1,
    asked: { compat: '0.10' },
  },
  {
    name: 'to version 2 with other refcounts',
    made: { cluster_size: 1024, refcount_bits: 64 },
    snapshots: 1,
    asked: { compat: '0.10', refcount_bits: 16 },
    steps: [{ refcount_bits: 16 }],
  },
  { name: 'to version 3', made: { cluster_size: 512, compat: '0.10' }, snapshots: 1, asked: { compat: '1.1' } },
  {
    name: 'to version 3, names of features',
    made: { cluster_size: 8192, compat: '0.10' },
    snapshots: 1,
    asked: { compat: '1.1' },
  },
  {
    name: 'to version 3, a long parent',
    made: { cluster_size: 8192, compat: '0.10' },
    parent: LONG,
    snapshots: 0,
    asked: { compat: '1.1', lazy_refcounts: 'on' },
  },
  {
    name: 'to version 3 with other refcounts',
    made: { cluster_size: 1024, compat: '0.10' },
    snapshots: 1,
    asked: { compat: '1.1', refcount_bits: 8 },
    steps: [{ compat: '1.1' }],
  },
  { name: 'lazy refcounts', made: { cluster_size: 8192 }, snapshots: 0, asked: { lazy_refcounts: 'on' } },
  { name: 'another compression', made: { cluster_size: 8192 }, snapshots: 0, asked: { compression_type: 'zstd' } },
  {
    name: 'another name of the parent',
    made: { cluster_size: 8192 },
    parent: '/base.raw',
    snapshots: 0,
    asked: { backing_file: LONG, backing_fmt: 'raw' },
  },
];

describe.each(KINDS)('qcow2 amend and power cuts, $name', (kind) => {
  it('leaves one of the states', async () => {
    for (let seed = 1; seed <= rounds(1, 6); seed++) {
      const run = await record(kind, seed);
      expect(await problemsOf(run, kind)).toEqual([]);
    }
  });

  it('fails on a failing medium, and leaves one of the states', async () => {
    const provider = await make(kind, 7);
    const image = await bytesOf(provider);
    const allowed = await statesOf(kind, image, provider);
    const reads = await readsOf(provider);
    const step = rounds(15, 1);
    for (const point of ['write', 'flush'] as const) {
      for (let number = 0; ; number += step) {
        await put(provider, image);
        const failing = new FaultProvider(provider);
        failing.plan({ fail: { [point]: number }, half: number % 2 === 1, kind: 'io' });
        const failed = await amend(failing, kind.asked).then(
          () => false,
          () => true,
        );
        expect(failed).toBe(failing.fired);
        expect(allowed).toContain(await saidOf(provider));
        expect(await readsOf(provider)).toBe(reads);
        expect(await rulesBroken(provider)).toEqual([]);
        if (!failed) break;
      }
    }
  });
});

describe('qcow2 amend without one of the flushes', () => {
  it.each(KINDS.slice(0, 6))('$name: that before the switch is missed', async (kind) => {
    const run = await record(kind, 3);
    let missed = 0;
    for (const flush of run.log.flushes) {
      if ((await problemsOf(run, kind, flush.number)).length > 0) missed++;
    }
    expect(missed).toBeGreaterThanOrEqual(1);
  });
});

interface Run {
  readonly log: OperationLog;
  readonly doneAt: number;
  readonly provider: StorageProvider;
  readonly allowed: readonly string[];
  readonly after: string;
  readonly reads: string;
}

async function record(kind: Kind, seed: number): Promise<Run> {
  const provider = await make(kind, seed);
  const image = await bytesOf(provider);
  const reads = await readsOf(provider);
  const allowed = await statesOf(kind, image, provider);
  await put(provider, image);
  const random = new Random(seed);
  const recording = new RecordingProvider(provider, { turns: (what) => random.below(what === 'flush' ? 20 : 5) });
  // Parents are there after a cut when they were seen before.
  for (const name of kind.parent === undefined ? [] : PARENTS) await (await recording.open(name, 'read')).close();
  await amend(recording, kind.asked);
  const doneAt = recording.log.mark('done');
  const after = allowed.at(-1) ?? '';
  expect(await saidOf(provider)).toBe(after);
  expect(await readsOf(provider)).toBe(reads);
  const { low, unsafe, unflagged, leaks } = recount(await bytesOf(provider));
  expect({ low, unsafe, unflagged, leaks }).toEqual({ low: [], unsafe: [], unflagged: [], leaks: 0 });
  return { log: recording.log, doneAt, provider, allowed, after, reads };
}

/** Permitted metadata: before, after, and in between. */
async function statesOf(kind: Kind, image: Uint8Array, provider: StorageProvider): Promise<string[]> {
  const states = [await saidOf(provider)];
  for (const values of [...(kind.steps ?? []), kind.asked]) {
    await put(provider, image);
    await amend(provider, values);
    states.push(await saidOf(provider));
  }
  return states;
}

async function problemsOf(run: Run, kind: Kind, dropFlush?: number): Promise<string[]> {
  const { log, doneAt, provider, allowed, after, reads } = run;
  const options = {
    maxStates: rounds(dropFlush === undefined ? 60 : 150, 3000),
    ...(dropFlush === undefined ? { everyCut: rounds(12, 1) } : { dropFlush }),
  };
  const problems: string[] = [];
  let visited = 0;
  for (const state of crashStates(log, provider, options)) {
    const again = visited++ % 8 === 0;
    const found = await problemsIn(state.provider, { allowed: state.cutAt > doneAt ? [after] : allowed, reads });
    if (again && found.length === 0) found.push(...(await problemsAfterwards(state.provider, kind, { after, reads })));
    problems.push(...found.map((problem) => `${problem} (${state.describe()})`));
    if (problems.length > 3) break;
  }
  return problems;
}

async function problemsIn(
  provider: StorageProvider,
  { allowed, reads }: { readonly allowed: readonly string[]; readonly reads: string },
): Promise<string[]> {
  try {
    const said = await saidOf(provider);
    if (!allowed.includes(said)) return [`says ${said}`];
    if ((await readsOf(provider)) !== reads) return ['reads something else'];
    return await rulesBroken(provider);
  } catch (error) {
    return [String(isImageError(error) ? error.message : error)];
  }
}

/** The same again, and then some writes. */
async function problemsAfterwards(
  provider: StorageProvider,
  { asked, snapshots }: Kind,
  { after, reads }: { readonly after: string; readonly reads: string },
): Promise<string[]> {
  try {
    await amend(provider, asked);
    const found = await problemsIn(provider, { allowed: [after], reads });
    if (snapshots > 0) return found;
    await fill(provider, new Random(9));
    return [...found, ...(await rulesBroken(provider))];
  } catch (error) {
    return [`afterwards: ${String(isImageError(error) ? error.message : error)}`];
  }
}

async function make({ made, parent, snapshots }: Kind, seed: number): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  for (const name of parent === undefined ? [] : PARENTS) {
    const base = await provider.create(name);
    await base.write(0, randomBytes(new Random(2), SIZE));
    await base.close();
  }
  const over = parent === undefined ? { size: SIZE } : { parent: { provider, name: parent }, parentFormat: 'raw' };
  await createImage({ provider, name: NAME }, { ...over, format: 'qcow2', config: made });
  const random = new Random(seed);
  await fill(provider, random);
  for (let n = 0; n < snapshots; n++) {
    await using disk = await open(provider);
    await disk.snapshots.create(`s${n}`, { createdMs: 1 });
    await disk.close();
    await fill(provider, random);
  }
  return provider;
}

/** Data, zeroes, and zeroes that keep their room, as QEMU leaves them. */
async function fill(provider: StorageProvider, random: Random): Promise<void> {
  await using disk = await open(provider);
  const unit = disk.blockSize;
  for (let n = 0; n < 10; n++) {
    const first = random.below(disk.size / unit);
    const length = Math.min(1 + random.below(5), disk.size / unit - first) * unit;
    if (n % 3 === 1) await disk.zero(first * unit, length);
    else await disk.write(first * unit, randomBytes(random, length));
  }
  await disk.close();
  await markSome(provider, random);
}

/** Sets the zero bit of some entries that have a cluster. */
async function markSome(provider: StorageProvider, random: Random): Promise<void> {
  const bytes = await bytesOf(provider);
  const header = await headerOf(provider);
  if (header.version === 2) return;
  const view = new DataView(bytes.buffer);
  for (let n = 0; n < header.l1Entries; n++) {
    const table = Number(view.getBigUint64(header.l1Offset + n * 8) & 0x00ff_ffff_ffff_fe00n);
    for (let at = table; table !== 0 && at < table + header.clusterSize; at += 8) {
      const alone = view.getUint32(at) >>> 31 === 1;
      if (alone && random.below(4) === 0) view.setUint32(at + 4, (view.getUint32(at + 4) | 1) >>> 0);
    }
  }
  await put(provider, bytes);
}

function amend(provider: StorageProvider, values: Values): Promise<unknown> {
  return amendImage({ provider, name: NAME }, values, { format: 'qcow2' });
}

async function headerOf(provider: StorageProvider): Promise<Qcow2Header> {
  const storage = await provider.open(NAME, 'read');
  const header = await readHeader(storage);
  await storage.close();
  return header;
}

/** Metadata that can be amended; feature names may be missing while a header changes. */
async function saidOf(provider: StorageProvider): Promise<string> {
  const { version, refcountOrder, compatible, compression, backingName, backingFormat } = await headerOf(provider);
  const { snapshots } = await inspect({ provider, name: NAME }, { format: 'qcow2' });
  const said = [version, refcountOrder, String(compatible), compression, backingName, backingFormat, snapshots];
  return JSON.stringify(said);
}

/** Of the disk and of each snapshot. Another parent reads the same here. */
async function readsOf(provider: StorageProvider): Promise<string> {
  const { snapshots = [] } = await inspect({ provider, name: NAME }, { format: 'qcow2' });
  const hash = createHash('sha1');
  for (const snapshot of [null, ...(snapshots ?? [])]) {
    const how = snapshot === null ? {} : { snapshot: snapshot.id };
    await using disk = await Disk.open({ provider, name: NAME }, { format: 'qcow2', allow: ['/'], ...how });
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    hash.update(bytes);
  }
  return hash.digest('hex');
}

async function bytesOf(provider: StorageProvider): Promise<Uint8Array> {
  const storage = await provider.open(NAME, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function put(provider: StorageProvider, bytes: Uint8Array): Promise<void> {
  const storage = await provider.open(NAME, 'write');
  await storage.write(0, bytes);
  await storage.resize(bytes.length);
  await storage.close();
}

async function rulesBroken(provider: StorageProvider): Promise<string[]> {
  const { low, unsafe } = recount(await bytesOf(provider));
  return [...low, ...unsafe];
}

function open(provider: StorageProvider): Promise<Disk> {
  return Disk.open({ provider, name: NAME }, { mode: 'write', format: 'qcow2', flushAfterMs: 0, allow: ['/'] });
}
