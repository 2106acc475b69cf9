/**
 * Byte stores, and the files beside an image. All code above this layer moves bytes through `Storage` and reaches other
 * files through `StorageProvider`; together they correspond to vd.h's I/O interface.
 */

/**
 * A value now, or a promise of one. Test with {@link isPromise}: awaiting blindly may cost more than the work itself.
 */
export type MaybePromise<T> = T | Promise<T>;

/** True for the promise half of a {@link MaybePromise}. */
export function isPromise<T>(value: MaybePromise<T>): value is Promise<T> {
  return value instanceof Promise;
}

/** Options that every operation takes as its last argument. */
export interface OperationOptions {
  /** Ends the operation at its next step; it rejects with kind `aborted`. */
  readonly signal?: AbortSignal | undefined;
}

/** Request sizes that suit a storage, such as one on another machine. Hints only: any request works. */
export interface StorageHints {
  /** Bytes; requests should begin at multiples of it. */
  readonly align: number;
  /** Bytes that are best moved at once. */
  readonly transfer: number;
  /** Requests that should run at the same time. */
  readonly parallel: number;
}

/** Capabilities of a storage; constant while it is open. */
export interface StorageCapabilities {
  readonly write: boolean;
  readonly resize: boolean;
  /** False for pipes: every read or write must begin where the last one ended. */
  readonly random: boolean;
  /**
   * `zero` with `punch` returns space to the file system.
   */
  readonly punch: boolean;
  /** New parts of a growing file read as zero, even after a power cut. */
  readonly growsZeroed: boolean;
}

/** One state of the bytes of a storage. */
export interface StorageRevision {
  /** Differs after every change, except for changes within one clock tick. */
  readonly text: string;
  /** Time of the last change, milliseconds since 1970. */
  readonly atMs: number;
  /**
   * Length of a tick in milliseconds: changes within one tick may leave the text unchanged. 0: every change is visible.
   */
  readonly tickMs: number;
}

/** Identity of the bytes of a storage: tells whether two storages are the same, and whether one has changed. */
export interface StorageIdentity {
  /** Equal for two handles of one file, whatever names they were opened by. */
  readonly key: string;
  readonly kind: 'file' | 'device' | 'pipe' | 'memory' | 'blob' | 'other';
  /** Bytes allocated on the host; null when unknown. */
  readonly allocatedSize: number | null;
  /** Length of its files on the host, bytes. Absent: `size` of the storage. */
  readonly hostSize?: number;
  /** Milliseconds since 1970; null when unknown. */
  readonly modifiedMs: number | null;
  /** Absent: the platform cannot tell states of the bytes apart. */
  readonly revision?: StorageRevision;
}

/** Owner, permissions and other metadata of a file. */
export interface FileAttributes {
  /** Numeric user and group. */
  readonly owner: number;
  readonly group: number;
  /** Permission bits, e.g. 0o640. */
  readonly mode: number;
  /** Milliseconds since 1970. */
  readonly accessedMs: number;
  readonly modifiedMs: number;
  /** Extended attributes by name, including access lists; null where they cannot be read. */
  readonly extended: ReadonlyMap<string, Uint8Array> | null;
}

/** Attributes of a file when it is published. */
export interface PublishHow {
  /** Attributes of the file that it replaces or continues; null: those of any new file. */
  readonly like: FileAttributes | null;
  /** Copy the times of `like` too. Default false. */
  readonly times?: boolean | undefined;
  /** Files that its content comes from: it never grants rights that one of them denies. */
  readonly sources?: readonly FileAttributes[] | undefined;
}

/** Location of an open storage, asked through its handle. */
export interface StoragePlace {
  /** Name with all links resolved; null: deleted, or changing with every look. */
  readonly name: string | null;
  /** False for files that the kernel makes up, such as those of /proc and /sys. */
  readonly ordinary: boolean;
}

/** A run of one kind in a storage. `end` may lie past the requested range, so that the answer can be cached. */
export interface StorageExtent {
  readonly start: number;
  readonly end: number;
  /** False: a hole, which reads as zero and takes no space. */
  readonly data: boolean;
}

/**
 * `shared`: for reading, others must not write. `exclusive`: for writing, others must neither read nor write.
 */
export type LockMode = 'shared' | 'exclusive';

