/**
 * A disk or a storage with the methods of a FileHandle of Node, for programs that were written for one. Needs no Node:
 * only the shape is the same. Its position is used for calls without one, and not moved by calls with one.
 */
import { checkArguments } from '../arguments.ts';
import { ImageError } from '../errors.ts';
import { lengthOf } from '../storage/checks.ts';
import { type ByteStore, type Bytes, behindEnd, byteStoreOf, closedFile, firstBytes, notWritable } from './bytes.ts';
import { HANDLE_OPTIONS, STORE } from './kinds.ts';

/** Result of `stat` for a handle: the members of Node's `Stats` that are meaningful here. */
export interface HandleStats {
  /** Bytes. */
  readonly size: number;
  /** Preferred transfer size in bytes. */
  readonly blksize: number;
  /** Units of 512 bytes allocated on the host. */
  readonly blocks: number;
  readonly mode: number;
  readonly nlink: number;
  readonly mtimeMs: number;
  isFile(): boolean;
  isDirectory(): boolean;
  isBlockDevice(): boolean;
}

/** The methods of Node's FileHandle that are meaningful for a disk. Position null: the handle's own. */
export interface HandleLike extends AsyncDisposable {
  /** Reads up to the end; `bytesRead` is 0 there. Offset and length refer to the buffer, in bytes. */
  read<T extends ArrayBufferView>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: number | null,
  ): Promise<{ bytesRead: number; buffer: T }>;
  readv<T extends readonly ArrayBufferView[]>(
    buffers: T,
    position?: number | null,
  ): Promise<{ bytesRead: number; buffers: T }>;
  /** Writes up to the end of a disk; throws `out-of-bounds` (VERR_EOF) at or past it, `read-only`. */
  write<T extends ArrayBufferView>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffer: T }>;
  writev<T extends readonly ArrayBufferView[]>(
    buffers: T,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffers: T }>;
  stat(): Promise<HandleStats>;
  /** Resolves when all earlier writes are durable; so does `datasync`. */
  sync(): Promise<void>;
  datasync(): Promise<void>;
  /** Throws `unsupported` unless the length is the current size: disks have a fixed size. */
  truncate(length?: number): Promise<void>;
  /** Closes the handle; may be called again. */
  close(): Promise<void>;
}

/** Options for a handle. */
export interface HandleOptions {
  /** Closing the handle closes the disk or storage. Default false. */
  readonly closeDisk?: boolean | undefined;
}

/** A handle over a disk, another device, or an open storage. */
export function fileHandle(bytes: Bytes, options: HandleOptions = {}): HandleLike {
  checkArguments('fileHandle', { bytes: [bytes, STORE], options: [options, HANDLE_OPTIONS] });
  return new DiskHandle(byteStoreOf(bytes), options.closeDisk ?? false);
}

class DiskHandle implements HandleLike {
  readonly #store: ByteStore;
  readonly #closesStore: boolean;
  #position = 0;
  #closing: Promise<void> | null = null;

  constructor(store: ByteStore, closesStore: boolean) {
    this.#store = store;
    this.#closesStore = closesStore;
  }

