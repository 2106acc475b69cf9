/** Bounds of a VISO file. VirtualBox reads 32 MiB. */
export const VISO_LIMITS = {
  /** Bytes of the text. */
  textBytes: 4 * 1024 * 1024,
  /** Words of the command line. */
  words: 100_000,
} as const;
