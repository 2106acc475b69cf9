/**
 * Extent of the usual run for each format, so that one more of them takes what docs/testing.md grants: 60 s for power
 * cuts, 30 s for hostile files, 20 s for models and 40 s for the rest. A kit that needs other numbers says so; the long
 * run plays everything.
 */
export const USUAL = {
  /** Of the significant cuts of a workload one in this many is visited. */
  everyCut: 16,
  /** Files of a format that are wrong on purpose. */
  hostileFiles: 200,
  /** Ways to make an image that each maker and each program gets, of all that a kit lists. */
  ways: 2,
  /** Of the seeds of a kit's models one in this many is played. */
  modelSeeds: 2,
} as const;
