/** Random requests through queues over every format that can be written, against a plain array: see queue-model.ts. */
import { describe, expect, it } from 'vitest';
import { defaultRegistry } from '../../src/index.ts';
import { rounds } from '../conformance/random.ts';
import { type QueueTally, runQueueSeed } from './queue-model.ts';

const WANTED = process.env['VDKIT_MODEL_SEED'];
const SEEDS =
  WANTED === undefined || WANTED === ''
    ? Array.from({ length: rounds(300, 6000) }, (_, index) => index + 1)
    : WANTED.split(',').map(Number);
const FORMATS = defaultRegistry()
  .formats.filter(({ capabilities, create }) => capabilities.write && create !== undefined)
  .map(({ name }) => name);

describe('queues', () => {
  const tally: QueueTally = new Map();

  it.each(FORMATS)('over %s do as the model does', { timeout: rounds(120_000, 900_000) }, async (format) => {
    for (const seed of SEEDS.filter((number) => FORMATS[number % FORMATS.length] === format)) {
      try {
        await runQueueSeed(seed, format, tally);
      } catch (error) {
        expect.fail(
          `Seed ${seed} (${format}): ${error}\nReplay: VDKIT_MODEL_SEED=${seed} npx vitest run test/model/queues`,
        );
      }
    }
  });

  it.runIf(SEEDS.length > 100)('took part in everything that a queue can', () => {
    const kinds = ['read', 'write', 'zero', 'discard', 'flush', 'promised', 'failure', 'conflict', 'refused'];
    const ends = ['cancel by id', 'cancel waiting', 'cancel running', 'purge', 'detach', 'detach with a purge'];
    expect([...tally.keys()].sort()).toEqual([...kinds, ...ends].sort());
    for (const [what, times] of tally) expect(times, what).toBeGreaterThan(10);
  });
});
