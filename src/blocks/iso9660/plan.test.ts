import { expect, it } from 'vitest';
import { planIso } from './plan.ts';
import type { IsoNode, IsoRecipe } from './tree.ts';

const TEXTS = {
  ...{ volume: 'X', system: '', volumeSet: '', publisher: '', preparer: '' },
  ...{ application: '', copyright: '', abstract: '', bibliography: '' },
};

function file(name: string, size: number): IsoNode {
  return { name, modifiedMs: 0, executable: false, children: null, content: { size }, target: null };
}

function directory(name: string, children: IsoNode[]): IsoNode {
  return { name, modifiedMs: 0, executable: true, children, content: null, target: null };
}

function recipe(root: IsoNode, how: Partial<IsoRecipe> = {}): IsoRecipe {
  const none = { joliet: null, rockRidge: 'none', boot: [], catalog: null, system: null, pad: 0 } as const;
  return { root, texts: TEXTS, createdMs: 0, level: 3, ...none, ...how };
}

it('has at most 65,535 directories, whose numbers have 16 bits', () => {
  const directories = Array.from({ length: 65_535 }, (_, number) => directory(`${number}`, []));
  expect(() => planIso(recipe(directory('', directories)))).toThrow('cannot hold as many directories');
});

it('has files of 4 GiB and more in several records of level 3, and in no other level', () => {
  const root = directory('', [file('large', 3 * 2 ** 32 + 5), file('small', 1)]);
  const plan = planIso(recipe(root));
  const [large, small] = plan.contents;
  expect([large?.content.size, small?.offset]).toEqual([
    3 * 2 ** 32 + 5,
    (large?.offset ?? 0) + Math.ceil((3 * 2 ** 32 + 5) / 2048) * 2048,
  ]);
  expect(Buffer.from(plan.head).toString('latin1').split('LARGE.;1')).toHaveLength(5);
  expect(() => planIso(recipe(root, { level: 2 }))).toThrow('too long for the level');
});

it('has at most 2^32 - 1 blocks', () => {
  const terabytes = Array.from({ length: 9 }, (_, number) => file(`${number}`, 2 ** 40 - 2048));
  expect(() => planIso(recipe(directory('', terabytes)))).toThrow('larger than an ISO 9660 image can be');
});
