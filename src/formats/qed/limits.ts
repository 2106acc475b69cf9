/** Bounds on what a QED file may declare. Those of all formats are in `src/limits.ts`. */
export const QED_LIMITS = {
  /** Entries of the L1 table that are kept: they cover more than the largest disk that there can be. */
  l1Entries: 2 ** 18,
} as const;
