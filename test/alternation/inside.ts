/** Steps with what images keep inside: snapshots and bitmaps, by either program. */
import type { Random } from '../../src/testing/random.ts';
import { type Bitmap, mergeBits } from './bits.ts';
import { limited, type Row } from './limits.ts';
import type { Command, Kind, Plan, Step } from './plan.ts';
import { allowOf, type Img, pick, put, type Snapshot, type World, written } from './world.ts';

/** More make a walk slow, and no difference. */
const MOST = 4;

type Change = (
  image: Img,
  now: World,
) => { readonly image: Img; readonly command: Command; readonly refusal?: RegExp } | null;

function step(world: World, random: Random, rows: readonly Row[], make: (image: Img) => Change | null): Step | null {
  const one = pick(world, random, (image) => !limited(image, world, ...rows));
  const change = one === null ? null : make(one);
  if (one === null || change === null) return null;
  return (now): Plan | null => {
    const image = now.get(one.name);
    if (image === undefined || limited(image, now, ...rows)) return null;
    const done = change(image, now);
    if (done === null) return null;
    const { refusal, command } = done;
    return {
      command,
      after: put(now, done.image),
      touched: [image.name],
      cut: [],
      ...(refusal === undefined ? {} : { refusal }),
    };
  };
}

const vdkit = (now: World, image: Img, ...words: string[]): Command => ({
  program: 'vdkit',
  words: [...words, ...allowOf(now, image.name)],
});
const qemu = (...words: string[]): Command => ({ program: 'qemu-img', words });

function unusedName(taken: readonly { readonly name: string }[], random: Random, letter: string): string {
  for (;;) {
    const name = `${letter}${random.below(1000)}`;
    if (taken.every((one) => one.name !== name)) return name;
  }
}

/** The disk reads as it did then. */
export function applied(image: Img, { content, staleTail }: Snapshot): Img {
  const length = Math.max(content.size, image.content.size);
  return { ...written(image, content, [{ offset: 0, length }]), staleTail };
}

function created(image: Img, name: string): Img {
  const { content, staleTail } = image;
  return { ...image, snapshots: [...image.snapshots, { name, content, staleTail }] };
}

function dropped(image: Img, name: string): Img {
  return { ...image, snapshots: image.snapshots.filter((one) => one.name !== name) };
}

type ByName = (image: Img, name: string) => Img | null;

/** Does something with a snapshot that there is. */
function withSnapshot(
  name: string,
  weight: number,
  rows: readonly Row[],
  after: ByName,
  command: (now: World, image: Img, snapshot: string) => Command,
): Kind {
  return {
    name,
    weight,
    propose: (world, random) =>
      step(world, random, rows, (seen) => {
        const chosen = seen.snapshots[random.below(Math.max(seen.snapshots.length, 1))];
        if (chosen === undefined) return null;
        return (image, now) => {
          if (image.snapshots.every((one) => one.name !== chosen.name)) return null;
          const done = after(image, chosen.name);
          return done === null ? null : { image: done, command: command(now, image, chosen.name) };
        };
      }),
  };
}

const apply: ByName = (image, name) => {
  const found = image.snapshots.find((one) => one.name === name);
  return found === undefined ? null : applied(image, found);
};

function creation(
  name: string,
  weight: number,
  rows: readonly Row[],
  command: (now: World, image: Img, snapshot: string) => Command,
): Kind {
  return {
    name,
    weight,
    propose: (world, random) =>
      step(world, random, rows, (seen) => {
        const snapshot = unusedName(seen.snapshots, random, 's');
        return (image, now) => {
          if (image.snapshots.length >= MOST || image.snapshots.some((one) => one.name === snapshot)) return null;
          return { image: created(image, snapshot), command: command(now, image, snapshot) };
        };
      }),
  };
}

export const snapshotKinds: readonly Kind[] = [
  creation('vdkit snapshot create', 7, ['innerSnapshots', 'narrowCounts'], (now, image, name) =>
    vdkit(now, image, 'snapshot', 'create', image.name, name),
  ),
  creation('qemu-img snapshot -c', 5, ['innerSnapshots', 'narrowCounts', 'qemuOpen'], (_, image, name) =>
    qemu('snapshot', '-q', '-c', name, image.name),
  ),
  withSnapshot('vdkit snapshot apply', 4, ['otherChildren', 'applySizeWithBitmaps'], apply, (now, image, name) =>
    vdkit(now, image, 'snapshot', 'apply', image.name, name),
  ),
  withSnapshot(
    'qemu-img snapshot -a',
    3,
    ['otherChildren', 'qemuOpen', 'qemuApplyWithBitmaps'],
    apply,
    (_, image, name) => qemu('snapshot', '-q', '-a', name, image.name),
  ),
  withSnapshot('vdkit snapshot delete', 4, [], dropped, (now, image, name) =>
    vdkit(now, image, 'snapshot', 'delete', image.name, name),
  ),
  withSnapshot('qemu-img snapshot -d', 3, ['qemuOpen'], dropped, (_, image, name) =>
    qemu('snapshot', '-q', '-d', name, image.name),
  ),
  {
    name: 'vdkit snapshot rename',
    weight: 2,
    propose: (world, random) =>
      step(world, random, [], (seen) => {
        const chosen = seen.snapshots[random.below(Math.max(seen.snapshots.length, 1))];
        const next = unusedName(seen.snapshots, random, 'r');
        if (chosen === undefined) return null;
        return (image, now) => {
          const taken = image.snapshots.some((one) => one.name === next);
          if (taken || image.snapshots.every((one) => one.name !== chosen.name)) return null;
          const snapshots = image.snapshots.map((one) => (one.name === chosen.name ? { ...one, name: next } : one));
          return {
            image: { ...image, snapshots },
            command: vdkit(now, image, 'snapshot', 'rename', image.name, chosen.name, next),
          };
        };
      }),
  },
];

