/**
 * The reverse direction: file objects and handles as storages, for `insideSource` and `Disk.open`. Only their shape
 * matters, so a FileHandle of Node will do.
 */
import { checkArguments } from '../arguments.ts';
import { ImageError } from '../errors.ts';
import {
  allOf,
  checkRange,
  checkSize,
  checkWriteRange,
  closedStorage,
  lengthOf,
  readOnlyStorage,
} from '../storage/checks.ts';
import type {
  LockMode,
  LockOptions,
  LockState,
  OpenMode,
  OperationOptions,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
  WriteSource,
} from '../storage/contract.ts';
import { LockTable, lockedHere, stateOf } from '../storage/locks.ts';
import { checkSignal } from '../storage/or-aborted.ts';
import type { FileObject } from './file.ts';
import { FILE_OBJECT, HANDLE, OBJECT_OPTIONS } from './kinds.ts';

/** Methods a handle needs for reading, and the optional ones for writing. */
export interface HandleSource {
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
  write?(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesWritten: number }>;
  stat(): Promise<{ readonly size: number }>;
  truncate?(length: number): Promise<void>;
  datasync?(): Promise<void>;
  sync?(): Promise<void>;
  close?(): Promise<void>;
}

/** Options for a storage over an object. */
export interface ObjectStorageOptions {
  /** Name for messages. */
  readonly label?: string | undefined;
  /** Access mode. Default `read`: a handle does not tell its own. */
  readonly mode?: OpenMode | undefined;
  /** Closing the storage closes the object. Default false. */
  readonly closeObject?: boolean | undefined;
}

/** The object as the storage sees it. */
interface Port {
  readonly label: string;
  readonly write: boolean;
  readonly resize: boolean;
  /** Fills the buffer. */
  readAt(offset: number, buffer: Uint8Array): Promise<void>;
  writeAt(offset: number, buffer: Uint8Array): Promise<void>;
  resizeTo(size: number): Promise<void>;
  flush(): Promise<void>;
  close(): Promise<void>;
}

let serial = 0;
const keys = new WeakMap<object, string>();
const tables = new WeakMap<object, LockTable>();

/**
 * A handle (Node's FileHandle, or one from `fileHandle`) as a storage. Its size is read once and must not be changed by
 * others. Locks hold within this process only. Throws `unsupported` for writing through a read-only handle, `io`.
 */
export async function handleStorage(handle: HandleSource, options: ObjectStorageOptions = {}): Promise<Storage> {
  checkArguments('handleStorage', { handle: [handle, HANDLE], options: [options, OBJECT_OPTIONS] });
  const label = options.label ?? 'handle';
  const write = options.mode === 'write';
  if (write && handle.write === undefined) throw lacksWriting(label);
  const { size } = await asIo(label, () => handle.stat());
  checkSize(label, size);
  const port: Port = {
    label,
    write,
    resize: write && handle.truncate !== undefined,
    readAt: (offset, buffer) =>
      inPieces(
        label,
        offset,
        buffer,
        async (at, from, length) => (await handle.read(buffer, from, length, at)).bytesRead,
      ),
    writeAt: (offset, buffer) =>
      inPieces(
        label,
        offset,
        buffer,
        async (at, from, length) => (await handle.write?.(buffer, from, length, at))?.bytesWritten ?? 0,
      ),
    async resizeTo(wanted) {
      if (handle.truncate === undefined) throw fixedSize(label);
      await handle.truncate(wanted);
    },
    flush: async () => {
      if (handle.datasync !== undefined) await handle.datasync();
      else await handle.sync?.();
    },
    close: async () => {
      if (options.closeObject === true) await handle.close?.();
    },
  };
  return new ObjectStorage(handle, port, size);
}

/**
 * A file object as a storage, for writing if `mode` is `write`. Its size is fixed. Using the storage moves the position
 * of the file. Throws `denied` if the file is not writable.
 */
export function fileObjectStorage(file: FileObject, options: ObjectStorageOptions = {}): Storage {
  checkArguments('fileObjectStorage', { file: [file, FILE_OBJECT], options: [options, OBJECT_OPTIONS] });
  const { label, size } = file;
  const write = options.mode === 'write';
  if (write && !file.writable) throw lacksWriting(label);
  const port: Port = {
    label: options.label ?? label,
    write,
    resize: false,
    readAt: async (at, buffer) => void (await file.read(buffer, { at, exact: true })),
    writeAt: async (at, buffer) => void (await file.write(buffer, { at, exact: true })),
    resizeTo: () => Promise.reject(fixedSize(label)),
    flush: () => file.flush(),
    close: async () => {
      if (options.closeObject === true) await file.close();
    },
  };
  return new ObjectStorage(file, port, size);
}

class ObjectStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities;
  readonly #port: Port;
  readonly #key: string;
  readonly #locks: LockTable;
  #size: number;
  #closing: Promise<void> | null = null;

  constructor(object: object, port: Port, size: number) {
    this.label = port.label;
    this.#port = port;
    this.#size = size;
    this.#key = keys.get(object) ?? `object:${++serial}`;
    keys.set(object, this.#key);
    this.#locks = tables.get(object) ?? new LockTable();
    tables.set(object, this.#locks);
    const { write, resize } = port;
    this.can = { write, resize, random: true, punch: false, growsZeroed: false };
  }

  get size(): number {
    return this.#size;
  }

  async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    this.#checkOpen();
    checkRange(this, offset, lengthOf(target));
    let at = offset;
    for (const buffer of allOf(target)) {
      checkSignal(options, 'The read');
      await asIo(this.label, () => this.#port.readAt(at, buffer));
      at += buffer.length;
    }
  }

  async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    this.#checkWritable();
    const length = lengthOf(source);
    checkWriteRange(this.label, offset, length);
    if (!this.can.resize) checkRange(this, offset, length);
    this.#size = Math.max(this.#size, offset + length);
    let at = offset;
    for (const buffer of allOf(source)) {
      checkSignal(options, 'The write');
      await asIo(this.label, () => this.#port.writeAt(at, buffer));
      at += buffer.length;
    }
  }

  extentAt(offset: number): StorageExtent {
    this.#checkOpen();
    checkRange(this, offset, 1);
    return { start: 0, end: this.#size, data: true };
  }

  async zero(
    offset: number,
    length: number,
    _how: { readonly punch: boolean },
    options?: OperationOptions,
  ): Promise<void> {
    checkRange(this, offset, length);
    const zeroes = new Uint8Array(Math.min(length, ZEROES));
    for (let at = 0; at < length; at += zeroes.length) {
      await this.write(offset + at, zeroes.subarray(0, Math.min(zeroes.length, length - at)), options);
    }
  }

  async resize(size: number): Promise<void> {
    this.#checkWritable();
    checkSize(this.label, size);
    if (size === this.#size) return;
    await asIo(this.label, () => this.#port.resizeTo(size));
    this.#size = size;
  }

  async flush(): Promise<void> {
    this.#checkOpen();
    await asIo(this.label, () => this.#port.flush());
  }

  async identity(): Promise<StorageIdentity> {
    this.#checkOpen();
    return { key: this.#key, kind: 'other', allocatedSize: null, modifiedMs: null };
  }

  async lock(mode: LockMode, how?: LockOptions): Promise<void> {
    this.#checkOpen();
    const conflict = this.#locks.take(this, mode, how);
    if (conflict !== null) throw lockedHere(this.label, conflict, mode);
  }

  async lockState(): Promise<LockState> {
    this.#checkOpen();
    return stateOf(this.#locks.claim);
  }

  close(): Promise<void> {
    this.#locks.release(this);
    this.#closing ??= asIo(this.label, () => this.#port.close());
    return this.#closing;
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw closedStorage(this.label);
  }

  #checkWritable(): void {
    this.#checkOpen();
    if (!this.can.write) throw readOnlyStorage(this.label);
  }
}

/** Zeroes written at a time. */
const ZEROES = 1024 * 1024;

/** Handles may transfer less than requested; none may end before the size it reported. */
async function inPieces(
  label: string,
  offset: number,
  buffer: Uint8Array,
  move: (at: number, from: number, length: number) => Promise<number>,
): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    const moved = await move(offset + done, done, buffer.length - done);
    if (!(moved > 0 && moved <= buffer.length - done)) {
      throw new ImageError('io', 'The file became shorter while it was open', { path: label, offset: offset + done });
    }
    done += moved;
  }
}

/** An exception of a foreign object is an I/O error here. */
export async function asIo<T>(label: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof ImageError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new ImageError('io', `The object behind the image failed: ${message}`, { path: label, cause: error });
  }
}

function lacksWriting(path: string): ImageError {
  return new ImageError('denied', 'It can be read only', { path });
}

function fixedSize(path: string): ImageError {
  return new ImageError('unsupported', 'Its size is fixed', { path });
}
