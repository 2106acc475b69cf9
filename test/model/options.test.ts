/**
 * Random operations on images of all options that a kit lists, against plain byte arrays for the disk and for each
 * snapshot. QEMU checks each image in the end: it must find neither errors nor leaks, and the same bytes. See
 * docs/model-tests.md.
 */
import { describe, expect, it } from 'vitest';
import { KITS } from '../conformance/kits.ts';
import { rounds } from '../conformance/random.ts';
import { USUAL } from '../formats/usual.ts';
import { describeWithPeers } from '../peers/peers.ts';
import type { Tally } from './outcome.ts';
import { inspectWithQemu } from './qemu.ts';
import { makeScenario, type Shape } from './scenario.ts';
import { describeReport, runSeed, seedsToRun } from './seeds.ts';

const ALL = KITS.flatMap(({ format, models }) => (models === undefined ? [] : [{ format, ...models }]));

describe.each(ALL)('$format', ({ shapes: makeShapes, seeds: amount, operations, options, inspect: look }) => {
  const all = makeShapes();
  const listed = seedsToRun(rounds(...amount));
  const isWhole = listed.length >= rounds(...amount);
  // Seeds take turns with the shapes, so whole turns are left out: each shape has its share.
  const isPlayed = (index: number) => Math.floor(index / all.length) % rounds(USUAL.modelSeeds, 1) === 0;
  const seeds = isWhole ? listed.filter((_, index) => isPlayed(index)) : listed;
  const seedsOf = (shape: Shape): number[] => seeds.filter((seed) => all[seed % all.length] === shape);

  describeWithPeers(['qemu-img'], 'of all options', (qemuImg) => {
    const tally: Tally = new Map();
    const shapes = all.filter((shape) => seedsOf(shape).length > 0);

    it.each(shapes)(
      '$title: does as the model does, and QEMU finds it sound',
      { timeout: rounds(300_000, 3_000_000) },
      async (shape) => {
        for (const seed of seedsOf(shape)) {
          const inspect = inspectWithQemu(qemuImg, look);
          const report = await runSeed(seed, shape, { tally, inspect, hangMs: 60_000 });
          if (report !== null) expect.fail(describeReport(report));
        }
      },
    );

    it.runIf(isWhole)('did everything that can be done', () => {
      const missing = operations.filter((one) => !tally.has(one));
      expect(missing).toEqual([]);
    });

    it.runIf(seeds.length >= amount[1])('had every option', () => {
      const met = new Set<string>();
      for (const seed of seeds) {
        const shape = all[seed % all.length];
        if (shape === undefined) continue;
        const { setUp } = makeScenario(seed, shape);
        for (const [key, value] of Object.entries(setUp?.configs.at(-1) ?? {})) met.add(`${key}=${value}`);
      }
      expect([...met]).toEqual(expect.arrayContaining([...options]));
    });
  });
});
