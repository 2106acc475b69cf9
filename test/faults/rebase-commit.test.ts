/**
 * Rebasing and committing under power cuts. Wherever it is cut, the image opens and reads what it read before; it has its
 * old parent or the new one; every file is sound; nothing that it was not to touch has changed. Run again, it ends as it
 * would have.
 */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { checkImage, Disk, inspect, isImageError, rebaseImage } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { crashStates, type OperationLog, Random, RecordingProvider } from '../../src/testing/index.ts';
import { fill, Place } from '../conformance/place.ts';
import { randomBytes, rounds } from '../conformance/random.ts';

interface Kind {
  readonly name: string;
  readonly format: string;
  readonly unit: number;
  readonly units: number;
  readonly config: Readonly<Record<string, string | number>>;
}

const KINDS: readonly Kind[] = [
  { name: 'qcow2', format: 'qcow2', unit: 512, units: 80, config: { cluster_size: 512 } },
  { name: 'qcow2 version 2', format: 'qcow2', unit: 1024, units: 40, config: { cluster_size: 1024, compat: '0.10' } },
  {
    name: 'qcow2 with subclusters',
    format: 'qcow2',
    unit: 4096,
    units: 20,
    config: { cluster_size: 16_384, extended_l2: 'on' },
  },
  { name: 'vdi', format: 'vdi', unit: 1024 * 1024, units: 3, config: {} },
];

interface Operation {
  readonly name: string;
  /** Files that it writes to. */
  readonly writes: readonly string[];
  run(provider: StorageProvider): Promise<unknown>;
}

const options = { allow: ['/'] };
const commit = (how: { base?: number; keep?: boolean }) => async (provider: StorageProvider) => {
  const disk = await open(provider, '/own');
  try {
    // Cut off between the new link and the old content it has fewer images.
    const base = Math.min(how.base ?? disk.images.length - 2, disk.images.length - 2);
    // Images beside it have the same parents, or had them before a cut.
    await disk.commit({ ...how, base, force: true });
  } finally {
    await disk.close();
  }
};

const OPERATIONS: readonly Operation[] = [
  {
    name: 'rebase',
    writes: ['/own'],
    run: (provider) => rebaseImage({ provider, name: '/own' }, { provider, name: '/other' }, options),
  },
  {
    name: 'rebase onto the parent of the parent',
    writes: ['/own'],
    run: (provider) => rebaseImage({ provider, name: '/own' }, { provider, name: '/base' }, options),
  },
  {
    name: 'rebase onto none',
    writes: ['/own'],
    run: (provider) => rebaseImage({ provider, name: '/own' }, null, options),
  },
  { name: 'commit', writes: ['/own', '/middle'], run: commit({ base: 1 }) },
  { name: 'commit through all', writes: ['/own', '/base'], run: commit({ base: 0 }) },
  { name: 'commit and keep', writes: ['/own', '/middle'], run: commit({ base: 1, keep: true }) },
];

const FILES = ['/base', '/middle', '/other', '/own'];

describe.each(KINDS)('power cuts, $name', (kind) => {
  it.each(OPERATIONS)('$name', async (operation) => {
    for (let seed = 1; seed <= rounds(1, 8); seed++) {
      const run = await record(kind, operation, seed);
      expect(await problemsOf(run, operation)).toEqual([]);
    }
  });
});

describe('without one of the flushes', () => {
  it.each(OPERATIONS)('$name: some of them are missed', async (operation) => {
    const [kind] = KINDS;
    if (kind === undefined) throw new Error('a kind is missing');
    const run = await record(kind, operation, 2);
    let missed = 0;
    for (const flush of run.log.flushes.toReversed()) {
      if ((await problemsOf(run, operation, flush.number)).length > 0) missed++;
      if (missed > 0) break;
    }
    expect(missed).toBe(1);
  });
});

interface Run {
  readonly log: OperationLog;
  readonly doneAt: number;
  readonly provider: StorageProvider;
  readonly reads: string;
  /** Parents before and after. */
  readonly links: readonly string[];
  readonly untouched: ReadonlyMap<string, string>;
}

