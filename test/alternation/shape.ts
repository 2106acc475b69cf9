/** Steps that change how an image is stored, or how large its disk is: resize, compact, check, amend, set. */
import type { Random } from '../../src/testing/random.ts';
import { formatOf, walkOf } from './kits.ts';
import { limited, type Row } from './limits.ts';
import { formatOption, randomSize } from './make.ts';
import type { Command, Kind, Plan, Step } from './plan.ts';
import { allowOf, childrenOf, type Img, pick, put, resizedTo, type World } from './world.ts';

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
      withOne(world, random, [...rows, 'snapshotSize', 'sizeOfParents', 'fixed'], ({ content }) => {
        const near = content.size + 512 * (random.below(8000) - 4000);
        const size = Math.max(random.chance(0.2) ? randomSize(random) : near, 512 * 600);
        return (image, now) => {
          const shrink = size < image.content.size;
          if (size === image.content.size || (shrink && childrenOf(now, image.name).length > 0)) return null;
          const emptied = image.content.resized(size).resized(image.content.size);
          // QEMU gives the data up before the size changes.
          const cut = shrink && byQemu ? [put(now, { ...image, or: [emptied] })] : [];
          if (byQemu && !shrink && limited(image, now, 'qemuStaleTail')) return null;
          const staleTail = byQemu && shrink && size % image.facts.unit !== 0;
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
      ...formatOption(image),
      ...allowOf(now, image.name),
    ],
  })),
  resize('qemu-img resize', 4, ['qemuResize', 'qemuOpen', 'qemuLongerParent'], (_, image, size, shrink) => ({
    program: 'qemu-img',
    words: ['resize', '-q', ...flag(shrink, '--shrink'), '-f', formatOf(image).qemuName, image.name, `${size}`],
  })),
  {
    name: 'vdkit compact',
    weight: 6,
    propose: (world, random) =>
      withOne(world, random, ['fixed', 'compact'], () => (image, now) => ({
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
          words: ['check', image.name, '--repair', ...formatOption(image), ...allowOf(now, image.name)],
        },
        ...(formatOf(image).format.check === undefined ? { status: 63 } : {}),
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
          command: {
            program: 'qemu-img',
            words: ['check', '-q', '-r', how, '-f', formatOf(image).qemuName, image.name],
          },
        });
      }),
  },
  {
    name: 'vdkit set',
    weight: 2,
    propose: (world, random) =>
      withOne(world, random, ['set', 'sizeOfParents'], () => {
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
    words: ['amend', '-q', '-f', formatOf(image).qemuName, '-o', values.join(','), image.name],
  })),
];

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
      withOne(world, random, [...rows, 'amend'], (seen) => {
        const change = walkOf(seen).amendment?.(random, name.startsWith('qemu'));
        if (change === undefined) return null;
        return (image, now) => {
          const facts = change.after(image);
          return facts === null ? null : { image: { ...image, facts }, command: command(image, change.values, now) };
        };
      }),
  };
}
