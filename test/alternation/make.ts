/** Steps that make images out of nothing, copy files, and remove them. */
import type { Random } from '../../src/testing/random.ts';
import type { FreshImage, Preallocation } from '../formats/walk-kit.ts';
import { Content } from './content.ts';
import { anyParents, formatOf, isProbed, NAMES, parentsOf, qemuReads, walkOf } from './kits.ts';
import { limited } from './limits.ts';
import type { Command, Kind, Step } from './plan.ts';
import {
  childrenOf,
  emptyImage,
  type Img,
  inherited,
  isLeaf,
  MIB,
  newName,
  oneOf,
  pick,
  put,
  type World,
  without,
} from './world.ts';

/** More images make a walk slow, and no difference. */
const MOST = 7;
const PREALLOCATIONS: readonly [Preallocation, ...Preallocation[]] = ['metadata', 'falloc', 'full'];

/** Some hundred KiB to some MiB, now and then 64 MiB; the last cluster is seldom whole. */
export function randomSize(random: Random): number {
  if (random.chance(0.04)) return 64 * MIB - 512 * random.below(3);
  return 512 * (600 + random.below(random.pick([1000, 6000, 16_000])));
}

/** A new image of any format, with its options for each program; null: QEMU cannot make it. */
export interface Fresh {
  readonly image: Img;
  readonly vdkit: readonly string[];
  readonly qemu: readonly string[] | null;
}

/** A name, a format and options; `content` is filled in by the step. */
export function fresh(world: World, random: Random, only?: string, mayHaveFiles = true): Fresh {
  const [first = 'none', ...others] = NAMES;
  const name = only ?? random.pick([first, ...others]);
  const { format, qemuName, walk } = formatOf({ format: name });
  const file = newName(world, random, format.extensions[0]?.extension ?? name);
  const { facts, vdkit, qemu } = walk.fresh(random, file, mayHaveFiles);
  return {
    image: emptyImage(file, name, facts, new Content(0)),
    vdkit: [...(format.fallback === true ? ['--to', name] : []), ...vdkit],
    qemu: qemu === null ? null : ['-O', qemuName, ...qemu],
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
      const { image, vdkit } = fresh(world, random, parent === null ? undefined : childFormat(parent, random, 'vdkit'));
      if (parent !== null && image.facts.fixed) return null;
      const size = parent !== null && random.chance(0.6) ? null : randomSize(random);
      const room = parent === null && random.chance(0.25) ? random.pick([...PREALLOCATIONS]) : null;
      const taken = room === null ? { facts: image.facts, vdkit: [] } : preallocated(image, room);
      return creates({ ...image, facts: taken.facts }, parent?.name ?? null, size, (below) => ({
        program: 'vdkit',
        words: [
          ...['create', image.name, ...(size === null ? [] : [String(size)]), ...vdkit],
          ...(below ? ['--parent', below.name, '--parent-format', below.format] : []),
          ...taken.vdkit,
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
      const { image, qemu } = fresh(world, random, parent === null ? undefined : childFormat(parent, random, 'qemu'));
      if (qemu === null) return null;
      const size = parent !== null && random.chance(0.6) ? null : randomSize(random);
      const room = parent === null && random.chance(0.25) ? random.pick([...PREALLOCATIONS]) : null;
      const taken = room === null ? null : preallocated(image, room).qemu;
      return creates(image, parent?.name ?? null, size, (below) => ({
        program: 'qemu-img',
        words: [
          ...['create', '-q', ...qemu.map((word) => (word === '-O' ? '-f' : word))],
          ...(taken ?? []),
          ...(below ? ['-b', below.name, '-F', formatOf(below).qemuName] : []),
          ...[image.name, ...(size === null ? [] : [String(size)])],
        ],
      }));
    },
  },
];

/** The facts and words for room that is taken at once. */
function preallocated({ format, facts }: Img, how: Preallocation): FreshImage {
  const plain = { facts, vdkit: how === 'metadata' ? [] : ['--preallocation', how], qemu: null };
  return walkOf({ format }).preallocated?.(facts, how) ?? plain;
}

/** A format whose images may have this parent. */
function childFormat(parent: Img, random: Random, by: 'vdkit' | 'qemu'): string {
  return parentsOf(parent, by) === 'own' && random.chance(0.6) ? parent.format : anyParents(by);
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
    if (below !== null && image.facts.parentless) return null;
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
        // A second image of the same UUID makes the parent of others ambiguous, which is another suite's matter.
        if (image === undefined || walkOf(image).linksByUuid || now.has(name) || image.leaky) return null;
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
      removes(world, random, ({ name, facts }) => ({ program: 'rm', words: [name, ...facts.files] })),
  },
  {
    name: 'vdkit delete',
    weight: 3,
    propose: (world, random) =>
      removes(world, random, (image, now) =>
        limited(image, now, 'severalFiles')
          ? null
          : { program: 'vdkit', words: ['delete', image.name, ...formatOption(image)] },
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

/** The option that names a format which is not probed; the others are detected. */
export function formatOption(image: Pick<Img, 'format'>, option = '--format'): string[] {
  return isProbed(image) ? [] : [option, image.format];
}
