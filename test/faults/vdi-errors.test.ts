/** VDI when the medium fails: what was flushed stays, nothing is pretended, and the image opens again. */
import { describe, expect, it } from 'vitest';
import { createImage, Disk, isImageError } from '../../src/index.ts';
import { MemoryProvider, type StorageProvider } from '../../src/storage/index.ts';
import {
  CrashSession,
  type FaultPlan,
  type FaultPoint,
  FaultProvider,
  OperationLog,
  SectorModel,
} from '../../src/testing/index.ts';

const NAME = '/disk.vdi';
const SECTORS = 512;
const CONFIG = { AllocationBlockSize: 1024, DataAlignment: 512 };

const open = (provider: StorageProvider) =>
  Disk.open({ provider, name: NAME }, { mode: 'write', format: 'vdi', flushAfterMs: 0 });

async function workload(session: CrashSession): Promise<void> {
  await session.write(0, 5);
  await session.write(300, 1);
  await session.flush();
  await session.zero(1, 3);
  await session.write(0, 1);
  await session.write(100, 40);
  await session.flush();
  await session.write(301, 4);
}

interface Outcome {
  /** Error of the workload or of the close. */
  readonly error: unknown;
  readonly counts: Readonly<Record<FaultPoint, number>>;
}

/** Runs the workload on a failing medium, then checks the promise on the sound one below it. */
async function failing(plan: FaultPlan): Promise<Outcome> {
  const memory = new MemoryProvider();
  await createImage({ provider: memory, name: NAME }, { format: 'vdi', size: SECTORS * 512, config: CONFIG });
  const faults = new FaultProvider(memory);
  const [log, model] = [new OperationLog(), new SectorModel(SECTORS)];
  const disk = await open(faults);
  faults.plan(plan);
  const session = new CrashSession({ disk, model, log, seed: 1 });
  let error: unknown = null;
  try {
    await workload(session);
  } catch (failure) {
    error = failure;
  }
  const closing = model.beginFlush(log.mark('close begins'));
  try {
    await disk.close();
    if (error === null) model.endFlush(closing, log.mark('closed'));
  } catch (failure) {
    error ??= failure;
  }
  await checkPromise(memory, model, log.position);
  return { error, counts: faults.counts };
}

async function checkPromise(provider: StorageProvider, model: SectorModel, position: number): Promise<void> {
  const disk = await open(provider);
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  expect(model.at(position).verify(bytes)).toEqual([]);
  await disk.write(0, new Uint8Array(512).fill(1));
  await disk.close();
}

describe('a VDI image on a failing medium', () => {
  it('works when nothing fails', async () => {
    expect((await failing({})).error).toBeNull();
  });

  it.each<FaultPoint>(['write', 'flush'])('keeps what was flushed, whichever %s fails', async (point) => {
    const { counts } = await failing({});
    expect(counts[point]).toBeGreaterThan(3);
    for (let turn = 0; turn < counts[point]; turn++) {
      for (const forGood of [false, true]) {
        const { error } = await failing({ fail: { [point]: turn }, forGood });
        expect(isImageError(error) && error.kind, `${point} ${turn}`).toBe('io');
      }
    }
  });

  it('keeps what was flushed when the medium is full', async () => {
    let refused = 0;
    for (let capacity = 1024; capacity < 60 * 1024; capacity += 1536) {
      const { error } = await failing({ capacity });
      if (error === null) continue;
      refused++;
      expect(isImageError(error) && error.kind, `${capacity} bytes`).toBe('no-space');
    }
    expect(refused).toBeGreaterThan(5);
  });

  it('refuses everything after a failed flush', async () => {
    const faults = new FaultProvider(new MemoryProvider());
    await createImage({ provider: faults, name: NAME }, { format: 'vdi', size: SECTORS * 512, config: CONFIG });
    const disk = await open(faults);
    await disk.write(0, new Uint8Array(512).fill(1));
    faults.plan({ fail: { flush: 0 } });
    const failed = { kind: 'io' };
    await expect(disk.flush()).rejects.toMatchObject(failed);
    // The medium works again, but what it lost is unknown: a second try must not look like success.
    await expect(disk.flush()).rejects.toMatchObject(failed);
    await expect(disk.write(0, new Uint8Array(512).fill(2))).rejects.toMatchObject(failed);
    await expect(disk.flush()).rejects.toMatchObject(failed);
    await expect(disk.close()).rejects.toMatchObject(failed);
  });
});
