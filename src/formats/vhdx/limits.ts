/** Bounds on what a VHDX image may declare. Those of all formats are in `src/limits.ts`. */
export const VHDX_LIMITS = {
  /** 64 TiB: the largest disk of the format. */
  diskBytes: 2 ** 46,
  /** Entries of a region table, and of a metadata table. */
  tableEntries: 2047,
  /** Bytes of the log: its entries are kept in memory until they are replayed. */
  logBytes: 64 * 1024 * 1024,
  /** Bytes of the parent locator. */
  locatorBytes: 1024 * 1024,
} as const;
