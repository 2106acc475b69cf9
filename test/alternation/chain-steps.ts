/** Steps with images and their parents: rebase, commit, merge. */
import type { Random } from '../../src/testing/random.ts';
import { formatOf, qemuReads, walkOf } from './kits.ts';
import { limited, type Row } from './limits.ts';
import type { Command, Kind, Plan, Step } from './plan.ts';
import { allowOf, chainOf, childrenOf, familyOf, type Img, pick, put, type World, without, written } from './world.ts';

/** The image, the parent that it has, and the one that it gets; null: none. */
interface Move {
  readonly image: Img;
  readonly from: Img | null;
  readonly to: Img | null;
}

function rebase(
  name: string,
  weight: number,
  rows: readonly Row[],
  fits: (move: Move, now: World) => boolean,
  command: (move: Move, now: World) => Command,
): Kind {
  const allowed = (now: World, child: string, parent: string | null): Move | null => {
    const image = now.get(child);
    if (image === undefined || limited(image, now, ...rows, 'parentKind')) return null;
    const from = image.parent === null ? null : (now.get(image.parent) ?? null);
    const to = parent === null ? null : (now.get(parent) ?? null);
    if ((parent !== null && to === null) || from === to || (to !== null && familyOf(now, child).includes(to.name)))
      return null;
    if (to !== null && (image.facts.parentless || image.facts.fixed)) return null;
    const { parents, linksByUuid } = walkOf(image);
    const ownOnly = parents[name.startsWith('qemu') ? 'qemu' : 'vdkit'] === 'own';
    if (ownOnly && [from, to].some((one) => one !== null && one.format !== image.format)) return null;
    if (linksByUuid && to !== null && (image.name.includes('/') || to.name.includes('/'))) return null;
    return fits({ image, from, to }, now) ? { image, from, to } : null;
  };
  return {
    name,
    weight,
    propose(world, random): Step | null {
      const image = pick(
        world,
        random,
        (one) => walkOf(one).parents.vdkit !== null && (one.parent !== null || random.chance(0.2)),
      );
      if (image === null) return null;
      const to = random.chance(0.2)
        ? null
        : pick(world, random, (one) => allowed(world, image.name, one.name) !== null);
      return (now): Plan | null => {
        const move = allowed(now, image.name, to?.name ?? null);
        if (move === null) return null;
        const { content } = move.image;
        // QEMU records what it stores as a change.
        const recorded = name === 'qemu-img rebase' ? [{ offset: 0, length: content.size }] : [];
        const after = put(now, { ...written(move.image, content, recorded), parent: to?.name ?? null });
        return { command: command(move, now), after, touched: [image.name], cut: [] };
      };
    },
  };
}

/** True when both have the same content, so that swapping parents has no effect. */
const sameContent = ({ from, to }: Move): boolean => from !== null && to !== null && from.content.equals(to.content);

const target = (to: Img | null): string[] => (to === null ? ['none'] : [to.name, '--to-format', to.format]);

/** QEMU takes the name as it is stored: beside the image. */
const besides = ({ image, to }: Move): boolean => !image.name.includes('/') && to?.name.includes('/') !== true;

const qemuTarget = (to: Img | null): string[] =>
  to === null ? ['-b', ''] : ['-b', to.name, '-F', formatOf(to).qemuName];

export const rebaseKinds: readonly Kind[] = [
  rebase(
    'vdkit rebase',
    6,
    ['snapshotsReadParents'],
    () => true,
    ({ image, to }, now) => ({
      program: 'vdkit',
      words: [
        'rebase',
        image.name,
        '--to',
        ...target(to),
        ...allowOf(now, image.name, ...(to === null ? [] : [to.name])),
      ],
    }),
  ),
  rebase('vdkit rebase --unsafe', 4, [], sameContent, ({ image, to }, now) => ({
    program: 'vdkit',
    words: [
      'rebase',
      image.name,
      '--unsafe',
      '--to',
      ...target(to),
      ...allowOf(now, image.name, ...(to === null ? [] : [to.name])),
    ],
  })),
  rebase(
    'qemu-img rebase',
    5,
    ['qemuRebase', 'snapshotsReadParents', 'qemuRebaseLarger', 'qemuOpen'],
    (move, now) => move.from !== null && besides(move) && (move.to === null || qemuReads(now, move.to.name)),
    ({ image, to }) => ({
      program: 'qemu-img',
      words: ['rebase', '-q', '-f', formatOf(image).qemuName, ...qemuTarget(to), image.name],
    }),
  ),
  rebase(
    'qemu-img rebase -u',
    3,
    ['qemuRebase', 'qemuOpen'],
    (move, now) => besides(move) && sameContent(move) && move.to !== null && qemuReads(now, move.to.name),
    ({ image, to }) => ({
      program: 'qemu-img',
      words: ['rebase', '-q', '-u', '-f', formatOf(image).qemuName, ...qemuTarget(to), image.name],
    }),
  ),
];

