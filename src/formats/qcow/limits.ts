/** Bounds on what a QCOW file may declare. Those of all formats are in `src/limits.ts`. */
export const QCOW_LIMITS = {
  /** Bytes of the L1 table, which is kept in memory. */
  l1Bytes: 32 * 1024 * 1024,
} as const;
