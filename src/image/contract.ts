/**
 * Contract of formats. A format does not move guest data: it locates a guest range (`map`), allocates space for new
 * data (`prepareWrite`), and lists the metadata that a flush must write (`seal`). Chains, padding, zero detection and
 * the order of flushes exist once, in the disk.
 *
 * Index:
 * - location of data and writes of a flush: in `location.ts`
 * - metadata: `ImageLinks`, `SnapshotInfo`, `BitmapInfo`, `ImageInfo`, `ImageChanges`, `ImagePart`, `ParentReference`,
 *   `ParentLink`, `MetadataExtent`
 * - an open image: `ImageCapabilities`, `Image`, `ImageMember`, `SnapshotStore`, `BitmapStore`, `ResizeOptions`, `AmendOptions`
 * - a format: `Format`, `FormatOpenOptions`, `FormatCheckOptions`, `FormatCreateOptions`, `Measure`; facts about itself
 *   in `facts.ts`
 *
 * A minimal read-only format has `probe` and `open`, and an image with `info` and `map` (`PlainImage` has the rest). A
 * format that can be written adds `prepareWrite`, `seal` and `settle`; every other member is optional.
 *
 * Life of an image; calls in brackets happen only where needed:
 *
 *   Format.probe ─▶ open | create
 *                     │
 *                     ▼
 *          map ── prepareWrite ─▶ commit | abort        requests, concurrent under range locks
 *                     │
 *   [beginChanges] before the first change of a session, durable
 *                     │
 *                     ▼
 *          seal ─▶ stage, flush ─▶ [root, flush]… ─▶ [publish, flush]… ─▶ settle     one flush at a time
 *                     │
 *   exclusive, flushed: [set relink readdress resize relocate trim snapshots bitmaps amend]
 *                     │
 *                     ▼
 *              [endChanges] ─▶ close
 */
import type { MaybePromise, NewFiles, OpenMode, OperationOptions, ReadTarget, Storage } from '../storage/contract.ts';
import type {
  Allocation,
  Config,
  ConfigKey,
  DirectoryProbeInput,
  FileExtension,
  FormatCapabilities,
  MediumType,
  ProbeAnswer,
  ProbeInput,
  Variant,
} from './facts.ts';
import type { ImageFiles } from './files.ts';
import type { Finding } from './findings.ts';
import type { ForwardReading } from './forwards.ts';
import type { Geometry } from './geometry.ts';
import type { BitmapInfo, BitmapStore, SnapshotInfo, SnapshotStore } from './inner-state.ts';
import type { Encoder, Mapping, Relocation, SealedMetadata, WriteSlot } from './location.ts';
import type { ParentIdentity, ParentLink, ParentReference, ParentVerdict } from './parent.ts';
import type { RawDisk } from './raw-disk.ts';
import type { RegionList } from './regions.ts';
import type { TrackInfo } from './tracks.ts';
import type { UnwrapOptions, Unwrapped } from './unwrap.ts';

export type * from './facts.ts';
export type * from './location.ts';
export type {
  BitmapInfo,
  BitmapStore,
  ParentIdentity,
  ParentLink,
  ParentReference,
  ParentVerdict,
  SnapshotInfo,
  SnapshotStore,
  TrackInfo,
};

/** UUIDs and links of an image; null where unset or unsupported by the format. */
export interface ImageLinks {
  readonly uuid: string | null;
  readonly modificationUuid: string | null;
  readonly parentUuid: string | null;
  readonly parentModificationUuid: string | null;
  /** Stored name of the parent; null if none is stored. */
  readonly parentName: string | null;
  /** Stored format of the parent. */
  readonly parentFormat: string | null;
}

