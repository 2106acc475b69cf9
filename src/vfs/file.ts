/**
 * A disk or an open storage as a file with a position: vd.h's VFS file.
 *
 * A write never extends a disk: it is cut off at the end, and throws if it begins past the end. The position moves when
 * a call is made, not when it ends, so overlapping calls are sequential. If a call fails and no other followed, the
 * position is restored.
 */
import { checkArguments } from '../arguments.ts';
import type { BlockDevice } from '../disk/device.ts';
import { DEVICE, STORAGE } from '../disk/kinds.ts';
import { ImageError } from '../errors.ts';
import { lengthOf } from '../storage/checks.ts';
import type { OperationOptions, ReadTarget, Storage, WriteSource } from '../storage/contract.ts';
import { type ByteStore, behindEnd, byteStoreOf, checkOffset, closedFile, firstBytes, notWritable } from './bytes.ts';
import { FILE_OPTIONS } from './kinds.ts';

/** Options for a transfer. */
export interface TransferOptions extends OperationOptions {
  /** Offset in bytes. Default: the position. Either way the position moves. */
  readonly at?: number | undefined;
  /** True: all or nothing; throws `out-of-bounds` (VERR_EOF) if the file ends earlier. */
  readonly exact?: boolean | undefined;
}

/** Origin that `seek` counts from. */
export type SeekOrigin = 'begin' | 'current' | 'end';

/** File status. */
export interface FileStatus {
  /** Bytes. */
  readonly size: number;
  /** Bytes allocated on the host for all images of the chain; null when unknown. */
  readonly allocatedSize: number | null;
  readonly kind: 'file';
  /** Permissions, such as `0o644`. */
  readonly mode: number;
  readonly links: 1;
  /** Always null: disks have no owner. */
  readonly owner: null;
  readonly group: null;
  /** Milliseconds since 1970: always the current time, since disks record none. */
  readonly accessedMs: number;
  readonly modifiedMs: number;
  readonly changedMs: number;
  readonly createdMs: number;
}

/** A file with a position. Buffers belong to the caller again when the promise settles. */
export interface FileObject extends AsyncDisposable {
  /** Name for messages. */
  readonly label: string;
  /** Current size in bytes. */
  readonly size: number;
  readonly writable: boolean;
  /** Reads up to the end; returns the number of bytes. At or past the end: 0, and the position becomes the size. */
  read(target: ReadTarget, options?: TransferOptions): Promise<number>;
  /**
   * Writes up to the end; returns the number of bytes. At or past the end of a disk throws `out-of-bounds` (VERR_EOF),
   * and the position becomes the size. Throws `read-only`. Durable after the next `flush`.
   */
  write(source: WriteSource, options?: TransferOptions): Promise<number>;
  /** Moves the position and returns it. Over a disk it may lie past the end, over a storage not. */
  seek(offset: number, from?: SeekOrigin): number;
  tell(): number;
  flush(options?: OperationOptions): Promise<void>;
  stat(): Promise<FileStatus>;
  /**
   * Closes the file; may be called again. The underlying disk or storage is closed only if requested in the options.
   */
  close(): Promise<void>;
}

/** Options for a file over a disk. */
export interface DiskFileOptions {
  /** Closing the file closes the disk: VD_VFSFILE_DESTROY_ON_RELEASE. Default false. */
  readonly closeDisk?: boolean | undefined;
}

/** Options for a file over a storage. */
export interface StorageFileOptions {
  /** Closing the file closes the storage. Default false. */
  readonly closeStorage?: boolean | undefined;
}

/** A disk, or any other device, as a file. Any offset, any length; writes go to the disk immediately. */
export function diskFile(device: BlockDevice, options: DiskFileOptions = {}): FileObject {
  checkArguments('diskFile', { device: [device, DEVICE], options: [options, FILE_OPTIONS] });
  return new PositionedFile(byteStoreOf(device), options.closeDisk ?? false, false);
}