/** Options for a lock. */
export interface LockOptions {
  /** Permit other writers, if they permit this one. Default false. */
  readonly shareable?: boolean | undefined;
  /**
   * The structure of the file will change, so a lock that only vdkit respects is not enough. Throws `unsupported` if
   * there is no other kind. Default false.
   */
  readonly structure?: boolean | undefined;
}

/** A program that holds a lock on a file. */
export interface LockHolder {
  readonly pid: number;
  /** Null if the system does not tell. */
  readonly name: string | null;
}

/** Locks held on a storage, by any handle. */
export interface LockState {
  /**
   * `shared`: open for reading; `exclusive`: open for writing; null: unknown.
   */
  readonly held: 'none' | LockMode | null;
  /** Holders found. Programs of other users often cannot be seen. */
  readonly holders: readonly LockHolder[];
}

/** One buffer, or several that follow each other in the store. */
export type ReadTarget = Uint8Array | readonly Uint8Array[];
/** One buffer, or several that are written consecutively in one call. */
export type WriteSource = Uint8Array | readonly Uint8Array[];

/**
 * A byte store: a local file, memory, a Blob, an HTTP resource.
 *
 * Buffers belong to the caller again when the promise settles. Calls may overlap; overlapping writes to one range
 * have no defined winner. After a failed `flush` nothing is known about what reached the medium.
 *
 * Every call that can wait takes a signal last. Storages at hand look at it before they start, slow ones while they wait
 * too; a call that is ended rejects with `aborted`, and its buffers belong to the caller again. Pass the options that
 * you got: making an object for each request would be felt.
 */
export interface Storage {
  /** Name for messages, as the user knows it. */
  readonly label: string;
  /** Size in bytes, covering every write that was started. */
  readonly size: number;
  readonly can: StorageCapabilities;
  /** Sizes that suit it; absent for files at hand. */
  readonly hints?: StorageHints | undefined;
  /** Reads without waiting if the bytes are available. False: nothing was read, call `read`. Never blocks. */
  readNow?(offset: number, target: Uint8Array): boolean;
  /** Fills the target. A read past the end throws `out-of-bounds`. */
  read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void>;
  /** Writes the source; a write past the end extends the storage, with zeroes in the gap. */
  write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void>;
  /** The largest known run around `offset`; a storage that cannot tell reports data up to its end. */
  extentAt(offset: number, options?: OperationOptions): MaybePromise<StorageExtent>;
  /** Makes a range inside the storage read as zero. `punch` frees its space; otherwise the range stays allocated. */
  zero(offset: number, length: number, how: { readonly punch: boolean }, options?: OperationOptions): Promise<void>;
  /** Allocates space so that later writes cannot run out of it. Absent where the platform has no such call. */
  allocate?(offset: number, length: number, options?: OperationOptions): Promise<void>;
  /** Announces reads in ascending order. Absent where the platform has no such call. */
  adviseSequential?(): void;
  resize(size: number, options?: OperationOptions): Promise<void>;
  /** Resolves when all earlier writes are durable. Never retried after a failure. */
  flush(options?: OperationOptions): Promise<void>;
  identity(options?: OperationOptions): Promise<StorageIdentity>;
  /** Absent, or null, for storages without an owner: memory, devices. */
  attributes?(options?: OperationOptions): Promise<FileAttributes | null>;
  /** Location of the open file by its handle, unaffected by renames. Null, or absent, where the system cannot tell. */
  place?(options?: OperationOptions): Promise<StoragePlace | null>;
  /**
   * Takes an advisory lock on the whole storage, or changes the one this handle holds. Closing releases it. Never
   * waits: throws `locked` when another handle, in any process, conflicts, and keeps the old lock.
   */
  lock(mode: LockMode, how?: LockOptions, options?: OperationOptions): Promise<void>;
  /** Locks currently held, this handle's own included. Unknown is an answer, not an error. */
  lockState(options?: OperationOptions): Promise<LockState>;
  /** Closes the handle and releases its lock. Does not flush. May be called again. */
  close(): Promise<void>;
}

/** Access mode; writing includes reading. */
export type OpenMode = 'read' | 'write';

/** Options for a new storage. */
export interface CreateMode {
  /** Name for messages, if the name on the medium is a temporary one. */
  readonly label?: string | undefined;
  /** Readable by its owner only until published. */
  readonly private?: boolean | undefined;
}