/** Metadata of an image. A copy: ask again after a change. */
export interface ImageInfo extends ImageLinks {
  readonly format: string;
  /** Variant words, e.g. `dynamic`, `fixed`, `diff`. */
  readonly variant: readonly string[];
  readonly allocation: Allocation;
  readonly type: MediumType;
  /** Guest bytes, a multiple of 512. */
  readonly virtualSize: number;
  /** Allocation unit in bytes; null for formats without one. */
  readonly blockSize: number | null;
  readonly sectorSize: number;
  /** Format version as text, e.g. `1.1`; null for formats without versions. */
  readonly version: string | null;
  readonly comment: string | null;
  readonly geometry: { readonly physical: Geometry | null; readonly logical: Geometry | null };
  readonly regions: RegionList;
  /** True when the image was not closed cleanly; null for formats without such a flag. */
  readonly dirty: boolean | null;
  /** True when reading the image requires a parent. */
  readonly differencing: boolean;
  /** Null: no link to a parent is stored. The members of `ImageLinks` repeat it. */
  readonly parent: ParentReference | null;
  /** Identity of the content in formats without modification UUIDs, such as a CID; changed when the content changes. */
  readonly contentId?: string | null | undefined;
  /** Harmless irregularities found while opening, for people. */
  readonly warnings: readonly string[];
  /** Config values that create an image like this one. Absent: the defaults. */
  readonly config?: Readonly<Record<string, string | number>>;
  /** Cipher and mode of an encrypted image: `aes-xts-plain64`, with a key store before it; null: not encrypted. */
  readonly encryption?: string | null | undefined;
  /** Further facts of the format, for people and `--json`; names are words for a row: `grain directories`. */
  readonly details?: Readonly<Record<string, string | number | boolean>> | undefined;
  /** Tracks of an optical disc; only for formats that list them. */
  readonly tracks?: readonly TrackInfo[] | undefined;
  /** Internal snapshots, oldest first; only for formats that support them. */
  readonly snapshots?: readonly SnapshotInfo[];
  /** Persistent bitmaps; only for formats that support them. */
  readonly bitmaps?: readonly BitmapInfo[];
}

/** A stretch of a file that contains metadata. */
export interface MetadataExtent {
  readonly storage: Storage;
  /** Bytes in that storage. */
  readonly fileOffset: number;
  readonly length: number;
  /** For people: `header`, `block map`. */
  readonly what: string;
  /** Guest offset of the unit that per-unit metadata belongs to; otherwise null. */
  readonly guestOffset: number | null;
}

/** Changes of image metadata. Absent: unchanged; null: removed. */
export interface ImageChanges {
  readonly comment?: string | null | undefined;
  readonly uuid?: string | null | undefined;
  readonly modificationUuid?: string | null | undefined;
  readonly parentUuid?: string | null | undefined;
  readonly parentModificationUuid?: string | null | undefined;
  readonly geometry?:
    | { readonly physical?: Geometry | null | undefined; readonly logical?: Geometry | null | undefined }
    | undefined;
}

/** A file of an image other than the main one. */
export interface ImagePart {
  /** The stored name, relative to the image's directory. */
  readonly name: string;
  /** For people: `external data file`. */
  readonly role: string;
  /** Null if it was not opened, since only headers or names were requested. */
  readonly storage: Storage | null;
  /** Its name begins with that of the image: renamed with it, and stored so. Default false. */
  readonly follows?: boolean | undefined;
}

