/**
 * Truncated images. Wherever they are cut: data read without an error is correct, except that the missing bytes of the
 * last cluster read as zero; and a check finds a corruption where reading fails.
 */
import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../../../test/conformance/expect-kind.ts';
import { randomBytes, rounds } from '../../../../test/conformance/random.ts';
import { buildQcow2, type Cluster, type Recipe } from '../../../../test/formats/qcow2/build.ts';
import { contentOf } from '../../../../test/formats/qcow2/hostile.ts';
import { ImageError } from '../../../errors.ts';
import { checkImage, createImage, Disk } from '../../../index.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { Random } from '../../../testing/random.ts';

const NAME = '/disk.qcow2';

function clusters(count: number, kind: (number: number) => Cluster): Recipe['clusters'] {
  return new Map(Array.from({ length: count }, (_, number) => [number, kind(number)] as const));
}

/** Half of it compresses. */
const mixed = (seed: number, size: number): Uint8Array => {
  const bytes = randomBytes(new Random(seed), size);
  bytes.fill(seed, 0, size / 2);
  return bytes;
};

async function fileOf(bytes: Uint8Array): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const storage = await provider.create(NAME);
  await storage.write(0, bytes);
  await storage.close();
  return provider;
}

/** The content of the disk, or the error of reading it. */
async function readAll(provider: MemoryProvider): Promise<Uint8Array | ImageError> {
  await using disk = await Disk.open({ provider, name: NAME }, { format: 'qcow2' });
  const bytes = new Uint8Array(disk.size);
  return disk.read(0, bytes).then(
    () => bytes,
    (error: unknown) => {
      if (error instanceof ImageError && error.kind === 'corrupt') return error;
      throw error;
    },
  );
}

async function findingsOf(provider: MemoryProvider): Promise<string[]> {
  const { findings } = await checkImage({ provider, name: NAME }, { format: 'qcow2' });
  return findings.filter(({ severity }) => severity !== 'leak').map(({ severity, code }) => `${severity} ${code}`);
}

const ROWS: readonly { readonly name: string; readonly unit: number; readonly recipe: Recipe }[] = [
  {
    name: 'clusters',
    unit: 4096,
    recipe: {
      clusterBits: 12,
      size: 8 * 4096,
      clusters: clusters(8, (n) => ({ kind: 'data', bytes: mixed(n + 1, 4096) })),
    },
  },
  {
    name: 'clusters, the last of which is longer than the disk',
    unit: 4096,
    recipe: {
      clusterBits: 12,
      size: 7 * 4096 + 1536,
      clusters: clusters(8, (n) => ({ kind: 'data', bytes: mixed(n + 1, 4096) })),
    },
  },
  {
    name: 'subclusters',
    unit: 512,
    recipe: {
      clusterBits: 14,
      size: 3 * 16_384,
      extendedL2: true,
      clusters: clusters(3, (n) => ({ kind: 'data', bytes: mixed(n + 1, 16_384) })),
    },
  },
];

/** Cut positions: some of all lengths, and those where the result changes. */
function cuts(most: number, unit: number): number[] {
  const random = new Random(most);
  const some = Array.from({ length: rounds(40, 2000) }, () => 1 + random.below(most));
  return [1, 511, 512, 513, unit - 1, unit, unit + 1, 2 * unit - 1, 2 * unit, ...some].filter((cut) => cut <= most);
}

