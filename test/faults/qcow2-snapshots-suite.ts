/** Internal snapshots of QCOW2 for the power-cut suites: one operation is recorded, and every cut of it looked at. */
import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import type { Registry } from '../../src/image/registry.ts';
import { checkImage, Disk, inspect, isImageError } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { crashStates, type OperationLog, Random, RecordingProvider } from '../../src/testing/index.ts';
import { randomBytes, rounds } from '../conformance/random.ts';
import type { Mutation } from '../formats/crash-kit.ts';
import { USUAL } from '../formats/usual.ts';
import { recount } from './qcow2-recount.ts';

export const NAME = '/disk.qcow2';
export const SECTOR = 512;

/** Readable content: the disk, and each snapshot by id. */
export type World = ReadonlyMap<string, string>;

/** The operation to cut. */
export interface Operation {
  readonly name: string;
  run(disk: Disk): Promise<unknown>;
}

/** One operation, written down on its way to the medium. */
export interface Run {
  readonly log: OperationLog;
  /** Position at which it had ended. */
  readonly doneAt: number;
  readonly provider: StorageProvider;
  readonly before: World;
  readonly after: World;
}

/** Runs the operation alone. */
export async function record(
  provider: StorageProvider,
  operation: Operation,
  seed: number,
  { registry, wrap = (bare) => bare }: Mutation = {},
): Promise<Run> {
  const before = await worldOf(provider);
  const random = new Random(seed);
  const recording = new RecordingProvider(provider, { turns: (kind) => random.below(kind === 'flush' ? 20 : 5) });
  let doneAt = 0;
  {
    await using disk = await open(wrap(recording), registry);
    await operation.run(disk);
    doneAt = recording.log.mark('done');
  }
  const after = await worldOf(provider);
  expect(after).not.toEqual(before);
  expect(await rulesBroken(provider)).toEqual([]);
  return { log: recording.log, doneAt, provider, before, after };
}

/** Problems in the states left by cuts: of a run whose flush does nothing, or of one cut in `everyCut`. */
export async function problemsOf(
  { log, doneAt, provider, before, after }: Run,
  { dropFlush, everyCut = USUAL.everyCut }: { readonly dropFlush?: number; readonly everyCut?: number } = {},
): Promise<string[]> {
  const options = {
    maxStates: rounds(dropFlush === undefined && everyCut === USUAL.everyCut ? 80 : 200, 3000),
    ...(dropFlush === undefined ? { everyCut: rounds(everyCut, 1) } : { dropFlush }),
  };
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
    if (broken.length > 0) return broken;
    const { findings } = await checkImage({ provider, name: NAME }, { format: 'qcow2' });
    const worse = findings.filter(({ severity }) => severity === 'corruption');
    if (worse.length > 0) return worse.map(({ message }) => `a check finds: ${message}`);
    if (findings.some(({ code }) => code === 'copied-missing')) {
      // Nothing is written, and yet the flags are there afterwards.
      await (await open(provider)).close();
      const after = await checkImage({ provider, name: NAME }, { format: 'qcow2' });
      const flags = after.findings.filter(({ severity }) => severity !== 'leak');
      if (flags.length > 0) return flags.map(({ message }) => `opening for writing leaves: ${message}`);
      if (!sameWorld(await worldOf(provider), found)) return ['opening for writing changes what is read'];
    }
    if (!rewrite) return [];
    await fill(provider, new Random(99), 4);
    const again = await worldOf(provider);
    const changed = [...found].filter(([what, content]) => what !== ACTIVE && again.get(what) !== content);
    return [...changed.map(([what]) => `writing changed ${what}`), ...(await rulesBroken(provider))];
  } catch (error) {
    return [String(isImageError(error) ? error.message : error)];
  }
}

export async function bytesOf(provider: StorageProvider): Promise<Uint8Array> {
  const storage = await provider.open(NAME, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

/** Counts that are too low, and flags that allow too much. */
export async function rulesBroken(provider: StorageProvider): Promise<string[]> {
  const { low, unsafe } = recount(await bytesOf(provider));
  return [...low, ...unsafe];
}

const ACTIVE = 'the disk';

/** Content of the disk and all snapshots. */
export async function worldOf(provider: StorageProvider): Promise<World> {
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

export function sameWorld(one: World, other: World): boolean {
  return one.size === other.size && [...one].every(([what, content]) => other.get(what) === content);
}

/** For writing. */
export function open(provider: StorageProvider, registry?: Registry): Promise<Disk> {
  const how = { mode: 'write', flushAfterMs: 0, format: 'qcow2' } as const;
  return Disk.open({ provider, name: NAME }, { ...how, ...(registry === undefined ? {} : { registry }) });
}

export async function snapshot(provider: StorageProvider, name: string): Promise<void> {
  await using disk = await open(provider);
  await disk.snapshots.create(name, { createdMs: 1 });
}

/** Some writes, durable. Every content is another one. */
export async function fill(provider: StorageProvider, random: Random, writes = 12): Promise<void> {
  await using disk = await open(provider);
  for (let n = 0; n < writes; n++) {
    const first = random.below(disk.size / SECTOR);
    const length = Math.min(1 + random.below(6), disk.size / SECTOR - first) * SECTOR;
    await disk.write(first * SECTOR, randomBytes(random, length));
  }
}
