/** Bounds of a cue sheet. */
export const CUE_LIMITS = {
  /** Bytes of a sheet. VirtualBox takes 16,383. */
  sheetBytes: 1024 * 1024,
  /** FILE lines: two for each track at most. */
  files: 198,
  /** Minutes of a time; a disc has up to 99, images of longer media have been seen. */
  minutes: 9999,
} as const;
