/** Options and results of the library's entry points: `Disk.open`, `createImage`, `inspect`, `convert`, `compare`. */
import type { Config, ImageInfo, ImageLinks, MediumType, Progress } from '../image/contract.ts';
import type { Geometry } from '../image/geometry.ts';
import type { Registry } from '../image/registry.ts';
import type { LockState, OpenMode, OperationOptions, Source, StorageProvider, Wrapping } from '../storage/contract.ts';
import type { OpenGate } from '../storage/gate.ts';

/**
 * Place of an image: a name for the default provider (local files in Node), a provider with a name, or a configuration
 * for a format whose images are not files.
 */
export type ImageSource = string | Source | ConfiguredImage;

/** An image that a format finds by config values instead of a name. */
export interface ConfiguredImage {
  readonly format: string;
  readonly config: Config;
}

/** Files that images may refer to: none, these directories and everything below (or these files), or a custom gate. */
export type Allow = 'none' | readonly string[] | OpenGate;

/** A clock that tests can control. */
export interface Timers {
  set(milliseconds: number, run: () => void): unknown;
  clear(handle: unknown): void;
}

/** A message for people, delivered when it arises. Failures of a call are only thrown. */
export interface Message {
  /**
   * `error`: a failure that no call waits for, such as that of an automatic flush.
   */
  readonly level: 'warning' | 'error';
  readonly text: string;
  /** The image concerned; null for none. */
  readonly path: string | null;
  /** The failure, with level `error`. */
  readonly error?: unknown;
}

/** Options of every entry point. */
export interface EnvironmentOptions extends OperationOptions {
  /** Provider for plain names. Default: local files. */
  readonly provider?: StorageProvider | undefined;
  /** Formats to use. Default: the built-in ones. */
  readonly registry?: Registry | undefined;
  /**
   * Files that images may refer to. Default `none`. The word `same-directory` in the list stands for the image's own
   * directory.
   */
  readonly allow?: Allow | undefined;
  /** False: neither take nor check locks. Only for files that no other program has open. Default true. */
  readonly lock?: boolean | undefined;
  /** Receives warnings as they arise, and failures in the background. Must not throw. */
  readonly onMessage?: ((message: Message) => void) | undefined;
}

/** Concurrent use of the images by others. */
export interface SharingOptions {
  /** vd.h's SHAREABLE: others may write the image too, if they permit it. Both sides must coordinate. */
  readonly shareable?: boolean | undefined;
  /** Read although another program may be writing: no locks are taken. The data may be inconsistent. */
  readonly forceShare?: boolean | undefined;
}

/**
 * Open options of one image: vd.h's open flags. They stay with the image, whatever its place in the chain; those for
 * writing apply while it is the last one.
 */
export interface ImageOpenOptions {
  /** Default `read`. An image with a child is read-only, and writable again when it loses the child. */
  readonly mode?: OpenMode | undefined;
  /** As {@link SharingOptions.shareable}. */
  readonly shareable?: boolean | undefined;
  /** Store zeroes physically instead of leaving them out. */
  readonly honourZeroes?: boolean | undefined;
  /** Store data even where the chain already reads the same. Default: only in fixed images. */
  readonly honourSame?: boolean | undefined;
  /** Skip storage flushes. For data that can be made again. */
  readonly ignoreFlush?: boolean | undefined;
  /** False: discards have no effect. True: refuse an image that cannot free space. Default: as far as possible. */
  readonly discard?: boolean | undefined;
  /** Requests will mostly be in ascending order: the system reads further ahead, if it can be told. */
  readonly sequential?: boolean | undefined;
}

/** Settings of one image. Absent: those of the disk. */
export interface ImageSettings extends ImageOpenOptions {
  readonly type?: MediumType | undefined;
  /** Internal snapshot to read, by id or name, instead of the current state. With mode `read` only. */
  readonly snapshot?: string | undefined;
  readonly config?: Config | undefined;
}

/** An image of a chain, with options. */
export interface ImageEntry extends ImageSettings {
  readonly image: ImageSource;
  /** Default: probed. */
  readonly format?: string | undefined;
}

/** An image in a list of images. */
export type ImageInput = ImageSource | ImageEntry;

