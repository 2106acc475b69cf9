/** Chains through power cuts: merging both ways while a guest writes, stacking an image and taking one off. */
import { afterAll, describe, expect, it } from 'vitest';
import { SECTOR } from '../../src/binary/numbers.ts';
import { copyChain, createImage, Disk, moveImage } from '../../src/index.ts';
import { checkImage } from '../../src/operations/check.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import {
  type CrashSession,
  type CrashSuite,
  checkCrashRun,
  crashStates,
  initialBytes,
  RecordingProvider,
  randomTraffic,
  recordCrashRun,
  writeBytes,
} from '../../src/testing/index.ts';
import { rounds } from '../conformance/random.ts';
import { scattered } from './workloads.ts';

/** Blocks of each image, base first: sizes that differ make a block of one a part of another's. */
const SHAPES = [
  [1024, 1024, 1024],
  [1024, 4096, 1024],
  [2048, 1024, 2048],
] as const;
const SIZE = 768 * 1024;
const SECTORS = SIZE / SECTOR;
const PATCH = 16;
const DATA_OFFSET = SECTOR + (4 * SIZE) / 1024;
const BASE = '/0.vdi';
const name = (number: number): string => `/${number}.vdi`;
const isMetadata = (_: string, offset: number): boolean => offset < DATA_OFFSET;

/** Sectors of which patches each image stores; below lies something that must never show. */
const storedBy = (level: number, sector: number): boolean => Math.floor(sector / PATCH) % 4 === level;
const hasInitial = (sector: number): boolean => [0, 1, 2].some((level) => storedBy(level, sector));

async function makeChain(provider: StorageProvider, blocks: readonly number[]): Promise<void> {
  for (const [level, block] of blocks.entries()) {
    const image = { provider, name: name(level) };
    const config = { AllocationBlockSize: block, DataAlignment: SECTOR };
    const shape = level === 0 ? { size: SIZE } : { parent: { provider, name: name(level - 1) } };
    await createImage(image, { provider, format: 'vdi', config, ...shape });
    const disk = await open(provider, level);
    for (let sector = 0; sector < SECTORS; sector += PATCH) {
      if (storedBy(level, sector)) await disk.write(sector * SECTOR, initialBytes(sector, PATCH));
      else if (storedBy(level + 1, sector)) {
        // Hidden by the next image.
        await disk.write(sector * SECTOR, writeBytes({ number: 0x3fff_ffff - level, sector, count: PATCH }));
      }
      if (level === 2 && storedBy(3, sector)) await disk.zero(sector * SECTOR, PATCH * SECTOR);
    }
    await disk.close();
  }
}

function open(provider: StorageProvider, level: number): Promise<Disk> {
  const options = { mode: 'write', flushAfterMs: 0, format: 'vdi', allow: ['same-directory'] } as const;
  return Disk.open({ provider, name: name(level) }, { provider, ...options });
}

/** The highest image that is there is the last one. */
async function openTop(provider: StorageProvider): Promise<Disk> {
  for (let level = 3; level > 0; level--)
    if ((await provider.lookUp(name(level))) !== null) return open(provider, level);
  return open(provider, 0);
}

/** No image of the chain is corrupt. Room may be lost. */
async function corruption(provider: StorageProvider): Promise<string[]> {
  const problems: string[] = [];
  for (let level = 0; level <= 3; level++) {
    if ((await provider.lookUp(name(level))) === null) continue;
    const { findings } = await checkImage({ provider, name: name(level) }, { format: 'vdi', lock: false });
    const found = findings.filter(({ severity }) => severity === 'corruption');
    problems.push(...found.map(({ message }) => `${name(level)}: ${message}`));
  }
  return problems;
}

type Workload = (session: CrashSession) => Promise<void>;

function suiteOf(blocks: readonly number[], seed: number, image: string, sessions: readonly Workload[]): CrashSuite {
  return {
    provider: new MemoryProvider(),
    image,
    size: SIZE,
    seed,
    prepare: (provider) => makeChain(provider, blocks),
    hasInitial,
    build: async () => {},
    open: openTop,
    sessions,
    // Opening for writing looks at every map already.
    check: async ({ provider, stage }) => (stage === 'found' ? [] : corruption(provider)),
  };
}

