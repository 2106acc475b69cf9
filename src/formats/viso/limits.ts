/** Bounds of a VISO file. VirtualBox reads 32 MiB, and 2 MiB of each file with more arguments. */
export const VISO_LIMITS = {
  /** Bytes of the text. */
  textBytes: 4 * 1024 * 1024,
  /** Words of the command line, with those in other files. */
  words: 100_000,
  /** Bytes of a file with more arguments. */
  argumentBytes: 2 * 1024 * 1024,
  /** Files with more arguments, however deep they are nested. */
  argumentFiles: 64,
  /** ISO images whose files are taken. */
  isoFiles: 16,
  /** Of these, images that names of files are looked for in, one over the other. */
  isoDepth: 5,
} as const;
