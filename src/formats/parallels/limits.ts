/** Bounds on what a Parallels image may declare. Those of all formats are in `src/limits.ts`. */
export const PARALLELS_LIMITS = {
  /** Entries of the block allocation table, as in QEMU. */
  entries: 0x1fff_ffff,
} as const;