const traffic = (session: CrashSession, operations: number): Promise<void> =>
  randomTraffic(session, { operations, unit: 4, flushes: 0.15, discards: 0.1 });

/** A guest works before, during and after. */
const merged =
  (from: number, to: number): Workload =>
  async (session) => {
    await scattered(5)(session);
    await Promise.all([session.merge(from, to), scattered(8)(session).then(() => traffic(session, 15))]);
    await traffic(session, 8);
  };

/** A snapshot is taken, written to, and dropped again. */
const stacked: Workload = async (session) => {
  const disk = session.disk as Disk;
  await traffic(session, 8);
  await session.structural('createDiff', () => disk.createDiff(name(3), { config: { AllocationBlockSize: 1024 } }));
  await scattered(4)(session);
  await session.merge(3, 2);
  await traffic(session, 8);
};

/** A chain is copied; the copy is there in full, or its last image is not there. */
function copySuite(blocks: readonly number[], seed: number): CrashSuite {
  const copy = (level: number): string => `/copy${level}.vdi`;
  return {
    ...suiteOf(blocks, seed, copy(2), [(session) => traffic(session, 12)]),
    async build(provider) {
      const disk = await openTop(provider);
      await copyChain(disk, (_, level) => ({ provider, name: copy(level) }), { provider });
      await disk.close();
    },
    open: (provider) =>
      Disk.open(
        [0, 1, 2].map((level) => ({ provider, name: copy(level) })),
        { mode: 'write', flushAfterMs: 0, format: 'vdi' },
      ),
  };
}

const ROWS = [
  ['forward, out of the base', 0, 1, name(2)],
  ['forward, out of the base into the last', 0, 2, name(2)],
  ['forward, into the last', 1, 2, name(2)],
  ['backward, below the last', 1, 0, name(2)],
  ['backward, out of the last', 2, 1, BASE],
  ['backward, all of it', 2, 0, BASE],
] as const;

describe('a power cut while a chain changes', () => {
  let distinct = 0;
  const seeds = Array.from({ length: rounds(1, 9) }, (_, index) => index + 1);
  afterAll(() => console.log(`chains: ${distinct} states after a power cut that differ in their metadata`));

  async function cut(suite: CrashSuite, seed: number): Promise<void> {
    const run = await recordCrashRun(suite);
    const report = await checkCrashRun(run, { maxStates: rounds(200, 500), everyCut: rounds(3, 1), isMetadata, seed });
    expect(report.violations.slice(0, 5)).toEqual([]);
    distinct += report.distinct;
  }

  describe.each(SHAPES)('blocks of %i, %i and %i bytes', (...blocks) => {
    describe.each(seeds)('seed %i', (seed) => {
      it.each(ROWS)('merging %s', (_, from, to, image) => cut(suiteOf(blocks, seed, image, [merged(from, to)]), seed));

      it('stacking an image and merging it back', () => cut(suiteOf(blocks, seed, BASE, [stacked]), seed));

      it('copying it', () => cut(copySuite(blocks, seed), seed));
    });
  });

  it.each([
    ['by name', 'vdi', '/moved.vdi'],
    ['by content', 'raw', '/moved.raw'],
  ])('moving an image %s: one of the two is always whole', async (_, to, target) => {
    const provider = new MemoryProvider();
    await makeChain(provider, [1024]);
    const wanted = await contentOf(provider, BASE, 'vdi');
    const recorder = new RecordingProvider(provider);
    await moveImage({ provider: recorder, name: BASE }, { provider: recorder, name: target }, { to });
    let states = 0;
    for (const state of crashStates(recorder.log, provider, { isMetadata, maxStates: 300 })) {
      states++;
      const moved = (await state.provider.lookUp(target)) !== null;
      const found = await contentOf(state.provider, moved ? target : BASE, moved ? to : 'vdi');
      expect(Buffer.compare(found, wanted), state.describe()).toBe(0);
    }
    expect(states).toBeGreaterThan(5);
  });

  it('was tried in thousands of states that differ in their metadata', () => {
    expect(distinct).toBeGreaterThanOrEqual(rounds(800, 50_000));
  });
});

async function contentOf(provider: StorageProvider, image: string, format: string): Promise<Uint8Array> {
  await using disk = await Disk.open({ provider, name: image }, { format, lock: false });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}
