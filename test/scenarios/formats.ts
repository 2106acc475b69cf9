/** Which formats a scenario runs over: chosen by what they can, so that a new one takes part by being registered. */

import type { CreateImageOptions } from '../../src/disk/options.ts';
import type { Config, Format } from '../../src/image/contract.ts';
import { createImage, FORMATS, inspect } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { KITS } from '../conformance/kits.ts';
import { rounds } from '../conformance/random.ts';
import { wordsBesideDefault, writableVariants } from '../formats/variants.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Formats that can be created and written. */
export const WRITABLE = FORMATS.filter(({ capabilities, create }) => capabilities.write && create !== undefined);
/** Formats that allocate space as they are written. */
export const GROWING = WRITABLE.filter(({ capabilities }) => capabilities.createDynamic);
export const FIXED = WRITABLE.filter(({ capabilities }) => capabilities.createFixed);
/** Options that give a fixed image all its space where a format takes it only when asked. */
export function allSpace({ configKeys }: Format): Readonly<Record<string, string>> {
  const key = configKeys.find(({ role }) => role === 'preallocation');
  return key === undefined ? {} : { [key.name]: 'full' };
}

export const DIFFING = WRITABLE.filter(({ capabilities }) => capabilities.diff);
export const WITH_UUID = GROWING.filter(({ capabilities }) => capabilities.uuid);

/** True of a format whose images have a modification UUID: another one for each state of the content. */
async function tellsStates({ name }: Format): Promise<boolean> {
  const source = { provider: new MemoryProvider(), name: '/image' };
  await createImage(source, { format: name, size: MIB });
  return (await inspect(source, { format: name })).modificationUuid !== null;
}

const telling = await Promise.all(WITH_UUID.map(tellsStates));
/** Formats that can tell whether an image was written since. */
export const STAMPED = WITH_UUID.filter((_, number) => telling[number]);

/** A format of differencing images, and what they stand on. */
export interface Pair {
  readonly title: string;
  readonly lower: Format;
  readonly upper: Format;
}

/** Formats that each one stands on in the usual run: itself, and the next one. Their number grows with all formats. */
const BELOW = rounds(2, Number.POSITIVE_INFINITY);

/** Ordered pairs whose upper one has differencing images: all of them in the long run. */
export const PAIRS: readonly Pair[] = DIFFING.flatMap((upper) => {
  const own = WRITABLE.indexOf(upper);
  const below = [...WRITABLE.slice(own), ...WRITABLE.slice(0, own)].slice(0, BELOW);
  return below.map((lower) => ({ title: `${upper.name} over ${lower.name}`, lower, upper }));
});

/** The pairs for one of many scenarios: each upper format with one of its lower ones by turns, all in the long run. */
export function pairsInTurn(turn: number): readonly Pair[] {
  return PAIRS.filter((pair) => {
    const { upper } = pair;
    const own = PAIRS.filter((one) => one.upper === upper);
    const at = own.indexOf(pair);
    const chosen = (DIFFING.indexOf(upper) + turn) % own.length;
    return at === rounds(chosen, at);
  });
}

/** The pairs in which both know each other by UUID. */
export const LINKED = PAIRS.filter(({ lower, upper }) => lower.capabilities.uuid && upper.capabilities.uuid);
/** Those among them whose upper one can tell whether the lower one was written since. */
export const STAMPED_PAIRS = LINKED.filter(({ lower, upper }) => STAMPED.includes(lower) && STAMPED.includes(upper));

/** Every format with each word for a variant that stands by itself, for disks of whole MiB. */
export const VARIANTS = WRITABLE.flatMap((format) =>
  ['', ...wordsBesideDefault(writableVariants(format, MIB))].map((word) => ({
    title: `${format.name} ${word || 'default'}`,
    format,
    variant: word === '' ? [] : [word],
    fixed: format.variants.some((one) => one.word === word && one.allocation === 'fixed'),
  })),
);

/** One image of a chain: its format, and its unit where that can be chosen. */
export interface Layer {
  readonly format: Format;
  readonly block?: number;
  readonly variant?: readonly string[];
}

/** Units that every format with a choice has. */
export const SMALL = 64 * KIB;
export const LARGE = MIB;

/** Layers over each other whose units grow and shrink on the way up, base first. */
export function mixedLayers({ lower, upper }: Pair, count: number): Layer[] {
  return Array.from({ length: count }, (_, number) => ({
    format: number === 0 ? lower : upper,
    block: number % 2 === 0 ? LARGE : SMALL,
  }));
}

/** Bytes of tables that stay when nothing of them is left. */
export function tablesOf({ name }: Format, size: number): number {
  return KITS.find(({ format }) => format === name)?.tables?.(size) ?? 0;
}

function unitsOf({ name }: Format, bytes: number): Config {
  return KITS.find(({ format }) => format === name)?.units?.(bytes) ?? {};
}

/** Options of `createImage` for the layer. */
export function makeOptions({ format, block, variant }: Layer): CreateImageOptions {
  const key = format.configKeys.find(({ role }) => role === 'unit')?.name;
  // The nearest unit that the format has.
  const unit = key === undefined || block === undefined ? undefined : (unitsOf(format, block)[key] ?? block);
  return {
    format: format.name,
    ...(variant === undefined ? {} : { variant }),
    config: {
      ...(variant?.includes('fixed') ? allSpace(format) : {}),
      ...(key === undefined || unit === undefined ? {} : { [key]: unit }),
    },
  };
}
