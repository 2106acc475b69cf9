/**
 * Images of every writable format when the medium fails: what was flushed stays, nothing is pretended, and the image
 * opens again.
 */
import { describe, expect, it } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { Format } from '../../src/image/contract.ts';
import { isImageError } from '../../src/index.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import { MemoryProvider, type StorageProvider } from '../../src/storage/index.ts';
import {
  CrashSession,
  type FaultPlan,
  type FaultPoint,
  FaultProvider,
  OperationLog,
  SectorModel,
} from '../../src/testing/index.ts';
import { unitsOf } from '../conformance/kits.ts';
import { imageOf, REGISTRY, SECTOR, WRITABLE } from './ways.ts';

const SECTORS = 512;
/** Sectors of the smallest units, where a format has a choice. */
const UNIT = 2;

/** An image of one format. */
class Place {
  readonly format: Format;
  readonly name: string;

  constructor(format: Format) {
    this.format = format;
    this.name = imageOf({ title: '', format, variant: [], diff: false });
  }

  create(provider: StorageProvider): Promise<unknown> {
    const config = unitsOf(this.format.name, UNIT * SECTOR);
    const options = { registry: REGISTRY, format: this.format.name, size: SECTORS * SECTOR, config };
    return createImage({ provider, name: this.name }, options);
  }

  open(provider: StorageProvider): Promise<ChainDisk> {
    const options = { registry: REGISTRY, mode: 'write', format: this.format.name, flushAfterMs: 0 } as const;
    return openDisk({ provider, name: this.name }, options);
  }
}

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
async function failing(place: Place, plan: FaultPlan): Promise<Outcome> {
  const memory = new MemoryProvider();
  await place.create(memory);
  const faults = new FaultProvider(memory);
  const [log, model] = [new OperationLog(), new SectorModel(SECTORS)];
  const disk = await place.open(faults);
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
  await checkPromise(place, memory, model, log.position);
  return { error, counts: faults.counts };
}

async function checkPromise(
  place: Place,
  provider: StorageProvider,
  model: SectorModel,
  position: number,
): Promise<void> {
  const disk = await place.open(provider);
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  expect(model.at(position).verify(bytes)).toEqual([]);
  await disk.write(0, new Uint8Array(SECTOR).fill(1));
  await disk.close();
}

describe.each(WRITABLE)('an image of $name on a failing medium', (format) => {
  const place = new Place(format);

  it('works when nothing fails', async () => {
    expect((await failing(place, {})).error).toBeNull();
  });

  it.each<FaultPoint>(['write', 'flush'])('keeps what was flushed, whichever %s fails', async (point) => {
    const { counts } = await failing(place, {});
    // Two flushes and a close; an image that grows flushes data before the tables that refer to it.
    expect(counts[point]).toBeGreaterThanOrEqual(counts.growth > 0 ? 4 : 3);
    for (let turn = 0; turn < counts[point]; turn++) {
      for (const forGood of [false, true]) {
        const { error } = await failing(place, { fail: { [point]: turn }, forGood });
        expect(isImageError(error) && error.kind, `${point} ${turn}`).toBe('io');
      }
    }
  });

  it('keeps what was flushed when the medium is full', async () => {
    const { counts } = await failing(place, {});
    let refused = 0;
    for (let capacity = 1024; capacity < 60 * 1024; capacity += 1536) {
      const { error } = await failing(place, { capacity });
      if (error === null) continue;
      refused++;
      expect(isImageError(error) && error.kind, `${capacity} bytes`).toBe('no-space');
    }
    // An image that has its length from the start needs no more room.
    if (counts.growth > 0) expect(refused).toBeGreaterThan(5);
    else expect(refused).toBe(0);
  });

  it('refuses everything after a failed flush', async () => {
    const faults = new FaultProvider(new MemoryProvider());
    await place.create(faults);
    const disk = await place.open(faults);
    await disk.write(0, new Uint8Array(SECTOR).fill(1));
    faults.plan({ fail: { flush: 0 } });
    const failed = { kind: 'io' };
    await expect(disk.flush()).rejects.toMatchObject(failed);
    // The medium works again, but what it lost is unknown: a second try must not look like success.
    await expect(disk.flush()).rejects.toMatchObject(failed);
    await expect(disk.write(0, new Uint8Array(SECTOR).fill(2))).rejects.toMatchObject(failed);
    await expect(disk.flush()).rejects.toMatchObject(failed);
    await expect(disk.close()).rejects.toMatchObject(failed);
  });
});
