/** What the arguments of the functions of this folder may be: see `arguments.ts`. */
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

/** What can be seen as a file. */
export const STORE = either(DEVICE, STORAGE);
/** A stream of the web. */
export const READABLE = withMethods('a ReadableStream', 'getReader');
export const WRITABLE = withMethods('a WritableStream', 'getWriter');
/** A file as an object, and a handle of one. */
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

/** Options of these names. Anything else that the object has is passed over: a partition with its name is a place, too. */
function optionsOf<T extends keyof Named>(...names: readonly T[]): Kind {
  return withFields('an object with options', Object.fromEntries(names.map((name) => [name, optional(KINDS[name])])));
}

/** Of a file over a disk, a storage or a handle. */
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
/** Of streams, which do not say how long they are. */
export const SIZED = withFields('an object with size', { size: NUMBER, label: optional(TEXT) });
/** Where something lies: a partition is one, too. */
export const PLACE = withFields('an object with offset and length', {
  offset: optional(NUMBER),
  length: optional(NUMBER),
});