describe('an image whose end is missing', () => {
  it.each(ROWS)('$name', async ({ unit, recipe }) => {
    const { bytes } = buildQcow2(recipe);
    const content = contentOf(recipe, null);
    for (const cut of cuts(2 * 2 ** recipe.clusterBits, unit)) {
      const size = bytes.length - cut;
      const provider = await fileOf(bytes.subarray(0, size));
      const [found, findings] = [await readAll(provider), await findingsOf(provider)];
      const what = `${cut} bytes`;
      if (cut >= unit) {
        // A whole unit is missing.
        expect(found, what).toBeInstanceOf(ImageError);
        const { message, context } = found as ImageError;
        expect(message).toContain('beyond the end of the file');
        expect(context.guestOffset).toBeTypeOf('number');
        expect(context.found).toContain('at 0x');
        expect(context.expected).toContain(`0x${size.toString(16)}`);
        expect(findings, what).toContain('corruption beyond-file');
        continue;
      }
      const expected = content.slice();
      const end = Math.ceil(recipe.size / 2 ** recipe.clusterBits) * 2 ** recipe.clusterBits;
      expected.fill(0, Math.min(end - cut, expected.length));
      expectSameBytes(found as Uint8Array, expected);
      expect(findings, what).toEqual(end - cut < recipe.size ? ['warning cluster-cut-off'] : []);
    }
  });

  it.each(['zlib', 'zstd'] as const)('compressed clusters (%s)', async (compression) => {
    const recipe: Recipe = {
      clusterBits: 12,
      size: 8 * 4096,
      compression,
      clusters: clusters(8, (n) => ({ kind: 'compressed', bytes: mixed(n + 1, 4096) })),
    };
    const { bytes } = buildQcow2(recipe);
    const content = contentOf(recipe, null);
    let [read, refused] = [0, 0];
    for (const cut of cuts(8192, 4096)) {
      const provider = await fileOf(bytes.subarray(0, bytes.length - cut));
      const [found, findings] = [await readAll(provider), await findingsOf(provider)];
      if (found instanceof ImageError) {
        refused++;
        expect(findings, `${cut} bytes`).toContain('corruption beyond-file');
      } else {
        read++;
        expectSameBytes(found, content);
        expect(findings, `${cut} bytes`).toEqual([]);
      }
    }
    expect(refused).toBeGreaterThan(5);
    expect(read + refused).toBeGreaterThan(40);
  });

  it('an external data file', async () => {
    const recipe: Recipe = {
      clusterBits: 12,
      size: 7 * 4096 + 1536,
      dataFile: 'data.raw',
      clusters: clusters(8, (n) => ({ kind: 'data', bytes: mixed(n + 1, 4096) })),
    };
    const { bytes, data } = buildQcow2(recipe);
    const content = contentOf(recipe, null);
    for (const size of [recipe.size, recipe.size - 1, 7 * 4096 + 1, 7 * 4096, 6 * 4096 + 100]) {
      const provider = await fileOf(bytes);
      const storage = await provider.create('/data.raw');
      await storage.write(0, data.subarray(0, size));
      await storage.close();
      await using disk = await Disk.open({ provider, name: NAME }, { format: 'qcow2', allow: ['/'] });
      const found = new Uint8Array(disk.size);
      if (size <= 7 * 4096) {
        await expectKind(() => disk.read(0, found), 'corrupt');
        continue;
      }
      await disk.read(0, found);
      const expected = content.slice();
      expected.fill(0, size);
      expectSameBytes(found, expected);
    }
  });

  it('is not written, however large its tables are', async () => {
    const provider = new MemoryProvider();
    const config = { cluster_size: 512, preallocation: 'metadata' };
    await createImage({ provider, name: NAME }, { format: 'qcow2', size: 1_100_000 * 512, config });
    const open = () => Disk.open({ provider, name: NAME }, { format: 'qcow2', mode: 'write', flushAfterMs: 0 });
    await (await open()).close();
    const storage = await provider.open(NAME, 'write');
    await storage.resize(storage.size - 3 * 512);
    await storage.close();
    await expectKind(open, 'read-only');
  });
});

describe('an L2 table that the end of the file cuts off', () => {
  /** Clusters of the disk before its only L2 table, which is moved to the end of the file. */
  async function withTableLast(
    clusterCount: number,
    kept: number,
  ): Promise<{ provider: MemoryProvider; table: number }> {
    const recipe: Recipe = {
      clusterBits: 12,
      size: clusterCount * 4096,
      clusters: clusters(clusterCount, (n) => ({ kind: 'data', bytes: mixed(n + 1, 4096) })),
    };
    const { bytes } = buildQcow2(recipe);
    const view = new DataView(bytes.buffer);
    const l1 = Number(view.getBigUint64(40));
    const old = Number(view.getBigUint64(l1) & 0x00ff_ffff_ffff_fe00n);
    const table = bytes.length;
    const longer = new Uint8Array(table + kept);
    longer.set(bytes);
    longer.set(bytes.subarray(old, old + kept), table);
    new DataView(longer.buffer).setBigUint64(l1, BigInt(table) | (1n << 63n));
    return { provider: await fileOf(longer), table };
  }
  const found = async (provider: MemoryProvider, repair = false) => {
    const { findings } = await checkImage({ provider, name: NAME }, { format: 'qcow2', repair });
    return findings.filter(({ code }) => code === 'l2-cut-off');
  };

  it('is corrupt for a check and for reading where entries of the disk are missing', async () => {
    const { provider } = await withTableLast(8, 5 * 8 + 3);
    expect(await readAll(provider)).toMatchObject({ kind: 'corrupt', context: { guestOffset: 5 * 4096 } });
    expect(await found(provider)).toMatchObject([
      {
        severity: 'corruption',
        repairable: false,
        guestOffset: 5 * 4096,
        message: expect.stringContaining('cannot be read'),
      },
    ]);
    const before = await provider.lookUp(NAME);
    await found(provider, true);
    expect((await found(provider)).length).toBe(1);
    expect((await provider.lookUp(NAME))?.size).toBe(before?.size);
  });

  it('is completed by a repair where it only lacks entries behind the end of the disk', async () => {
    const { provider, table } = await withTableLast(8, 8 * 8);
    const content = await readAll(provider);
    expect(content).toBeInstanceOf(Uint8Array);
    const open = () => Disk.open({ provider, name: NAME }, { format: 'qcow2', mode: 'write', flushAfterMs: 0 });
    await expectKind(open, 'read-only');
    expect(await found(provider)).toMatchObject([{ severity: 'corruption', repairable: true }]);
    await found(provider, true);
    expect(await findingsOf(provider)).toEqual([]);
    expect((await provider.lookUp(NAME))?.size).toBeGreaterThanOrEqual(table + 4096);
    expect(await readAll(provider)).toEqual(content);
    await (await open()).close();
  });
});