/** An open storage as a file. Writing past the end extends it if it can grow. */
export function storageFile(storage: Storage, options: StorageFileOptions = {}): FileObject {
  checkArguments('storageFile', { storage: [storage, STORAGE], options: [options, FILE_OPTIONS] });
  return new PositionedFile(byteStoreOf(storage), options.closeStorage ?? false, true);
}

class PositionedFile implements FileObject {
  readonly #store: ByteStore;
  readonly #closesStore: boolean;
  /** True when the position cannot leave the file. */
  readonly #seeksInside: boolean;
  #position = 0;
  #closing: Promise<void> | null = null;

  constructor(store: ByteStore, closesStore: boolean, seeksInside: boolean) {
    this.#store = store;
    this.#closesStore = closesStore;
    this.#seeksInside = seeksInside;
  }

  get label(): string {
    return this.#store.label;
  }

  get size(): number {
    return this.#store.size;
  }

  get writable(): boolean {
    return this.#store.writable;
  }

  async read(target: ReadTarget, options: TransferOptions = {}): Promise<number> {
    const { at, length } = this.#begin(lengthOf(target), options, this.size);
    return this.#transfer(at, length, () => this.#store.read(at, firstBytes(target, length), options));
  }

  async write(source: WriteSource, options: TransferOptions = {}): Promise<number> {
    if (this.#closing === null && !this.writable) throw notWritable(this.label);
    const wanted = lengthOf(source);
    const end = this.#store.grows ? Number.MAX_SAFE_INTEGER : this.size;
    const { at, length } = this.#begin(wanted, options, end);
    if (length === 0 && wanted > 0) {
      this.#position = this.size;
      throw behindEnd(this.#store, options.at ?? at, wanted);
    }
    return this.#transfer(at, length, () => this.#store.write(at, firstBytes(source, length), options));
  }

  seek(offset: number, from: SeekOrigin = 'begin'): number {
    this.#checkOpen();
    const origin = { begin: 0, current: this.#position, end: this.size }[from];
    if (origin === undefined || !Number.isSafeInteger(offset)) {
      throw new ImageError('invalid-argument', 'The seek is not valid', {
        path: this.label,
        found: `${offset} from ${String(from)}`,
        expected: 'whole bytes from begin, current or end',
      });
    }
    const last = this.#seeksInside ? this.size : Number.MAX_SAFE_INTEGER;
    this.#position = Math.min(Math.max(origin + offset, 0), last);
    return this.#position;
  }

  tell(): number {
    this.#checkOpen();
    return this.#position;
  }

  async flush(options: OperationOptions = {}): Promise<void> {
    this.#checkOpen();
    await this.#store.flush(options);
  }

  async stat(): Promise<FileStatus> {
    this.#checkOpen();
    const allocatedSize = await this.#store.allocatedSize();
    const now = Date.now();
    return {
      size: this.size,
      allocatedSize,
      kind: 'file',
      mode: 0o644,
      links: 1,
      owner: null,
      group: null,
      accessedMs: now,
      modifiedMs: now,
      changedMs: now,
      createdMs: now,
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#closesStore ? this.#store.close() : Promise.resolve();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw closedFile(this.label);
  }

  /** The part of a transfer that lies before `end`. */
  #begin(wanted: number, options: TransferOptions, end: number): { readonly at: number; readonly length: number } {
    this.#checkOpen();
    const at = options.at ?? this.#position;
    checkOffset(this.label, at);
    const length = Math.min(wanted, Math.max(end - at, 0));
    if (options.exact === true && length < wanted) throw behindEnd(this.#store, at, wanted);
    // What begins behind the end ends there.
    return { at: length === 0 ? Math.min(at, this.size) : at, length };
  }

  async #transfer(at: number, length: number, run: () => Promise<unknown>): Promise<number> {
    const before = this.#position;
    const after = at + length;
    this.#position = after;
    if (length === 0) return 0;
    try {
      await run();
    } catch (error) {
      if (this.#position === after) this.#position = before;
      throw error;
    }
    return length;
  }
}
