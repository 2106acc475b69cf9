/** Variants of a format as the suites take them. */
import type { Format } from '../../src/image/contract.ts';

/** Words of the variants whose images can be written again and again, without that of differencing images. */
export function writableVariants({ variants, encodesAlways }: Format): string[] {
  const words = variants.map(({ word }) => word).filter((word) => word !== 'diff');
  return words.filter((word) => encodesAlways?.({ variant: [word] }) !== true);
}
