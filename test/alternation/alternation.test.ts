/**
 * Random walks of vdkit, qemu-img and qemu-io over the same files. After each step both programs must read what a model
 * says, both checks must find nothing, and lists, links and options must be as they were made. See docs/testing.md.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildProgram, type Program } from '../cli/program.ts';
import { rounds } from '../conformance/random.ts';
import { seedsToRun } from '../model/seeds.ts';
import { describeWithPeers } from '../peers/peers.ts';
import { type Tally, walk } from './walk.ts';

/** Steps of one walk: enough for images to grow old, and few enough to be played again quickly. */
const STEPS = Number(process.env['STEPS'] ?? rounds(40, 100));
const SEEDS = seedsToRun(rounds(80, 4000) / STEPS);

describeWithPeers(['qemu-img', 'qemu-io', 'strace'], 'vdkit and QEMU by turns', () => {
  const tally: Tally = new Map();
  let program: Program;
  beforeAll(async () => {
    program = await buildProgram('test/alternation/writer.ts');
  });
  afterAll(() => program.remove());

  it.each(SEEDS)('seed %i', { timeout: 600_000 }, async (seed) => {
    const report = await walk(seed, STEPS, { program, tally, kills: 0.25 });
    if (report !== null) expect.fail(report);
  });
});
