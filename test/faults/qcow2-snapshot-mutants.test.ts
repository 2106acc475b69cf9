/** Mutants of the code for snapshots of QCOW2: their power-cut suite must see them. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { SnapshotStore } from '../../src/image/contract.ts';
import { createImage, type Disk } from '../../src/index.ts';
import type { WriteSource } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { overriding } from '../../src/testing/overriding.ts';
import type { Mutation } from '../formats/crash-kit.ts';
import { images, storages } from './mutations.ts';
import { NAME, open, problemsOf, record, SECTOR } from './qcow2-snapshots-suite.ts';

/** Switch for "apply in place": tables of snapshots are allocated and freed in place. */
const places = vi.hoisted(() => ({ inPlace: false }));
vi.mock('../../src/formats/qcow2/clusters/table-room.ts', async (importOriginal) => {
  const real = await importOriginal<typeof import('../../src/formats/qcow2/clusters/table-room.ts')>();
  return {
    ...real,
    takeRooms: async (...[host, sizes]: Parameters<typeof real.takeRooms>) => {
      if (!places.inPlace) return real.takeRooms(host, sizes);
      const { l1Offset, clusterSize } = host.header;
      return [{ run: { first: l1Offset / clusterSize, count: 1 }, offset: l1Offset }];
    },
    lowerTable: async (...args: Parameters<typeof real.lowerTable>) => {
      if (!places.inPlace) await real.lowerTable(...args);
    },
  };
});

afterEach(() => {
  places.inPlace = false;
  vi.restoreAllMocks();
});

/** Two clusters of L1 entries, with data in both of them, in the disk and in the snapshot. */
async function withSnapshot(): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const size = 70 * 64 * SECTOR;
  await createImage({ provider, name: NAME }, { size, format: 'qcow2', config: { cluster_size: 512 } });
  await using disk = await open(provider);
  for (const content of [1, 2]) {
    for (const at of [0, 10, 69]) await disk.write(at * 64 * SECTOR, new Uint8Array(3 * SECTOR).fill(content));
    if (content === 1) await disk.snapshots.create('first', { createdMs: 1 });
  }
  return provider;
}

describe('a mutant of the code for snapshots', () => {
  const problems = async (run: (disk: Disk) => Promise<unknown>, mutation: Mutation): Promise<string[]> => {
    const inner = await withSnapshot();
    const operation = { name: 'mutant', run };
    return problemsOf(await record(inner, operation, 1, mutation), { everyCut: 2 });
  };

  it('is caught: COPIED late', async () => {
    const create = (disk: Disk): Promise<unknown> => disk.snapshots.create('second', { createdMs: 2 });
    expect(await problems(create, {})).toEqual([]);
    expect(await problems(create, copiedLate())).not.toEqual([]);
  });

  it('is caught: apply in place', async () => {
    const apply =
      (inPlace: boolean) =>
      async (disk: Disk): Promise<void> => {
        places.inPlace = inPlace;
        await disk.snapshots.apply('first');
      };
    expect(await problems(apply(false), {})).toEqual([]);
    expect(await problems(apply(true), {})).not.toEqual([]);
  });
});

/** Flags are cleared only when the snapshot is there already: what is written before the first flush comes last. */
function copiedLate(): Mutation {
  let held: [offset: number, source: WriteSource][] | null = null;
  let holding = false;
  return {
    ...storages((storage) => ({
      async write(offset, source) {
        if (holding) {
          held?.push([offset, source]);
          return;
        }
        await storage.write(offset, source);
        if (offset !== 0 || held === null) return;
        await storage.flush();
        for (const [at, bytes] of held) await storage.write(at, bytes);
        held = null;
      },
      async flush() {
        holding = false;
        await storage.flush();
      },
    })),
    ...images((image) =>
      image.snapshots === undefined
        ? {}
        : {
            snapshots: overriding<SnapshotStore>(image.snapshots, {
              create: (name, how) => {
                [held, holding] = [[], true];
                return image.snapshots?.create(name, how) ?? Promise.reject(new Error('internal'));
              },
            }),
          },
    ),
  };
}
