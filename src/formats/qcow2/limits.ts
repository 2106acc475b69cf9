/** Bounds on what a QCOW2 file may declare. Those of all formats are in `src/limits.ts`. */
export const QCOW2_LIMITS = {
  /** The active L1 table, and that of a snapshot. */
  l1Bytes: 32 * 1024 * 1024,
  refcountTableBytes: 8 * 1024 * 1024,
  /** L1 and bitmap tables of one image together. Overlapping tables would be read over and over. */
  tableBytes: 2 ** 30,
  /** Header extensions; QEMU writes six at most. */
  extensions: 256,
  /** Snapshots, and the table that lists them. */
  snapshots: 65_536,
  snapshotTableBytes: 64 * 1024 * 1024,
  /** Persistent bitmaps, and the directory that lists them. */
  bitmaps: 65_535,
  bitmapDirectoryBytes: 64 * 1024 * 1024,
  /** The bits of one bitmap. */
  bitmapBytes: 512 * 1024 * 1024,
} as const;