/** Facts about a name, found without opening it. */
export interface NameInfo {
  readonly kind: 'file' | 'directory' | 'device' | 'pipe' | 'other';
  /** True for a device with bytes at any offset, such as a disk; absent for others, such as a terminal. */
  readonly isBlockDevice?: boolean | undefined;
  readonly size: number;
  /** As {@link StorageIdentity.key}. */
  readonly key: string;
  /** Number of names (hard links); absent: unknown. */
  readonly links?: number;
  /** Volume: files can be renamed within one. Absent: unknown. */
  readonly volume?: string;
  /** Milliseconds since 1970; absent: unknown. */
  readonly modifiedMs?: number | undefined;
  readonly permissions?: Permissions | undefined;
}

/** Owner and permission bits, where there are any. */
export type Permissions = Pick<FileAttributes, 'mode' | 'owner' | 'group'>;

/** What a directory of the host has under one name. Links are not followed. */
export interface DirectoryEntry {
  readonly name: string;
  /** Ready for `open`, and for another list. */
  readonly path: string;
  readonly kind: 'file' | 'directory' | 'link' | 'other';
  readonly size: number;
  /** As {@link StorageIdentity.key}. */
  readonly key: string;
  /** Milliseconds since 1970. */
  readonly modifiedMs: number;
  /** As {@link StorageRevision.text}; null: unknown. */
  readonly revision: string | null;
  /** Anybody may execute it. */
  readonly executable: boolean;
  /** Absent: unknown. */
  readonly permissions?: Permissions | undefined;
  /** Target of a link. */
  readonly target?: string | undefined;
}

