/** QCOW version 1 for the hostile suite. */
import { CRYPT, HEADER, MAGIC, VERSION } from '../../../src/formats/qcow/layout.ts';
import { convert } from '../../../src/operations/convert.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { FileSample, HostileKit } from '../../hostile/descriptor.ts';
import type { BaseImage } from '../../hostile/protocol.ts';
import { fileBytes } from '../../model/extents.ts';
import { sampleOf, samplesOf, type TwoLevelHostile } from '../two-level-hostile.ts';

const CLUSTER = 4096;

const KIT: TwoLevelHostile = {
  format: 'qcow',
  header: HEADER,
  littleEndian: false,
  effects: {
    // Without it the file is a raw disk; another version is another format.
    magic: 'free',
    version: 'free',
    backingOffset: 'free',
    backingLength: 'exact',
    modified: 'exact',
    size: 'prefix',
    clusterBits: 'free',
    l2Bits: 'free',
    padding: 'exact',
    l1Offset: 'free',
  },
  childEffects: { backingLength: 'same' },
  clusterSize: CLUSTER,
  config: { cluster_size: CLUSTER },
  places(bytes) {
    const { clusterBits, l2Bits, size, l1Offset } = HEADER.decode(bytes);
    return {
      virtualSize: Number(size),
      clusterSize: 2 ** clusterBits,
      tableBytes: 8 * 2 ** l2Bits,
      l1Offset: Number(l1Offset),
      l1Entries: Math.ceil(Number(size) / 2 ** (clusterBits + l2Bits)),
      clusterOf: (entry) => (entry === 0n || entry >> 63n !== 0n ? null : Number(entry)),
    };
  },
  markers: [1n << 63n, (1n << 63n) + (1n << 51n) * 40n + 8192n],
  golden: ['qcow-empty.qcow', 'qcow-odd.qcow'],
};

/** Compressed clusters, and plain ones between them. */
async function compressed(): Promise<FileSample> {
  const provider = new MemoryProvider();
  const content = Uint8Array.from({ length: 12 * CLUSTER }, (_, at) => (Math.imul(at, 0x9e37_79b1) >>> 9) % 23);
  content.fill(0, 5 * CLUSTER, 7 * CLUSTER);
  const raw = await provider.create('/image.raw');
  await raw.write(0, content);
  await raw.close();
  const target = { provider, name: '/image.qcow' };
  const how = { format: 'qcow', config: KIT.config, compress: true, sourceFormat: 'raw' };
  await convert({ provider, name: '/image.raw' }, target, how);
  return sampleOf(KIT, 'compressed', await fileBytes(target), content, []);
}

/** A header, and tables that are a hole but for what is named. */
function hollow(name: string, l1: readonly [entry: number, place: number][]): BaseImage {
  const l1Entries = 2 ** 22;
  const bytes = HEADER.encode({
    magic: MAGIC,
    version: VERSION,
    backingOffset: 0n,
    backingLength: 0,
    modified: 0,
    size: BigInt(l1Entries) * 4096n * 512n,
    clusterBits: 12,
    l2Bits: 9,
    padding: 0,
    cryptMethod: CRYPT.none,
    l1Offset: 48n,
  });
  const pieces = l1.map(([entry, place]) => {
    const number = new Uint8Array(8);
    new DataView(number.buffer).setBigUint64(0, BigInt(place));
    return { offset: 48 + entry * 8, bytes: number };
  });
  const size = 48 + l1Entries * 8 + 16 * 4096 - 48;
  const image = { name: 'image.qcow', size, pieces: [{ offset: 0, bytes }, ...pieces] };
  return { name, image, beside: [], content: null, differencing: false };
}

export const hostile: HostileKit<FileSample> = {
  samples: async () => [...(await samplesOf(KIT)), await compressed()],
  damagedEvery: 12,
  files: 110,
  hollow: () => [
    hollow('an L1 table of nothing', []),
    hollow('an L2 table of nothing at the end', [[2 ** 22 - 1, 2 ** 25 + 4096]]),
  ],
};
