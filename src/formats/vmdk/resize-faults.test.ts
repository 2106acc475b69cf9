/**
 * Resizing that is cancelled, or runs into a full medium, at every step: the image opens, has the size of before or of
 * after with its content, has no files that nothing names, and takes the same command again.
 */
import { describe, expect, it } from 'vitest';
import { rounds } from '../../../test/conformance/random.ts';
import { checkImage, createImage, Disk } from '../../index.ts';
import type { CreateMode, OpenMode, Storage } from '../../storage/contract.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { type FaultPlan, type FaultPoint, FaultProvider } from '../../testing/index.ts';

const MIB = 1024 * 1024;
const SECTOR = 512;
const EXTENT = 2047 * MIB;
const NAME = '/a.vmdk';
const PARENT = '/base.vmdk';
const open = { mode: 'write', flushAfterMs: 0, format: 'vmdk', allow: ['/'] } as const;
const small = { grain_size: 4096 };

/** Files that get their room without being written, so that large ones are cheap. */
class Reserving extends MemoryProvider {
  override async create(name: string, how?: CreateMode): Promise<Storage> {
    return reserving(await super.create(name, how));
  }

  override async open(name: string, mode: OpenMode): Promise<Storage> {
    return reserving(await super.open(name, mode));
  }
}

function reserving(storage: Storage): Storage {
  storage.allocate = async (offset, length) => {
    if (storage.size < offset + length) await storage.resize(offset + length);
  };
  return storage;
}

/** Aborts a signal at the n-th operation, and fails as planned. */
class Cancelling extends FaultProvider {
  #left = Number.POSITIVE_INFINITY;
  #controller = new AbortController();

  cancelAt(count: number): AbortSignal {
    this.#left = count;
    this.#controller = new AbortController();
    return this.#controller.signal;
  }

