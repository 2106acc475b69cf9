/** QCOW2 in random walks of vdkit and QEMU: all its options, what only some images can do, and its bitmaps. */
import { readFile } from 'node:fs/promises';
import { relative, resolve } from 'node:path';
import { readBitmaps } from '../../../src/formats/qcow2/bitmaps/bitmaps.ts';
import { offsetOf } from '../../../src/formats/qcow2/clusters/cluster-map.ts';
import { readHeader } from '../../../src/formats/qcow2/open.ts';
import { localFiles } from '../../../src/storage/local/index.ts';
import type { Random } from '../../../src/testing/random.ts';
import { type Img, KIB, MIB } from '../../alternation/world.ts';
import type { Amendment, Facts, InfoOfQemu, StoredBits, WalkKit } from '../walk-kit.ts';

const CLUSTERS = [512, 512, 1024, 4096, 4096, 16 * KIB, 64 * KIB, 64 * KIB, 256 * KIB, 2 * MIB] as const;

/** Options chosen when an image was created or amended. */
interface Options {
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly extendedL2: boolean;
  readonly refcountBits: number;
  readonly lazyRefcounts: boolean;
  readonly zstd: boolean;
  readonly dataFile: string | null;
  readonly rawDataFile: boolean;
}

interface Qcow2Facts extends Facts {
  readonly options: Options;
}

function factsOf(options: Options, compressed = false): Qcow2Facts {
  const { clusterSize, dataFile, rawDataFile } = options;
  return {
    options,
    unit: clusterSize,
    fixed: false,
    // It would have to hold what the parent holds.
    parentless: rawDataFile,
    files: dataFile === null ? [] : [dataFile],
    compressed: dataFile === null ? compressed : null,
  };
}

/** Facts of an image of this format. */
function optionsOf({ facts }: Pick<Img, 'facts'>): Options {
  return (facts as Qcow2Facts).options;
}

function randomOptions(random: Random, dataFile: string | null): Options {
  const clusterSize = random.pick([...CLUSTERS]);
  const plain: Options = {
    ...{ version: 3, clusterSize, extendedL2: false, refcountBits: 16, lazyRefcounts: false, zstd: false },
    ...{ dataFile: null, rawDataFile: false },
  };
  if (random.chance(0.2)) return { ...plain, version: 2 };
  return {
    ...plain,
    refcountBits: random.chance(0.5) ? random.pick([1, 2, 4, 8, 32, 64]) : 16,
    extendedL2: clusterSize >= 16 * KIB && random.chance(0.4),
    lazyRefcounts: random.chance(0.2),
    zstd: random.chance(0.3),
    dataFile,
    rawDataFile: dataFile !== null && random.chance(0.5),
  };
}

/** As options, the same words for both programs. */
function wordsOf(options: Options): string[] {
  if (options.version === 2) return ['compat=0.10', `cluster_size=${options.clusterSize}`];
  return [
    `cluster_size=${options.clusterSize}`,
    `refcount_bits=${options.refcountBits}`,
    ...(options.extendedL2 ? ['extended_l2=on'] : []),
    ...(options.lazyRefcounts ? ['lazy_refcounts=on'] : []),
    ...(options.zstd ? ['compression_type=zstd'] : []),
    ...(options.dataFile === null ? [] : [`data_file=${options.dataFile}`]),
    ...(options.rawDataFile ? ['data_file_raw=on'] : []),
  ];
}

/** Subclusters, data files, other widths of counts, zstd and bitmaps came with version 3. */
function needsVersion3({ facts, bitmaps }: Img): boolean {
  const { extendedL2, dataFile, refcountBits, zstd } = optionsOf({ facts });
  return extendedL2 || dataFile !== null || refcountBits !== 16 || zstd || bitmaps.length > 0;
}

/** QEMU leaves the room of bitmaps as a leak, and refuses snapshots of other sizes. */
function cannotGetOld(image: Img, byQemu: boolean): boolean {
  const { bitmaps, snapshots, content } = image;
  if (needsVersion3(image) || (byQemu && bitmaps.length + snapshots.length > 0)) return true;
  return snapshots.some((one) => one.content.size !== content.size);
}

function amendment(random: Random, byQemu: boolean): Amendment {
  const bits = random.pick([8, 16, 32, 64]);
  const lazy = random.chance(0.5);
  const change = (value: string, after: (image: Img, options: Options) => Partial<Options> | null): Amendment => ({
    values: [value],
    after(image) {
      const { compressed } = image.facts;
      const changed = after(image, optionsOf(image));
      return changed === null ? null : factsOf({ ...optionsOf(image), ...changed }, compressed ?? false);
    },
  });
  return random.pick<Amendment>([
    change('compat=1.1', () => ({ version: 3 })),
    change('compat=0.10', (image, { lazyRefcounts }) =>
      cannotGetOld(image, byQemu) || lazyRefcounts ? null : { version: 2 },
    ),
    change(`refcount_bits=${bits}`, ({ facts }, { version, refcountBits, dataFile, clusterSize }) => {
      // It walks over every entry of every block of counts: 2 s with 64 KiB, minutes with 1 MiB, on an empty image.
      if (byQemu && clusterSize > 4 * KIB) return null;
      const narrower = bits < refcountBits && facts.compressed === true;
      return version === 2 || narrower || dataFile !== null ? null : { refcountBits: bits };
    }),
    change(`lazy_refcounts=${lazy ? 'on' : 'off'}`, (_, { version }) => {
      return version === 2 ? null : { lazyRefcounts: lazy };
    }),
  ]);
}

