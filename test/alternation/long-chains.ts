/** Steps that move content through several images of a chain: commit to the base, merge to either end. */
import { canGrow, forceFor, halfCommitted } from './chain-steps.ts';
import { limited } from './limits.ts';
import type { Kind, Plan } from './plan.ts';
import { allowOf, chainOf, childrenOf, type Img, pick, put, type World, without, written } from './world.ts';

/** An image, its base, and those between, of which nothing else is made. */
interface Whole {
  readonly image: Img;
  readonly between: readonly Img[];
  readonly base: Img;
}

function wholeChain(now: World, name: string): Whole | null {
  const [image, ...below] = chainOf(now, name);
  const base = below.at(-1);
  if (image === undefined || base === undefined || below.length < 2) return null;
  const apart = below.every((one) => childrenOf(now, one.name).length === 1);
  const between = below.slice(0, -1);
  const alone = [image, ...between].every((one) => !limited(one, now, 'snapshotsReadParents'));
  const plain = alone && [image, ...below].every((one) => !limited(one, now, 'severalFiles'));
  return apart && plain ? { image, between, base } : null;
}

/** Images in between read a changed base: nothing is promised about them any more. */
function withRuined(world: World, images: readonly Img[]): World {
  return put(world, ...images.map((image): Img => ({ ...image, ruined: true })));
}

function committed({ image, base }: Whole): Img {
  const content = base.content.overlaid(image.content);
  const staleTail = base.staleTail && content.size === base.content.size;
  return { ...written(base, content, [{ offset: 0, length: content.size }]), staleTail };
}

/** States that a cut may leave: the base in between, or everything moved with some links and files as before. */
function cutStates(now: World, whole: Whole): World[] {
  const { image, between, base } = whole;
  const linked = put(now, committed(whole), { ...image, parent: base.name });
  const early = halfCommitted(now, image, base).map((world) => withRuined(world, between));
  const late = [withRuined(linked, between)];
  for (const { name } of between) late.push(...late.map((state) => without(state, name)));
  return [...late, withRuined(put(now, committed(whole)), between), ...early];
}

function kind(name: string, plan: (now: World, whole: Whole) => Plan | null): Kind {
  const made = (now: World, image: string): Plan | null => {
    const whole = wholeChain(now, image);
    return whole === null ? null : plan(now, whole);
  };
  return {
    name,
    weight: 4,
    propose(world, random) {
      const one = pick(world, random, (image) => made(world, image.name) !== null);
      return one === null ? null : (now) => made(now, one.name);
    },
  };
}

export const longChainKinds: readonly Kind[] = [
  kind('vdkit commit --base', (now, whole) => {
    const { image, between, base } = whole;
    if (!canGrow(base, now, image.content.size)) return null;
    const after = withRuined(put(now, committed(whole), { ...image, parent: base.name }), between);
    return {
      command: {
        program: 'vdkit',
        words: ['commit', image.name, '--base', '0', ...forceFor(base), ...allowOf(now, image.name)],
      },
      after,
      touched: [image.name, base.name],
      cut: cutStates(now, whole),
    };
  }),
  kind('vdkit merge to the base', (now, whole) => {
    const { image, between, base } = whole;
    const fits = base.content.size <= image.content.size && canGrow(base, now, image.content.size);
    if (!fits || childrenOf(now, image.name).length > 0) return null;
    const gone = [image, ...between].reduce((world, { name }) => without(world, name), now);
    return {
      command: { program: 'vdkit', words: ['merge', image.name, '--to-image', '0', ...allowOf(now, image.name)] },
      after: put(gone, committed(whole)),
      touched: [base.name],
      cut: cutStates(now, whole),
    };
  }),
  kind('vdkit merge from the base', (now, { image, between, base }) => {
    // They would go with the file.
    if (base.snapshots.length > 0) return null;
    const top = between.length + 1;
    const alone = put(now, { ...image, parent: null });
    const below = [...between, base];
    // Files go from the top down.
    const cut = below.map((_, count) => below.slice(0, count).reduce((world, { name }) => without(world, name), alone));
    return {
      command: {
        program: 'vdkit',
        words: ['merge', image.name, '--from', '0', '--to-image', `${top}`, ...allowOf(now, image.name)],
      },
      after: below.reduce((world, { name }) => without(world, name), alone),
      touched: [image.name],
      cut,
    };
  }),
];
