/**
 * What a format must provide. A format does not move guest data: it says where a guest range lives (`map`), hands out
 * room for new data (`prepareWrite`), and lists the metadata that a flush must write (`seal`). Chains, padding, zero
 * detection and the order of flushes are written once, above.
 */
import type { MaybePromise, NewFiles, OpenMode, OperationOptions, ReadTarget, Storage } from '../storage/contract.ts';
import type { ImageFiles } from './files.ts';
import type { Finding } from './findings.ts';
import type { Geometry } from './geometry.ts';
import type { RegionList } from './regions.ts';

/** Kind of medium: vd.h's VDTYPE. */
export type MediumType = 'hdd' | 'optical' | 'floppy';

/** Where one guest range lives in one image. Covers at least the first sector asked for; valid under its range lock. */
export type Mapping =
  | {
      readonly kind: 'data';
      readonly storage: Storage;
      /** Byte offset in that storage. */
      readonly fileOffset: number;
      readonly length: number;
      /** May be overwritten in place. */
      readonly writable: boolean;
    }
  /** Explicit zeroes: hide the parent. */
  | { readonly kind: 'zero'; readonly length: number }
  /** Not here: ask the parent; zeroes when there is none. */
  | { readonly kind: 'absent'; readonly length: number }
  /** Stored in a form of the format's own, compressed: `readEncoded` gives the bytes. Never overwritten in place. */
  | { readonly kind: 'encoded'; readonly length: number };

/** Room for whole allocation units: one file range. May be shorter than asked for; ask again for the rest. */
export interface WriteSlot {
  readonly storage: Storage;
  readonly fileOffset: number;
  readonly length: number;
  /** Guest offset of the slot's first byte; may lie before the request. */
  readonly guestOffset: number;
  /** What is not written reads zero, also after a power cut. False for room that was used before. */
  readonly readsZero: boolean;
  /** Makes the map point here. In memory, synchronous; only after all bytes of the slot are written. */
  commit(): void;
  /** Gives the room back. */
  abort(): void;
}

/** A unit of guest data as it will be stored. */
export interface EncodedUnit {
  readonly guestOffset: number;
  readonly bytes: Uint8Array;
}

/** Room for encoded units: one write of everything in `buffers`, then `commit` or `abort`. */
export interface EncodedSlot {
  readonly storage: Storage;
  readonly fileOffset: number;
  /** The units, with what the format puts before and behind them. */
  readonly buffers: readonly Uint8Array[];
  /** How many of the units are in it, at least one: ask again for the rest. */
  readonly count: number;
  /** Makes the map point here. In memory, synchronous; only after everything is written. */
  commit(): void;
  /** Gives the room back. Whatever of it was written is harmless. */
  abort(): void;
}

/** Storing units in a form of the format's own, compressed. */
export interface Encoder {
  /** Bytes of a unit; units begin at multiples of it. One that the disk's end cuts is filled up with zeroes. */
  readonly unit: number;
  /** How it is done, e.g. `zlib`. */
  readonly method: string;
  /** The stored form of one whole unit; null when it is not smaller, and is stored plain. Several at a time. */
  encode(bytes: Uint8Array): MaybePromise<Uint8Array | null>;
  /**
   * Room for encoded units, in ascending order, for as many of them as fit together. What they held before is given up.
   * Slots follow each other: waits until the one before has ended.
   */
  prepare(units: readonly EncodedUnit[]): Promise<EncodedSlot>;
}

/** One piece of metadata in a flush. The bytes are a copy: later changes do not reach it. */
export interface MetaWrite {
  readonly storage: Storage;
  readonly fileOffset: number;
  readonly bytes: Uint8Array;
}

/** What one flush writes; `flushImage` drives it: stage, flush, each root list, flush, each publish list, flush, settle. */
export interface SealedMetadata {
  /** What nothing on the medium points at yet: raised counts, new tables. */
  readonly stage: readonly MetaWrite[];
  /** Pointers that must be durable before others. Usually empty. */
  readonly root: readonly (readonly MetaWrite[])[];
  /** Entries that make new room visible, in numbered steps. Usually one. */
  readonly publish: readonly (readonly MetaWrite[])[];
}

/** Identities and links of an image; null where the format has none or none is set. */
export interface ImageLinks {
  readonly uuid: string | null;
  readonly modificationUuid: string | null;
  readonly parentUuid: string | null;
  readonly parentModificationUuid: string | null;
  /** Parent as the image names it; null when it stores no name. */
  readonly parentName: string | null;
  /** Format of the parent as the image names it. */
  readonly parentFormat: string | null;
}

