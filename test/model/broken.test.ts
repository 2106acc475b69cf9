/** The suite can fail: disks that are broken on purpose are caught, and what is reported is short. */
import { describe, expect, it, vi } from 'vitest';
import type { ReadResult } from '../../src/disk/device.ts';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { Qcow2Bitmaps } from '../../src/formats/qcow2/bitmaps/bitmap-store.ts';
import { RefcountStore } from '../../src/formats/qcow2/clusters/refcount-store.ts';
import type { ReadTarget, WriteSource } from '../../src/storage/contract.ts';
import { Random } from '../../src/testing/random.ts';
import { qcow2Shapes } from '../formats/qcow2/models.ts';
import { Mismatch } from './mismatch.ts';
import { runOperations } from './model.ts';
import { ModelDisk } from './model-disk.ts';
import { makeOperations, type Operation } from './operations.ts';
import type { RunOptions } from './outcome.ts';
import { allShapes, makeScenario, type Scenario, type Shape } from './scenario.ts';
import { describeReport, type Report, runSeed } from './seeds.ts';
import { explainDisorder } from './serial-order.ts';
import { shrinkList } from './shrink.ts';

const SECTOR = 512;

/** The buffers as one, a copy. */
function joined(source: WriteSource): Uint8Array {
  return new Uint8Array(Buffer.concat(source instanceof Uint8Array ? [source] : source));
}

class LosesLastSector extends ModelDisk {
  override write(offset: number, source: WriteSource): Promise<void> {
    const bytes = joined(source);
    return super.write(offset, bytes.length > 4 * SECTOR ? bytes.subarray(0, bytes.length - SECTOR) : bytes);
  }
}

class ForgetsSmallZeroes extends ModelDisk {
  override async zero(offset: number, length: number): Promise<void> {
    if (length >= SECTOR) await super.zero(offset, length);
  }
}

class NeverFlushes extends ModelDisk {
  override async flush(): Promise<void> {}
}

class KeepsTheBuffer extends ModelDisk {
  override async write(offset: number, source: WriteSource): Promise<void> {
    setImmediate(() => super.write(offset, source).catch(() => {}));
  }
}

class LeavesTheTargetAlone extends ModelDisk {
  override readNow(_offset: number, _target: Uint8Array): boolean {
    return true;
  }
}

class ReadsTooEarly extends ModelDisk {
  override async read(offset: number, target: ReadTarget): Promise<ReadResult> {
    const [first, ...rest] = target instanceof Uint8Array ? [target] : target;
    if (first === undefined) return super.read(offset, target);
    // In two halves, so that a write may come between them.
    const half = first.length >> 1;
    await super.read(offset, first.subarray(0, half));
    return super.read(offset + half, [first.subarray(half), ...rest]);
  }
}

/** Writes whole sectors, and reads what is missing of them before, without keeping others out. */
class LosesUpdates extends ModelDisk {
  override async write(offset: number, source: WriteSource): Promise<void> {
    const bytes = joined(source);
    const start = offset - (offset % SECTOR);
    const end = Math.min(Math.ceil((offset + bytes.length) / SECTOR) * SECTOR, this.size);
    const sectors = new Uint8Array(end - start);
    await super.read(start, sectors);
    sectors.set(bytes, offset - start);
    await super.write(start, sectors);
  }
}

function shapeNamed(format: string, title: string): Shape {
  const shape = allShapes().find((one) => one.format.name === format && one.title === title);
  if (shape === undefined) throw new Error(`internal: there is no ${title} of ${format}`);
  return shape;
}

/** The first report of a few seeds. */
async function firstReport(Broken: typeof ModelDisk, shape: Shape): Promise<Report> {
  for (let seed = 1; seed <= 30; seed++) {
    const report = await runSeed(seed, shape, { wrap: (disk) => new Broken(disk) });
    if (report !== null) return report;
  }
  expect.fail('nothing was noticed');
}

describe('a disk that is broken on purpose', () => {
  it.each<[string, typeof ModelDisk, string, string, number]>([
    ['loses the last sector of long writes', LosesLastSector, 'vdi', 'default', 1],
    ['forgets small zeroes', ForgetsSmallZeroes, 'vdi', 'diff', 2],
    ['never flushes', NeverFlushes, 'vdi', 'default', 2],
    ['keeps the buffer of a write', KeepsTheBuffer, 'vdi', 'fixed', 1],
    ['says that it read, and did not', LeavesTheTargetAlone, 'raw', 'default', 1],
    ['reads in pieces', ReadsTooEarly, 'vdi', 'default', 2],
    ['loses updates of sectors that are shared', LosesUpdates, 'raw', 'default', 1],
  ])('%s: is caught', async (_what, Broken, format, title, most) => {
    const report = await firstReport(Broken, shapeNamed(format, title));
    expect(report.operations.length, describeReport(report)).toBeLessThanOrEqual(most);
    const text = describeReport(report);
    expect(text).toContain(`VDKIT_MODEL_SEED=${report.seed} npx vitest run test/model`);
    expect(text).toContain('await createImage(');
    expect(text).toContain('disk.');
  });
});

