/** Options and results of the library's entry points: `Disk.open`, `createImage`, `inspect`, `convert`, `compare`. */
import type { Config, ImageInfo, ImageLinks, MediumType, Progress } from '../image/contract.ts';
import type { Geometry } from '../image/geometry.ts';
import type { Registry } from '../image/registry.ts';
import type { LockState, OpenMode, OperationOptions, Source, StorageProvider } from '../storage/contract.ts';
import type { OpenGate } from '../storage/gate.ts';

/** Where an image is: a name for the default provider (local files in Node), or a provider with a name. */
export type ImageSource = string | Source;

/** What images may make vdkit open: nothing, files in these directories and below (or these files), or a gate of your own. */
export type Allow = 'none' | readonly string[] | OpenGate;

/** A clock that tests can turn. */
export interface Timers {
  set(milliseconds: number, run: () => void): unknown;
  clear(handle: unknown): void;
}

/** Something that a person should know, told when it happens. Failures of a call are thrown and not told as well. */
export interface Message {
  /** `error`: something failed that no call waits for, such as a flush that runs by itself. */
  readonly level: 'warning' | 'error';
  readonly text: string;
  /** The image that it is about; null when it is about none. */
  readonly path: string | null;
  /** What failed, with level `error`. */
  readonly error?: unknown;
}

/** What every entry point takes. */
export interface EnvironmentOptions extends OperationOptions {
  /** For names without one of their own. Default: local files. */
  readonly provider?: StorageProvider | undefined;
  /** Formats to use. Default: the built-in ones. */
  readonly registry?: Registry | undefined;
  /** Default `none`. The word `same-directory` in the list stands for the directory of the image itself. */
  readonly allow?: Allow | undefined;
  /** False: take no locks and look for none. Only for files that surely nobody else has open. Default true. */
  readonly lock?: boolean | undefined;
  /** Hears of warnings as they come up, and of what fails in the background. Must not throw. */
  readonly onMessage?: ((message: Message) => void) | undefined;
}

/** How others may use the images meanwhile. */
export interface SharingOptions {
  /** vd.h's SHAREABLE: others may write the image too, if they let us. Both sides must know what they do. */
  readonly shareable?: boolean | undefined;
  /** Read although somebody may be writing: no locks are taken. What is read is not one consistent state. */
  readonly forceShare?: boolean | undefined;
}

/**
 * How one image is opened and written: vd.h's open flags. They stay with the image, whatever its place in the chain;
 * those about writing count while it is the last one.
 */
export interface ImageOpenOptions {
  /** Default `read`. An image with a child is only read, and written again when it loses the child. */
  readonly mode?: OpenMode | undefined;
  /** As {@link SharingOptions.shareable}. */
  readonly shareable?: boolean | undefined;
  /** Store zeroes physically instead of leaving them out. */
  readonly honourZeroes?: boolean | undefined;
  /** Store data even where the chain already reads the same. Default: only in fixed images. */
  readonly honourSame?: boolean | undefined;
  /** Skip storage flushes. For data that can be made again. */
  readonly ignoreFlush?: boolean | undefined;
  /** False: discards change nothing. True: refuse an image that cannot give room back. Default: as far as it can. */
  readonly discard?: boolean | undefined;
  /** Requests will mostly come in ascending order: the system reads further ahead, where it can be told to. */
  readonly sequential?: boolean | undefined;
}

/** What a caller decides for one image. Left out: as for the whole disk. */
export interface ImageSettings extends ImageOpenOptions {
  readonly type?: MediumType | undefined;
  /** Read this internal snapshot, by id or name, instead of the disk as it is now. With mode `read` only. */
  readonly snapshot?: string | undefined;
  readonly config?: Config | undefined;
}

/** An image of a chain that needs more than a name. */
export interface ImageEntry extends ImageSettings {
  readonly image: ImageSource;
  /** Default: probed. */
  readonly format?: string | undefined;
}

/** An image as a list of images names it. */
export type ImageInput = ImageSource | ImageEntry;

/** A cache file of a disk. */
export interface CacheEntry {
  readonly file: ImageSource;
  /** Bytes that it may have at most, where there is none yet: then it is made. Left out: it must be there. */
  readonly size?: number | undefined;
}

/** How a disk is opened. What is said of images counts for all that do not say it themselves. */
export interface DiskOpenOptions extends EnvironmentOptions, SharingOptions, ImageOpenOptions {
  /** Format of the last image. Default: probed; a probed raw image never opens for writing. */
  readonly format?: string | undefined;
  /** Kind of medium of the last image, where the format cannot tell. */
  readonly type?: MediumType | undefined;
  /** Of the last image; see {@link ImageSettings.snapshot}. */
  readonly snapshot?: string | undefined;
  /**
   * Parent of the image (and its format), where the image does not say; or all images below it, base first. An empty list
   * reads an image that does not name its parent as if it were complete.
   */
  readonly parent?: ImageInput | readonly ImageInput[] | undefined;
  readonly parentFormat?: string | undefined;
  /**
   * What is made of a parent that is not as the child remembers it: `off`: nothing; `warn` (default): another image is
   * refused, one that was written since is warned of; `strict`: both are refused.
   */
  readonly linkage?: 'off' | 'warn' | 'strict' | undefined;
  /** With mode `write`: where the last image may not be written, it is opened for reading. See `disk.can.write`. */
  readonly readOnlyFallback?: boolean | undefined;
  /** With mode `write`: an image that is too damaged to be written is repaired first, and a warning says so. */
  readonly repair?: boolean | undefined;
  /** vd.h's INFO: headers only, without locks and without parents that are not named. Nothing can be read or written. */
  readonly infoOnly?: boolean | undefined;
  /**
   * A cache for what is read: see `disk.cache`. One that belongs to another state of the images is emptied, one whose
   * header is damaged is made anew when `size` says how large, and a warning says so.
   */
  readonly cache?: CacheEntry | undefined;
  /**
   * Open images whose conversion by filters was interrupted (`filters.prepare`), to run it to its end. Until then nothing
   * can be read or written.
   */
  readonly resumeFilters?: boolean | undefined;
  /**
   * Open only the image itself, not its parents. Reading absent ranges then throws. An image that does not name its
   * parent is opened so for reading only.
   */
  readonly withoutParents?: boolean | undefined;
  /** Milliseconds after the first unflushed change until a flush runs by itself. Default 5000; 0: never. */
  readonly flushAfterMs?: number | undefined;
  readonly timers?: Timers | undefined;
}

