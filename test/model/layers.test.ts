/** The same as model.test.ts with filters that come and go, conversions for them, and a small cache. */
import { describe, expect, it } from 'vitest';
import { rounds } from '../conformance/random.ts';
import type { Tally } from './outcome.ts';
import { allShapes, type Shape } from './scenario.ts';
import { describeReport, runSeed, seedsToRun } from './seeds.ts';

const SHAPES = allShapes();
const SEEDS = seedsToRun(rounds(36, 3000));
const seedsOf = (shape: Shape): number[] => SEEDS.filter((seed) => SHAPES[seed % SHAPES.length] === shape);

describe('with filters and a cache', () => {
  const shapes = SHAPES.filter((shape) => seedsOf(shape).length > 0).map((shape) => ({
    shape,
    title: `${shape.format.name}, ${shape.title}`,
  }));
  const tally: Tally = new Map();

  it.each(shapes)('$title disks do as the model does', { timeout: rounds(120_000, 900_000) }, async ({ shape }) => {
    for (const seed of seedsOf(shape)) {
      const report = await runSeed(seed, shape, { tally, layers: true });
      if (report !== null) expect.fail(describeReport(report));
    }
  });

  it.runIf(SEEDS.length >= 72)('took part in everything that there is', () => {
    for (const kind of [
      'filter',
      'cache',
      'prepare',
      'prepare resumed',
      'merge forward',
      'resize',
      'compact',
      'stack',
    ]) {
      expect(tally.get(kind) ?? 0, kind).toBeGreaterThan(2);
    }
  });
});
