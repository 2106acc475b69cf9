/**
 * The part of a format's kit about random walks of vdkit and QEMU over the same files (`test/alternation/`): images with
 * options at random, and the steps that are left out for them. A format without it takes no part.
 */

import type { Random } from '../../src/testing/random.ts';
import type { Img, World } from '../alternation/world.ts';

/** Options of an image, as steps need them. Formats add what only they have. Never changed. */
export interface Facts {
  /** Bytes that are stored together: compressed at once, and recorded as changed. */
  readonly unit: number;
  /** All room was taken at creation, and stays. */
  readonly fixed: boolean;
  /** The image cannot get a parent. */
  readonly parentless: boolean;
  /** Names of the further files. */
  readonly files: readonly string[];
  /** Units were compressed once, and may still be there; null: none can be. */
  readonly compressed: boolean | null;
}

/** Parents that images can have: of any format, of the same one only, or none. */
export type Parents = 'any' | 'own' | null;

/** Room of a new image that is taken at once. */
export type Preallocation = 'metadata' | 'falloc' | 'full';

/** Options of a new image, in the words of each program. */
export interface FreshImage {
  readonly facts: Facts;
  readonly vdkit: readonly string[];
  /** Null: it makes no such image. */
  readonly qemu: readonly string[] | null;
}

/** Options to change, and the facts then; null: they cannot be changed so. */
export interface Amendment {
  readonly values: readonly string[];
  after(image: Img): Facts | null;
}

/** A step that is left out, and why. */
export interface Limit {
  readonly who: 'QEMU' | 'vdkit' | 'both';
  readonly what: string;
  readonly because: string;
  /** True when the step is left out for this image. */
  readonly applies: (image: Img, world: World) => boolean;
}

/** Steps that a format may not have, or not for all images. */
export type FormatRow =
  | 'qemuResize'
  | 'qemuLongerParent'
  | 'qemuRepair'
  | 'qemuRebase'
  | 'qemuCommit'
  | 'innerSnapshots'
  | 'narrowCounts'
  | 'snapshotSize'
  | 'bitmaps'
  | 'compact'
  | 'set';

/** Fields used from `qemu-img info --output=json`. */
export interface InfoOfQemu {
  readonly 'virtual-size': number;
  readonly 'cluster-size'?: number;
  readonly 'full-backing-filename'?: string;
  readonly snapshots?: readonly { readonly name: string }[];
  readonly 'format-specific'?: {
    readonly data: Readonly<Record<string, unknown>> & {
      readonly bitmaps?: readonly { readonly name: string; readonly granularity: number; readonly flags: string[] }[];
    };
  };
}

/** Tells whether a bit of a bitmap is set in the file. */
export type StoredBits = (bit: number) => boolean;

/** See the head of this file. */
export interface WalkKit {
  /** Share of the format among new images. */
  readonly weight: number;
  /** QEMU's name of the format. Default: its name. */
  readonly qemuName?: string;
  /** Parents of its images. */
  readonly parents: { readonly vdkit: Parents; readonly qemu: Parents };
  /** Parents are found by their UUIDs, beside the child: two images of one are ambiguous. */
  readonly linksByUuid: boolean;
  /** Children store which state of their parent they were made from, so that they notice a change of its size. */
  readonly childrenNotice: boolean;
  /** `qemu-img check` takes images of the format. */
  readonly qemuChecks: boolean;
  /** Room that nothing uses may stay in a file: QEMU calls it a leak. Default false. */
  readonly leaks?: boolean;
  /** QEMU tells what is zero from what its parent has, so that maps can be compared. */
  readonly qemuMaps: boolean;
  /** Steps that are left out. A row that is not there never applies. */
  readonly limits: Partial<Readonly<Record<FormatRow, Limit>>>;
  /** QEMU opens the image, whatever it says of its parent. */
  qemuOpens(image: Img): boolean;
  /** A new image; further files have names that begin as its own. */
  fresh(random: Random, name: string, mayHaveFiles: boolean): FreshImage;
  /** Default: `--preallocation` for the room of data, which QEMU cannot take. */
  preallocated?(facts: Facts, how: Preallocation): FreshImage;
  /** Word of `--compress`. Default: zlib. */
  compression?(facts: Facts): string;
  /** Options to change at random. Left out: the format has none. */
  amendment?(random: Random, byQemu: boolean): Amendment;
  /** Facts under another name. Default: the same. */
  renamed?(facts: Facts, name: string): Facts;
  /** The facts as QEMU reports them, of an image that should have these. Default: they are not compared. */
  reported?(info: InfoOfQemu, facts: Facts): Facts | null;
  /** What `qemu-img check` may find in an image whose writer was killed. Default: lost room only. */
  forgives?(image: Img, said: string): boolean;
  /** The bitmaps in the file, by name. */
  bits?(path: string): Promise<ReadonlyMap<string, StoredBits>>;
}
