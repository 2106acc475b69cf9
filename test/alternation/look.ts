/** Steps that only look: what they print must agree with the model, and nothing may change. */
import { FORMATS, formatOf, qemuReads } from './kits.ts';
import { formatOption } from './make.ts';
import type { Kind, Plan } from './plan.ts';
import { allowOf, type Img, pick, type World } from './world.ts';

const [FIRST = 'none', ...OTHERS] = FORMATS.map(({ name }) => name);
const TARGETS = [FIRST, ...OTHERS] as const;

export const lookKinds: readonly Kind[] = [
  {
    name: 'vdkit measure',
    weight: 1,
    propose(world, random) {
      const one = pick(world, random, () => true);
      const to = random.pick(TARGETS);
      if (one === null) return null;
      return (now): Plan | null => {
        const image = now.get(one.name);
        if (image === undefined) return null;
        return {
          command: {
            program: 'vdkit',
            words: ['measure', image.name, '--to', to, '--json', ...formatOption(image), ...allowOf(now, image.name)],
          },
          after: now,
          touched: [],
          prints(text) {
            const { required, fullyAllocated, virtualSize } = JSON.parse(text);
            if (virtualSize !== image.content.size) return `the size is ${virtualSize}, not ${image.content.size}`;
            return required <= fullyAllocated ? null : 'more is required than when all is allocated';
          },
        };
      };
    },
  },
  comparison(
    'vdkit compare',
    () => true,
    (now, a, b) => ({
      program: 'vdkit',
      words: [
        ...['compare', a.name, b.name, ...formatOption(a), ...formatOption(b, '--format-b')],
        ...allowOf(now, a.name, b.name),
      ],
    }),
  ),
  comparison(
    'qemu-img compare',
    (now, image) => qemuReads(now, image.name),
    (_, a, b) => ({
      program: 'qemu-img',
      words: ['compare', '-q', '-f', formatOf(a).qemuName, '-F', formatOf(b).qemuName, a.name, b.name],
    }),
  ),
];

/** The same, with zeroes behind the shorter one. */
function same(a: Pick<Img, 'content'>, b: Pick<Img, 'content'>): boolean {
  const shorter = Math.min(a.content.size, b.content.size);
  const equal = a.content.differences(b.content, 0, shorter).next().done === true;
  return equal && a.content.isZeroFrom(shorter) && b.content.isZeroFrom(shorter);
}

function comparison(
  name: string,
  fits: (now: World, image: Img) => boolean,
  command: (now: World, a: Img, b: Img) => Plan['command'],
): Kind {
  return {
    name,
    weight: 2,
    propose(world, random) {
      const a = pick(world, random, (image) => fits(world, image));
      const b = pick(world, random, (image) => image !== a && fits(world, image));
      if (a === null || b === null) return null;
      return (now): Plan | null => {
        const [one, other] = [now.get(a.name), now.get(b.name)];
        if (one === undefined || other === undefined || !fits(now, one) || !fits(now, other)) return null;
        const status = same(one, other) ? 0 : 1;
        return { command: command(now, one, other), after: now, touched: [], status };
      };
    },
  };
}