/** A cache file of a disk. */
export interface CacheEntry {
  readonly file: ImageSource;
  /** Maximum size in bytes if it does not exist yet: then it is created. Absent: it must exist. */
  readonly size?: number | undefined;
}

/** Options for opening a disk. They apply to all images without their own. */
export interface DiskOpenOptions extends EnvironmentOptions, SharingOptions, ImageOpenOptions {
  /** Format of the last image. Default: probed; a probed raw image never opens for writing. */
  readonly format?: string | undefined;
  /** Medium type of the last image, if the format cannot tell. */
  readonly type?: MediumType | undefined;
  /** Snapshot of the last image; see {@link ImageSettings.snapshot}. */
  readonly snapshot?: string | undefined;
  /**
   * Parent of the image (and its format), if the image does not identify it; or all images below it, base first. An
   * empty list reads an image without a stored parent as if it were complete.
   */
  readonly parent?: ImageInput | readonly ImageInput[] | undefined;
  readonly parentFormat?: string | undefined;
  /**
   * Treatment of a parent that does not match the child's link: `off`: ignore; `warn` (default): refuse another image,
   * warn if it was written since; `strict`: refuse both.
   */
  readonly linkage?: 'off' | 'warn' | 'strict' | undefined;
  /** With mode `write`: open the last image for reading if it cannot be written. See `disk.can.write`. */
  readonly readOnlyFallback?: boolean | undefined;
  /** With mode `write`: repair an image that is too damaged to be written first, with a warning. */
  readonly repair?: boolean | undefined;
  /**
   * vd.h's INFO: headers only, without locks, and without parents that are not named. No data can be read or written.
   */
  readonly infoOnly?: boolean | undefined;
  /**
   * Cache for data read: see `disk.cache`. One that belongs to another state of the images is emptied, one with a
   * damaged header is recreated if `size` is given, with a warning.
   */
  readonly cache?: CacheEntry | undefined;
  /**
   * Open images whose conversion by filters (`filters.prepare`) was interrupted, in order to complete it. Until then no
   * data can be read or written.
   */
  readonly resumeFilters?: boolean | undefined;
  /**
   * Open only the image itself, without parents. Reading absent ranges then throws. An image that does not identify its
   * parent is opened read-only.
   */
  readonly withoutParents?: boolean | undefined;
  /** For reading: leave out parents that are damaged or missing. Ranges that only these hold cannot be read. */
  readonly withoutDamagedParents?: boolean | undefined;
  /** Milliseconds after the first unflushed change until an automatic flush. Default 5000; 0: never. */
  readonly flushAfterMs?: number | undefined;
  readonly timers?: Timers | undefined;
}