describe('an image that is broken inside', () => {
  const alone = qcow2Shapes().find(({ title }) => title === 'alone');
  const space = { most: 2 ** 20, inner: () => ({}) };
  const scenarioOf = (seed: number): Scenario => {
    if (alone === undefined) throw new Error('internal: there are images without parents');
    return { ...makeScenario(seed, alone), local: false };
  };
  /** The first failure of a few seeds. */
  const failureWith = async (how: RunOptions): Promise<string> => {
    for (let seed = 1; seed <= 30; seed++) {
      const scenario = scenarioOf(seed);
      const size = scenario.sizes.at(-1) ?? 0;
      const operations = makeOperations(new Random(seed), { ...space, size, unit: scenario.unit });
      const failure = await runOperations(scenario, operations, { ...how, hangMs: 60_000 });
      if (failure !== null) return failure.message;
    }
    expect.fail('nothing was noticed');
  };

  it('a snapshot that does not count what it shares: is caught', async () => {
    const raise = vi.spyOn(RefcountStore.prototype, 'raise').mockImplementation(() => {});
    expect(await failureWith({})).toMatch(/state \d+ has|check found|is in use/);
    raise.mockRestore();
  });

  it('a bitmap that does not record: is caught', async () => {
    const note = vi.spyOn(Qcow2Bitmaps.prototype, 'noteRange').mockImplementation(() => {});
    expect(await failureWith({})).toMatch(/lacks a change/);
    note.mockRestore();
  });

  it('what another program finds in the end counts', async () => {
    const inspect = async (): Promise<void> => {
      throw new Mismatch('QEMU does not take the image');
    };
    expect(await failureWith({ inspect })).toBe('QEMU does not take the image');
  });
});

it('says where a disk hangs', async () => {
  class Hangs extends ModelDisk {
    override zero(): Promise<void> {
      return new Promise(() => {});
    }
  }
  const operations: Operation[] = [
    { kind: 'flush', compare: false },
    { kind: 'zero', offset: 0, length: 1, punch: true },
  ];
  const how = { wrap: (disk: ChainDisk) => new Hangs(disk), hangMs: 100 };
  // In calm memory everything happens before the first timer: the step is certain.
  const scenario = { ...makeScenario(1, shapeNamed('raw', 'default')), local: false, restless: false };
  const failure = await runOperations(scenario, operations, how);
  expect(failure).toEqual({ step: 1, message: 'it did not end' });
});

describe('looking for an order of requests', () => {
  const fill = (value: number, length = 4): Uint8Array => new Uint8Array(length).fill(value);
  const zeroBefore = (_offset: number, bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
  const read = (...bytes: number[]) => ({ offset: 0, bytes: Uint8Array.from(bytes), what: 'the read' });
  const writes = [
    { offset: 0, bytes: fill(1) },
    { offset: 2, bytes: fill(2) },
  ];
  const ended = [read(1, 1, 2, 2, 2, 2)];

  it.each([
    ['before both', [read(0, 0, 0, 0, 0, 0)], ended],
    ['between them', [read(1, 1, 1, 1, 0, 0)], ended],
    ['after both', [read(1, 1, 2, 2, 2, 2), read(0, 0, 0)], ended],
    ['in the other order', [read(0, 0, 2, 2, 2, 2)], [read(1, 1, 1, 1, 2, 2)]],
  ])('finds a read %s', (_what, reads, last) => {
    expect(explainDisorder({ writes, reads, last, before: zeroBefore, discarded: [] })).toBeNull();
  });

  it.each([
    ['half a write', [read(1, 0, 0, 0, 0, 0)], ended],
    ['a mixture', [read(1, 1, 0, 0, 2, 2)], ended],
    ['two reads that contradict each other', [read(1, 1, 1, 1, 0, 0), read(0, 0, 2, 2, 2, 2)], ended],
    ['a read of an order that the end denies', [read(0, 0, 2, 2, 2, 2)], ended],
    ['bytes from elsewhere', [read(7, 7, 7, 7, 7, 7)], ended],
  ])('refuses %s', (_what, reads, last) => {
    expect(explainDisorder({ writes, reads, last, before: zeroBefore, discarded: [] })).not.toBeNull();
  });
});

describe('shrinking a list', () => {
  const shrink = (items: readonly number[], fails: (items: readonly number[]) => boolean): Promise<number[]> =>
    shrinkList(items, {
      fails: async (list) => fails(list),
      simpler: (item) => (item > 0 ? [[Math.floor(item / 2)], [item - 1]] : []),
      tries: 10_000,
    });

  it('keeps what the failure needs, as simple as it can be', async () => {
    const items = Array.from({ length: 100 }, (_, index) => index);
    const fails = (list: readonly number[]): boolean =>
      list.some((one) => one >= 17) && list.some((one) => one % 7 === 3);
    expect(await shrink(items, fails)).toEqual([17]);
    expect(await shrink(items, (list) => list.length >= 5)).toEqual([0, 0, 0, 0, 0]);
    expect(await shrink(items, () => true)).toEqual([]);
  });

  it('ends when its tries run out', async () => {
    let tries = 0;
    const fails = async (): Promise<boolean> => ++tries > 0;
    await shrinkList([1, 2, 3], { fails, simpler: (item) => [[item + 1]], tries: 50 });
    expect(tries).toBeLessThanOrEqual(50);
  });
});
