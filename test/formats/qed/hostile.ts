/** QED for the hostile suite. */
import { HEADER, MAGIC } from '../../../src/formats/qed/layout.ts';
import type { FileSample, HostileKit } from '../../hostile/descriptor.ts';
import type { BaseImage } from '../../hostile/protocol.ts';
import { samplesOf, type TwoLevelHostile } from '../two-level-hostile.ts';

const CLUSTER = 4096;

const KIT: TwoLevelHostile = {
  format: 'qed',
  header: HEADER,
  littleEndian: true,
  effects: {
    // Without it the file is a raw disk.
    magic: 'free',
    compatible: 'exact',
    autoclear: 'exact',
    // A backing file that is taken away, or named where there is none.
    features: 'free',
    clusterSize: 'free',
    tableSize: 'free',
    headerSize: 'same',
    l1Offset: 'free',
    imageSize: 'prefix',
    backingOffset: 'exact',
    backingLength: 'exact',
  },
  childEffects: { backingOffset: 'same', backingLength: 'same' },
  clusterSize: CLUSTER,
  config: { cluster_size: CLUSTER, table_size: 2 },
  places(bytes) {
    const { clusterSize, tableSize, imageSize, l1Offset } = HEADER.decode(bytes);
    const tableBytes = clusterSize * tableSize;
    return {
      virtualSize: imageSize,
      clusterSize,
      tableBytes,
      l1Offset: Number(l1Offset),
      l1Entries: Math.ceil(imageSize / clusterSize / (tableBytes / 8)),
      clusterOf: (entry) => (entry > 1n ? Number(entry) : null),
    };
  },
  markers: [1n, 2n],
  golden: ['qed-empty.qed'],
};

/** A header, and tables of 1 MiB clusters that are a hole but for what is named. */
function hollow(name: string, l1: readonly [entry: number, place: number][]): BaseImage {
  const [clusterSize, tableSize] = [1024 ** 2, 2];
  const bytes = HEADER.encode({
    magic: MAGIC,
    clusterSize,
    tableSize,
    headerSize: 1,
    features: 0n,
    compatible: 0n,
    autoclear: 0n,
    l1Offset: BigInt(clusterSize),
    imageSize: 2 ** 52,
    backingOffset: 0,
    backingLength: 0,
  });
  const pieces = l1.map(([entry, place]) => {
    const number = new Uint8Array(8);
    new DataView(number.buffer).setBigUint64(0, BigInt(place), true);
    return { offset: clusterSize + entry * 8, bytes: number };
  });
  const image = { name: 'image.qed', size: 8 * clusterSize, pieces: [{ offset: 0, bytes }, ...pieces] };
  return { name, image, beside: [], content: null, differencing: false };
}

export const hostile: HostileKit<FileSample> = {
  samples: () => samplesOf(KIT),
  damagedEvery: 8,
  files: 110,
  hollow: () => [hollow('an L1 table of nothing', []), hollow('an L2 table of nothing', [[7, 4 * 1024 ** 2]])],
};
