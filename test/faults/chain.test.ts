/**
 * Chains of every format that has parents through power cuts: merging both ways while a guest writes, stacking an image
 * and taking one off. Every format that can be written is moved.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { Disk, moveImage } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import {
  type CrashSuite,
  checkCrashRun,
  crashStates,
  initialBytes,
  RecordingProvider,
  recordCrashRun,
} from '../../src/testing/index.ts';
import { KITS } from '../conformance/kits.ts';
import { oneIn, rounds } from '../conformance/random.ts';
import type { ChainKit } from '../formats/crash-kit.ts';
import { Chains, merged } from './chains.ts';
import { createWay, imageOf, openWay, REGISTRY, SECTOR, type Way, WRITABLE, waysToMake } from './ways.ts';

/** Units of each image, base first, by the smallest: sizes that differ make a unit of one a part of another's. */
const SHAPES = [
  [1, 1, 1],
  [1, 4, 1],
  [2, 1, 2],
] as const;

/** Images that change, and one that is there before and after. */
const ROWS = [
  { title: 'forward, out of the base', from: 0, to: 1, image: 2 },
  { title: 'forward, out of the base into the last', from: 0, to: 2, image: 2 },
  { title: 'forward, into the last', from: 1, to: 2, image: 2 },
  { title: 'backward, below the last', from: 1, to: 0, image: 2 },
  { title: 'backward, out of the last', from: 2, to: 1, image: 0 },
  { title: 'backward, all of it', from: 2, to: 0, image: 0 },
] as const;

const LINKED: readonly { readonly format: string; readonly kit: ChainKit }[] = await Promise.all(
  KITS.filter(({ format }) => WRITABLE.find(({ name }) => name === format)?.capabilities.diff === true).map(
    async ({ format, crash }) => ({ format, kit: (await crash?.())?.chains ?? {} }),
  ),
);

describe.each(LINKED)('$format: a power cut while a chain changes', ({ format, kit }) => {
  const { unit = 512, count = 384, everyCut = [58, 4], atLeast = [50, 20_000], isMetadata } = kit;
  const all = SHAPES.map((shape) => {
    return new Chains({ format, units: shape.map((times) => times * unit), size: count * unit });
  });
  let distinct = 0;
  const seeds = Array.from({ length: rounds(1, 9) }, (_, index) => index + 1);
  afterAll(() =>
    console.log(`chains of ${format}: ${distinct} states after a power cut that differ in their metadata`),
  );

  /** In the usual run each change has one of the shapes. */
  async function cut(change: number, suiteOf: (chains: Chains) => CrashSuite, seed: number): Promise<void> {
    for (const chains of oneIn(all.length, all, change)) {
      const run = await recordCrashRun(suiteOf(chains));
      const options = { maxStates: rounds(60, 500), everyCut: rounds(...everyCut), isMetadata, seed };
      const report = await checkCrashRun(run, options);
      expect(report.violations.slice(0, 5)).toEqual([]);
      distinct += report.distinct;
    }
  }

  describe.each(seeds)('seed %i', (seed) => {
    it.each(ROWS)('merging $title', ({ from, to, image }) =>
      cut(from + to, (chains) => chains.suite(image, [merged(from, to)], seed), seed),
    );

    it('stacking an image and merging it back', () =>
      cut(1, (chains) => chains.suite(0, [chains.stacked], seed), seed));

    it('copying it', () => cut(2, (chains) => chains.copySuite(seed), seed));
  });

  it('was tried in hundreds of states that differ in their metadata', () => {
    expect(distinct).toBeGreaterThanOrEqual(rounds(...atLeast));
  });
});

/** In the usual run every other format keeps its format, and the others get another. */
const MOVES = WRITABLE.flatMap((format, index) => {
  const [way] = waysToMake(format);
  const other = format.name === 'raw' ? 'vdi' : 'raw';
  return way === undefined
    ? []
    : oneIn(2, [format.name, other], index).map((to) => ({ way, to, title: `${format.name} to ${to}` }));
});

it.each(MOVES)('moving an image, $title: one of the two is always whole', async ({ way, to }) => {
  const provider = new MemoryProvider();
  await createWay(provider, way);
  const wanted = await fill(provider, way);
  const from = imageOf(way);
  const target = from.replace('/disk', `/moved-${to}`);
  const recorder = new RecordingProvider(provider);
  const options = { to, format: way.format.name, registry: REGISTRY, allow: ['same-directory'] };
  await moveImage({ provider: recorder, name: from }, { provider: recorder, name: target }, options);
  let states = 0;
  for (const state of crashStates(recorder.log, provider, { maxStates: rounds(30, 300) })) {
    states++;
    const moved = (await state.provider.lookUp(target)) !== null;
    const found = await contentOf(state.provider, moved ? target : from, moved ? to : way.format.name);
    expect(Buffer.compare(found, wanted), state.describe()).toBe(0);
  }
  expect(states).toBeGreaterThan(5);
});

/** Writes to the image of a way, here and there, and returns all of its content. */
async function fill(provider: StorageProvider, way: Way): Promise<Uint8Array> {
  const disk = await openWay(provider, way);
  for (let sector = 0; sector + 40 < disk.size / SECTOR; sector += 120) {
    await disk.write(sector * SECTOR, initialBytes(sector, 40));
  }
  await disk.close();
  return contentOf(provider, imageOf(way), way.format.name);
}

async function contentOf(provider: StorageProvider, image: string, format: string): Promise<Uint8Array> {
  await using disk = await Disk.open(
    { provider, name: image },
    { format, lock: false, registry: REGISTRY, allow: ['same-directory'] },
  );
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}
