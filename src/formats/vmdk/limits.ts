/** Bounds on what a VMDK image may declare. Those of all formats are in `src/limits.ts`. */
export const VMDK_LIMITS = {
  /** A descriptor, its lines, and the extents of an image. */
  descriptorBytes: 10 * 1024 * 1024,
  descriptorLines: 65_536,
  extents: 32_768,
  /** Grain tables of one extent; 2^23 cover 256 TiB in grains of 64 KiB. */
  tables: 2 ** 23,
} as const;