/** The parent can get as large as the image. */
export function canGrow(parent: Img, now: World, size: number): boolean {
  if (parent.content.size >= size) return true;
  return !limited(parent, now, 'fixed', 'snapshotSize');
}

/** The parent and the image, when content may move between them. */
function pair(now: World, name: string, ...rows: readonly Row[]): { readonly image: Img; readonly parent: Img } | null {
  const image = now.get(name);
  const parent = image?.parent == null ? undefined : now.get(image.parent);
  if (image === undefined || parent === undefined || limited(image, now, ...rows)) return null;
  return childrenOf(now, parent.name).length === 1 ? { image, parent } : null;
}

function committed(now: World, image: Img, parent: Img): World {
  const content = parent.content.overlaid(image.content);
  const staleTail = parent.staleTail && content.size === parent.content.size;
  return put(now, { ...written(parent, content, [{ offset: 0, length: content.size }]), staleTail });
}

/** Cut off, the parent holds some of what it gets. */
export function halfCommitted(now: World, image: Img, parent: Img): World[] {
  const content = parent.content.overlaid(image.content);
  const grown = parent.content.resized(Math.max(parent.content.size, image.content.size));
  const touched = written(parent, parent.content, [{ offset: 0, length: content.size }]);
  return [
    ...(grown.size === parent.content.size ? [] : [put(now, { ...touched, content: grown, or: [content] })]),
    put(now, { ...touched, ...(grown.size === parent.content.size ? { or: [content] } : {}) }),
  ];
}

/** A commit into an image with snapshots, which keep what they hold, must be confirmed. */
export function forceFor({ snapshots }: Img): readonly string[] {
  return snapshots.length > 0 ? ['--force'] : [];
}

function ofChild(random: Random, world: World, plan: (now: World, name: string) => Plan | null): Step | null {
  const one = pick(world, random, ({ name }) => plan(world, name) !== null);
  return one === null ? null : (now) => plan(now, one.name);
}

export const mergeKinds: readonly Kind[] = [
  {
    name: 'vdkit commit',
    weight: 5,
    propose(world, random) {
      const keep = random.chance(0.3);
      return ofChild(random, world, (now, name) => {
        const found = pair(now, name, 'snapshotsReadParents');
        if (found === null) return null;
        const { image, parent } = found;
        if (!canGrow(parent, now, image.content.size)) return null;
        const how = [...(keep ? ['--keep'] : []), ...forceFor(parent)];
        return {
          command: { program: 'vdkit', words: ['commit', name, ...how, ...allowOf(now, name)] },
          after: committed(now, image, parent),
          touched: [name, parent.name],
          cut: halfCommitted(now, image, parent),
        };
      });
    },
  },
  {
    name: 'qemu-img commit',
    weight: 4,
    propose(world, random) {
      const keep = random.chance(0.3);
      return ofChild(random, world, (now, name) => {
        const found = pair(now, name, 'qemuCommit', 'snapshotsReadParents', 'qemuOpen');
        if (found === null) return null;
        const { image, parent } = found;
        if (limited(parent, now, 'snapshotsReadParents')) return null;
        const grows = parent.content.size < image.content.size;
        if (grows && limited(parent, now, 'qemuResize', 'qemuStaleTail', 'qemuLongerParent')) return null;
        return {
          command: {
            program: 'qemu-img',
            words: ['commit', '-q', '-f', formatOf(image).qemuName, ...(keep ? ['-d'] : []), name],
          },
          after: committed(now, image, parent),
          touched: [name, parent.name],
        };
      });
    },
  },
  {
    name: 'vdkit merge',
    weight: 3,
    propose: (world, random) =>
      ofChild(random, world, (now, name) => {
        const found = pair(now, name, 'snapshotsReadParents', 'severalFiles', 'otherChildren');
        if (found === null) return null;
        const { image, parent } = found;
        const larger = parent.content.size > image.content.size;
        if (larger || !canGrow(parent, now, image.content.size)) return null;
        return {
          command: { program: 'vdkit', words: ['merge', name, ...allowOf(now, name)] },
          after: without(committed(now, image, parent), name),
          touched: [parent.name],
          cut: halfCommitted(now, image, parent),
        };
      }),
  },
  {
    name: 'vdkit merge forward',
    weight: 3,
    propose: (world, random) =>
      ofChild(random, world, (now, name) => {
        const found = pair(now, name, 'snapshotsReadParents');
        if (found === null) return null;
        const { image, parent } = found;
        if (limited(parent, now, 'snapshotsReadParents', 'severalFiles')) return null;
        const top = chainOf(now, name).length - 1;
        const after = put(without(now, parent.name), { ...image, parent: parent.parent });
        return {
          command: {
            program: 'vdkit',
            words: ['merge', name, '--from', `${top - 1}`, '--to-image', `${top}`, ...allowOf(now, name)],
          },
          after,
          touched: [name],
          cut: [put(now, { ...image, parent: parent.parent })],
        };
      }),
  },
];
