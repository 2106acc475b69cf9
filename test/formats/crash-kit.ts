/** The power-cut part of a format's kit: images and workloads, the flushes that they need, and mutants of the code. */
import type { Registry } from '../../src/image/registry.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import type { CrashCheckOptions, CrashSuite, MetadataClassifier } from '../../src/testing/index.ts';

/** One image under one workload. */
export interface CrashRow {
  readonly title: string;
  suite(seed: number): CrashSuite;
  readonly options: CrashCheckOptions;
  /** Seeds, where they are not those of the kit: in the usual run, and in the long one. */
  readonly seeds?: readonly [usual: number, long: number];
  /** States to aim for, where they are not those of the kit. */
  readonly states?: readonly [usual: number, long: number];
  /** The pairs of metadata sectors are all split. */
  readonly allPairs?: boolean;
}

/** A workload every flush of which is needed, but for those that are named. */
export interface NeededRow {
  readonly title: string;
  readonly suite: CrashSuite;
  /** Numbers of the flushes that nothing would miss. */
  readonly unmissed: readonly number[];
  readonly options: CrashCheckOptions;
}

/** Defect made by a mutant. */
export interface Mutation {
  readonly registry?: Registry;
  /** Put around the provider wherever the image is opened or made. */
  readonly wrap?: (provider: StorageProvider) => StorageProvider;
}

/** A mutant of the code, and the workload that shows it. */
export interface Mutant {
  readonly name: string;
  /** May patch classes; they are restored afterwards. */
  mutate(): Mutation;
  readonly suite: (mutation: Mutation) => CrashSuite;
}

/** Chains of images of the format that are merged, stacked and copied. */
export interface ChainKit {
  /** Bytes of the smallest unit. Default: 512. */
  readonly unit?: number;
  /** Such units of the disk. Default: 384. */
  readonly count?: number;
  /** Default: everything is metadata. */
  readonly isMetadata?: MetadataClassifier;
  /** One in this many of the significant cuts: in the usual run, and in the long one. Default: 36 and 4. */
  readonly everyCut?: readonly [usual: number, long: number];
  /** States that differ, at least, over all chains: in the usual run, and in the long one. Default: 90 and 20,000. */
  readonly atLeast?: readonly [usual: number, long: number];
}

/** See the head of this file. */
export interface CrashKit {
  readonly rows: readonly CrashRow[];
  /** Seeds of each row, and states to aim for: in the usual run, and in the long one. */
  readonly seeds: readonly [usual: number, long: number];
  readonly states: readonly [usual: number, long: number];
  /** One in this many of the significant cuts: in the usual run, and in the long one. Default: that of all formats, and 1. */
  readonly everyCut?: readonly [usual: number, long: number];
  /** States that differ, at least, over all rows. */
  readonly atLeast: readonly [usual: number, long: number];
  readonly needed: readonly NeededRow[];
  readonly mutants: readonly Mutant[];
  /** Left out: the defaults, for a format whose images have parents. */
  readonly chains?: ChainKit;
  /** For the mutants. */
  readonly options: CrashCheckOptions;
}