/** What a new image shall be. */
export interface CreateImageOptions extends EnvironmentOptions {
  /** Default: by the name's extension. */
  readonly format?: string | undefined;
  /** Guest bytes; may be left out with `parent`. */
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
  /** Read parents and the source although somebody may be writing them: see {@link SharingOptions}. */
  readonly forceShare?: boolean | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** What a conversion makes, from what, and how fast. */
export interface ConvertOptions extends CreateImageOptions {
  /** Format of the source. Default: probed. `format` is that of the target. */
  readonly sourceFormat?: string | undefined;
  readonly sourceParent?: ImageInput | readonly ImageInput[] | undefined;
  readonly sourceParentFormat?: string | undefined;
  /** An internal snapshot of the source, by id or name. */
  readonly sourceSnapshot?: string | undefined;
  /** A cache for what is read of the source; see {@link DiskOpenOptions.cache}. */
  readonly sourceCache?: CacheEntry | undefined;
  /** With `into`: others may write the target too. */
  readonly shareable?: boolean | undefined;
  /** Write into an existing image or device instead of making a new one. What it holds behind the source's end stays. */
  readonly into?: boolean | undefined;
  /** The target may be smaller than the source, where only zeroes are left out at the end. */
  readonly shrink?: boolean | undefined;
  /** Runs in flight. Default 4. */
  readonly parallel?: number | undefined;
  /** Bytes a second at most. */
  readonly rateLimit?: number | undefined;
  /** Go on after read errors: the bytes become zero and are reported. */
  readonly salvage?: boolean | undefined;
  /** Smallest run of zeroes that is left out of the target, bytes. Default 4096; 0: none is. */
  readonly sparseSize?: number | undefined;
  /** With `parent`: all images below the target, base first, where they are not found by themselves. */
  readonly parentChain?: readonly ImageSource[] | undefined;
  /** With `parent`: what the source holds nowhere is left to that parent. Otherwise it becomes zero. */
  readonly skipAbsent?: boolean | undefined;
  /** Store what can be compressed; by that method, or by the usual one of the format and its config. */
  readonly compress?: boolean | 'zlib' | 'zstd' | undefined;
  /** Read the target again and compare. */
  readonly verify?: boolean | undefined;
}

/** What a conversion did. */
export interface ConvertResult {
  /** Guest bytes of the target. */
  readonly size: number;
  /** Bytes that were written, without holes and zeroes. */
  readonly written: number;
  /** Ranges that could not be read (only with `salvage`). */
  readonly unreadable: readonly { readonly offset: number; readonly length: number }[];
  readonly warnings: readonly string[];
}

/** What counts as a difference; and how disks that are given by name are opened. */
export interface CompareOptions extends EnvironmentOptions {
  /** Sizes must be equal too. */
  readonly strict?: boolean | undefined;
  readonly parallel?: number | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** What a comparison found. */
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

/** One image as `inspect` reports it: everything its headers say. */
export interface ImageReport extends ImageInfo, ImageLinks {
  readonly file: string;
  /** Bytes on the host as `stat` reports them, all files of the image. */
  readonly fileSize: number;
  /** Bytes the host really keeps; null when unknown. */
  readonly allocatedSize: number | null;
  /** Why the format was chosen. */
  readonly recognisedBy: string;
  /** Nothing identifies the file, and nobody named its format: it is taken for a raw disk. */
  readonly guessed: boolean;
  /** Who works with the image now, as far as can be told. */
  readonly lock: LockState;
  /** Files of the image other than the main one. */
  readonly parts: readonly PartReport[];
}

/** What to report on. */
export interface InspectOptions extends EnvironmentOptions {
  readonly format?: string | undefined;
  readonly type?: MediumType | undefined;
  /** Report the parents too. */
  readonly chain?: boolean | undefined;
  readonly parent?: ImageInput | readonly ImageInput[] | undefined;
  readonly parentFormat?: string | undefined;
  /** Report on the disk as it was at this internal snapshot, by id or name. */
  readonly snapshot?: string | undefined;
}

/** The report on an image, and on its parents when they were asked for. */
export interface InspectReport extends ImageReport {
  /** Base first, the image itself last; only with `chain`. */
  readonly chain?: readonly ImageReport[];
}

/** Options of a walk over metadata. */
export interface MetadataOptions {
  /** Also the metadata of each unit of guest data. Default false. */
  readonly perUnit?: boolean | undefined;
}