/** A state of the disk that is kept inside the image. Names are the image's: escape them before printing. */
export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  /** Guest bytes of the disk as it was then. */
  readonly virtualSize: number;
  /** Bytes of a machine's saved state that belongs to it; 0: none. */
  readonly vmStateSize: number;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
}

/**
 * The states of the disk that an image keeps inside itself, as they are changed. Before each call everything is flushed
 * and `beginChanges` has resolved, with `content` for `apply`; nothing else may run meanwhile. When one resolves, all of
 * it is durable; a power cut leaves the state before it or the one after it, and so does a cancel, with room that a check
 * gives back. Throws `not-found`, `exists`, `unsupported`, and `limit` when counts or tables would overflow: nothing is
 * changed then.
 */
export interface SnapshotStore {
  /** Keeps the disk as it is now. `createdMs`: milliseconds since 1970. */
  create(name: string, how: OperationOptions & { readonly createdMs: number }): Promise<SnapshotInfo>;
  /** The disk becomes what it was, its size too. The snapshot stays. */
  apply(idOrName: string, how?: OperationOptions): Promise<void>;
  delete(idOrName: string, how?: OperationOptions): Promise<void>;
  rename(idOrName: string, name: string): Promise<void>;
}

/**
 * The persistent bitmaps of an image, as they are changed. Before each call everything is flushed and `beginChanges` has
 * resolved; nothing else may run meanwhile. When one resolves it is durable; a power cut leaves the state before it or
 * the one after it. Throws `not-found`, `exists`, `unsupported`, `limit`, `invalid-argument`.
 */
export interface BitmapStore {
  /** A new one with no bit set. `granularity`: bytes for a bit. */
  add(name: string, how: { readonly granularity?: number | undefined; readonly enabled: boolean }): Promise<void>;
  /** Also one that is inconsistent. */
  remove(name: string): Promise<void>;
  /** No bit of it is set any more. */
  clear(name: string): Promise<void>;
  /** Whether it records changes from now on. */
  enable(name: string, enabled: boolean): Promise<void>;
  /** Sets the bits that others have set, too. They stay. */
  merge(name: string, sources: readonly string[], how?: OperationOptions): Promise<void>;
}

/** A persistent dirty bitmap inside the image: which parts of the disk changed since it was started. */
export interface BitmapInfo {
  readonly name: string;
  /** Bytes of the disk for one bit. */
  readonly granularity: number;
  /** Writes are being recorded. */
  readonly enabled: boolean;
  /** It was not stored when the image was last closed, or other programs wrote since: of no use but to be removed. */
  readonly inconsistent: boolean;
}

/** Everything an image says of itself. A snapshot: ask again after a change. */
export interface ImageInfo extends ImageLinks {
  readonly format: string;
  /** Variant words, e.g. `dynamic`, `fixed`, `diff`. */
  readonly variant: readonly string[];
  readonly type: MediumType;
  /** Guest bytes, a multiple of 512. */
  readonly virtualSize: number;
  /** Bytes of an allocation unit; null for formats without one. */
  readonly blockSize: number | null;
  readonly sectorSize: number;
  /** Format version as text, e.g. `1.1`; null when the format has none. */
  readonly version: string | null;
  readonly comment: string | null;
  readonly geometry: { readonly physical: Geometry | null; readonly logical: Geometry | null };
  readonly regions: RegionList;
  /** The image was not closed cleanly; null when the format keeps no such mark. */
  readonly dirty: boolean | null;
  /** The image needs a parent to be read. */
  readonly differencing: boolean;
  /** Odd but harmless things met while opening, for people to read. */
  readonly warnings: readonly string[];
  /** Values of config keys with which an image like this one is made. Left out: the defaults. */
  readonly config?: Readonly<Record<string, string | number>>;
  /** Only of formats that can have some: internal snapshots, oldest first. */
  readonly snapshots?: readonly SnapshotInfo[];
  /** Only of formats that can have some. */
  readonly bitmaps?: readonly BitmapInfo[];
}

/** A stretch of a file that an image keeps for itself: no guest data. */
export interface MetadataExtent {
  readonly storage: Storage;
  /** Bytes in that storage. */
  readonly fileOffset: number;
  readonly length: number;
  /** For people: `header`, `block map`. */
  readonly what: string;
  /** The unit that it belongs to, for metadata that each unit has of its own; else null. */
  readonly guestOffset: number | null;
}

