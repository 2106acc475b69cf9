/** Bounds on what a VHD image may declare. Those of all formats are in `src/limits.ts`. */
export const VHD_LIMITS = {
  /** 2040 GiB: the largest disk that Windows and QEMU take in dynamic images. */
  dynamicBytes: 0xff00_0000 * 512,
  /** BAT entries. */
  entries: 2 ** 24,
  blockBytes: 256 * 1024 * 1024,
  /** Bytes of a name in a locator. */
  locatorBytes: 64 * 1024,
} as const;
