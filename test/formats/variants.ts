/** Variants of a format as the suites take them. */
import type { Format } from '../../src/image/contract.ts';
import { rounds } from '../conformance/random.ts';

/**
 * Words of the variants whose images can be written again and again, without that of differencing images,
 * for disks of which this is a unit.
 */
export function writableVariants({ variants, encodesAlways }: Format, unit = 512): string[] {
  const words = variants
    .filter(({ word, sizeUnit = 512 }) => word !== 'diff' && sizeUnit <= unit)
    .map(({ word }) => word);
  return words.filter((word) => encodesAlways?.({ variant: [word] }) !== true);
}

/** The words beside the default: the first one names it, and is left to the long run, which takes all words. */
export function wordsBesideDefault(words: readonly string[]): readonly string[] {
  return words.slice(rounds(1, 0));
}
