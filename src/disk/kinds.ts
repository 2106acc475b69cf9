/** Kinds of the arguments of the library's entry points: see `arguments.ts`. */
import {
  CALLBACK,
  either,
  FLAG,
  isObject,
  type Kind,
  kindOf,
  listOf,
  NAME,
  NUMBER,
  nullable,
  OBJECT,
  oneOf,
  optional,
  POSITIVE,
  TEXT,
  WHOLE,
  withFields,
  withMethods,
} from '../arguments.ts';
import { PROVIDER, STORAGE } from '../storage/checks.ts';
import type { AmendImageOptions } from './amend.ts';
import type { AddBitmapOptions } from './bitmaps.ts';
import type { CreateCacheOptions, OpenCacheOptions } from './cache.ts';
import type { CheckOptions } from './check.ts';
import type { CompactOptions } from './compact.ts';
import type { CopyChainOptions, CopyImageOptions, MoveOptions } from './copy.ts';
import type { CopyIntoOptions } from './copy-into.ts';
import type { BlockDevice, ZeroOptions } from './device.ts';
import type { AddFilterOptions } from './filters.ts';
import type { MeasureOptions } from './measure.ts';
import type { CommitOptions, MergeOptions } from './merge.ts';
import type { CompareOptions, ConvertOptions, DiskOpenOptions, InspectOptions } from './options.ts';
import type { RebaseOptions } from './rebase.ts';
import type { RebaseImageOptions } from './rebase-image.ts';
import type { MetadataOptions } from './report.ts';
import type { DiskResizeOptions } from './resize.ts';
import type { SetChanges, SetOptions } from './set.ts';
import type { CreateSnapshotOptions } from './snapshots.ts';
import type { CreateDiffOptions } from './stack.ts';

/** Formats, filters and caches. */
export const REGISTRY = withMethods('a Registry', 'find', 'findCache', 'findFilter');
/** A filter: its name, or one of the caller's own. */
export const FILTER = either(NAME, withMethods('a filter', 'open'));
/** A disk, or another device. */
export const DEVICE = withMethods('a disk or another device', 'read', 'write', 'extentAt', 'close');
/** True for what is a device, false for the place of an image. */
export function isDevice(source: unknown): source is BlockDevice {
  return DEVICE.misfit(source) === null;
}

/** A disk that was opened: it has images. */
export const DISK = withMethods('a disk', 'read', 'write', 'extentAt', 'layers', 'identities');
/** The place of an image. */
export const SOURCE = either(NAME, withFields('an object with provider and name', { provider: PROVIDER, name: NAME }));
const ENTRY_FIELDS = withFields('an object with an image', { image: SOURCE });
/** The place of an image, or a disk that is open. */
export const SOURCE_OR_DEVICE = either(SOURCE, DEVICE);
/** An image of a list. */
export const INPUT = either(SOURCE, ENTRY_FIELDS);
/** An image, or all images of a chain. */
export const INPUTS = either(INPUT, listOf(INPUT));
/** Which image of a chain. Whether it has one of that number is for the chain to say. */
export const NUMBER_OF_IMAGE = kindOf(
  'the number of an image, or "last"',
  (value) => value === 'last' || (typeof value === 'number' && !Number.isNaN(value)),
);
/** A stretch of the disk. Whether it lies inside is for the disk to say. */
export const RANGES = listOf(withFields('an object with offset and length', { offset: NUMBER, length: NUMBER }));
/** Values for keys. */
export const CONFIG = kindOf(
  'an object with texts and numbers',
  (value) => isObject(value) && Object.values(value).every((one) => typeof one === 'string' || typeof one === 'number'),
);

/** The signal that ends an operation. */
export const SIGNAL = kindOf(
  'an AbortSignal',
  (value) => isObject(value) && 'aborted' in value && 'addEventListener' in value,
);
const GATE = withMethods('a gate', 'open', 'candidates');
const CACHE = withFields('an object with file', { file: SOURCE, size: optional(NUMBER) });
const SIDES = withFields('an object with cylinders, heads and sectors', {
  cylinders: NUMBER,
  heads: NUMBER,
  sectors: NUMBER,
});
const GEOMETRY = withFields('an object with physical and logical', {
  physical: optional(nullable(SIDES)),
  logical: optional(nullable(SIDES)),
});
const WORDS = listOf(NAME);
const COMPRESS = either(FLAG, oneOf('zlib', 'zstd'));

