/**
 * Everything that the test suites need to know of one format. `test/formats/<name>.ts` exports one such object as `kit`;
 * the suites run over all formats of the registry, each with its kit.
 */

import type { InspectReport } from '../../src/disk/options.ts';
import type { Config } from '../../src/image/contract.ts';
import type { GoldenImage } from '../golden/manifest.ts';
import type { HostileKit, Sample } from '../hostile/descriptor.ts';
import type { Inspector } from '../model/qemu.ts';
import type { Shape } from '../model/scenario.ts';
import type { CrashKit } from './crash-kit.ts';
import type { LimitKit } from './limit-kit.ts';
import type { MakeWay, PeerKit } from './peer-kit.ts';
import type { WalkKit } from './walk-kit.ts';

/** A format under test. */
export interface FormatKit {
  /** Name of the format in the registry. */
  readonly format: string;
  /** Config of images with units of about this size, and tables as small as they get; left out: there is no choice. */
  units?(bytes: number): Config;
  /** Fixed images of the format change their size, though it has blocks. */
  readonly fixedResizes?: boolean;
  /** Ways to make an image: variants, options, and over a parent. Left out: the default, where there is a `create`. */
  readonly ways?: readonly MakeWay[];
  /** Ways tried with disks of all sizes. Left out: the default, and the variants that are fixed. */
  readonly sized?: readonly MakeWay[];
  /** Disks that other programs are to read have a multiple of this length, where they take no others. Left out: 512. */
  readonly sizeUnit?: number;
  /** The longest disk that the format takes, where that is less than the suites try. */
  readonly longest?: number;
  /**
   * Bytes of the tables that a disk of this size and usual options has got, where an image keeps those of which nothing is
   * left, or where they fill no smaller hole.
   */
  tables?(size: number): number;
  /** Ways whose targets are measured before a conversion, beside the variants. */
  readonly measured?: readonly MakeWay[];
  /** The reason why no image of the format can be created and written. Left out: the conformance cases run. */
  readonly conformance?: { readonly without: string };
  /** Images that other programs made; or the reason why none lie in `test/golden/`. */
  readonly golden: GoldenKit | WithoutGolden;
  /** Files that are wrong on purpose; or the reason why none of this format can be. */
  readonly hostile: HostileKit | { readonly without: string };
  /** The bounds in the format's `limits.ts`, and a way to each. Left out: there is no such file. */
  limits?(): Promise<LimitKit>;
  /**
   * Power cuts and mutants. Left out: each way to make an image, under common workloads. Loaded when it is needed, since
   * it patches the code under test.
   */
  crash?(): Promise<CrashKit>;
  readonly models?: ModelKit;
  /** Random walks of vdkit and QEMU over the same files. Left out: the format takes no part. */
  walk?(): Promise<WalkKit>;
  /** Images over another one that they do not name; it lies beside them. */
  unlinked?(): readonly Sample[];
  /** Other programs that have the format. Loaded when they are needed, since they run on Node only. */
  peers?(): Promise<readonly PeerKit[]>;
}

/** No images of other programs. */
export interface WithoutGolden {
  /** The reason. */
  readonly without: string;
  /** The folder with cases from reports, if there are any. */
  readonly cases?: string;
}

/** The images of a folder of `test/golden/`. Content, sizes, chain and allocation are compared for all formats. */
export interface GoldenKit {
  readonly folder: string;
  /** What an image's report must have beside that, by its entry in the manifest: UUIDs, variants, details. */
  facts(image: GoldenImage): Partial<InspectReport>;
  /** The images name their parents. Default true; otherwise the manifest does. */
  readonly namesParents?: boolean;
}

/** Models of images with options of the format, beside those of all formats. */
export interface ModelKit {
  shapes(): Shape[];
  /** QEMU's verdict on an image that was closed. */
  readonly inspect: Inspector;
  /** Seeds of the usual run, which plays one in a few of them, and of the long one. */
  readonly seeds: readonly [usual: number, long: number];
  /** Kinds of operations that must occur. */
  readonly operations: readonly string[];
  /** Options, as `key=value`, that must occur. */
  readonly options: readonly string[];
}
