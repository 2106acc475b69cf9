/** Steps that make images out of nothing, copy files, and remove them. */
import type { Random } from '../../src/testing/random.ts';
import { Content } from './content.ts';
import { limited } from './limits.ts';
import type { Command, Kind, Step } from './plan.ts';
import {
  childrenOf,
  emptyImage,
  type Img,
  inherited,
  isLeaf,
  KIB,
  MIB,
  newName,
  oneOf,
  pick,
  put,
  type Qcow2Facts,
  qemuReads,
  type World,
  without,
} from './world.ts';

/** More images make a walk slow, and no difference. */
const MOST = 7;
const CLUSTERS = [512, 512, 1024, 4096, 4096, 16 * KIB, 64 * KIB, 64 * KIB, 256 * KIB, 2 * MIB] as const;

const PREALLOCATIONS = ['metadata', 'falloc', 'full'] as const;

/** Some hundred KiB to some MiB, now and then 64 MiB; the last cluster is seldom whole. */
export function randomSize(random: Random): number {
  if (random.chance(0.04)) return 64 * MIB - 512 * random.below(3);
  return 512 * (600 + random.below(random.pick([1000, 6000, 16_000])));
}

/** Facts of a new QCOW2. */
export function randomQcow2(random: Random, dataFile: string | null): Qcow2Facts {
  const clusterSize = random.pick([...CLUSTERS]);
  const plain: Qcow2Facts = {
    ...{ version: 3, clusterSize, extendedL2: false, refcountBits: 16, lazyRefcounts: false, zstd: false },
    ...{ dataFile: null, rawDataFile: false, compressed: false },
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

/** The facts as options, the same words for both programs. */
export function qcow2Options(facts: Qcow2Facts): string[] {
  if (facts.version === 2) return ['compat=0.10', `cluster_size=${facts.clusterSize}`];
  return [
    `cluster_size=${facts.clusterSize}`,
    `refcount_bits=${facts.refcountBits}`,
    ...(facts.extendedL2 ? ['extended_l2=on'] : []),
    ...(facts.lazyRefcounts ? ['lazy_refcounts=on'] : []),
    ...(facts.zstd ? ['compression_type=zstd'] : []),
    ...(facts.dataFile === null ? [] : [`data_file=${facts.dataFile}`]),
    ...(facts.rawDataFile ? ['data_file_raw=on'] : []),
  ];
}

/** A new image of any format, with its options for each program. */
export interface Fresh {
  readonly image: Img;
  readonly vdkit: readonly string[];
  readonly qemu: readonly string[];
}

/** A name, a format and options; `content` is filled in by the step. */
export function fresh(world: World, random: Random, only?: Img['format'], mayHaveDataFile = true): Fresh {
  const format = only ?? random.pick(['qcow2', 'qcow2', 'qcow2', 'vdi', 'vdi', 'raw']);
  const name = newName(world, random, format === 'raw' ? 'img' : format);
  const image = emptyImage(name, format, new Content(0));
  if (format === 'raw') return { image, vdkit: ['--to', 'raw'], qemu: ['-O', 'raw'] };
  if (format === 'vdi') {
    const fixed = random.chance(0.2);
    const blockSize = random.chance(0.8) ? MIB : random.pick([64 * KIB, 4096, 256 * KIB]);
    return {
      image: { ...image, vdi: { blockSize, fixed } },
      vdkit: [...(fixed ? ['--variant', 'fixed'] : []), ...(blockSize === MIB ? [] : ['--block-size', `${blockSize}`])],
      qemu: ['-O', 'vdi', ...(fixed ? ['-o', 'static=on'] : [])],
    };
  }
  const facts = randomQcow2(random, mayHaveDataFile && random.chance(0.12) ? name.replace('.qcow2', '.data') : null);
  const options = qcow2Options(facts);
  return {
    image: { ...image, qcow2: facts },
    vdkit: options.flatMap((option) => ['--option', option]),
    qemu: ['-O', 'qcow2', '-o', options.join(',')],
  };
}

function full(world: World): boolean {
  return world.size >= MOST;
}

export const createKinds: readonly Kind[] = [
  {
    name: 'vdkit create',
    weight: 8,
    propose(world, random) {
      if (full(world)) return null;
      const parent = random.chance(0.5) ? pick(world, random, (one) => !one.name.includes('/')) : null;
      const { image, vdkit } = fresh(world, random, parent === null ? undefined : childFormat(parent, random));
      if (parent !== null && image.vdi?.fixed === true) return null;
      const size = parent !== null && random.chance(0.6) ? null : randomSize(random);
      const room = parent === null && random.chance(0.25) ? random.pick([...PREALLOCATIONS]) : null;
      // A VDI that has all its room is a fixed one.
      const vdi =
        image.vdi === null ? null : { ...image.vdi, fixed: image.vdi.fixed || ['falloc', 'full'].includes(room ?? '') };
      return creates({ ...image, vdi }, parent?.name ?? null, size, (below) => ({
        program: 'vdkit',
        words: [
          ...['create', image.name, ...(size === null ? [] : [String(size)]), ...vdkit],
          ...(below ? ['--parent', below.name, '--parent-format', below.format] : []),
          ...(room === null ? [] : preallocated(image, room)),
        ],
      }));
    },
  },
  {
    name: 'qemu-img create',
    weight: 6,
    propose(world, random) {
      if (full(world)) return null;
      const parent = random.chance(0.5)
        ? pick(world, random, ({ name }) => !name.includes('/') && qemuReads(world, name))
        : null;
      const { image, qemu } = fresh(world, random, parent === null ? undefined : 'qcow2');
      if (image.vdi !== null && image.vdi.blockSize !== MIB) return null;
      const size = parent !== null && random.chance(0.6) ? null : randomSize(random);
      const room = parent === null && random.chance(0.25) ? random.pick([...PREALLOCATIONS]) : null;
      // Others have no such word.
      const mode = image.format === 'vdi' || (image.format === 'raw' && room === 'metadata') ? null : room;
      return creates(image, parent?.name ?? null, size, (below) => ({
        program: 'qemu-img',
        words: [
          ...['create', '-q', ...qemu.map((word) => (word === '-O' ? '-f' : word))],
          ...(mode === null ? [] : ['-o', `preallocation=${mode}`]),
          ...(below ? ['-b', below.name, '-F', below.format] : []),
          ...[image.name, ...(size === null ? [] : [String(size)])],
        ],
      }));
    },
  },
];

/** The word of the format, or that of the command for images of any. */
function preallocated({ format }: Img, room: (typeof PREALLOCATIONS)[number]): string[] {
  if (format === 'qcow2') return ['--option', `preallocation=${room}`];
  return room === 'metadata' ? [] : ['--preallocation', room];
}

function childFormat(parent: Img, random: Random): Img['format'] {
  return parent.format === 'vdi' && random.chance(0.6) ? 'vdi' : 'qcow2';
}

function creates(
  image: Img,
  parent: string | null,
  size: number | null,
  command: (below: Img | null) => Command,
): Step {
  return (world) => {
    const below = parent === null ? null : (world.get(parent) ?? null);
    if (world.has(image.name) || (parent !== null && below === null)) return null;
    // A raw data file would have to hold what the parent holds.
    if (below !== null && image.qcow2?.rawDataFile === true) return null;
    const content = inherited(below?.content ?? null, size ?? below?.content.size ?? MIB);
    const after = put(world, { ...image, content, parent });
    const how = command(below);
    return { command: how, after, touched: [image.name], ...(how.program === 'vdkit' ? { cut: [] } : {}) };
  };
}

export const fileKinds: readonly Kind[] = [
  {
    name: 'cp',
    weight: 3,
    propose(world, random) {
      const one = pick(world, random, (image) => !image.name.includes('/'));
      if (one === null || full(world)) return null;
      const name = newName(world, random, one.name.split('.').at(-1) ?? 'img');
      return (now) => {
        const image = now.get(one.name);
        // A second VDI of the same UUID makes the parent of others ambiguous, which is another suite's matter.
        if (image === undefined || image.format === 'vdi' || now.has(name) || image.leaky) return null;
        if (limited(image, now, 'dataFileFolder')) return null;
        return {
          command: { program: 'cp', words: [image.name, name] },
          after: put(now, { ...image, name }),
          touched: [name],
        };
      };
    },
  },
  {
    name: 'rm',
    weight: 3,
    propose: (world, random) =>
      removes(world, random, ({ name, qcow2 }) => ({
        program: 'rm',
        words: [name, ...(qcow2?.dataFile ? [qcow2.dataFile] : [])],
      })),
  },
  {
    name: 'vdkit delete',
    weight: 3,
    propose: (world, random) =>
      removes(world, random, (image, now) =>
        limited(image, now, 'severalFiles')
          ? null
          : { program: 'vdkit', words: ['delete', image.name, ...formatOf(image)] },
      ),
  },
];

function removes(world: World, random: Random, command: (image: Img, now: World) => Command | null): Step | null {
  const leaves = [...world.values()].filter(({ name }) => isLeaf(world, name));
  const ruined = leaves.filter((image) => image.ruined);
  const one = oneOf(ruined.length > 0 ? ruined : leaves, random);
  if (one === null || (ruined.length === 0 && world.size < MOST - 2)) return null;
  return (now) => {
    const image = now.get(one.name);
    if (image === undefined || childrenOf(now, one.name).length > 0) return null;
    const how = command(image, now);
    return how === null ? null : { command: how, after: without(now, one.name), touched: [] };
  };
}

/** A raw image must be named as one; the others are found out. */
export function formatOf({ format }: Img): string[] {
  return format === 'raw' ? ['--format', 'raw'] : [];
}
