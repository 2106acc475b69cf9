/** Bounds for descriptors of bundles: they protect memory and time. */
export const BUNDLE_LIMITS = {
  /** Bytes of a descriptor. Those of Parallels have some thousands. */
  descriptorBytes: 1024 * 1024,
  /** Elements inside each other. Those of Parallels have 5. */
  depth: 32,
  /** Images of a bundle, and parts of its disk. */
  entries: 2048,
} as const;