/** What an image says of itself and can be told to say instead. Left out: stays; null: none. */
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

/** A parent, as its children may name it. */
export interface ParentLink {
  /** As the provider of the child knows it. */
  readonly name: string;
  readonly format: string;
  readonly uuid: string | null;
  readonly modificationUuid: string | null;
}

/** A file that an image names. */
export interface FileReference {
  /** `part`: it belongs to the image and holds some of it. */
  readonly role: 'parent' | 'part';
  /** The name as it is stored: it counts from the image's directory. */
  readonly stored: string;
}

/** How an image changes its size. */
export interface ResizeOptions extends OperationOptions {
  /** What new units hold: `zero` hides what a longer parent has there. */
  readonly fill: 'zero' | 'absent';
  /** Up to this guest offset there is something that `zero` hides. */
  readonly fillEnd: number;
  /** Give up units beyond the new end that hold data. Without it such an image is left alone. */
  readonly shrink: boolean;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** How options of an image are changed. */
export interface AmendOptions extends OperationOptions {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** What one opened image can do, decided once at open. */
export interface ImageCapabilities {
  readonly write: boolean;
  /** Why not, when `write` is false though writing was asked for. */
  readonly readOnlyReason: string | null;
  /** `prepareWrite` exists: unplaced ranges can be written. */
  readonly allocate: boolean;
  /** `unmap` can mark whole units as zero without storing any. */
  readonly zeroMarker: boolean;
  /** `unmap` takes units that hold data. */
  readonly discard: boolean;
  readonly resize: boolean;
  /** `movable`, `relocate` and `trim` exist. */
  readonly compact: boolean;
}

/** One opened image. */
export interface Image {
  readonly info: ImageInfo;
  readonly can: ImageCapabilities;
  /** Where the run at `offset` lives. No I/O and next to no allocation when the table is in memory. */
  map(guestOffset: number, length: number): MaybePromise<Mapping>;
  /**
   * Fills the target from an `encoded` run, or from any part of one. Reads the file in large pieces and decodes in
   * parallel. Throws `corrupt` when the stored bytes do not decode.
   */
  readEncoded?(guestOffset: number, target: ReadTarget): Promise<void>;
  /** Room for an unplaced range. Once its tables are loaded it does not wait, so calls in guest order give files in order. */
  prepareWrite?(guestOffset: number, length: number): MaybePromise<WriteSlot>;
  /** Only of images that can store units compressed. */
  readonly encoder?: Encoder | null;
  /** Marks whole units as zero, or as absent. Room they give up is used again after the next flush. */
  unmap?(guestOffset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void>;
  /** Bytes of free room inside the file that `movable`, `relocate` and `trim` can give back. */
  readonly reclaimable?: number;
  /** Guest offsets of units that stand where a packed file has none. Nothing else may run meanwhile. */
  movable?(how?: OperationOptions): AsyncIterable<number>;
  /** Room further down for one of those units; null when it needs none. The disk copies and commits. */
  relocate?(guestOffset: number): MaybePromise<WriteSlot | null>;
  /** Cuts free room off the end of the file, after a flush. Nothing else may run meanwhile. */
  trim?(how?: OperationOptions): Promise<void>;
  /** A resize was cut and left something to do: one to the size that the disk has does it. */
  readonly resizePending?: boolean;
  /** Changes the size of the disk. Everything is flushed before, and nothing else may run meanwhile. */
  resize?(size: number, how: ResizeOptions): Promise<void>;
  /**
   * Changes what the image says of itself, all of it at once and durably. Its content and, unless asked for, its
   * modification UUID stay. Everything is flushed before, and nothing else may run meanwhile.
   */
  set?(changes: ImageChanges): Promise<void>;
  /** Of formats that keep states of the disk inside an image; while it is open for writing. */
  readonly snapshots?: SnapshotStore;
  /** Of formats that keep bitmaps of changes inside an image; while it is open for writing. */
  readonly bitmaps?: BitmapStore;
  /**
   * Names another parent, or none, by what the format stores of it: durably and at once. Its content stays as it is.
   * Everything is flushed before, and nothing else may run meanwhile. Absent where the format has no such place.
   */
  relink?(parent: ParentLink | null): Promise<void>;
  /** Of formats that store names of other files: those that this image names. */
  readonly references?: readonly FileReference[];
  /**
   * Stores other names for the same files, by the names that are stored now: durably and at once. Nothing else changes.
   * Everything is flushed before, and nothing else may run meanwhile. Throws `limit`, `unsupported`: nothing was changed.
   */
  readdress?(names: ReadonlyMap<string, string>): Promise<void>;
  /**
   * Changes what the image was made with: values by the names of `Format.amendKeys`, or of config keys for new images,
   * which are refused unless the image has that value. What is read stays as it is, but where another parent is named. A
   * power cut or an abort leaves an image that reads the same and can be amended again. Everything is flushed before,
   * nothing else may run meanwhile, and only `close` may follow. Throws `unsupported`, `invalid-argument`, `limit`: then
   * nothing was changed.
   */
  amend?(values: Readonly<Record<string, string | number>>, how: AmendOptions): Promise<void>;
  /**
   * Called once per writable session before the first change; what must be on the medium first is durable when it
   * resolves. Without `content` what is read will stay as it is, and so do the identities; it may be called with it later.
   */
  beginChanges(how: { readonly content: boolean }): Promise<void>;
  /** The content changed since the last flush: a new modification identity belongs to the next one. */
  noteChange(): void;
  /** The guest is about to change a range: after `beginChanges`, before the change. Of images that record it. */
  noteRange?(guestOffset: number, length: number): void;
  /**
   * Ends what `beginChanges` began: what was recorded is stored, durably, and `beginChanges` comes again before the next
   * change. Everything is flushed before, and nothing else may run meanwhile.
   */
  endChanges?(): Promise<void>;
  /** Metadata bytes waiting for a flush. The disk flushes early at a bound. */
  readonly dirtyBytes: number;
  /** Copies what the next flush must write. Synchronous: later commits belong to the flush after it. */
  seal(): SealedMetadata;
  /** The flush ended. `ok`: freed room may be used again. Otherwise the image refuses writes from now on. */
  settle(sealed: SealedMetadata, ok: boolean): void;
  /**
   * What the image keeps for itself, in the order of the file; as it is on the medium, so flush first. `perUnit`: also
   * what each unit of guest data has of its own. Throws when the format must read to know and cannot.
   */
  metadata(how: { readonly perUnit: boolean }): AsyncIterable<MetadataExtent>;
  /** All storages of the image, in the order they are flushed. */
  storages(): readonly Storage[];
  /** Gives the handles back. Does not flush: the disk does that before. */
  close(): Promise<void>;
}

/** vd.h's VDBACKENDINFO capability word, and what vdkit adds to it. */
export interface FormatCapabilities {
  /** Stores UUIDs. */
  readonly uuid: boolean;
  readonly createFixed: boolean;
  readonly createDynamic: boolean;
  readonly createSplit: boolean;
  /** Usable as a differencing image. */
  readonly diff: boolean;
  /** A frequently used format. */
  readonly preferred: boolean;
  readonly read: boolean;
  readonly write: boolean;
  readonly discard: boolean;
  readonly resize: boolean;
  readonly compact: boolean;
  readonly check: boolean;
  readonly repair: boolean;
}

/** vd.h's VDFILEEXTENSION. */
export interface FileExtension {
  /** Without the dot, lower case. */
  readonly extension: string;
  readonly type: MediumType;
}

/** vd.h's VDCONFIGINFO. */
export interface ConfigKey {
  readonly name: string;
  readonly valueType: 'integer' | 'string' | 'bytes';
  readonly default: string | null;
  readonly mandatory: boolean;
  readonly expert: boolean;
  readonly createOnly: boolean;
  /** One line for help texts. */
  readonly description: string;
}

/** A word for `--variant`. */
export interface Variant {
  readonly word: string;
  readonly description: string;
}

/** What a probe may look at. Never more: probing must be cheap and total. */
export interface ProbeInput {
  readonly name: string;
  readonly size: number;
  /** The first 64 KiB, or all of a shorter file. */
  readonly head: Uint8Array;
  /** The last 1 KiB, or all of a shorter file. */
  readonly tail: Uint8Array;
}

/** `yes`: a signature that is hard to meet by chance. `maybe`: content or name fit. The reason is for people. */
export interface ProbeAnswer {
  readonly match: 'yes' | 'maybe' | 'no';
  readonly reason: string;
  /** What exactly it is, for a message: `QCOW2 version 3`. */
  readonly detail?: string;
  readonly type?: MediumType;
}

/** How a format opens an image. */
export interface FormatOpenOptions extends OperationOptions {
  readonly mode: OpenMode;
  /** Only headers are wanted: skip everything expensive. */
  readonly infoOnly?: boolean | undefined;
  /** No guest data will be asked for: where it lies in a file of its own, that stays closed. */
  readonly withoutData?: boolean | undefined;
  /** Kind of medium, where the format cannot tell by itself. */
  readonly type?: MediumType | undefined;
  /** Values for the format's config keys; none that is for new images only. */
  readonly config?: Readonly<Record<string, string | number>> | undefined;
  /** Open this internal snapshot, by id or name, instead of the disk as it is now. Only for reading. */
  readonly snapshot?: string | undefined;
}

/** Progress of something long. */
export interface Progress {
  /** What runs, e.g. `convert`. */
  readonly operation: string;
  /** Bytes done and in all. */
  readonly done: number;
  readonly total: number;
}

/** What a format shall make. */
export interface FormatCreateOptions extends OperationOptions {
  /** Guest bytes. */
  readonly size: number;
  readonly variant: readonly string[];
  readonly type?: MediumType | undefined;
  readonly comment?: string | undefined;
  /** Random when left out. */
  readonly uuid?: string | undefined;
  readonly geometry?:
    | { readonly physical?: Geometry | null | undefined; readonly logical?: Geometry | null | undefined }
    | undefined;
  /** Set: a differencing image over this parent. */
  readonly parent?: (ImageLinks & ParentLink) | undefined;
  /** Values for the format's config keys. */
  readonly config?: Readonly<Record<string, string | number>> | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Bytes that a new image takes. */
export interface Measure {
  /** With the data that there is. */
  readonly required: number;
  /** When every byte of the disk is written. */
  readonly fullyAllocated: number;
}

/** A file format. `index.ts` of each folder in `src/formats/` exports one. */
export interface Format {
  /** Lower case, as in `--format`. */
  readonly name: string;
  /** Other names it answers to. */
  readonly aliases: readonly string[];
  /** For people: `VirtualBox Disk Image`. */
  readonly title: string;
  readonly capabilities: FormatCapabilities;
  readonly extensions: readonly FileExtension[];
  readonly configKeys: readonly ConfigKey[];
  /** What can be changed of an image that exists; left out: nothing. */
  readonly amendKeys?: readonly ConfigKey[];
  readonly variants: readonly Variant[];
  /** Pure and total: never throws, whatever the bytes. */
  probe(input: ProbeInput): ProbeAnswer;
  /**
   * Opens the image that lies in these files; they belong to it when this resolves, and are closed by the caller when it
   * rejects. Throws `invalid-format`, `corrupt`, `unsupported`, `limit`.
   */
  open(files: ImageFiles, options: FormatOpenOptions): Promise<Image>;
  /**
   * Writes a new image into empty files and leaves it open for writing, durable but for its names. The files belong to the
   * image then; when it fails, to the caller, who closes and removes them.
   */
  create?(files: NewFiles, options: FormatCreateOptions): Promise<Image>;
  /** Ways to compress what new images hold, the usual one first, and the config values that each asks for. */
  readonly compressions?: Readonly<Record<string, Readonly<Record<string, string | number>>>>;
  /**
   * Finds what is wrong with an image that nobody has open. The files stay open. Throws when it is no image of this format
   * at all.
   */
  check?(files: ImageFiles, options: OperationOptions): Promise<readonly Finding[]>;
  /** Repairs what `check` finds and can be repaired; may be cut off and run again. Returns what was found. The files stay open. */
  repair?(files: ImageFiles, options: OperationOptions): Promise<readonly Finding[]>;
  /** Checks what `create` would refuse, and says how many bytes a fixed one takes, without touching anything. */
  plan?(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number };
  /** Bytes that `create` and writing these ranges take; they are in order and do not overlap. Touches nothing. */
  measure?(
    options: FormatCreateOptions,
    data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
  ): Promise<Measure>;
  /** Of formats whose images are no files: where the image is that a configuration means; null: it says too little. */
  composeLocation?(config: Readonly<Record<string, string | number>>): string | null;
  /** The same: how people call that image. */
  composeName?(config: Readonly<Record<string, string | number>>): string | null;
}