const cleared = (bitmap: Bitmap): Bitmap => ({ ...bitmap, must: new Set(), may: new Set() });

/** The words of vdkit, the option of qemu-img, and what becomes of the bitmap. */
const ONE_BITMAP = [
  ['remove', (): null => null],
  ['clear', cleared],
  ['enable', (bitmap: Bitmap): Bitmap => ({ ...bitmap, enabled: true })],
  ['disable', (bitmap: Bitmap): Bitmap => ({ ...bitmap, enabled: false })],
] as const;

function oneBitmap(byQemu: boolean, [act, after]: (typeof ONE_BITMAP)[number]): Kind {
  return {
    name: byQemu ? `qemu-img bitmap --${act}` : `vdkit bitmap ${act}`,
    weight: 1,
    propose: (world, random) =>
      step(world, random, byQemu ? ['qemuOpen'] : [], (seen) => {
        const chosen = seen.bitmaps[random.below(Math.max(seen.bitmaps.length, 1))];
        if (chosen === undefined) return null;
        return (image, now) => {
          if (image.bitmaps.every(({ name }) => name !== chosen.name)) return null;
          const bitmaps = image.bitmaps.flatMap((one) => {
            const next = one.name === chosen.name ? after(one) : one;
            return next === null ? [] : [next];
          });
          const command = byQemu
            ? qemu('bitmap', `--${act}`, image.name, chosen.name)
            : vdkit(now, image, 'bitmap', act, image.name, chosen.name);
          return { image: { ...image, bitmaps }, command };
        };
      }),
  };
}

function addBitmap(byQemu: boolean): Kind {
  return {
    name: byQemu ? 'qemu-img bitmap --add' : 'vdkit bitmap add',
    weight: 3,
    propose: (world, random) =>
      step(world, random, byQemu ? ['bitmaps', 'qemuOpen'] : ['bitmaps'], (seen) => {
        const name = unusedName(seen.bitmaps, random, 'b');
        const granularity = random.pick([512, 4096, 65_536, 1024 * 1024]);
        const enabled = random.chance(0.75);
        return (image, now) => {
          if (image.bitmaps.length >= MOST || image.bitmaps.some((one) => one.name === name)) return null;
          const bitmap: Bitmap = { name, granularity, enabled, must: new Set(), may: new Set() };
          const command = byQemu
            ? qemu('bitmap', '--add', ...(enabled ? [] : ['--disable']), '-g', `${granularity}`, image.name, name)
            : vdkit(
                now,
                image,
                ...['bitmap', 'add', image.name, name, '--granularity', `${granularity}`],
                ...(enabled ? [] : ['--disabled']),
              );
          return { image: { ...image, bitmaps: [...image.bitmaps, bitmap] }, command };
        };
      }),
  };
}

function mergeBitmaps(byQemu: boolean): Kind {
  return {
    name: byQemu ? 'qemu-img bitmap --merge' : 'vdkit bitmap merge',
    weight: 2,
    propose: (world, random) =>
      step(world, random, byQemu ? ['qemuOpen'] : [], (seen) => {
        const [target, source] = random.shuffle([...seen.bitmaps]);
        if (target === undefined || source === undefined) return null;
        return (image, now) => {
          const [into, from] = [target, source].map(({ name }) => image.bitmaps.find((one) => one.name === name));
          if (into === undefined || from === undefined) return null;
          const bitmaps = image.bitmaps.map((one) => (one === into ? mergeBits(into, from) : one));
          const command = byQemu
            ? qemu('bitmap', '--merge', from.name, image.name, into.name)
            : vdkit(now, image, 'bitmap', 'merge', image.name, into.name, from.name);
          return { image: { ...image, bitmaps }, command };
        };
      }),
  };
}

export const bitmapKinds: readonly Kind[] = [false, true].flatMap((byQemu) => [
  addBitmap(byQemu),
  mergeBitmaps(byQemu),
  ...ONE_BITMAP.map((row) => oneBitmap(byQemu, row)),
]);
