/** Criterion for two handles being the same file. */
import type { BigIntStats } from 'node:fs';

/** The identity of a file: equal for all its names and handles. */
export function fileKey(stat: BigIntStats): string {
  return stat.isBlockDevice() ? `device:${stat.rdev}` : `file:${stat.dev}:${stat.ino}`;
}