  override check(point: FaultPoint, path: string, half?: () => Promise<void>): Promise<void> {
    if (this.#left-- === 0) this.#controller.abort();
    return super.check(point, path, half);
  }
}

interface Case {
  readonly title: string;
  readonly variant: readonly string[];
  readonly config?: Readonly<Record<string, string | number>>;
  /** Bytes of the smaller and of the larger disk. */
  readonly sizes: readonly [number, number];
  /** A parent as long as the larger disk, with data everywhere. */
  readonly child?: boolean;
}

const CASES: readonly Case[] = [
  { title: 'sparse', variant: [], config: small, sizes: [MIB + 1536, 5 * MIB + 512] },
  { title: 'sparse, directories move', variant: [], config: small, sizes: [3 * MIB, 270 * MIB] },
  { title: 'flat', variant: ['fixed'], sizes: [MIB + 512, 3 * MIB] },
  { title: 'split', variant: ['split'], sizes: [EXTENT - MIB, 2 * EXTENT + 2 * MIB] },
  { title: 'flat, split', variant: ['fixed', 'split'], sizes: [EXTENT - MIB, 2 * EXTENT + 2 * MIB] },
  { title: 'delta file of ESX', variant: ['dynamic', 'esx'], sizes: [MIB + 512, 3 * MIB] },
  { title: 'child of a longer parent', variant: [], config: small, sizes: [MIB + 1536, 3 * MIB], child: true },
];

/** Cancels, and ways to run full: for a moment or for good, when a file becomes longer or at any write. */
const FAULTS: readonly (readonly [title: string, plan: ((step: number) => FaultPlan) | null])[] = [
  ['it is cancelled', null],
  ['the medium is full', (growth) => ({ fail: { growth }, forGood: true, half: true, kind: 'no-space' })],
  ['the medium is full for a moment', (growth) => ({ fail: { growth }, kind: 'no-space' })],
  ['no room is left for a write', (write) => ({ fail: { write }, forGood: ['write', 'growth'], kind: 'no-space' })],
  ['a write finds no room for a moment', (write) => ({ fail: { write }, half: true, kind: 'no-space' })],
];

/** Places of data: at both ends of each size, and in between. */
function marksOf({ sizes: [smaller, larger] }: Case): number[] {
  const all = [0, smaller / 2, smaller - SECTOR, smaller, (smaller + larger) / 2, larger - SECTOR];
  return all.map((offset) => offset - (offset % SECTOR));
}

function start(files: MemoryProvider, { variant, config = {}, sizes, child }: Case, grows: boolean): Promise<void> {
  const size = sizes[grows ? 0 : 1];
  return make();

  async function make(): Promise<void> {
    if (child === true) {
      await createImage({ provider: files, name: PARENT }, { format: 'vmdk', size: sizes[1] });
      await using base = await Disk.open({ provider: files, name: PARENT }, open);
      for (const offset of marksOf({ title: '', variant, sizes })) await base.write(offset, sectorOf(200));
    }
    const parent = child === true ? { parent: { provider: files, name: PARENT } } : {};
    await createImage({ provider: files, name: NAME }, { format: 'vmdk', variant, config, size, ...parent });
    await using disk = await Disk.open({ provider: files, name: NAME }, open);
    // Over a parent, what stands beside the data belongs to that.
    const marks = marksOf({ title: '', variant, sizes }).filter((offset) => offset < size);
    for (const [index, offset] of marks.entries()) {
      if (child !== true || index % 2 === 0) await disk.write(offset, sectorOf(index + 1));
    }
  }
}

const sectorOf = (value: number): Uint8Array => new Uint8Array(SECTOR).fill(value);

/** Sectors at and beside the marks. */
async function contentOf(files: MemoryProvider, one: Case): Promise<{ size: number; found: Map<number, number> }> {
  await using disk = await Disk.open({ provider: files, name: NAME }, { ...open, lock: false, mode: 'read' });
  const found = new Map<number, number>();
  for (const mark of marksOf(one)) {
    for (const offset of [mark - SECTOR, mark, mark + SECTOR]) {
      if (offset < 0 || offset >= disk.size) continue;
      const bytes = new Uint8Array(SECTOR);
      await disk.read(offset, bytes);
      const value = bytes[0] ?? -1;
      found.set(offset, bytes.every((byte) => byte === value) ? value : -1);
    }
  }
  return { size: disk.size, found };
}

async function namesIn(files: MemoryProvider): Promise<string[]> {
  const names: string[] = [];
  for await (const name of files.list('/')) names.push(name);
  return names.sort();
}

/** Codes of what a check finds, but for lost room. */
async function findingsOf(files: MemoryProvider): Promise<{ code: string; severity: string }[]> {
  const { findings } = await checkImage({ provider: files, name: NAME }, { allow: ['/'] });
  return findings.map(({ code, severity }) => ({ code, severity })).filter(({ severity }) => severity !== 'leak');
}

/** An image before and after a resize that nothing disturbed. */
interface Ends {
  readonly to: number;
  readonly states: ReadonlyMap<number, { readonly content: Map<number, number>; readonly names: readonly string[] }>;
}

async function endsOf(one: Case, grows: boolean): Promise<Ends> {
  const files = new Reserving();
  await start(files, one, grows);
  const states = new Map<number, { content: Map<number, number>; names: string[] }>();
  const note = async (): Promise<void> => {
    const { size, found } = await contentOf(files, one);
    states.set(size, { content: found, names: await namesIn(files) });
  };
  await note();
  const to = one.sizes[grows ? 1 : 0];
  await resize(files, to);
  await note();
  expect([...states.keys()]).toEqual([one.sizes[grows ? 0 : 1], to]);
  return { to, states };
}

async function resize(provider: MemoryProvider | FaultProvider, size: number, signal?: AbortSignal): Promise<void> {
  const disk = await Disk.open({ provider, name: NAME }, open);
  try {
    await disk.resize(size, { shrink: true, signal });
  } finally {
    await disk.close();
  }
}

/** Disturbs a resize at one step. False: it ended before. */
async function disturb(
  { one, grows, ends, plan }: { one: Case; grows: boolean; ends: Ends; plan: (typeof FAULTS)[number][1] },
  step: number,
): Promise<boolean> {
  const files = new Reserving();
  await start(files, one, grows);
  const provider = new Cancelling(files);
  const signal = plan === null ? provider.cancelAt(step) : undefined;
  if (plan !== null) provider.plan(plan(step));
  const error = await resize(provider, ends.to, signal).then(
    () => null,
    (failure: unknown) => failure,
  );
  if (error !== null) {
    const kinds = expect.stringMatching(plan === null ? /^aborted$/ : /^(no-space|io)$/);
    expect({ step, error }).toMatchObject({ step, error: { kind: kinds } });
  }
  const { size, found } = await contentOf(files, one);
  const state = ends.states.get(size);
  expect({ step, size, found, names: await namesIn(files) }).toEqual({
    step,
    size,
    found: state?.content,
    names: state?.names,
  });
  const harm = (await findingsOf(files)).filter(({ severity }) => severity === 'corruption');
  expect({ step, harm }).toEqual({ step, harm: [] });
  await resize(files, ends.to);
  const again = await contentOf(files, one);
  const wanted = ends.states.get(ends.to);
  expect({ step, found: again.found, names: await namesIn(files), findings: await findingsOf(files) }).toEqual({
    step,
    found: wanted?.content,
    names: wanted?.names,
    findings: [],
  });
  return plan === null ? signal?.aborted === true : provider.fired;
}

describe.each(CASES)('$title', (one) => {
  describe.each([true, false])('grows: %s', (grows) => {
    it.each(FAULTS)('whenever %s', async (_, plan) => {
      const ends = await endsOf(one, grows);
      const every = plan === null ? rounds(12, 1) : rounds(4, 1);
      let steps = 0;
      while (await disturb({ one, grows, ends, plan }, steps * every)) steps++;
      // Not every resize makes a file longer.
      if (plan?.(0).fail?.growth === undefined) expect(steps).toBeGreaterThan(0);
    });
  });
});
