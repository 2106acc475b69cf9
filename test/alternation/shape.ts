/** Steps that change how an image is stored, or how large its disk is: resize, compact, check, amend, set. */
import type { Random } from '../../src/testing/random.ts';
import { type LIMITS, limited } from './limits.ts';
import { formatOf, randomSize } from './make.ts';
import type { Command, Kind, Plan, Step } from './plan.ts';
import { allowOf, childrenOf, type Img, pick, put, type Qcow2Facts, resizedTo, type World } from './world.ts';

type Row = keyof typeof LIMITS;
type Change = (image: Img, now: World) => (Pick<Plan, 'command'> & Partial<Plan> & { readonly image: Img }) | null;

/** A step with one image, for which none of the rows holds. */
export function withOne(
  world: World,
  random: Random,
  rows: readonly Row[],
  make: (seen: Img) => Change | null,
): Step | null {
  const one = pick(world, random, (image) => !limited(image, world, ...rows));
  const change = one === null ? null : make(one);
  if (one === null || change === null) return null;
  return (now) => {
    const image = now.get(one.name);
    if (image === undefined || limited(image, now, ...rows)) return null;
    const done = change(image, now);
    if (done === null) return null;
    const { image: after, ...rest } = done;
    return { after: put(now, after), touched: [image.name], cut: [], ...rest };
  };
}

function resize(
  name: string,
  weight: number,
  rows: readonly Row[],
  command: (now: World, image: Img, size: number, shrink: boolean) => Command,
): Kind {
  const byQemu = name.startsWith('qemu');
  return {
    name,
    weight,
    propose: (world, random) =>
      withOne(world, random, [...rows, 'version2SnapshotSize', 'sizeOfParents', 'fixedVdi'], ({ content }) => {
        const near = content.size + 512 * (random.below(8000) - 4000);
        const size = Math.max(random.chance(0.2) ? randomSize(random) : near, 512 * 600);
        return (image, now) => {
          const shrink = size < image.content.size;
          if (size === image.content.size || (shrink && childrenOf(now, image.name).length > 0)) return null;
          const emptied = image.content.resized(size).resized(image.content.size);
          // QEMU gives the data up before the size changes.
          const cut = shrink && byQemu ? [put(now, { ...image, or: [emptied] })] : [];
          if (byQemu && !shrink && limited(image, now, 'qemuStaleTail')) return null;
          const staleTail = byQemu && shrink && size % (image.qcow2?.clusterSize ?? 1) !== 0;
          return { image: { ...resizedTo(image, size), staleTail }, command: command(now, image, size, shrink), cut };
        };
      }),
  };
}

const flag = (wanted: boolean, word: string): string[] => (wanted ? [word] : []);

export const shapeKinds: readonly Kind[] = [
  resize('vdkit resize', 6, [], (now, image, size, shrink) => ({
    program: 'vdkit',
    words: [
      ...['resize', image.name, `${size}`],
      ...flag(shrink, '--shrink'),
      ...formatOf(image),
      ...allowOf(now, image.name),
    ],
  })),
  resize('qemu-img resize', 4, ['qemuVdiResize', 'qemuOpen', 'version2LongerParent'], (_, image, size, shrink) => ({
    program: 'qemu-img',
    words: ['resize', '-q', ...flag(shrink, '--shrink'), '-f', image.format, image.name, `${size}`],
  })),
  {
    name: 'vdkit compact',
    weight: 6,
    propose: (world, random) =>
      withOne(world, random, ['fixedVdi', 'compactKind'], () => (image, now) => ({
        // What zeroes took is lost room no longer.
        image,
        command: { program: 'vdkit', words: ['compact', image.name, ...allowOf(now, image.name)] },
      })),
  },
  {
    name: 'vdkit check --repair',
    weight: 3,
    propose: (world, random) =>
      withOne(world, random, [], () => (image, now) => ({
        image: { ...image, leaky: false },
        command: {
          program: 'vdkit',
          words: ['check', image.name, '--repair', ...formatOf(image), ...allowOf(now, image.name)],
        },
        ...(image.format === 'raw' ? { status: 63 } : {}),
      })),
  },
  {
    name: 'qemu-img check -r',
    weight: 3,
    propose: (world, random) =>
      withOne(world, random, ['qemuOpen', 'qemuRepair', 'qemuRepairForgets'], () => {
        const how = random.pick(['leaks', 'all']);
        return (image) => ({
          image: { ...image, leaky: false },
          command: { program: 'qemu-img', words: ['check', '-q', '-r', how, '-f', image.format, image.name] },
        });
      }),
  },
  {
    name: 'vdkit set',
    weight: 2,
    propose: (world, random) =>
      withOne(world, random, ['comments', 'sizeOfParents'], () => {
        const words = random.pick([
          ['--comment', `text ${random.below(1000)}`],
          ['--uuid', 'random'],
          ['--geometry', '20/16/63'],
        ]);
        return (image, now) => ({
          image,
          command: { program: 'vdkit', words: ['set', image.name, ...words, ...allowOf(now, image.name)] },
        });
      }),
  },
  amend('vdkit amend', 5, [], (image, values, now) => ({
    program: 'vdkit',
    words: ['amend', image.name, '-o', values.join(','), ...allowOf(now, image.name)],
  })),
  amend('qemu-img amend', 3, ['qemuOpen', 'dataFileFolder'], (image, values) => ({
    program: 'qemu-img',
    words: ['amend', '-q', '-f', 'qcow2', '-o', values.join(','), image.name],
  })),
];

/** Options to change and the facts then; null: it does not apply. */
type Amendment = readonly [readonly string[], (facts: Qcow2Facts, image: Img, now: World) => Qcow2Facts | null];

function amendments(random: Random, byQemu: boolean): Amendment {
  const bits = random.pick([8, 16, 32, 64]);
  const lazy = random.chance(0.5);
  return random.pick<Amendment>([
    [['compat=1.1'], (facts) => ({ ...facts, version: 3 })],
    [
      ['compat=0.10'],
      (facts, image, now) => {
        const impossible = limited(image, now, 'version2Features', ...(byQemu ? (['qemuAmendOld'] as const) : []));
        const sizes = image.snapshots.some(({ content }) => content.size !== image.content.size);
        return impossible || sizes || facts.lazyRefcounts ? null : { ...facts, version: 2 };
      },
    ],
    [
      [`refcount_bits=${bits}`],
      (facts, image, now) => {
        if (byQemu && limited(image, now, 'qemuAmendCounts')) return null;
        const narrower = bits < facts.refcountBits && facts.compressed;
        return facts.version === 2 || narrower || facts.dataFile !== null ? null : { ...facts, refcountBits: bits };
      },
    ],
    [
      [`lazy_refcounts=${lazy ? 'on' : 'off'}`],
      (facts) => (facts.version === 2 ? null : { ...facts, lazyRefcounts: lazy }),
    ],
  ]);
}

function amend(
  name: string,
  weight: number,
  rows: readonly Row[],
  command: (image: Img, values: readonly string[], now: World) => Command,
): Kind {
  return {
    name,
    weight,
    propose: (world, random) =>
      withOne(world, random, [...rows, 'amendKind'], () => {
        const [values, after] = amendments(random, name.startsWith('qemu'));
        return (image, now) => {
          const facts = image.qcow2 === null ? null : after(image.qcow2, image, now);
          return facts === null ? null : { image: { ...image, qcow2: facts }, command: command(image, values, now) };
        };
      }),
  };
}
