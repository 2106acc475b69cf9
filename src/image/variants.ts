/** Variants of new images: the words of `--variant`, and their meaning. */
import type { Format, FormatCreateOptions, Variant } from './contract.ts';

/** Returns true if the options of a new image name this variant. */
export function wantsVariant({ variant }: Pick<FormatCreateOptions, 'variant'>, wanted: string): boolean {
  return variant.some((word) => word === wanted);
}

/** The variant that takes all room at creation. */
export function fixedVariant({ variants }: Pick<Format, 'variants'>): Variant | undefined {
  return variants.find(({ allocation }) => allocation === 'fixed');
}
