/**
 * Random operations on QCOW2 images of all options, against plain byte arrays for the disk and for each snapshot. QEMU
 * has a look at each image in the end: it must find neither errors nor leaks, and the same bytes. See docs/model-tests.md.
 */
import { expect, it } from 'vitest';
import { rounds } from '../conformance/random.ts';
import { describeWithPeers } from '../peers/peers.ts';
import type { Tally } from './outcome.ts';
import { CLUSTER_SIZES, PREALLOCATIONS, qcow2Shapes, REFCOUNT_BITS } from './qcow2-shapes.ts';
import { inspectWithQemu } from './qemu.ts';
import { makeScenario, type Shape } from './scenario.ts';
import { describeReport, runSeed, seedsToRun } from './seeds.ts';

const SHAPES = qcow2Shapes();
const SEEDS = seedsToRun(rounds(160, 3000));
const seedsOf = (shape: Shape): number[] => SEEDS.filter((seed) => SHAPES[seed % SHAPES.length] === shape);

describeWithPeers(['qemu-img'], 'qcow2 of all options', (qemuImg) => {
  const tally: Tally = new Map();
  const shapes = SHAPES.filter((shape) => seedsOf(shape).length > 0);

  it.each(shapes)(
    '$title: does as the model does, and QEMU finds it sound',
    { timeout: rounds(300_000, 3_000_000) },
    async (shape) => {
      for (const seed of seedsOf(shape)) {
        const inspect = inspectWithQemu(qemuImg);
        const report = await runSeed(seed, shape, { tally, inspect, hangMs: 60_000 });
        if (report !== null) expect.fail(describeReport(report));
      }
    },
  );

  it.runIf(SEEDS.length > 100)('did everything that can be done', () => {
    const kinds = ['read', 'write', 'zero', 'discard', 'flush', 'resize', 'compact', 'check', 'reopen', 'compress'];
    const inner = [
      ...['create', 'apply', 'delete', 'rename'].map((act) => `snapshot ${act}`),
      ...['add', 'remove', 'clear', 'enable', 'disable', 'merge'].map((act) => `bitmap ${act}`),
      ...['start converted', 'start compressed', 'convert', 'convert compressed'],
      ...['stack', 'merge forward', 'merge backward'],
    ];
    expect([...tally.keys()]).toEqual(expect.arrayContaining([...kinds, ...inner]));
  });

  it.runIf(SEEDS.length > 100)('had every option', () => {
    const met = new Set<string>();
    for (const seed of SEEDS) {
      const shape = SHAPES[seed % SHAPES.length];
      if (shape === undefined) continue;
      const { setUp } = makeScenario(seed, shape);
      for (const [key, value] of Object.entries(setUp?.configs.at(-1) ?? {})) met.add(`${key}=${value}`);
    }
    const wanted = [
      ...CLUSTER_SIZES.map((size) => `cluster_size=${size}`),
      ...REFCOUNT_BITS.map((bits) => `refcount_bits=${bits}`),
      ...PREALLOCATIONS.map((word) => `preallocation=${word}`),
      ...['compat=0.10', 'extended_l2=on', 'lazy_refcounts=on', 'compression_type=zstd', 'data_file_raw=on'],
      'data_file=image.data',
    ];
    expect([...met]).toEqual(expect.arrayContaining(wanted));
  });
});
