/** The formats that take part in walks, each by its kit: see `test/formats/walk-kit.ts`. */
import { defaultRegistry } from '../../src/formats/index.ts';
import type { Format } from '../../src/image/contract.ts';
import { KITS } from '../conformance/kits.ts';
import type { FormatRow, Parents, WalkKit } from '../formats/walk-kit.ts';
import { chainOf, type Img, type World } from './world.ts';

const REGISTRY = defaultRegistry();

/** A format with its part in walks. */
export interface WalkFormat {
  readonly name: string;
  readonly format: Format;
  /** QEMU's name of it. */
  readonly qemuName: string;
  readonly walk: WalkKit;
}

async function loadFormats(): Promise<WalkFormat[]> {
  const found = await Promise.all(
    KITS.map(async ({ format: name, walk: load }): Promise<WalkFormat[]> => {
      const walk = await load?.();
      return walk === undefined ? [] : [{ name, format: REGISTRY.find(name), qemuName: walk.qemuName ?? name, walk }];
    }),
  );
  return found.flat().sort((a, b) => b.walk.weight - a.walk.weight);
}

/** The most frequent first. */
export const FORMATS: readonly WalkFormat[] = await loadFormats();

/** The format of an image. */
export function formatOf({ format }: Pick<Img, 'format'>): WalkFormat {
  const found = FORMATS.find(({ name }) => name === format);
  if (found === undefined) throw new Error(`${format} takes no part in walks`);
  return found;
}

/** The kit of an image's format. */
export function walkOf(image: Pick<Img, 'format'>): WalkKit {
  return formatOf(image).walk;
}

/** Names of formats, each as often as its weight says. */
export const NAMES: readonly string[] = FORMATS.flatMap(({ name, walk }) => Array<string>(walk.weight).fill(name));

/** A format whose images may have parents of any format, by one of the programs. */
export function anyParents(by: keyof WalkKit['parents']): string {
  const found = FORMATS.find(({ walk }) => walk.parents[by] === 'any');
  if (found === undefined) throw new Error('every format has parents of its own only');
  return found.name;
}

/** Parents that images of a format may have. */
export function parentsOf(image: Img, by: keyof WalkKit['parents']): Parents {
  return walkOf(image).parents[by];
}

/** True when the format can be left out by programs that probe. */
export function isProbed(image: Pick<Img, 'format'>): boolean {
  return formatOf(image).format.fallback !== true;
}

/** QEMU opens the image and all that it reads. */
export function qemuReads(world: World, name: string): boolean {
  return chainOf(world, name).every((image) => walkOf(image).qemuOpens(image));
}

/** True when the kit says that a step is left out. */
export function leavesOut(row: FormatRow, image: Img, world: World): boolean {
  return walkOf(image).limits[row]?.applies(image, world) ?? false;
}

/** The image has another name, and its children say so. */
export function renamed(world: World, from: string, to: string): World {
  const images = [...world.values()].map((image) => ({
    ...image,
    ...(image.name === from ? { name: to, facts: walkOf(image).renamed?.(image.facts, to) ?? image.facts } : {}),
    parent: image.parent === from ? to : image.parent,
  }));
  return new Map(images.map((image) => [image.name, image]));
}