/** The files in the directories of images. Names returned by `resolve` are absolute. */
export interface StorageProvider {
  /** Opens an existing storage. Throws `not-found`, `denied`, `unsupported` (a directory, a FIFO) or `io`. */
  open(name: string, mode: OpenMode): Promise<Storage>;
  /** Creates an empty, writable storage. Throws `exists` if the name is taken. */
  create(name: string, how?: CreateMode): Promise<Storage>;
  /**
   * Renames a storage. Without `replace` throws `exists` if the name is taken. Where there is `makeDirectory`, also
   * renames a directory with all that is in it, in one step; `replace` is false then.
   */
  rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void>;
  /**
   * Gives a storage a second name. Throws `exists`, or `unsupported` if this one cannot have two. Absent: none can.
   */
  link?(from: string, to: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** Makes an empty directory. Throws `exists`. Absent: no image can be made that is a directory. */
  makeDirectory?(name: string): Promise<void>;
  /** Deletes a directory. Throws `exists` unless it is empty. Comes with `makeDirectory`. */
  removeDirectory?(name: string): Promise<void>;
  /** Names in a directory, each ready for `open`, in no defined order. */
  list(directory: string): AsyncIterable<string>;
  /** Everything in a directory, with its kind, in no defined order. Absent: trees of files cannot be read. */
  entries?(directory: string): AsyncIterable<DirectoryEntry>;
  /** Resolves `name` relative to the directory of `relativeTo`. */
  resolve(name: string, relativeTo: string): string;
  /** The directory of a name. */
  directory(name: string): string;
  /** Looks a name up, following links; null when there is nothing. */
  lookUp(name: string): Promise<NameInfo | null>;
  /** The name with all links resolved. */
  realName(name: string): Promise<string>;
  /** An unused name in the same directory, for a file under construction. */
  temporaryName(name: string): string;
  /** Gives a private storage the permissions of an ordinary new file. */
  publishMode(name: string): Promise<void>;
  /**
   * Gives a private storage owner, permissions and extended attributes, as far as permitted. Never makes it more
   * readable than requested. Returns the attributes that were lost, for people: `owner 1000`.
   */
  publishLike(name: string, how: PublishHow): Promise<readonly string[]>;
  /** Makes created, renamed and removed names of one directory durable. */
  syncNames(directory: string): Promise<void>;
  /** Free space for a directory in bytes; null when unknown. */
  freeSpace(directory: string): Promise<number | null>;
  /**
   * Begins a set of new files. Absent: they are made under temporary names and renamed, which needs `rename` and
   * `syncNames`. For providers that cannot rename, such as object stores, but can complete uploads together.
   */
  stage?(): StagedSet;
}

/** Conditions for publishing a set. */
export interface PublishSetHow {
  /** Replace a file that has the name of the main one. Otherwise throws `exists`, as for parts always. */
  readonly replace: boolean;
  /**
   * Names of old files that make room for new ones, the main one first: no reader may find some of the old files with some
   * of the new ones. They come back when publishing fails.
   */
  readonly withdraw: readonly string[];
}

/** New files that get their names together. None is visible under its name before. */
export interface StagedSet {
  /** Creates a file, empty, writable and readable by its owner only. `label` is its name for messages. */
  create(name: string, label?: string): Promise<Storage>;
  /** Gives a file its final attributes; null: those of an ordinary new file. Returns those that were lost, for people. */
  dress(name: string, how: PublishHow | null): Promise<readonly string[]>;
  /** Gives all files their names, durably, `main` last. Returns warnings. Throws `exists`: then `discard` comes next. */
  publish(main: string, how: PublishSetHow): Promise<readonly string[]>;
  /** Deletes all files, if they were not published, and restores what made room. May be called twice. */
  discard(): Promise<void>;
}

/** Names of one scheme, as `http:` or `nbd:`, and the provider that has them. */
export interface StorageScheme {
  /** Without the colon, lower case, at least two letters: one is a drive of Windows. */
  readonly name: string;
  /** The provider; called once, when a name of the scheme is first used. It gets names with their scheme. */
  open(): StorageProvider;
}

/** A name and the provider to resolve it. */
export interface Source {
  readonly provider: StorageProvider;
  readonly name: string;
  /** The file of that name if it is already open: it is used, and stays open. */
  readonly storage?: Storage;
  /** The image is the directory of that name: what it stores counts from there. Found out when it is opened. */
  readonly isDirectory?: boolean;
  /**
   * Id of the image among several in that directory: see `ImageMember`. Left out: the one that is written. In an archive:
   * name of the member; left out: the only disk.
   */
  readonly member?: string | undefined;
  /** For a storage that was unpacked from the file of that name. */
  readonly unpacked?: UnpackedFrom | undefined;
  /** For an image that is not a file: its format finds it by this configuration, and `name` is for messages. */
  readonly configuration?: SourceConfiguration;
}

/** A compressed file, or an archive, around an image. */
export interface Wrapping {
  /** Name of its format: `gzip`. */
  readonly format: string;
  /** Name of the file in it: as stored in an archive, derived from the outer name otherwise. */
  readonly member: string;
}

/** Origin of a storage that lies inside a file. */
export interface UnpackedFrom {
  /** Name of the innermost file, without a directory. */
  readonly name: string;
  /** Outermost first. */
  readonly wrappings: readonly Wrapping[];
  /** It is a member of an archive: what an image names is not in the directory of the archive. */
  readonly isMember: boolean;
  /** Bytes of the file around it. */
  readonly fileSize: number;
  readonly warnings: readonly string[];
}

/** Configuration of an image that is not a file. */
export interface SourceConfiguration {
  readonly format: string;
  /** Location of the image; equal for equal images. */
  readonly location: string;
  readonly config: Readonly<Record<string, string | number | Uint8Array | undefined>>;
}

/**
 * Files of something new: all of them get their names together when it is complete, the main one last, or all are removed.
 * When creation fails, the caller that supplied them closes them.
 */
export interface NewFiles {
  /** The name of the main file, never a temporary one. */
  readonly name: string;
  /** The place that relative names count from. */
  readonly directory: string;
  /** Empty, and open for writing. */
  readonly main: Storage;
  /**
   * Makes another file of it, empty and open for writing, by the name that the image stores. Throws `exists` for a file
   * that is there, unless it belongs to an image that is replaced.
   */
  part(name: string): Promise<Storage>;
  /** Bytes that can still be written into the directory; null when unknown. */
  freeSpace(): Promise<number | null>;
}

/** Memory that the system keeps out of swap. */
export interface LockedMemory {
  readonly bytes: Uint8Array;
  /** False if the system cannot or may not lock it: then it is ordinary memory. */
  readonly locked: boolean;
  /** Releases the lock. The bytes stay as they are: overwrite them first. */
  unlock(): void;
}
