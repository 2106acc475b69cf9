/**
 * Random operations on every kind of disk that can be written, against a plain byte array. See docs/model-tests.md.
 *
 * Seed n runs on shape n modulo the number of shapes, so a seed alone says all.
 */
import { describe, expect, it } from 'vitest';
import { rounds } from '../conformance/random.ts';
import type { Tally } from './outcome.ts';
import { allShapes, type Shape } from './scenario.ts';
import { describeReport, runSeed, seedsToRun } from './seeds.ts';

const SHAPES = allShapes();
const SEEDS = seedsToRun(rounds(5 * SHAPES.length, 4000));
const FORMATS = [...new Set(SHAPES.map(({ format }) => format.name))];

const seedsOf = (shape: Shape): number[] => SEEDS.filter((seed) => SHAPES[seed % SHAPES.length] === shape);

describe.each(FORMATS)('%s', (name) => {
  const shapes = SHAPES.filter((shape) => shape.format.name === name && seedsOf(shape).length > 0);
  const tally: Tally = new Map();

  it.each(shapes)('$title disks do as the model does', { timeout: rounds(120_000, 900_000) }, async (shape) => {
    for (const seed of seedsOf(shape)) {
      const report = await runSeed(seed, shape, { tally });
      if (report !== null) expect.fail(describeReport(report));
    }
  });

  it.runIf(SEEDS.length > 100)('took part in every kind of operation that it has', () => {
    const format = SHAPES.find((shape) => shape.format.name === name)?.format;
    const kinds = ['read', 'write', 'zero', 'flush', 'extents', 'reopen', 'advance', 'comparison'];
    const together = ['read together', 'write together', 'zero together', 'flush together'];
    expect([...tally.keys()]).toEqual(expect.arrayContaining([...kinds, ...together]));
    if (format?.capabilities.diff === true) {
      const chain = ['stack', 'merge forward', 'merge backward', 'merge together', 'copy'];
      expect([...tally.keys()]).toEqual(expect.arrayContaining(chain));
    }
    for (const kind of ['discard', 'resize', 'compact', 'check'] as const) {
      if (format?.capabilities[kind] !== true) continue;
      expect(
        tally.get(kind) ?? 0,
        `the format can ${kind}, so some disk of this suite must have done it`,
      ).toBeGreaterThan(0);
    }
  });
});