async function record(kind: Kind, operation: Operation, seed: number): Promise<Run> {
  const place = await family(kind, seed);
  const { provider } = place;
  const reads = await readsOf(provider, '/own');
  const before = await linkOf(provider);
  const untouched = new Map<string, string>();
  for (const name of FILES) if (!operation.writes.includes(name)) untouched.set(name, await bytesOf(provider, name));
  const random = new Random(seed);
  const recording = new RecordingProvider(provider, { turns: (what) => random.below(what === 'flush' ? 20 : 5) });
  for (const name of FILES) await (await recording.open(name, 'read')).close();
  await operation.run(recording);
  const doneAt = recording.log.mark('done');
  expect(await readsOf(provider, '/own')).toBe(reads);
  const links = [before, await linkOf(provider)];
  return { log: recording.log, doneAt, provider, reads, links, untouched };
}

async function family({ format, config, unit, units }: Kind, seed: number): Promise<Place> {
  const place = new Place(format, config);
  const random = new Random(seed);
  const size = unit * units;
  const make = async (name: string, parent?: string): Promise<void> => {
    // A smaller parent must grow, and a shorter new one shows zeroes.
    const own = name === '/own' || units < 10 ? size : size - unit * (2 + random.below(4));
    await place.make(name, own, [fill(0, unit, 9)], parent);
    await using disk = await place.open(name);
    for (let n = 0; n < (units < 10 ? 2 : 8); n++) {
      const at = random.below(own / 512) * 512;
      const length = Math.min(random.below(unit * 3) + 512, own - at);
      if (n % 4 === 3) await disk.zero(at, length - (length % 512));
      else await disk.write(at, randomBytes(random, length - (length % 512)));
    }
  };
  await make('/base');
  await make('/middle', '/base');
  await make('/other', '/base');
  await make('/own', '/middle');
  return place;
}

async function problemsOf(run: Run, operation: Operation, dropFlush?: number): Promise<string[]> {
  const { log, doneAt, provider } = run;
  const how = {
    maxStates: rounds(dropFlush === undefined ? 36 : 60, 2500),
    ...(dropFlush === undefined ? { everyCut: rounds(12, 1) } : { dropFlush }),
  };
  const problems: string[] = [];
  let visited = 0;
  for (const state of crashStates(log, provider, how)) {
    const found = await problemsIn(state.provider, run, state.cutAt > doneAt ? run.links.slice(1) : run.links);
    if (found.length === 0 && visited++ % 10 === 0) {
      await operation.run(state.provider).catch((error: unknown) => void found.push(`again: ${wordsOf(error)}`));
      if (found.length === 0) found.push(...(await problemsIn(state.provider, run, run.links.slice(1))));
    }
    problems.push(...found.map((problem) => `${problem} (${state.describe()})`));
    if (problems.length > (dropFlush === undefined ? 3 : 0)) break;
  }
  return problems;
}

async function problemsIn(provider: StorageProvider, run: Run, links: readonly string[]): Promise<string[]> {
  try {
    const link = await linkOf(provider);
    if (!links.includes(link)) return [`has the parent ${link}`];
    if ((await readsOf(provider, '/own')) !== run.reads) return ['reads something else'];
    for (const [name, bytes] of run.untouched) {
      if ((await bytesOf(provider, name)) !== bytes) return [`${name} has changed`];
    }
    const problems: string[] = [];
    for (const name of FILES) {
      const { findings } = await checkImage({ provider, name });
      // A flag that is missing costs a copy, and nothing else.
      const bad = findings.filter(({ severity, code }) => severity === 'corruption' && !code.startsWith('copied'));
      problems.push(...bad.map(({ message }) => `${name}: ${message}`));
    }
    return problems;
  } catch (error) {
    return [wordsOf(error)];
  }
}

function wordsOf(error: unknown): string {
  return String(isImageError(error) ? error.message : error);
}

async function linkOf(provider: StorageProvider): Promise<string> {
  const { parentName, parentUuid } = await inspect({ provider, name: '/own' });
  return JSON.stringify([parentName, parentUuid]);
}

async function readsOf(provider: StorageProvider, name: string): Promise<string> {
  await using disk = await Disk.open({ provider, name }, options);
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return createHash('sha1').update(bytes).digest('hex');
}

async function bytesOf(provider: StorageProvider, name: string): Promise<string> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return createHash('sha1').update(bytes).digest('hex');
}

function open(provider: StorageProvider, name: string): Promise<Disk> {
  return Disk.open({ provider, name }, { ...options, mode: 'write', flushAfterMs: 0 });
}