  async read<T extends ArrayBufferView>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: number | null,
  ): Promise<{ bytesRead: number; buffer: T }> {
    const bytesRead = await this.#read([this.#part(buffer, offset, length)], position);
    return { bytesRead, buffer };
  }

  async readv<T extends readonly ArrayBufferView[]>(
    buffers: T,
    position?: number | null,
  ): Promise<{ bytesRead: number; buffers: T }> {
    return { bytesRead: await this.#read(buffers.map(bytesOf), position), buffers };
  }

  async write<T extends ArrayBufferView>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffer: T }> {
    const bytesWritten = await this.#write([this.#part(buffer, offset, length)], position);
    return { bytesWritten, buffer };
  }

  async writev<T extends readonly ArrayBufferView[]>(
    buffers: T,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffers: T }> {
    return { bytesWritten: await this.#write(buffers.map(bytesOf), position), buffers };
  }

  async stat(): Promise<HandleStats> {
    this.#checkOpen();
    const { size, blockSize } = this.#store;
    const allocated = (await this.#store.allocatedSize()) ?? size;
    return {
      size,
      blksize: blockSize,
      blocks: Math.ceil(allocated / 512),
      mode: 0o100_644,
      nlink: 1,
      mtimeMs: Date.now(),
      isFile: () => true,
      isDirectory: () => false,
      isBlockDevice: () => false,
    };
  }

  async sync(): Promise<void> {
    this.#checkOpen();
    await this.#store.flush({});
  }

  datasync(): Promise<void> {
    return this.sync();
  }

  async truncate(length = 0): Promise<void> {
    this.#checkOpen();
    if (length === this.#store.size) return;
    throw new ImageError('unsupported', 'The size of the disk cannot be changed through a handle', {
      path: this.#store.label,
      found: length,
      expected: this.#store.size,
      hint: 'Use disk.resize.',
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#closesStore ? this.#store.close() : Promise.resolve();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw closedFile(this.#store.label);
  }

  #part(buffer: ArrayBufferView, offset?: number | null, length?: number | null): Uint8Array {
    const bytes = bytesOf(buffer);
    const from = offset ?? 0;
    const count = length ?? bytes.length - from;
    const fits = Number.isInteger(from) && Number.isInteger(count) && from >= 0 && count >= 0;
    if (fits && from + count <= bytes.length) return bytes.subarray(from, from + count);
    throw new ImageError('invalid-argument', 'The part reaches beyond the end of the buffer', {
      path: this.#store.label,
      found: `${count} bytes at ${from}`,
      expected: `up to ${bytes.length}`,
    });
  }

  /** Like Node, null and negative numbers select the handle's own position. */
  #place(position: number | null | undefined): { readonly at: number; readonly own: boolean } {
    this.#checkOpen();
    if (position === null || position === undefined || position === -1) return { at: this.#position, own: true };
    if (Number.isSafeInteger(position) && position >= 0) return { at: position, own: false };
    throw new ImageError('invalid-argument', 'The position is not valid', {
      path: this.#store.label,
      found: String(position),
      expected: 'a whole number of bytes',
    });
  }

  async #read(targets: readonly Uint8Array[], position: number | null | undefined): Promise<number> {
    const { at, own } = this.#place(position);
    const length = Math.min(lengthOf(targets), Math.max(this.#store.size - at, 0));
    if (own) this.#position = at + length;
    if (length > 0) await this.#moving(own, at, length, () => this.#store.read(at, firstBytes(targets, length), {}));
    return length;
  }

  async #write(sources: readonly Uint8Array[], position: number | null | undefined): Promise<number> {
    const { at, own } = this.#place(position);
    if (!this.#store.writable) throw notWritable(this.#store.label);
    const wanted = lengthOf(sources);
    const length = this.#store.grows ? wanted : Math.min(wanted, Math.max(this.#store.size - at, 0));
    // A program that writes until all is written would never end.
    if (length === 0 && wanted > 0) throw behindEnd(this.#store, at, wanted);
    if (own) this.#position = at + length;
    if (length > 0) await this.#moving(own, at, length, () => this.#store.write(at, firstBytes(sources, length), {}));
    return length;
  }

  /** A failure restores the position, unless another call has moved it since. */
  async #moving(own: boolean, at: number, length: number, run: () => Promise<unknown>): Promise<void> {
    try {
      await run();
    } catch (error) {
      if (own && this.#position === at + length) this.#position = at;
      throw error;
    }
  }
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  if (view instanceof Uint8Array) return view;
  if (ArrayBuffer.isView(view)) return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  throw new ImageError('invalid-argument', 'The argument is not a buffer', { found: typeof view });
}
