/** Kinds of the options of a disk's methods. */
import {
  CALLBACK,
  either,
  FLAG,
  type Kind,
  listOf,
  NAME,
  NUMBER,
  nullable,
  OBJECT,
  oneOf,
  optionsOf,
  TEXT,
  withMethods,
} from '../../arguments.ts';
import type { ImageChanges } from '../../image/contract.ts';
import { PROVIDER } from '../../storage/checks.ts';
import type { ZeroOptions } from '../device.ts';
import { CACHE, GATE, GEOMETRY, INPUTS, NUMBER_OF_IMAGE, REGISTRY, SIGNAL, WORDS } from '../kinds.ts';
import type { DiskOpenOptions, MetadataOptions } from '../options.ts';
import type { AddBitmapOptions } from './bitmaps.ts';
import type { CreateCacheOptions, OpenCacheOptions } from './cache.ts';
import type { CommitOptions } from './commit.ts';
import type { CompactOptions } from './compact.ts';
import type { AddFilterOptions } from './filters.ts';
import type { MergeOptions } from './merge.ts';
import type { RebaseOptions } from './rebase.ts';
import type { DiskResizeOptions } from './resize.ts';
import type { CreateSnapshotOptions } from './snapshots.ts';
import type { CreateDiffOptions } from './stack.ts';

/** Options and changes of a disk's methods: a name means the same everywhere. */
type Named = Partial<
  Record<
    | keyof (AddBitmapOptions & CreateCacheOptions & OpenCacheOptions & CompactOptions & ZeroOptions & AddFilterOptions)
    | keyof (CommitOptions & MergeOptions & DiskOpenOptions & RebaseOptions)
    | keyof (MetadataOptions & DiskResizeOptions & ImageChanges & CreateSnapshotOptions & CreateDiffOptions),
    unknown
  >
>;

/** Kinds by the option's name. */
export const DISK_KINDS: Readonly<Record<keyof Required<Named>, Kind>> = {
  allow: either(oneOf('none'), listOf(TEXT), GATE),
  base: NUMBER,
  cache: CACHE,
  comment: nullable(TEXT),
  // Its values are a format's or a filter's own.
  config: OBJECT,
  createdMs: NUMBER,
  discard: FLAG,
  enabled: FLAG,
  fixed: FLAG,
  flushAfterMs: NUMBER,
  force: FLAG,
  forceShare: FLAG,
  format: NAME,
  geometry: nullable(GEOMETRY),
  granularity: NUMBER,
  honourSame: FLAG,
  honourZeroes: FLAG,
  ignoreFlush: FLAG,
  image: NUMBER_OF_IMAGE,
  inUse: CALLBACK,
  info: FLAG,
  infoOnly: FLAG,
  keep: FLAG,
  keys: OBJECT,
  linkage: oneOf('off', 'warn', 'strict'),
  lock: FLAG,
  mode: oneOf('read', 'write'),
  modificationUuid: nullable(TEXT),
  onMessage: CALLBACK,
  onProgress: CALLBACK,
  parent: nullable(INPUTS),
  parentFormat: NAME,
  parentModificationUuid: nullable(TEXT),
  parentState: CALLBACK,
  parentUuid: nullable(TEXT),
  perUnit: FLAG,
  provider: PROVIDER,
  punch: FLAG,
  read: FLAG,
  readOnlyFallback: FLAG,
  registry: REGISTRY,
  repair: FLAG,
  resumeFilters: FLAG,
  sequential: FLAG,
  shareable: FLAG,
  shrink: FLAG,
  signal: SIGNAL,
  size: NUMBER,
  snapshot: TEXT,
  stale: oneOf('refuse', 'discard'),
  timers: withMethods('an object with set and clear', 'set', 'clear'),
  type: oneOf('hdd', 'optical', 'floppy'),
  uuid: nullable(TEXT),
  variant: WORDS,
  withoutParents: FLAG,
  withoutDamagedParents: FLAG,
  write: FLAG,
};

/** Options or changes of any method of a disk. */
export const OPTIONS: Kind = optionsOf(DISK_KINDS);

/** Options of methods that close and delete. */
export const REMOVING = optionsOf({ remove: FLAG });
