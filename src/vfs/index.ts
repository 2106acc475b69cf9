/**
 * Disks as files, streams and storages, and their content: partitions and inner images. Runs in Node and in browsers.
 */
export type { Bytes } from './bytes.ts';
export { type ChainSpec, type ChainSpecOptions, openChainSpec, parseChainSpec } from './chain-spec.ts';
export {
  type DiskFileOptions,
  diskFile,
  type FileObject,
  type FileStatus,
  type SeekOrigin,
  type StorageFileOptions,
  storageFile,
  type TransferOptions,
} from './file.ts';
export { fileHandle, type HandleLike, type HandleOptions, type HandleStats } from './handle.ts';
export { fileObjectStorage, type HandleSource, handleStorage, type ObjectStorageOptions } from './object-storage.ts';
export type { Partition, PartitionOptions, PartitionTable } from './partitions/contract.ts';
export { listPartitions, partitionOf } from './partitions/index.ts';
export { type RangeOptions, rangeStorage } from './range.ts';
export { createRawDisk, type RawDiskOptions, type RawDiskReport } from './raw-disk.ts';
export { type InsideOptions, type InsidePlace, type InsideSource, insideSource } from './source.ts';
export { readableStorage, type StreamStorageOptions, writableStorage } from './stream-storage.ts';
export {
  type ReadableOptions,
  readableStream,
  type StreamOptions,
  type WritableOptions,
  writableStream,
} from './streams.ts';
