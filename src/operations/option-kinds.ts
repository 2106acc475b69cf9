/** Kinds of the options of operations on whole images. */
import {
  CALLBACK,
  FLAG,
  type Kind,
  listOf,
  NAME,
  NUMBER,
  OBJECT,
  optionsOf,
  POSITIVE,
  TEXT,
  WHOLE,
} from '../arguments.ts';
import { DISK_KINDS } from '../disk/change/option-kinds.ts';
import { CACHE, COMPRESS, INPUTS, SOURCE } from '../disk/kinds.ts';
import type { CompareOptions, ConvertOptions, InspectOptions } from '../disk/options.ts';
import type { AmendImageOptions } from './amend.ts';
import type { CheckOptions } from './check.ts';
import type { CopyChainOptions, CopyImageOptions, MoveOptions } from './copy.ts';
import type { CopyIntoOptions } from './copy-into.ts';
import type { MeasureOptions } from './measure.ts';
import type { RebaseImageOptions } from './rebase-image.ts';
import type { SetChanges, SetOptions } from './set.ts';

/** Options of operations: those of disks, and these. */
type Named = Partial<
  Record<
    | keyof (AmendImageOptions & CheckOptions & CopyChainOptions & CopyImageOptions & MoveOptions & CopyIntoOptions)
    | keyof (MeasureOptions &
        CompareOptions &
        ConvertOptions &
        InspectOptions &
        RebaseImageOptions &
        SetChanges &
        SetOptions),
    unknown
  >
>;

const KINDS: Readonly<Record<Exclude<keyof Required<Named>, keyof typeof DISK_KINDS>, Kind>> = {
  beforeRepair: CALLBACK,
  chain: FLAG,
  compress: COMPRESS,
  dryRun: FLAG,
  fromSame: NUMBER,
  into: FLAG,
  length: NUMBER,
  oldParent: INPUTS,
  oldParentFormat: NAME,
  parallel: POSITIVE,
  parentChain: listOf(SOURCE),
  rateLimit: WHOLE,
  resize: FLAG,
  salvage: FLAG,
  skipAbsent: FLAG,
  sourceCache: CACHE,
  sourceConfig: OBJECT,
  sourceFormat: NAME,
  sourceParent: INPUTS,
  sourceParentFormat: NAME,
  sourceSnapshot: TEXT,
  sparseSize: WHOLE,
  strict: FLAG,
  to: NAME,
  toSame: NUMBER,
  unsafe: FLAG,
  verify: FLAG,
};

/** Options or changes of any operation. */
export const OPTIONS: Kind = optionsOf({ ...DISK_KINDS, ...KINDS });
