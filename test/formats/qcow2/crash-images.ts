/**
 * QCOW2 images for the power-cut suites: how they are made, and which rules must hold in their bytes. Clusters of 512
 * bytes make tables of one sector, so that one flush publishes several of them, in any order and any part.
 */
import { SECTOR } from '../../../src/binary/numbers.ts';
import { createImage, Disk } from '../../../src/index.ts';
import type { StorageProvider } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { type CrashCheck, type CrashSuite, initialBytes } from '../../../src/testing/index.ts';
import type { Mutation } from '../crash-kit.ts';

export const IMAGE = '/disk.qcow2';
const PARENT = '/parent.qcow2';

/** Kind of image that is cut. */
export interface Qcow2Kind {
  readonly clusterSize: number;
  readonly clusters: number;
  readonly config?: Readonly<Record<string, string | number>>;
  readonly diff?: boolean;
}

/** An empty image, and whatever the sessions do with it. */
export function qcow2Suite(
  kind: Qcow2Kind,
  seed: number,
  sessions: CrashSuite['sessions'],
  { registry, wrap = (provider) => provider }: Mutation = {},
): CrashSuite {
  const formats = registry === undefined ? {} : { registry };
  const size = kind.clusterSize * kind.clusters;
  const config = { cluster_size: kind.clusterSize, ...kind.config };
  const patch = 8 * (kind.clusterSize / SECTOR);
  /** Every third patch of the parent holds data. */
  const hasInitial = (sector: number): boolean => Math.floor(sector / patch) % 3 === 0;
  return {
    provider: new MemoryProvider(),
    image: IMAGE,
    size,
    seed,
    ...(kind.diff === true ? { hasInitial, prepare: (provider) => makeParent(provider, size, patch) } : {}),
    async build(bare) {
      const provider = wrap(bare);
      const shape = kind.diff === true ? { parent: { provider, name: PARENT } } : { size };
      await createImage({ provider, name: IMAGE }, { provider, format: 'qcow2', config, ...shape, ...formats });
    },
    open: (bare) => {
      const how = { mode: 'write', flushAfterMs: 0, allow: ['/'], format: 'qcow2' } as const;
      return Disk.open({ provider: wrap(bare), name: IMAGE }, { ...how, ...formats });
    },
    sessions,
    check: brokenRules,
  };
}

async function makeParent(provider: StorageProvider, size: number, patch: number): Promise<void> {
  const source = { provider, name: PARENT };
  await createImage(source, { format: 'qcow2', size, config: { cluster_size: 512 } });
  const disk = await Disk.open(source, { mode: 'write', flushAfterMs: 0, format: 'qcow2' });
  for (let sector = 0; sector < size / SECTOR; sector += 3 * patch) {
    const count = Math.min(patch, size / SECTOR - sector);
    await disk.write(sector * SECTOR, initialBytes(sector, count));
  }
  await disk.close();
}

/**
 * Invariants of the specification, read from the bytes independently of the code under test: each cluster is counted at
 * least as often as it is referenced, and a flag that permits overwriting is never on a shared cluster.
 */
async function brokenRules({ provider }: CrashCheck): Promise<string[]> {
  const file = await bytesOf(provider, IMAGE);
  const at = (offset: number): bigint => (offset + 8 <= file.byteLength ? file.getBigUint64(offset) : 0n);
  const clusterSize = 2 ** file.getUint32(20);
  const order = file.getUint32(4) === 2 ? 4 : file.getUint32(96);
  const perBlock = (clusterSize * 8) / 2 ** order;
  const extended = file.getUint32(4) === 3 && (file.getUint32(76) & 16) !== 0;
  const stride = extended ? 16 : 8;
  const references = new Map<number, number>();
  const problems: string[] = [];
  const refer = (offset: number, length = 1): void => {
    for (let cluster = Math.floor(offset / clusterSize); cluster * clusterSize < offset + length; cluster++) {
      references.set(cluster, (references.get(cluster) ?? 0) + 1);
    }
  };
  const [l1Entries, l1Offset] = [file.getUint32(36), Number(at(40))];
  const [table, tableClusters] = [Number(at(48)), file.getUint32(56)];
  refer(0);
  refer(l1Offset, l1Entries * 8);
  refer(table, tableClusters * clusterSize);
  const blocks: number[] = [];
  for (let n = 0; n < (tableClusters * clusterSize) / 8; n++) {
    const block = Number(at(table + n * 8));
    blocks.push(block);
    if (block !== 0) refer(block);
  }
  const copied: [cluster: number, what: string][] = [];
  const offsetOf = (entry: bigint): number => Number(entry & 0x00ff_ffff_ffff_fe00n);
  for (let n = 0; n < l1Entries; n++) {
    const l1 = at(l1Offset + n * 8);
    const l2 = offsetOf(l1);
    if (l2 === 0) continue;
    refer(l2);
    if (l1 >> 63n === 1n) copied.push([l2 / clusterSize, `L2 table ${n}`]);
    if (l2 + clusterSize > file.byteLength + clusterSize - 1) problems.push(`L2 table ${n} lies beyond the end`);
    for (let m = 0; m < clusterSize / stride; m++) {
      const entry = at(l2 + m * stride);
      const host = offsetOf(entry);
      if (host === 0) continue;
      refer(host);
      if (host >= file.byteLength) problems.push(`Cluster ${m} of table ${n} lies beyond the end`);
      if (entry >> 63n === 1n) copied.push([host / clusterSize, `cluster ${m} of table ${n}`]);
    }
  }
  const countOf = (cluster: number): number => {
    const block = blocks[Math.floor(cluster / perBlock)] ?? 0;
    if (block === 0) return 0;
    const bit = (cluster % perBlock) * 2 ** order;
    const byte = block + Math.floor(bit / 8);
    if (byte >= file.byteLength) return 0;
    if (order < 3) return (file.getUint8(byte) >> (bit % 8)) & (2 ** (2 ** order) - 1);
    if (order === 3) return file.getUint8(byte);
    return order === 4 ? file.getUint16(byte) : order === 5 ? file.getUint32(byte) : Number(file.getBigUint64(byte));
  };
  for (const [cluster, count] of references) {
    const stored = countOf(cluster);
    if (stored < count) problems.push(`Cluster ${cluster} has ${count} references, and ${stored} are counted`);
  }
  for (const [cluster, what] of copied) {
    if ((references.get(cluster) ?? 0) > 1) problems.push(`${what} may be overwritten, and is not alone`);
  }
  return problems;
}

async function bytesOf(provider: StorageProvider, name: string): Promise<DataView> {
  const storage = await provider.open(name, 'read');
  try {
    const bytes = new Uint8Array(storage.size);
    await storage.read(0, bytes);
    return new DataView(bytes.buffer);
  } finally {
    await storage.close();
  }
}
