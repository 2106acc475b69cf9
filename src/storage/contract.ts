/**
 * Byte stores, and the files beside an image. Everything above this folder moves bytes through `Storage` and reaches
 * other files through `StorageProvider`; together they are what vd.h calls the I/O interface.
 */

/** A value now, or a promise of one. Test with {@link isPromise}: awaiting blindly costs more than the work itself. */
export type MaybePromise<T> = T | Promise<T>;

/** Tells the two halves of a {@link MaybePromise} apart. */
export function isPromise<T>(value: MaybePromise<T>): value is Promise<T> {
  return value instanceof Promise;
}

/** Every operation takes these as its last argument. */
export interface OperationOptions {
  /** Ends the operation at its next step; it rejects with kind `aborted`. */
  readonly signal?: AbortSignal | undefined;
}

/** What a storage can do; fixed while it is open. */
export interface StorageCapabilities {
  readonly write: boolean;
  readonly resize: boolean;
  /** False for pipes: every read or write must begin where the last one ended. */
  readonly random: boolean;
  /** `zero` with `punch` gives room back to the file system. */
  readonly punch: boolean;
  /** A file that grows reads zero in the new part, also after a power cut. */
  readonly growsZeroed: boolean;
}

/** One state of the bytes of a storage. */
export interface StorageRevision {
  /** Another text after every change, save one within the tick of the clock. */
  readonly text: string;
  /** When the last change came, milliseconds since 1970. */
  readonly atMs: number;
  /** Changes that follow each other within so many milliseconds may leave the text as it is. 0: every change counts. */
  readonly tickMs: number;
}

/** Tells whether two storages are the same bytes, and whether they changed. */
export interface StorageIdentity {
  /** Equal for two handles of one file, whatever names they were opened under. */
  readonly key: string;
  readonly kind: 'file' | 'device' | 'pipe' | 'memory' | 'blob' | 'other';
  /** Bytes the host really keeps for it; null when unknown. */
  readonly allocatedSize: number | null;
  /** Milliseconds since 1970; null when unknown. */
  readonly modifiedMs: number | null;
  /** Left out: there is no telling one state of the bytes from another. */
  readonly revision?: StorageRevision;
}

/** Who owns a file, who may do what with it, and what else the system keeps beside its bytes. */
export interface FileAttributes {
  /** Numbers of the user and of the group. */
  readonly owner: number;
  readonly group: number;
  /** Permission bits, e.g. 0o640. */
  readonly mode: number;
  /** Milliseconds since 1970. */
  readonly accessedMs: number;
  readonly modifiedMs: number;
  /** Extended attributes by name, access lists among them; null where they cannot be read. */
  readonly extended: ReadonlyMap<string, Uint8Array> | null;
}

/** Attributes that a file gets when it is published. */
export interface PublishHow {
  /** Those of the file that it replaces or continues; null: those of any new file. */
  readonly like: FileAttributes | null;
  /** The times of `like`, too. Default false. */
  readonly times?: boolean;
  /** Files that its content comes from: nobody may do with it what they could not do with each of these. */
  readonly sources?: readonly FileAttributes[];
}

/** Where an open storage lies, by its handle. */
export interface StoragePlace {
  /** Its name with all links resolved; null: it has none any more, or another one at every look. */
  readonly name: string | null;
  /** False for files that the system makes up, such as those of /proc and /sys. */
  readonly ordinary: boolean;
}

/** A run of one kind in a storage. `end` may lie beyond what was asked for, so that the answer can be kept. */
export interface StorageExtent {
  readonly start: number;
  readonly end: number;
  /** False: a hole. It reads zero and costs nothing. */
  readonly data: boolean;
}

/** `shared`: I read and nobody else may write. `exclusive`: I write and nobody else may read or write. */
export type LockMode = 'shared' | 'exclusive';

/** How a lock is taken. */
export interface LockOptions {
  /** Others may write meanwhile, if they let me. Default false. */
  readonly shareable?: boolean;
  /**
   * What the file holds will be rearranged: a lock that only vdkit knows of is not enough. Throws `unsupported` where
   * there is no other. Default false.
   */
  readonly structure?: boolean;
}

/** A program that has a file locked. */
export interface LockHolder {
  readonly pid: number;
  /** Null when the system does not tell. */
  readonly name: string | null;
}

/** What is locked in a storage, by whatever handle. */
export interface LockState {
  /** `shared`: somebody reads; `exclusive`: somebody writes; null: there is no way to tell. */
  readonly held: 'none' | LockMode | null;
  /** Those that were found. Programs of other users often are not. */
  readonly holders: readonly LockHolder[];
}

