/** Kinds of the arguments of this folder's functions. */
import { either, FLAG, type Kind, NUMBER, oneOf, optional, TEXT, withFields, withMethods } from '../arguments.ts';
import { DEVICE, SIGNAL, STORAGE } from '../disk/kinds.ts';
import type { DiskFileOptions, StorageFileOptions, TransferOptions } from './file.ts';
import type { HandleOptions } from './handle.ts';
import type { ObjectStorageOptions } from './object-storage.ts';
import type { PartitionOptions } from './partitions/contract.ts';
import type { RangeOptions } from './range.ts';
import type { InsideOptions, InsidePlace } from './source.ts';
import type { StreamStorageOptions } from './stream-storage.ts';
import type { ReadableOptions, WritableOptions } from './streams.ts';

/** A disk, device or storage. */
export const STORE = either(DEVICE, STORAGE);
/** A web stream. */
export const READABLE = withMethods('a ReadableStream', 'getReader');
export const WRITABLE = withMethods('a WritableStream', 'getWriter');
/** A file object, and a file handle. */
export const FILE_OBJECT = withMethods('a file object', 'read', 'write', 'seek', 'close');
export const HANDLE = withMethods('a handle of a file', 'stat', 'read');

type Named = Required<
  DiskFileOptions &
    StorageFileOptions &
    TransferOptions &
    HandleOptions &
    ObjectStorageOptions &
    PartitionOptions &
    RangeOptions &
    InsideOptions &
    InsidePlace &
    StreamStorageOptions &
    ReadableOptions &
    WritableOptions
>;

const MODE = oneOf('read', 'write');
const KINDS: Readonly<Record<keyof Named, Kind>> = {
  access: MODE,
  at: NUMBER,
  chunkSize: NUMBER,
  closeDisk: FLAG,
  closeObject: FLAG,
  closeOuter: FLAG,
  closeStorage: FLAG,
  exact: FLAG,
  highWaterMark: NUMBER,
  label: TEXT,
  length: NUMBER,
  mode: MODE,
  name: TEXT,
  offset: NUMBER,
  once: FLAG,
  sectorSize: NUMBER,
  signal: SIGNAL,
  size: NUMBER,
};

/** Options of these names. Other properties are ignored: a partition with its name is a valid place. */
function optionsOf<T extends keyof Named>(...names: readonly T[]): Kind {
  return withFields('an object with options', Object.fromEntries(names.map((name) => [name, optional(KINDS[name])])));
}

/** Options for a file over a disk, a storage or a handle. */
export const FILE_OPTIONS = optionsOf<keyof (DiskFileOptions & StorageFileOptions)>('closeDisk', 'closeStorage');
export const HANDLE_OPTIONS = optionsOf<keyof HandleOptions>('closeDisk');
export const OBJECT_OPTIONS = optionsOf<keyof ObjectStorageOptions>('closeObject', 'label', 'mode');
export const PARTITION_OPTIONS = optionsOf<keyof PartitionOptions>('sectorSize');
export const RANGE_OPTIONS = optionsOf<keyof RangeOptions>('closeOuter', 'label', 'mode');
export const INSIDE_OPTIONS = optionsOf<keyof InsideOptions>('access', 'closeOuter', 'name', 'once');
export const STREAM_STORAGE_OPTIONS = optionsOf<keyof StreamStorageOptions>('label');
export const READABLE_OPTIONS = optionsOf<keyof ReadableOptions>(
  'chunkSize',
  'closeDisk',
  'length',
  'offset',
  'signal',
);
export const WRITABLE_OPTIONS = optionsOf<keyof WritableOptions>(
  'closeDisk',
  'highWaterMark',
  'length',
  'offset',
  'signal',
);
/** Options for streams, which do not tell their length. */
export const SIZED = withFields('an object with size', { size: NUMBER, label: optional(TEXT) });
/** A place in a file; a partition is one. */
export const PLACE = withFields('an object with offset and length', {
  offset: optional(NUMBER),
  length: optional(NUMBER),
});
