/** Bounds on what a VDI file may declare. Those of all formats are in `src/limits.ts`. */
export const VDI_LIMITS = {
  /** Entries of the block map: its offset fields have 32 bits. */
  blocks: 2 ** 30 - 1,
} as const;
