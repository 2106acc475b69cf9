/** Expected files of a walk: images with content, snapshots, bitmaps and parents. Values are immutable. */
import { dirname } from 'node:path/posix';
import type { Random } from '../../src/testing/random.ts';
import type { Facts } from '../formats/walk-kit.ts';
import { type Bitmap, noteChange, resizeBits } from './bits.ts';
import { Content } from './content.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** A state that an image keeps inside. */
export interface Snapshot {
  readonly name: string;
  readonly content: Content;
  readonly staleTail: boolean;
}

/** One image. Names are relative to the folder of the walk, with slashes. */
export interface Img {
  readonly name: string;
  readonly format: string;
  /** Content for the guest; its length is the size of the disk. */
  readonly content: Content;
  /** Sectors may be as here instead, until the next look. */
  readonly or: readonly Content[];
  readonly parent: string | null;
  readonly facts: Facts;
  readonly snapshots: readonly Snapshot[];
  readonly bitmaps: readonly Bitmap[];
  /** A process was killed while it wrote, so room may be lost until a repair. */
  readonly leaky: boolean;
  /** QEMU cut it inside a cluster, and left there what was behind the new end. */
  readonly staleTail: boolean;
  /** A copy, of which the next look finds out what it kept of the original beside the content. */
  readonly adopted?: boolean;
  /** True when the content below was changed: the image can only be removed. */
  readonly ruined?: boolean;
}

/** All images, by name. */
export type World = ReadonlyMap<string, Img>;

export function put(world: World, ...images: readonly Img[]): World {
  return new Map([...world, ...images.map((image) => [image.name, image] as const)]);
}

export function without(world: World, name: string): World {
  return new Map([...world].filter(([other]) => other !== name));
}

export function childrenOf(world: World, name: string): Img[] {
  return [...world.values()].filter(({ parent }) => parent === name);
}

/** The image and all images that read it. */
export function familyOf(world: World, name: string): string[] {
  return [name, ...childrenOf(world, name).flatMap((child) => familyOf(world, child.name))];
}

/** The image and all that it reads, base last. */
export function chainOf(world: World, name: string): Img[] {
  const image = world.get(name);
  if (image === undefined) return [];
  return [image, ...(image.parent === null ? [] : chainOf(world, image.parent))];
}

export function isLeaf(world: World, name: string): boolean {
  return childrenOf(world, name).length === 0;
}

/**
 * The options that let vdkit open what images refer to. What lies beside an image or below needs none, unless it is data
 * that is to be written.
 */
export function allowOf(world: World, ...names: readonly string[]): string[] {
  const places = new Set<string>();
  for (const one of names.flatMap((name) => chainOf(world, name))) {
    const [own, parent] = [dirname(one.name), dirname(one.parent ?? one.name)];
    if (parent !== own && (own !== '.' || parent === 'other')) places.add(parent);
    for (const file of one.facts.files) places.add(file);
  }
  return [...places].flatMap((place) => ['--allow', place]);
}

/** The image with new content; ranges are those requested, whether or not they changed anything. */
export function written(image: Img, content: Content, ranges: readonly Range[], or: readonly Content[] = []): Img {
  const { unit } = image.facts;
  const bitmaps = image.bitmaps.map((bitmap) => noteChange(bitmap, image.content, content, ranges, unit));
  return { ...image, content, or, bitmaps };
}

export function resizedTo(image: Img, size: number): Img {
  const bitmaps = image.bitmaps.map((bitmap) => resizeBits(bitmap, image.content.size, size));
  return { ...image, content: image.content.resized(size), bitmaps, staleTail: false };
}

export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** One of the images for which something holds, and of which something can still be expected. */
export function pick(world: World, random: Random, fits: (image: Img) => boolean): Img | null {
  return oneOf(
    [...world.values()].filter((image) => image.ruined !== true && fits(image)),
    random,
  );
}

/** One of the values; null: there is none. */
export function oneOf<T>(values: readonly T[], random: Random): T | null {
  return values[random.below(Math.max(values.length, 1))] ?? null;
}

/** A name that nothing has. */
export function newName(world: World, random: Random, extension: string, folder = ''): string {
  for (;;) {
    const name = `${folder}${'abcdefghijkmnpqrstuvwxyz'[random.below(24)]}${random.below(90) + 10}.${extension}`;
    if (!world.has(name)) return name;
  }
}

export function emptyImage(name: string, format: string, facts: Facts, content: Content): Img {
  return {
    ...{ name, format, facts, content, or: [], parent: null, snapshots: [], bitmaps: [] },
    ...{ leaky: false, staleTail: false },
  };
}

/** Content of an empty child with this parent and size. */
export function inherited(parent: Content | null, size: number): Content {
  return parent === null ? new Content(size) : parent.resized(size);
}