/** Options for a new image. */
export interface CreateImageOptions extends EnvironmentOptions {
  /** Default: from the extension of the name. */
  readonly format?: string | undefined;
  /** Size of the disk in bytes; optional with `parent`. */
  readonly size?: number | undefined;
  readonly type?: MediumType | undefined;
  readonly variant?: readonly string[] | undefined;
  readonly comment?: string | undefined;
  readonly uuid?: string | undefined;
  readonly geometry?:
    | { readonly physical?: Geometry | null | undefined; readonly logical?: Geometry | null | undefined }
    | undefined;
  readonly parent?: ImageSource | undefined;
  readonly parentFormat?: string | undefined;
  readonly config?: Config | undefined;
  /** Replace an existing file. */
  readonly force?: boolean | undefined;
  /** Read parents and the source although another program may be writing them: see {@link SharingOptions}. */
  readonly forceShare?: boolean | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Options for a conversion. */
export interface ConvertOptions extends CreateImageOptions {
  /** Format of the source. Default: probed. `format` is that of the target. */
  readonly sourceFormat?: string | undefined;
  readonly sourceParent?: ImageInput | readonly ImageInput[] | undefined;
  readonly sourceParentFormat?: string | undefined;
  /** Internal snapshot of the source, by id or name. */
  readonly sourceSnapshot?: string | undefined;
  /** Values of config keys of the source's format: the track of a disc. */
  readonly sourceConfig?: Config | undefined;
  /** Cache for data read from the source; see {@link DiskOpenOptions.cache}. */
  readonly sourceCache?: CacheEntry | undefined;
  /** With `into`: permit other writers of the target. */
  readonly shareable?: boolean | undefined;
  /** Write into an existing image or device instead of creating one. Data past the end of the source is kept. */
  readonly into?: boolean | undefined;
  /** Permit a smaller target if the source ends in zeroes. */
  readonly shrink?: boolean | undefined;
  /** Number of concurrent runs. Default 4. */
  readonly parallel?: number | undefined;
  /** Maximum bytes per second. */
  readonly rateLimit?: number | undefined;
  /** Continue after read errors: the bytes become zero and are reported. */
  readonly salvage?: boolean | undefined;
  /** Smallest run of zeroes to leave out of the target, in bytes. Default 4096; 0: none. */
  readonly sparseSize?: number | undefined;
  /** With `parent`: all images below the target, base first, if they cannot be found by links. */
  readonly parentChain?: readonly ImageSource[] | undefined;
  /** With `parent`: leave ranges unallocated in the source to that parent. Otherwise they become zero. */
  readonly skipAbsent?: boolean | undefined;
  /** Compress data, with this method or at this level, 1 to 9; otherwise as the format and its config have it. */
  readonly compress?: boolean | 'zlib' | 'zstd' | number | undefined;
  /** Read the target back and compare. */
  readonly verify?: boolean | undefined;
}

/** A range of a disk that could not be read. */
export interface UnreadableRange {
  readonly offset: number;
  readonly length: number;
  readonly reason: string;
}

/** Result of a conversion. */
export interface ConvertResult {
  /** Size of the target's disk in bytes. */
  readonly size: number;
  /** Bytes written, without holes and zeroes. */
  readonly written: number;
  /** Ranges that could not be read, in guest order; they are zero in the target (only with `salvage`). */
  readonly unreadable: readonly UnreadableRange[];
  readonly warnings: readonly string[];
}

/** Options for a comparison, and for opening disks given by name. */
export interface CompareOptions extends EnvironmentOptions {
  /** Require equal sizes. */
  readonly strict?: boolean | undefined;
  readonly parallel?: number | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Result of a comparison. */
export interface CompareResult {
  readonly same: boolean;
  /** Guest offset of the first differing byte; null when none differs. With `strict`, unequal sizes differ at the shorter end. */
  readonly firstDifference: number | null;
  readonly sizes: readonly [number, number];
}

/** A file of an image other than the main one, as `inspect` reports it. */
export interface PartReport {
  readonly file: string;
  /** For people: `external data file`. */
  readonly role: string;
  /** Null if the file does not exist, or `allow` does not permit a look. */
  readonly fileSize: number | null;
  readonly allocatedSize: number | null;
}

/** Report of `inspect` on one image: the content of its headers. */
export interface ImageReport extends ImageInfo, ImageLinks {
  readonly file: string;
  /** Length of all files of the image in bytes. */
  readonly fileSize: number;
  /** Bytes allocated on the host; null when unknown. */
  readonly allocatedSize: number | null;
  /** Compressed files and archives around the image, outermost first. */
  readonly wrappings: readonly Wrapping[];
  /** Reason for choosing the format. */
  readonly recognisedBy: string;
  /** True when nothing identifies the file and its format was not named: treated as a raw disk. */
  readonly guessed: boolean;
  /** Programs that have the image open, as far as known. */
  readonly lock: LockState;
  /** Files of the image other than the main one. */
  readonly parts: readonly PartReport[];
}

/** Options for a report. */
export interface InspectOptions extends EnvironmentOptions {
  readonly format?: string | undefined;
  readonly type?: MediumType | undefined;
  /** Include the parents. */
  readonly chain?: boolean | undefined;
  readonly parent?: ImageInput | readonly ImageInput[] | undefined;
  readonly parentFormat?: string | undefined;
  /** Internal snapshot to report on, by id or name. */
  readonly snapshot?: string | undefined;
}

/** Report on an image, and on its parents if requested. */
export interface InspectReport extends ImageReport {
  /** Base first, the image itself last; only with `chain`. */
  readonly chain?: readonly ImageReport[];
}

/** Options for metadata. */
export interface MetadataOptions {
  /** Include the metadata of each unit of guest data. Default false. */
  readonly perUnit?: boolean | undefined;
}
