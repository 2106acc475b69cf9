/**
 * vdkit: virtual disk images for programs.
 *
 * @example
 * ```ts
 * import { Disk, convert, inspect } from 'vdkit';
 *
 * await using disk = await Disk.open('disk.vdi');
 * const sector = new Uint8Array(512);
 * await disk.read(0, sector);
 * ```
 */

import type { ChainDisk } from './disk/disk.ts';
import type { CreateImageOptions, DiskOpenOptions, ImageInput, ImageSource } from './disk/options.ts';
import { amendImage } from './operations/amend.ts';
import { checkImage } from './operations/check.ts';
import { compare } from './operations/compare-images.ts';
import { convert } from './operations/convert.ts';
import { copyChain, copyImage, moveImage } from './operations/copy.ts';
import { copyInto } from './operations/copy-into.ts';
import { createImage } from './operations/create.ts';
import { copyDirectory } from './operations/directories.ts';
import { removeImage, renameImage } from './operations/files.ts';
import { detectFormat, inspect } from './operations/inspect.ts';
import { measure } from './operations/measure.ts';
import { createDisk } from './operations/new-disk.ts';
import { openDisk } from './operations/open.ts';
import { rebaseImage } from './operations/rebase-image.ts';
import { setImage } from './operations/set.ts';
import { childrenOf } from './operations/siblings.ts';
import { tcpConnector } from './storage/platform.ts';

/** An opened disk: one image or a chain of them. */
export type Disk = ChainDisk;

/** Opens and creates disks. */
export const Disk = {
  /**
   * Opens an image, or a chain given base first. Read-only unless `mode: 'write'`. Parents named by images are opened
   * only with `allow: ['same-directory']` or a wider setting. Close the disk, or bind it with `await using`.
   */
  open(source: ImageInput | readonly ImageInput[], options: DiskOpenOptions = {}): Promise<ChainDisk> {
    return openDisk(source, options);
  },

  /**
   * Creates an image and opens it for writing. An image that is written once, such as a VMDK stream, takes writes in
   * ascending order and appears under its name when the disk is closed with `close`; otherwise nothing is left of it.
   */
  create(target: ImageSource, options: CreateImageOptions & DiskOpenOptions): Promise<ChainDisk> {
    return createDisk(target, options);
  },
};

export type { AddBitmapOptions, DiskBitmaps } from './disk/change/bitmaps.ts';
export type { CreateCacheOptions, DiskCache, InspectCacheOptions, OpenCacheOptions } from './disk/change/cache.ts';
export { checkCache, createCache, dropCache, inspectCache } from './disk/change/cache.ts';
export type { CommitOptions } from './disk/change/commit.ts';
export type { CompactOptions } from './disk/change/compact.ts';
export type { AddFilterOptions, DiskFilter, DiskFilters, FilterDirections } from './disk/change/filters.ts';
export type { MergeOptions } from './disk/change/merge.ts';
export type { RebaseOptions } from './disk/change/rebase.ts';
export type { DiskResizeOptions } from './disk/change/resize.ts';
export type { CreateSnapshotOptions, DiskSnapshots } from './disk/change/snapshots.ts';
export type { CreateDiffOptions } from './disk/change/stack.ts';
export type {
  BlockDevice,
  DeviceCapabilities,
  Extent,
  ExtentOptions,
  ExtentState,
  ReadResult,
  WriteOptions,
  ZeroOptions,
} from './disk/device.ts';
export type { DiskImage } from './disk/disk.ts';
export { fileOpenFlags, OPEN_FLAGS, openOptionsOf } from './disk/open/open-flags.ts';
export type * from './disk/options.ts';
export type { MetadataChunk } from './disk/report.ts';
export type { ErrorContext, ErrorDetails, ErrorKind } from './errors.ts';
export { describeError, ImageError, isImageError, printable } from './errors.ts';
export { FILTERS } from './filters/index.ts';
export { CACHES, defaultRegistry, FORMATS } from './formats/exports.ts';
export type { CacheCreateOptions, CacheFormat, CacheIdentity, CacheImage, CacheInfo } from './image/cache.ts';
export type * from './image/contract.ts';
export type { FormatDefinition } from './image/define-format.ts';
export { defineFormat } from './image/define-format.ts';
export type { ImageFiles } from './image/files.ts';
export type { Filter, FilterConfig, FilterInstance, FilterOpenOptions, KeySupply } from './image/filter.ts';
export type { CheckSummary, Finding, Severity } from './image/findings.ts';
export { summarize } from './image/findings.ts';
export type { Geometry } from './image/geometry.ts';
export { PlainImage } from './image/plain-image.ts';
export { plainInfo } from './image/plain-info.ts';
export type { DataForm, MetadataForm, Region, RegionList } from './image/regions.ts';
export { convertRegions, floppyType } from './image/regions.ts';
export { Registry } from './image/registry.ts';
export type { IoBuffer, IoBufferCallbacks, IoBufferManagerOptions, IoBufferOptions } from './io/buffers.ts';
export { IoBufferManager } from './io/buffers.ts';
export type { IoIteratorOptions, IoSegment, IoSelection } from './io/iterator.ts';
export { IoIterator } from './io/iterator.ts';
export type { IoRequestState, IoRequestType } from './io/job.ts';
export type {
  AllocateOptions,
  AttachOptions,
  IoMemory,
  IoQueueOptions,
  IoRequest,
  IoRequestId,
  QueuedOptions,
} from './io/queue.ts';
export { IoQueue } from './io/queue.ts';
export { LIMITS } from './limits.ts';
export type { AmendImageOptions } from './operations/amend.ts';
export type { CheckOptions, CheckReport } from './operations/check.ts';
export type { CopiedImage, CopyChainOptions, CopyImageOptions, MoveOptions } from './operations/copy.ts';
export type { CopyIntoOptions, CopyIntoResult } from './operations/copy-into.ts';
export type { CopyDirectoryOptions } from './operations/directories.ts';
export type { FileOptions, RemoveResult, RenameResult } from './operations/files.ts';
export type { DetectedFormat } from './operations/inspect.ts';
export { type CreateIsoOptions, type CreateIsoResult, createIso } from './operations/iso/create.ts';
export type { MeasureOptions, MeasureResult } from './operations/measure.ts';
export type { RebaseImageOptions } from './operations/rebase-image.ts';
export type { SetChanges, SetOptions } from './operations/set.ts';
export type { Children, ChildrenOptions } from './operations/siblings.ts';
export type { LoadedPlugin, PluginDirectoryReport, PluginModule, PluginRegister } from './plugin/plugins.ts';
export { PLUGIN_VERSION, Plugins } from './plugin/plugins.ts';
export type * from './storage/tcp.ts';
export * from './vfs/index.ts';
export {
  amendImage,
  checkImage,
  childrenOf,
  compare,
  convert,
  copyChain,
  copyDirectory,
  copyImage,
  copyInto,
  createImage,
  detectFormat,
  inspect,
  measure,
  moveImage,
  rebaseImage,
  removeImage,
  renameImage,
  setImage,
  tcpConnector,
};
