/** Steps that copy content or files: convert, copy, rename, move. */
import { basename, dirname } from 'node:path/posix';
import type { Random } from '../../src/testing/random.ts';
import type { Content } from './content.ts';
import { formatOf, qemuReads, renamed, walkOf } from './kits.ts';
import { limited } from './limits.ts';
import { formatOption, fresh } from './make.ts';
import type { Kind, Plan, Step } from './plan.ts';
import { allowOf, chainOf, childrenOf, type Img, newName, pick, put, type World, written } from './world.ts';

/** More images make a walk slow, and no difference. */
const MOST = 8;

/** Something that another image may replace: nothing is made from it, and no file would be left over. */
function isPlace(world: World, image: Img): boolean {
  return !limited(image, world, 'otherChildren', 'severalFiles');
}

/** An image, or a snapshot of one, as something to read. */
interface Origin {
  readonly image: Img;
  readonly snapshot: string | null;
  readonly content: Content;
}

function originOf(now: World, name: string, snapshot: string | null): Origin | null {
  const image = now.get(name);
  if (image === undefined) return null;
  const content = snapshot === null ? image.content : image.snapshots.find((one) => one.name === snapshot)?.content;
  return content === undefined ? null : { image, snapshot, content };
}

function randomOrigin(world: World, random: Random): Origin | null {
  const image = pick(world, random, () => true);
  if (image === null) return null;
  const snapshot = random.chance(0.4)
    ? (image.snapshots[random.below(Math.max(image.snapshots.length, 1))]?.name ?? null)
    : null;
  return originOf(world, image.name, snapshot);
}

export const convertKinds: readonly Kind[] = [
  {
    name: 'vdkit convert',
    weight: 7,
    propose(world, random) {
      const origin = randomOrigin(world, random);
      if (origin === null || world.size >= MOST) return null;
      const { image, vdkit } = fresh(world, random);
      const compress = image.facts.compressed !== null && random.chance(0.4);
      const verify = random.chance(0.3);
      return (now): Plan | null => {
        const from = originOf(now, origin.image.name, origin.snapshot);
        if (from === null || now.has(image.name)) return null;
        const made = {
          ...image,
          content: from.content,
          ...(compress ? { facts: { ...image.facts, compressed: true } } : {}),
        };
        return {
          command: {
            program: 'vdkit',
            words: [
              ...['convert', from.image.name, image.name, ...vdkit, ...formatOption(from.image)],
              ...(from.snapshot === null ? [] : ['--snapshot', from.snapshot]),
              ...(compress ? [`--compress=${walkOf(image).compression?.(image.facts) ?? 'zlib'}`] : []),
              ...(verify ? ['--verify'] : []),
              ...allowOf(now, from.image.name),
            ],
          },
          after: put(now, made),
          touched: [image.name],
          cut: [],
        };
      };
    },
  },
  {
    name: 'vdkit convert --force',
    weight: 2,
    propose(world, random) {
      const origin = randomOrigin(world, random);
      const victim = pick(world, random, (one) => isPlace(world, one) && one.name !== origin?.image.name);
      if (origin === null || victim === null) return null;
      const { image, vdkit } = fresh(world, random, victim.format, false);
      return (now): Plan | null => {
        const from = originOf(now, origin.image.name, origin.snapshot);
        const there = now.get(victim.name);
        if (from === null || there === undefined || !isPlace(now, there)) return null;
        if (chainOf(now, from.image.name).includes(there)) return null;
        const made = { ...image, name: there.name, content: from.content };
        return {
          command: {
            program: 'vdkit',
            words: [
              ...['convert', from.image.name, there.name, '--force', ...vdkit, ...formatOption(from.image)],
              ...(from.snapshot === null ? [] : ['--snapshot', from.snapshot]),
              ...allowOf(now, from.image.name),
            ],
          },
          after: put(now, made),
          touched: [there.name],
          cut: [],
        };
      };
    },
  },
  {
    name: 'qemu-img convert',
    weight: 6,
    propose(world, random) {
      const origin = randomOrigin(world, random);
      if (origin === null || world.size >= MOST) return null;
      const { image, qemu } = fresh(world, random);
      if (qemu === null) return null;
      const compress = image.facts.compressed !== null && random.chance(0.4);
      return (now): Plan | null => {
        const from = originOf(now, origin.image.name, origin.snapshot);
        if (from === null || now.has(image.name) || !qemuReads(now, from.image.name)) return null;
        if (from.content.size !== from.image.content.size) return null;
        const made = {
          ...image,
          content: from.content,
          ...(compress ? { facts: { ...image.facts, compressed: true } } : {}),
        };
        return {
          command: {
            program: 'qemu-img',
            words: [
              ...['convert', '-f', formatOf(from.image).qemuName, ...(compress ? ['-c'] : []), ...qemu],
              ...(from.snapshot === null ? [] : ['-l', `snapshot.name=${from.snapshot}`]),
              ...[from.image.name, image.name],
            ],
          },
          after: put(now, made),
          touched: [image.name],
        };
      };
    },
  },
  intoExisting(
    'vdkit convert --into',
    () => true,
    (now, from, to) => ({
      program: 'vdkit',
      words: [
        ...['convert', from.name, to.name, '--into', ...formatOption(from), ...formatOption(to, '--to')],
        ...(from.content.size > to.content.size ? ['--shrink'] : []),
        ...allowOf(now, from.name, to.name),
      ],
    }),
  ),
  intoExisting(
    'qemu-img convert -n',
    // It refuses a smaller target.
    (from, to, now) => from.content.size <= to.content.size && qemuReads(now, from.name) && qemuReads(now, to.name),
    (_, from, to) => ({
      program: 'qemu-img',
      words: ['convert', '-n', '-f', formatOf(from).qemuName, '-O', formatOf(to).qemuName, from.name, to.name],
    }),
  ),
];

