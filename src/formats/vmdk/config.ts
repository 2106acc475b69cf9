/** Options of new images: config keys, and subformats by the words of variants. */
import type { FormatCreateOptions } from '../../image/contract.ts';
import { wantsVariant } from '../../image/variants.ts';

/** Config keys of new images; `subformat` and the others have QEMU's names. */
export const CONFIG = {
  subformat: 'subformat',
  adapterType: 'adapter_type',
  hardwareVersion: 'hwversion',
  zeroedGrain: 'zeroed_grain',
  grainSize: 'grain_size',
  level: 'compression_level',
} as const;

/** createType of each combination of variant words; the first one is the default. */
export const SUBFORMATS = {
  monolithicSparse: [],
  monolithicFlat: ['fixed'],
  twoGbMaxExtentSparse: ['split'],
  twoGbMaxExtentFlat: ['fixed', 'split'],
  vmfs: ['fixed', 'esx'],
  vmfsSparse: ['esx'],
  streamOptimized: ['stream'],
} as const satisfies Readonly<Record<string, readonly string[]>>;
export type Subformat = keyof typeof SUBFORMATS;

/** Variant words of an existing image. */
export function variantWords(createType: string | null, isDynamic: boolean): readonly string[] {
  const type = createType?.replace(/^2gb/i, 'twoGb').toLowerCase() ?? '';
  const found = Object.entries(SUBFORMATS).find(([name]) => name.toLowerCase() === type);
  if (found?.[0] === 'streamOptimized') return found[1];
  const others = (found?.[1] ?? []).filter((word) => word !== 'fixed');
  return [isDynamic ? 'dynamic' : 'fixed', ...others];
}

/** True for streams, whose grains are all compressed. */
export function encodesAlways(options: Pick<FormatCreateOptions, 'variant' | 'config'>): boolean {
  return (
    wantsVariant(options, 'stream') || String(options.config?.[CONFIG.subformat]).toLowerCase() === 'streamoptimized'
  );
}

/** Levels of deflate, the usual one first: half the time of 6, which is zlib's own, for about the same size. */
export const LEVELS: readonly number[] = [5, 1, 2, 3, 4, 6, 7, 8, 9];