/** Options for a resize. */
export interface ResizeOptions extends OperationOptions {
  /** Content of new units: `zero` hides data of a longer parent. */
  readonly fill: 'zero' | 'absent';
  /** End of the guest range in which `zero` has something to hide. */
  readonly fillEnd: number;
  /** Discard units past the new end that hold data. Otherwise such an image is not changed. */
  readonly shrink: boolean;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Options for an amendment. */
export interface AmendOptions extends OperationOptions {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Capabilities of an open image, decided once at open. */
export interface ImageCapabilities {
  readonly write: boolean;
  /** Reason why `write` is false although writing was requested. */
  readonly readOnlyReason: string | null;
  /** Unallocated ranges can be written: `prepareWrite` exists. */
  readonly allocate: boolean;
  /** `unmap` can mark whole units as zero without storing data. */
  readonly zeroMarker: boolean;
  /** Units that hold data can be given to `unmap`. */
  readonly discard: boolean;
  readonly resize: boolean;
  /** `movable`, `relocate` and `trim` exist. */
  readonly compact: boolean;
}

/** One open image. */
export interface Image {
  readonly info: ImageInfo;
  readonly can: ImageCapabilities;
  /**
   * `ascending-once`: a new image whose data is written once, from front to back; the disk refuses everything else.
   * Once finished it is read like any other. Default `random`.
   */
  readonly access?: 'random' | 'ascending-once';
  /** Writes the end of an image that is written once, durably; called before it is closed, but not after a failure. */
  finish?(): Promise<void>;
  /** Location of the run at `guestOffset`. Without I/O and nearly without allocation when the table is in memory. */
  map(guestOffset: number, length: number): MaybePromise<Mapping>;
  /** Fills the target from an `encoded` run, or any part of one. Throws `corrupt` when the bytes do not decode. */
  readEncoded?(guestOffset: number, target: ReadTarget, options?: OperationOptions): Promise<void>;
  /**
   * Allocates space for an unallocated range, or for one that is not writable; after a failed change it throws `io`. Never waits once its tables are loaded, so calls in guest order produce
   * files in order.
   */
  prepareWrite?(guestOffset: number, length: number): MaybePromise<WriteSlot>;
  /**
   * Bytes that `prepareWrite` gives space for at a time, where those are fewer than `info.blockSize`: parts of a block may
   * be stored.
   */
  readonly writeUnit?: number | undefined;
  /** Only for images that can store compressed units. */
  readonly encoder?: Encoder | null;
  /**
   * Marks whole units as zero, or as absent. Their space is reused after the next flush. Without `can.zeroMarker`, zero is
   * asked for only where there is no parent, and a unit that is absent reads as zero.
   */
  unmap?(guestOffset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void>;
  /** Bytes of free space inside the file that `movable`, `relocate` and `trim` can free. */
  readonly reclaimable?: number;
  /**
   * Guest offsets of units that hold space but no data: other programs zero them so. `unmap` to what they read as frees
   * it. Absent: the format has none.
   */
  idle?(how?: OperationOptions): AsyncIterable<number>;
  /** Guest offsets of units past the end of a packed file. Nothing else may run at the same time. */
  movable?(how?: OperationOptions): AsyncIterable<number>;
  /**
   * Space nearer the start of the file for one of those units; null when it need not move. The disk copies and commits.
   */
  relocate?(guestOffset: number): MaybePromise<Relocation | null>;
  /** Cuts free space off the end of the file, after a flush. Nothing else may run at the same time. */
  trim?(how?: OperationOptions): Promise<void>;
  /** A resize was interrupted; a resize to the current size completes it. */
  readonly resizePending?: boolean;
  /** Throws `limit` or `unsupported` for a size that the image cannot have. Touches nothing. Absent: `resize` finds out. */
  checkSize?(size: number): MaybePromise<void>;
  /** Resizes the disk. Everything must be flushed, and nothing else may run at the same time. */
  resize?(size: number, how: ResizeOptions): Promise<void>;
  /**
   * Changes image metadata atomically and durably. The content and, unless requested, the modification UUID stay.
   * Everything must be flushed, and nothing else may run at the same time.
   */
  set?(changes: ImageChanges): Promise<void>;
  /** Internal snapshots; only for formats that support them and images open for writing. */
  readonly snapshots?: SnapshotStore;
  /** Persistent bitmaps; only for formats that support them and images open for writing. */
  readonly bitmaps?: BitmapStore;
  /**
   * Stores a link to another parent, or to none, durably and atomically. The content stays. Everything must be flushed,
   * and nothing else may run at the same time. Absent if the format stores no link.
   */
  relink?(parent: ParentLink | null): Promise<void>;
  /** It stores of its parent nothing that leads there but the UUID: a parent without one is refused. Default: false. */
  readonly linksByUuid?: boolean;
  /** Compares an image with the stored parent. Default: by UUIDs, then by the identity of the content. */
  judgeParent?(found: ParentIdentity): ParentVerdict;
  /** Identity of the content behind its next change; only of formats whose children refuse a parent with another one. */
  readonly nextContentId?: string | undefined;
  /**
   * Takes a parent with either identity from now on, durably: its content is about to change, but not what this image
   * reads. Everything must be flushed, and nothing else may run at the same time.
   */
  expectParent?(contentIds: { readonly current: string; readonly next: string }): Promise<void>;
  /** Files of the image other than the main one. Absent for formats with one file. */
  parts?(): readonly ImagePart[];
  /**
   * True for a name, in the image's directory, of the kind that its parts get when it grows: such a file that no image
   * names is left over. Absent: it gets none.
   */
  isPartName?(name: string): boolean;
  /**
   * Replaces stored names of the parent and of parts, keyed by the current names: durably and atomically. Nothing else
   * changes. Everything must be flushed, and nothing else may run at the same time. Throws `limit`, `unsupported`: then
   * nothing has changed.
   */
  readdress?(names: ReadonlyMap<string, string>): Promise<void>;
  /**
   * Changes creation options: values by the names of `Format.amendKeys`, or of config keys for new images, which are
   * rejected unless the image already has that value. The disk reads the same, unless another parent is named. A power
   * cut or an abort leaves an image that reads the same and can be amended again. Everything must be flushed, nothing
   * else may run at the same time, and only `close` may follow. Throws `unsupported`, `invalid-argument`, `limit`: then
   * nothing has changed.
   */
  amend?(values: Config, how: AmendOptions): Promise<void>;
  /**
   * Called once per writable session before the first change; resolves when everything that must be on the medium first
   * is durable. Without `content` neither the data nor the UUIDs will change; a later call may add it.
   */
  beginChanges(how: { readonly content: boolean }): Promise<void>;
  /** The content has changed since the last flush: the next one stores a new modification UUID. */
  noteChange(): void;
  /**
   * The guest is about to change a range: after `beginChanges`, before the change. Only for images that record changes.
   */
  noteRange?(guestOffset: number, length: number): void;
  /**
   * Ends the session begun by `beginChanges`, if there is one: stores recorded changes, durably; `beginChanges` is called
   * again before the next change. Everything must be flushed, and nothing else may run at the same time.
   */
  endChanges?(): Promise<void>;
  /**
   * The session is to end once nothing has changed for some seconds, since other programs refuse the image until then.
   * Default false.
   */
  readonly endsWhenIdle?: boolean;
  /** Metadata bytes waiting for a flush. Above a bound the disk flushes early. */
  readonly dirtyBytes: number;
  /** Copies the metadata for the next flush. Synchronous: later commits belong to the flush after it. */
  seal(): SealedMetadata;
  /** Ends a flush. `ok`: freed space may be reused. Otherwise the image refuses further writes. */
  settle(sealed: SealedMetadata, ok: boolean): void;
  /**
   * Metadata extents in file order; as on the medium, so flush first. `perUnit`: includes the metadata of each unit.
   * Throws when finding them needs a read that fails.
   */
  metadata(how: { readonly perUnit: boolean }): AsyncIterable<MetadataExtent>;
  /** All storages of the image, in flush order. */
  storages(): readonly Storage[];
  /** Its place among the images of a directory. Absent: it is alone. */
  readonly member?: ImageMember | undefined;
  /** Closes the handles. Does not flush: the disk does that before. */
  close(): Promise<void>;
}

/** One of the images in a directory, which lists them and their parents. */
export interface ImageMember {
  /** Name in the list. */
  readonly id: string;
  /** Ids of the images that are made from it: also those outside of the chain. */
  children(): Promise<readonly string[]>;
  /** Files of the directory that belong to the other images, or to all of them. */
  others(): Promise<readonly ImagePart[]>;
  /** Stored names of files that hold less than a disk: they have a parent. */
  incomplete(): ReadonlySet<string>;
  /**
   * Takes images out of the list, durably and in one step: their children get the nearest image that stays as parent. Their
   * files stay. An image that reads what others took out of the list gets to know it by the same call.
   */
  drop(ids: readonly string[]): Promise<void>;
}

/** Options for opening an image. */
export interface FormatOpenOptions extends OperationOptions {
  readonly mode: OpenMode;
  /** Only metadata is needed: skip everything expensive. */
  readonly infoOnly?: boolean | undefined;
  /** Guest data will not be read: an external data file stays closed. */
  readonly withoutData?: boolean | undefined;
  /** Medium type, if the format cannot tell. */
  readonly type?: MediumType | undefined;
  /** Values of config keys, except those for new images. */
  readonly config?: Config | undefined;
  /** Open this internal snapshot, by id or name, instead of the current state. Read-only. */
  readonly snapshot?: string | undefined;
  /** Id of one image among several in a directory. Left out: the one that is written. */
  readonly member?: string | undefined;
}

/** Options for checking or repairing an image. */
export interface FormatCheckOptions extends OperationOptions {
  /** Of an image that is a configuration. */
  readonly config?: Config | undefined;
}

/** Progress of a long operation. */
export interface Progress {
  /** Name of the operation, e.g. `convert`. */
  readonly operation: string;
  /** Bytes done and in total. */
  readonly done: number;
  readonly total: number;
  /** The part of both that is data and takes time; `total` is null until it is counted. Absent: all of it. */
  readonly data?: { readonly done: number; readonly total: number | null } | undefined;
}

/** Options for a new image. */
export interface FormatCreateOptions extends OperationOptions {
  /** Guest bytes. */
  readonly size: number;
  /** The size is that of another disk, which may end inside a sector: formats that keep every byte take it as it is. */
  readonly sizeOfSource?: boolean | undefined;
  readonly variant: readonly string[];
  readonly type?: MediumType | undefined;
  readonly comment?: string | undefined;
  /** Default: random. */
  readonly uuid?: string | undefined;
  readonly geometry?:
    | { readonly physical?: Geometry | null | undefined; readonly logical?: Geometry | null | undefined }
    | undefined;
  /** Create a differencing image over this parent. */
  readonly parent?: (ImageLinks & ParentLink) | undefined;
  /** Values of config keys. */
  readonly config?: Config | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Size of a new image in bytes. */
export interface Measure {
  /** With the existing data. */
  readonly required: number;
  /** With every byte of the disk written. */
  readonly fullyAllocated: number;
}

/** A file format. */
export interface Format extends ForwardReading {
  /** Lower case, as in `--format`. */
  readonly name: string;
  /** Other accepted names. */
  readonly aliases: readonly string[];
  /** Full name: `VirtualBox Disk Image`. */
  readonly title: string;
  /** Takes every file that no other format recognises, as a guess: the last one of a registry, which has at most one. */
  readonly fallback?: boolean | undefined;
  readonly capabilities: FormatCapabilities;
  readonly extensions: readonly FileExtension[];
  readonly configKeys: readonly ConfigKey[];
  /** Options that can be changed in an existing image; absent: none. */
  readonly amendKeys?: readonly ConfigKey[];
  readonly variants: readonly Variant[];
  /** Pure and total: never throws, whatever the bytes. */
  probe(input: ProbeInput): ProbeAnswer;
  /** The same for a directory. Only of formats whose images can be directories: `open` gets no main file then. */
  probeDirectory?(input: DirectoryProbeInput): ProbeAnswer;
  /**
   * Base name of the file in it that names the others, where images are directories: it is `NewFiles.main` of a new one,
   * whose parts lie beside it. Absent: images are files.
   */
  readonly directoryMain?: string;
  /** True when a new image with these options is a directory. Absent: always, where there is a `directoryMain`. */
  makesDirectory?(options: Pick<FormatCreateOptions, 'variant'>): boolean;
  /**
   * Adds the file of a new image, which is complete and durable, to the list of a directory as the one that is written, over
   * the one with the id `parent`: durably and in one step. Throws when `parent` is not written any more, or the file does
   * not fit. Absent: no image of a directory has a parent in it.
   */
  extendDirectory?(files: ImageFiles, how: { readonly name: string; readonly parent: string }): Promise<void>;
  /**
   * Finds the file inside a compressed file or an archive of this format, which cannot be opened as an image. Absent:
   * there is none. Throws `corrupt`, `unsupported`, `limit`, and `invalid-argument` if `member` must choose.
   */
  readonly unwrap?: ((storage: Storage, options: UnwrapOptions) => Promise<Unwrapped>) | undefined;
  /**
   * Opens the image in these files, which belong to it when this resolves and are closed by the caller when it rejects.
   * Throws `invalid-format`, `corrupt`, `unsupported`, `limit`.
   */
  open(files: ImageFiles, options: FormatOpenOptions): Promise<Image>;
  /**
   * Writes a new image into empty files and leaves it open for writing, durable except for its names. The files then
   * belong to the image; after a failure the caller closes and removes them.
   */
  create?(files: NewFiles, options: FormatCreateOptions): Promise<Image>;
  /** Writes an image that describes a disk of the host, and flushes it. The caller closes the main file. */
  describeDevice?(files: NewFiles, disk: RawDisk, options: FormatCreateOptions): Promise<void>;
  /** True when new images with these options store everything encoded (see `Encoder.must`). Absent: never. */
  encodesAlways?(options: Pick<FormatCreateOptions, 'variant' | 'config'>): boolean;
  /** True when new images with these options are written in order and never read, as into a pipe. Absent: never. */
  writesForwards?(options: Pick<FormatCreateOptions, 'variant' | 'config'>): boolean;
  /** Checks an image that is not open elsewhere. The files stay open. Throws for a file of another format. */
  check?(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]>;
  /**
   * Repairs the findings of `check` that can be repaired; may be interrupted and repeated. Returns the findings. The
   * files stay open.
   */
  repair?(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]>;
  /** Makes the checks of `create` and returns the bytes that a fixed image allocates, without touching anything. */
  plan?(options: FormatCreateOptions): MaybePromise<{ readonly virtualSize: number; readonly preallocates: number }>;
  /** Bytes needed by `create` and by writing these ranges, which are in order and disjoint. Touches nothing. */
  measure?(
    options: FormatCreateOptions,
    data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
  ): Promise<Measure>;
  /**
   * Location of the image described by a configuration; null if it is incomplete. For formats whose images are not
   * files.
   */
  composeLocation?(config: Config): string | null;
  /** Display name of the image described by a configuration. */
  composeName?(config: Config): string | null;
}
