/** Random requests through queues over every format that can be written, against a plain array: see queue-model.ts. */
import { describe, expect, it } from 'vitest';
import { type BlockDevice, defaultRegistry } from '../../src/index.ts';
import type { WriteSource } from '../../src/storage/contract.ts';
import { overriding } from '../../src/testing/overriding.ts';
import { rounds } from '../conformance/random.ts';
import { type QueueTally, runQueueSeed } from './queue-model.ts';

const WANTED = process.env['VDKIT_MODEL_SEED'];
const SEEDS =
  WANTED === undefined || WANTED === ''
    ? Array.from({ length: rounds(180, 6000) }, (_, index) => index + 1)
    : WANTED.split(',').map(Number);
const FORMATS = defaultRegistry()
  .formats.filter(({ capabilities, create }) => capabilities.write && create !== undefined)
  .map(({ name }) => name);

/** A source without its last sector. */
function firstOf(source: WriteSource): Uint8Array {
  const bytes = new Uint8Array(Buffer.concat(source instanceof Uint8Array ? [source] : source));
  return bytes.subarray(0, bytes.length - 512);
}

/** Reads of the disk that begin some turns late. */
function reading(disk: BlockDevice): BlockDevice['read'] {
  return async (offset, target) => {
    for (let turn = 0; turn < 20; turn++) await null;
    return disk.read(offset, target);
  };
}

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
    const layers = ['filter', 'cache'];
    const ends = ['cancel by id', 'cancel waiting', 'cancel running', 'purge', 'detach', 'detach with a purge'];
    expect([...tally.keys()].sort()).toEqual([...kinds, ...ends, ...layers].sort());
    for (const [what, times] of tally) expect(times, what).toBeGreaterThan(5);
  });

  it.each<[string, (disk: BlockDevice) => Partial<BlockDevice>, RegExp]>([
    [
      'loses what is written last',
      (disk) => ({ write: (offset, source) => disk.write(offset, firstOf(source)) }),
      /holds something else/,
    ],
    ['reads at once what is not there', () => ({ readNow: () => true }), /holds something else/],
    ['lets writes overtake reads', (disk) => ({ readNow: () => false, read: reading(disk) }), /holds something else/],
  ])('would show a disk that %s', async (_, broken, message) => {
    const failures: string[] = [];
    for (let seed = 1; seed <= 10; seed++) {
      const wrap = (disk: BlockDevice): BlockDevice => overriding(disk, broken(disk));
      await runQueueSeed(seed, 'raw', new Map(), wrap).catch((error) => failures.push(String(error)));
    }
    expect(failures.filter((text) => message.test(text)).length).toBeGreaterThan(0);
  });
});
