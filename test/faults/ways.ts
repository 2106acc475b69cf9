/**
 * Every way to make an image of every format that can be made and written, small enough to be made thousands of times.
 * The list of formats is the registry's, with the toys: a new one takes part by being registered.
 */

import type { ChainDisk } from '../../src/disk/disk.ts';
import type { Format } from '../../src/image/contract.ts';
import type { Registry } from '../../src/image/registry.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { initialBytes } from '../../src/testing/index.ts';
import { unitsOf } from '../conformance/kits.ts';
import { withToys } from '../formats/toys/registry.ts';
import { writableVariants } from '../formats/variants.ts';

export const SECTOR = 512;
/** Bytes of a unit, where that can be chosen. */
export const UNIT = 4096;
/** More units than a sector of a map has entries; the last of them is not whole. */
export const SECTORS = 203 * 8 + 3;

/** One way to make an image of a format. */
export interface Way {
  readonly title: string;
  readonly format: Format;
  readonly variant: readonly string[];
  /** Has a parent that holds data. */
  readonly diff: boolean;
}

/** The formats of vdkit and the toys. */
export const REGISTRY = withToys();

/** All formats that can be made and written. */
export const WRITABLE = REGISTRY.formats.filter(
  ({ capabilities, create }) => capabilities.write && create !== undefined,
);

/** The variants of a format, and a differencing image where it has them. */
export function waysToMake(format: Format): Way[] {
  const words = writableVariants(format);
  const ways = (words.length === 0 ? [[]] : words.map((word) => [word])).map((variant) => {
    return { title: variant[0] ?? 'default', format, variant, diff: false };
  });
  return format.capabilities.diff ? [...ways, { title: 'diff', format, variant: [], diff: true }] : ways;
}

/** Name of the image. */
export function imageOf({ format }: Way): string {
  return `/disk.${format.extensions[0]?.extension ?? format.name}`;
}

/** Name of the parent of a differencing image. */
export function parentOf({ format }: Way): string {
  return `/parent.${format.extensions[0]?.extension ?? format.name}`;
}

/** Sectors that the parent of a differencing image holds. */
export function hasInitial(sector: number): boolean {
  return sector < SECTORS && Math.floor(sector / 40) % 3 === 0;
}

/** Makes what the image needs to be made. */
export async function prepareWay(provider: StorageProvider, way: Way): Promise<void> {
  if (!way.diff) return;
  const source = { provider, name: parentOf(way) };
  const { format } = way;
  await createImage(source, { format: format.name, size: SECTORS * SECTOR, config: unitsOf(format.name, UNIT) });
  const disk = await openDisk(source, { mode: 'write', format: format.name, flushAfterMs: 0 });
  for (let sector = 0; sector < SECTORS; sector += 120) {
    await disk.write(sector * SECTOR, initialBytes(sector, Math.min(40, SECTORS - sector)));
  }
  await disk.close();
}

/** Makes the image. */
export async function createWay(provider: StorageProvider, way: Way, registry: Registry = REGISTRY): Promise<void> {
  const { format, variant } = way;
  await createImage(
    { provider, name: imageOf(way) },
    {
      provider,
      registry,
      format: format.name,
      variant,
      config: unitsOf(format.name, UNIT),
      size: SECTORS * SECTOR,
      ...(way.diff ? { parent: { provider, name: parentOf(way) }, parentFormat: format.name } : {}),
    },
  );
}

/** Opens the image for writing. */
export function openWay(provider: StorageProvider, way: Way, registry: Registry = REGISTRY): Promise<ChainDisk> {
  const chain = [...(way.diff ? [{ provider, name: parentOf(way) }] : []), { provider, name: imageOf(way) }];
  return openDisk(chain, {
    mode: 'write',
    format: way.format.name,
    flushAfterMs: 0,
    registry,
  });
}