/** One buffer, or several that follow each other in the store. */
export type ReadTarget = Uint8Array | readonly Uint8Array[];
/** One buffer, or several that are written behind each other in one call. */
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
  /** For messages: the name that the person knows. */
  readonly label: string;
  /** Bytes. Tracked: covers every write that was started. */
  readonly size: number;
  readonly can: StorageCapabilities;
  /** Reads without waiting, when the bytes are at hand. False: nothing was read, ask `read`. Never blocks. */
  readNow?(offset: number, target: Uint8Array): boolean;
  /** Fills the target. A read past the end throws `out-of-bounds`. */
  read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void>;
  /** Writes the source; a write past the end makes the storage grow, with zeroes between. */
  write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void>;
  /** The widest run known around `offset`; a storage that cannot tell answers data up to its end. */
  extentAt(offset: number, options?: OperationOptions): MaybePromise<StorageExtent>;
  /** Makes a range inside the storage read zero. `punch` asks for the room back; without it the range stays allocated. */
  zero(offset: number, length: number, how: { readonly punch: boolean }, options?: OperationOptions): Promise<void>;
  /** Reserves room so that later writes cannot run out of it. Absent where the platform has no such call. */
  allocate?(offset: number, length: number, options?: OperationOptions): Promise<void>;
  /** Tells the system that reads will come in ascending order. Absent where it cannot be told. */
  adviseSequential?(): void;
  resize(size: number, options?: OperationOptions): Promise<void>;
  /** Everything written so far is durable when it resolves. Never repeated after a failure. */
  flush(options?: OperationOptions): Promise<void>;
  identity(options?: OperationOptions): Promise<StorageIdentity>;
  /** Absent, or null, where a storage has no owner: memory, devices. */
  attributes?(options?: OperationOptions): Promise<FileAttributes | null>;
  /** Names the open file by its handle, whatever is exchanged meanwhile. Null, or absent, where the system cannot tell. */
  place?(options?: OperationOptions): Promise<StoragePlace | null>;
  /**
   * Takes an advisory lock on the whole storage, or changes the one that this handle has. Closing gives it back. Does
   * not wait: throws `locked` when another handle is in the way, in this process or another, and keeps what it had.
   */
  lock(mode: LockMode, how?: LockOptions, options?: OperationOptions): Promise<void>;
  /** Which locks are held now, this handle's own included. Never throws for want of a way to tell. */
  lockState(options?: OperationOptions): Promise<LockState>;
  /** Gives the handle back, and its lock. Does not flush. May be called twice. */
  close(): Promise<void>;
}

/** What a storage is opened for; writing includes reading. */
export type OpenMode = 'read' | 'write';

/** How a new storage is made. */
export interface CreateMode {
  /** Name used in messages, where the name on the medium is a temporary one. */
  readonly label?: string;
  /** Only its owner may read it until it is published. */
  readonly private?: boolean;
}

/** What `lookUp` says of a name, without opening it. */
export interface NameInfo {
  readonly kind: 'file' | 'directory' | 'device' | 'pipe' | 'other';
  readonly size: number;
  /** As {@link StorageIdentity.key}. */
  readonly key: string;
  /** How many names it has; left out: unknown. */
  readonly links?: number;
  /** Where it lies: between places of one volume files can be renamed. Left out: unknown. */
  readonly volume?: string;
}

/** The files beside an image. Names are absolute once `resolve` made them so. */
export interface StorageProvider {
  /** Opens an existing storage. Throws `not-found`, `denied`, `unsupported` (a directory, a FIFO) or `io`. */
  open(name: string, mode: OpenMode): Promise<Storage>;
  /** Makes a new, empty, writable storage. Throws `exists` rather than touch one that is there. */
  create(name: string, how?: CreateMode): Promise<Storage>;
  /** Gives a storage another name. Without `replace` it throws `exists` rather than replace one. */
  rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void>;
  /** Gives a storage a second name. Throws `exists`, or `unsupported` where it cannot have one. Absent: none can. */
  link?(from: string, to: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** Names in a directory, each ready for `open`. Order is not defined. */
  list(directory: string): AsyncIterable<string>;
  /** The name that `name` means when it stands in `relativeTo`'s directory. */
  resolve(name: string, relativeTo: string): string;
  /** The directory a name lies in. */
  directory(name: string): string;
  /** What a name stands for, links followed; null when there is nothing. */
  lookUp(name: string): Promise<NameInfo | null>;
  /** The name with all links resolved. */
  realName(name: string): Promise<string>;
  /** A fresh name in the same directory, for a file that is not ready to be seen. */
  temporaryName(name: string): string;
  /** Makes a private storage as readable as a file made the usual way. */
  publishMode(name: string): Promise<void>;
  /**
   * Gives a private storage owner, permissions and extended attributes, as far as they may be given. Never makes it more
   * readable than asked for. Returns what was lost, for people: `owner 1000`.
   */
  publishLike(name: string, how: PublishHow): Promise<readonly string[]>;
  /** Makes created, renamed and removed names of one directory durable. */
  syncNames(directory: string): Promise<void>;
  /** Bytes that can still be written into a directory; null when unknown. */
  freeSpace(directory: string): Promise<number | null>;
}

/** A name and where it is to be looked up. */
export interface Source {
  readonly provider: StorageProvider;
  readonly name: string;
}

/**
 * Files of something new: all of them get their names together when it is complete, the main one last, or all are removed.
 * Who hands them out closes them, too, when making it fails.
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

/** Memory that the system should never write to a swap file. */
export interface LockedMemory {
  readonly bytes: Uint8Array;
  /** False where the system cannot, or will not: then it is memory like any other. */
  readonly locked: boolean;
  /** Lets the system do as it likes. The bytes stay what they are: overwrite them before. */
  unlock(): void;
}