/** Content of an image overwritten with another one: past the end of a shorter one it is unchanged. */
function overwritten(from: Img, to: Img): Content {
  const { size } = to.content;
  return from.content.size > size ? from.content.resized(size) : to.content.overlaid(from.content);
}

function intoExisting(
  name: string,
  fits: (from: Img, to: Img, now: World) => boolean,
  command: (now: World, from: Img, to: Img) => Plan['command'],
): Kind {
  return {
    name,
    weight: 3,
    propose(world, random) {
      const to = pick(world, random, (image) => !limited(image, world, 'otherChildren'));
      const from = pick(world, random, (image) => image !== to && to !== null && fits(image, to, world));
      if (to === null || from === null) return null;
      return (now): Plan | null => {
        const [source, target] = [now.get(from.name), now.get(to.name)];
        if (source === undefined || target === undefined || limited(target, now, 'otherChildren')) return null;
        // Reading what is written at the same time is not wanted.
        if (!fits(source, target, now) || chainOf(now, target.name).includes(source)) return null;
        // Cutting data off is refused, whatever was said.
        if (!source.content.isZeroFrom(target.content.size))
          return { command: command(now, source, target), after: now, touched: [target.name], status: 1 };
        const content = overwritten(source, target);
        const whole = [{ offset: 0, length: content.size }];
        return {
          command: command(now, source, target),
          after: put(now, written(target, content, whole)),
          touched: [target.name],
          ...(name.startsWith('vdkit') ? { cut: [put(now, written(target, target.content, whole, [content]))] } : {}),
        };
      };
    },
  };
}

export const moveKinds: readonly Kind[] = [
  {
    name: 'vdkit copy',
    weight: 3,
    propose(world, random) {
      const one = pick(world, random, (image) => image.parent === null);
      if (one === null || world.size >= MOST) return null;
      const name = newName(world, random, basename(one.name).split('.').at(-1) ?? 'img');
      return (now): Plan | null => {
        const image = now.get(one.name);
        if (image === undefined || image.parent !== null || now.has(name) || limited(image, now, 'severalFiles'))
          return null;
        return {
          command: { program: 'vdkit', words: ['copy', image.name, name, ...formatOption(image)] },
          after: put(now, { ...image, name, adopted: true, leaky: false }),
          touched: [name],
          cut: [],
        };
      };
    },
  },
  {
    name: 'vdkit copy of a chain',
    weight: 2,
    propose(world, random) {
      const one = pick(world, random, ({ name, parent }) => parent !== null && !name.startsWith('sub/'));
      if (one === null || world.size >= MOST) return null;
      return (now): Plan | null => {
        const chain = chainOf(now, one.name);
        const nameOf = (name: string): string => `sub/${basename(name)}`;
        const taken = new Set(chain.map(({ name }) => nameOf(name)));
        if (chain.length < 2 || taken.size < chain.length || [...taken].some((name) => now.has(name))) return null;
        if (chain.some((image) => limited(image, now, 'dataFileFolder'))) return null;
        const copies = chain.map((image) => ({
          ...{ ...image, name: nameOf(image.name), adopted: true, leaky: false },
          parent: image.parent === null ? null : nameOf(image.parent),
        }));
        return {
          command: { program: 'vdkit', words: ['copy', one.name, 'sub/', ...allowOf(now, one.name)] },
          after: put(now, ...copies),
          touched: copies.map(({ name }) => name),
        };
      };
    },
  },
  moves('vdkit rename', 5, ['', '', 'sub/'], (now, image, to) => ['rename', image.name, to, ...common(now, image)]),
  moves('vdkit copy --move', 5, ['', 'sub/', 'other/', 'other/'], (now, image, to) => [
    ...['copy', image.name, to, '--move'],
    ...common(now, image),
  ]),
];

function common(now: World, image: Img): string[] {
  const family = childrenOf(now, image.name).map(({ name }) => name);
  return [...formatOption(image), ...allowOf(now, image.name, ...family)];
}

const onOther = (name: string): boolean => name.startsWith('other/');

function moves(
  name: string,
  weight: number,
  folders: readonly [string, ...string[]],
  words: (now: World, image: Img, to: string) => string[],
): Kind {
  return {
    name,
    weight,
    propose(world, random): Step | null {
      const one = pick(world, random, () => true);
      if (one === null) return null;
      const to = newName(world, random, basename(one.name).split('.').at(-1) ?? 'img', random.pick(folders));
      return (now): Plan | null => {
        const image = now.get(one.name);
        if (image === undefined || now.has(to)) return null;
        if (name === 'vdkit rename' && onOther(image.name) !== onOther(to)) return null;
        const places = [dirname(image.name), dirname(to)];
        if (places[0] !== places[1] && limited(image, now, 'dataFileFolder', 'uuidLinks')) return null;
        const children = childrenOf(now, image.name);
        if (children.some((child) => !places.includes(dirname(child.name)))) return null;
        return {
          command: { program: 'vdkit', words: words(now, image, to) },
          after: renamed(now, image.name, to),
          touched: [to],
          resumes: true,
          cut: betweenNames(now, image, to),
          ...(walkOf(image).linksByUuid && children.length > 0 ? { refusal: /depends? on it/ } : {}),
        };
      };
    },
  };
}

/** The file has both names, or there are two of it, and some of the children have heard of the new one. */
function betweenNames(now: World, image: Img, to: string): World[] {
  const states = [put(now, { ...image, name: to })];
  for (const child of childrenOf(now, image.name))
    states.push(...states.map((state) => put(state, { ...child, parent: to })));
  return states;
}
