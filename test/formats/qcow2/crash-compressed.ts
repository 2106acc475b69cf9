/** QCOW2 images whose clusters are compressed, for the power-cut suites. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import type { Registry } from '../../../src/image/registry.ts';
import { createImage, Disk } from '../../../src/index.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { readPadded } from '../../../src/storage/read-padded.ts';
import {
  type CrashCheck,
  type CrashDevice,
  type CrashSession,
  type CrashSuite,
  randomTraffic,
} from '../../../src/testing/index.ts';

const IMAGE = '/disk.qcow2';

export type Config = Readonly<Record<string, string | number>>;

/** An image of the given number of clusters, some stored compressed as a whole. */
export function compressedSuite(
  clusters: number,
  config: Config,
  { seed, registry }: { readonly seed: number; readonly registry?: Registry },
): CrashSuite {
  const formats = registry === undefined ? {} : { registry };
  const clusterSize = Number(config['cluster_size']);
  const unit = clusterSize / SECTOR;
  /** Streams one behind the other, with flushes in between, as a conversion writes them; then whatever comes. */
  const packed = async (session: CrashSession): Promise<void> => {
    for (let at = 0; at + 3 * unit <= session.sectors / 2; at += 3 * unit) {
      await session.write(at, 3 * unit);
      if (session.random.chance(0.3)) await session.flush();
    }
    await session.flush();
  };
  const busy = (session: CrashSession): Promise<void> =>
    randomTraffic(session, { operations: 40, unit, discards: 0.15, zeroes: 0.1 });
  return {
    provider: new MemoryProvider(),
    image: IMAGE,
    size: clusters * clusterSize,
    seed,
    build: async (provider) => {
      const size = clusters * clusterSize;
      await createImage({ provider, name: IMAGE }, { provider, format: 'qcow2', config, size });
    },
    open: async (provider) => {
      const source = { provider, name: IMAGE };
      return compressing(
        await Disk.open(source, { mode: 'write', flushAfterMs: 0, format: 'qcow2', ...formats }),
        clusterSize,
      );
    },
    sessions: [packed, busy],
    check: uncounted,
  };
}

/** Every write of whole clusters is a compressed one. */
function compressing(disk: Disk, clusterSize: number): CrashDevice {
  return new Proxy(disk, {
    get(target, name) {
      if (name !== 'write') {
        const value: unknown = Reflect.get(target, name);
        return typeof value === 'function' ? value.bind(target) : value;
      }
      return async (offset: number, bytes: Uint8Array): Promise<void> => {
        if (offset % clusterSize !== 0) await target.write(offset, bytes);
        else await (await target.compress(offset, bytes)).store();
      };
    },
  });
}

/** Read from the bytes, not by the code under test: clusters that are used more often than they are counted. */
async function uncounted({ provider, image }: CrashCheck): Promise<string[]> {
  const storage = await provider.open(image, 'read');
  try {
    const bytes = new Uint8Array(storage.size + 2 ** 20);
    await readPadded(storage, 0, bytes);
    const view = new DataView(bytes.buffer);
    const bits = view.getUint32(20);
    const size = 2 ** bits;
    const pointer = (at: number): number => Number(view.getBigUint64(at) & 0x00ff_ffff_ffff_fe00n);
    const used = new Map<number, number>();
    const use = (cluster: number): void => {
      used.set(cluster, (used.get(cluster) ?? 0) + 1);
    };
    const width = 2 ** view.getUint32(96);
    const counts = pointer(48);
    const count = (cluster: number): number => {
      const perBlock = (size * 8) / width;
      const block = pointer(counts + Math.floor(cluster / perBlock) * 8);
      if (block === 0) return 0;
      const bit = (cluster % perBlock) * width;
      if (width < 8) return ((bytes[block + Math.floor(bit / 8)] ?? 0) >>> (bit % 8)) & (2 ** width - 1);
      let value = 0;
      for (let n = 0; n < width / 8; n++) value = value * 256 + (bytes[block + bit / 8 + n] ?? 0);
      return value;
    };
    const entryBytes = (view.getBigUint64(72) & 16n) === 0n ? 8 : 16;
    for (let index = 0; index < view.getUint32(36); index++) {
      const table = pointer(pointer(40) + index * 8);
      if (table === 0) continue;
      use(table / size);
      for (let at = table; at < table + size; at += entryBytes) {
        const entry = view.getBigUint64(at);
        if (((entry >> 62n) & 1n) === 0n) {
          if (pointer(at) !== 0) use(pointer(at) / size);
          continue;
        }
        const shift = BigInt(62 - (bits - 8));
        const start = Number(entry & ((1n << shift) - 1n));
        const sectors = Number((entry >> shift) & ((1n << BigInt(bits - 8)) - 1n));
        const end = (Math.floor(start / SECTOR) + sectors + 1) * SECTOR;
        for (let cluster = Math.floor(start / size); cluster * size < end; cluster++) use(cluster);
      }
    }
    return [...used].flatMap(([cluster, times]) =>
      count(cluster) >= times ? [] : [`cluster ${cluster} is used ${times} times and counted ${count(cluster)} times`],
    );
  } finally {
    await storage.close();
  }
}