function reported(info: InfoOfQemu, facts: Facts): Facts | null {
  const data = info['format-specific']?.data;
  const dataFile = data?.['data-file'];
  if (info['cluster-size'] === undefined || data === undefined) return null;
  const options: Options = {
    version: data['compat'] === '0.10' ? 2 : 3,
    clusterSize: info['cluster-size'],
    extendedL2: data['extended-l2'] === true,
    refcountBits: Number(data['refcount-bits']),
    lazyRefcounts: data['lazy-refcounts'] === true,
    zstd: data['compression-type'] === 'zstd',
    dataFile: typeof dataFile === 'string' ? relative('.', dataFile) : null,
    rawDataFile: data['data-file-raw'] === true,
  };
  return factsOf(options, facts.compressed ?? false);
}

/** vdkit sets flags that a cut left missing where it opens an image, unless its tables are very large. */
function lacksFlagsOnly({ facts }: Img, said: string): boolean {
  const errors = said.split('\n').filter((line) => line.startsWith('ERROR'));
  const missing = errors.every((line) => /^ERROR OFLAG_COPIED .* refcount=1$/.test(line));
  return errors.length > 0 && missing && facts.unit >= MIB;
}

async function bits(path: string): Promise<ReadonlyMap<string, StoredBits>> {
  const file = await readFile(path);
  const storage = await localFiles().open(resolve(path), 'read');
  try {
    const header = await readHeader(storage);
    const stored = await readBitmaps(storage, header);
    return new Map(stored.map(({ name, tableOffset }) => [name, bitsAt(file, tableOffset, header.clusterSize)]));
  } finally {
    await storage.close();
  }
}

function bitsAt(file: Buffer, tableOffset: number, clusterSize: number): StoredBits {
  return (bit) => {
    const entry = tableOffset + 8 * Math.floor(bit / (clusterSize * 8));
    const [high, low] = [file.readUInt32BE(entry), file.readUInt32BE(entry + 4)];
    const offset = offsetOf(high, low);
    const byte = offset === 0 ? (low & 1) * 0xff : (file[offset + (Math.floor(bit / 8) % clusterSize)] ?? 0);
    return ((byte >> (bit % 8)) & 1) === 1;
  };
}

export const walk: WalkKit = {
  weight: 3,
  parents: { vdkit: 'any', qemu: 'any' },
  linksByUuid: false,
  childrenNotice: false,
  qemuChecks: true,
  qemuMaps: true,
  limits: {
    qemuLongerParent: {
      who: 'QEMU',
      what: 'qemu-img resize of a version 2 image with a parent',
      because: 'it cannot hide what the parent has behind the old end: "Failed to zero out new clusters"',
      applies: (image) => optionsOf(image).version === 2 && image.parent !== null,
    },
    innerSnapshots: {
      who: 'both',
      what: 'snapshots inside an image with an external data file',
      because: 'both programs refuse them',
      applies: ({ facts }) => facts.files.length > 0,
    },
    narrowCounts: {
      who: 'both',
      what: 'more snapshots than a narrow count allows',
      because:
        'each cluster that is kept counts once more, and one with compressed streams once for each; both programs refuse ' +
        'the snapshot',
      applies(image) {
        const { refcountBits } = optionsOf(image);
        const many = refcountBits < 8 && image.snapshots.length + 2 >= 2 ** refcountBits;
        return many || (refcountBits < 16 && image.facts.compressed === true);
      },
    },
    snapshotSize: {
      who: 'both',
      what: 'resize of a version 2 image with snapshots',
      because: 'its snapshots do not store the size of the disk; "Can\'t resize a v2 image which has snapshots"',
      applies: (image) => optionsOf(image).version === 2 && image.snapshots.length > 0,
    },
    bitmaps: {
      who: 'both',
      what: 'bitmaps in version 2',
      because: 'it has no place for them',
      applies: (image) => optionsOf(image).version !== 3,
    },
    compact: {
      who: 'vdkit',
      what: 'compact of an image with a data file',
      because: 'it has no units that could move',
      applies: ({ facts }) => facts.files.length > 0,
    },
    set: {
      who: 'vdkit',
      what: 'set',
      because: 'the format stores neither comments nor identities',
      applies: () => true,
    },
  },
  qemuOpens: () => true,
  fresh(random, name, mayHaveFiles) {
    const hasDataFile = mayHaveFiles && random.chance(0.12);
    const options = randomOptions(random, hasDataFile ? name.replace('.qcow2', '.data') : null);
    const words = wordsOf(options);
    return {
      facts: factsOf(options),
      vdkit: words.flatMap((option) => ['--option', option]),
      qemu: ['-o', words.join(',')],
    };
  },
  preallocated: (facts, how) => ({
    facts,
    vdkit: ['--option', `preallocation=${how}`],
    qemu: ['-o', `preallocation=${how}`],
  }),
  compression: (facts) => (optionsOf({ facts }).zstd ? 'zstd' : 'zlib'),
  amendment,
  reported,
  forgives: lacksFlagsOnly,
  bits,
};