/** All options and changes that the disk's functions take: a name means the same wherever it is used. */
type Named = Partial<
  Record<
    | keyof (AmendImageOptions &
        AddBitmapOptions &
        CreateCacheOptions &
        OpenCacheOptions &
        CheckOptions &
        CompactOptions)
    | keyof (CopyChainOptions & CopyImageOptions & MoveOptions & CopyIntoOptions & ZeroOptions & AddFilterOptions)
    | keyof (MeasureOptions & CommitOptions & MergeOptions & CompareOptions & ConvertOptions & DiskOpenOptions)
    | keyof (InspectOptions & RebaseImageOptions & MetadataOptions & DiskResizeOptions & SetChanges & SetOptions)
    | keyof (CreateSnapshotOptions & CreateDiffOptions & RebaseOptions),
    unknown
  >
>;

const KINDS: Readonly<Record<keyof Required<Named>, Kind>> = {
  allow: either(oneOf('none'), listOf(TEXT), GATE),
  base: NUMBER,
  beforeRepair: CALLBACK,
  cache: CACHE,
  chain: FLAG,
  comment: nullable(TEXT),
  compress: COMPRESS,
  // Its values are a format's or a filter's own.
  config: OBJECT,
  createdMs: NUMBER,
  discard: FLAG,
  dryRun: FLAG,
  enabled: FLAG,
  fixed: FLAG,
  flushAfterMs: NUMBER,
  force: FLAG,
  forceShare: FLAG,
  format: NAME,
  fromSame: NUMBER,
  geometry: nullable(GEOMETRY),
  granularity: NUMBER,
  honourSame: FLAG,
  honourZeroes: FLAG,
  ignoreFlush: FLAG,
  image: NUMBER_OF_IMAGE,
  inUse: CALLBACK,
  info: FLAG,
  infoOnly: FLAG,
  into: FLAG,
  keep: FLAG,
  keys: OBJECT,
  length: NUMBER,
  linkage: oneOf('off', 'warn', 'strict'),
  lock: FLAG,
  mode: oneOf('read', 'write'),
  modificationUuid: nullable(TEXT),
  oldParent: INPUTS,
  oldParentFormat: NAME,
  onMessage: CALLBACK,
  onProgress: CALLBACK,
  parallel: POSITIVE,
  parent: nullable(INPUTS),
  parentChain: listOf(SOURCE),
  parentFormat: NAME,
  parentModificationUuid: nullable(TEXT),
  parentState: CALLBACK,
  parentUuid: nullable(TEXT),
  perUnit: FLAG,
  provider: PROVIDER,
  punch: FLAG,
  rateLimit: WHOLE,
  read: FLAG,
  readOnlyFallback: FLAG,
  registry: REGISTRY,
  repair: FLAG,
  resize: FLAG,
  resumeFilters: FLAG,
  salvage: FLAG,
  sequential: FLAG,
  shareable: FLAG,
  shrink: FLAG,
  signal: SIGNAL,
  size: NUMBER,
  skipAbsent: FLAG,
  snapshot: TEXT,
  sourceCache: CACHE,
  sourceFormat: NAME,
  sourceParent: INPUTS,
  sourceParentFormat: NAME,
  sourceSnapshot: TEXT,
  sparseSize: WHOLE,
  stale: oneOf('refuse', 'discard'),
  strict: FLAG,
  timers: withMethods('an object with set and clear', 'set', 'clear'),
  to: NAME,
  toSame: NUMBER,
  type: oneOf('hdd', 'optical', 'floppy'),
  unsafe: FLAG,
  uuid: nullable(TEXT),
  variant: WORDS,
  verify: FLAG,
  withoutParents: FLAG,
  write: FLAG,
};

/** The options, or changes, of any function of the disk. */
export const OPTIONS: Kind = withFields(
  'an object with options',
  Object.fromEntries(Object.entries(KINDS).map(([name, kind]) => [name, optional(kind)])),
);

/** Options that are handed on as they are, with a name or two that must be there. */
export function optionsWith(required: Readonly<Record<string, Kind>>): Kind {
  const own = withFields('an object with options', required);
  return { expected: own.expected, misfit: (value) => own.misfit(value) ?? OPTIONS.misfit(value) };
}

/** Options of what can be closed and removed. */
export const REMOVING = optionsWith({ remove: optional(FLAG) });

export { PROVIDER, STORAGE };
