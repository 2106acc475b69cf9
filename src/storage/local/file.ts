/**
 * A local file as a storage. On plain descriptors with the callback functions of `node:fs`, which are faster than
 * file handles. The size is tracked: it covers every write that was started.
 */
import * as fs from 'node:fs';
import { ImageError } from '../../errors.ts';
import { allOf, checkRange, closedStorage } from '../checks.ts';
import type {
  OpenMode,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
  WriteSource,
} from '../contract.ts';
import { systemError } from './errno.ts';
import { isMissingCall, nativeCalls, type NativeCalls } from './native.ts';

/** Most buffers that one readv or writev takes. */
const IOV_MAX = 1024;
const ZERO_PIECE = Buffer.alloc(1024 * 1024);

/** What `FileStorage` is made from. */
export interface OpenedFile {
  readonly fd: number;
  readonly label: string;
  readonly mode: OpenMode;
  readonly size: number;
  readonly kind: 'file' | 'device';
}

/** See the head of this file. */
export class FileStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities;
  readonly allocate?: (offset: number, length: number) => Promise<void>;
  readonly #fd: number;
  readonly #kind: 'file' | 'device';
  readonly #native: NativeCalls | null;
  #size: number;
  #closed = false;
  #inFlight = 0;
  #drained: (() => void) | null = null;
  /** The last answer about holes; own changes end it. */
  #extent: StorageExtent | null = null;
  /** The file system has no such call: do not ask again. */
  #noPunch = false;
  #noZeroRange = false;

  constructor(file: OpenedFile) {
    const write = file.mode === 'write';
    const isFile = file.kind === 'file';
    this.#fd = file.fd;
    this.#kind = file.kind;
    this.#size = file.size;
    this.#native = isFile ? nativeCalls() : null;
    this.label = file.label;
    this.can = {
      write,
      resize: write && isFile,
      random: true,
      punch: write && this.#native !== null,
      growsZeroed: isFile,
    };
    const native = this.#native;
    if (write && native !== null) this.allocate = (offset, length) => this.#allocate(native, offset, length);
  }

  get size(): number {
    return this.#size;
  }

  read(offset: number, target: ReadTarget): Promise<void> {
    const [first, ...more] = allOf(target);
    if (first === undefined) return Promise.resolve();
    try {
      this.#checkOpen();
      checkRange(this, offset, more.reduce((sum, buffer) => sum + buffer.length, first.length));
    } catch (error) {
      return Promise.reject(error);
    }
    return more.length === 0 ? this.#read(offset, first) : this.#readList(offset, allOf(target));
  }

  write(offset: number, source: WriteSource): Promise<void> {
    const [first, ...more] = allOf(source);
    if (first === undefined) return Promise.resolve();
    const length = more.reduce((sum, buffer) => sum + buffer.length, first.length);
    try {
      this.#checkWritable();
      if (!this.can.resize) checkRange(this, offset, length);
    } catch (error) {
      return Promise.reject(error);
    }
    this.#size = Math.max(this.#size, offset + length);
    this.#extent = null;
    return more.length === 0 ? this.#write(offset, first) : this.#writeList(offset, allOf(source));
  }

  extentAt(offset: number): StorageExtent {
    this.#checkOpen();
    checkRange(this, offset, 1);
    const known = this.#extent;
    if (known !== null && offset >= known.start && offset < known.end) return known;
    this.#extent = this.#findExtent(offset);
    return this.#extent;
  }

  async zero(offset: number, length: number, how: { readonly punch: boolean }): Promise<void> {
    this.#checkWritable();
    checkRange(this, offset, length);
    if (length === 0) return;
    this.#extent = null;
    if (this.#zeroNatively(offset, length, how.punch)) return;
    for (let at = offset; at < offset + length; at += ZERO_PIECE.length) {
      const piece = Math.min(ZERO_PIECE.length, offset + length - at);
      await this.#write(at, piece === ZERO_PIECE.length ? ZERO_PIECE : ZERO_PIECE.subarray(0, piece));
    }
    this.#extent = null;
  }

  async resize(size: number): Promise<void> {
    this.#checkWritable();
    if (!this.can.resize) {
      throw new ImageError('unsupported', 'A device has a fixed size', { path: this.label });
    }
    this.#size = size;
    this.#extent = null;
    await this.#call<void>((done) => fs.ftruncate(this.#fd, size, done), {});
  }

  async flush(): Promise<void> {
    this.#checkOpen();
    await this.#call<void>((done) => fs.fdatasync(this.#fd, done), {});
  }

  async identity(): Promise<StorageIdentity> {
    this.#checkOpen();
    const stat = await this.#call<fs.Stats>((done) => fs.fstat(this.#fd, done), {});
    return {
      key: fileKey(stat),
      kind: this.#kind,
      allocatedSize: this.#kind === 'file' ? stat.blocks * 512 : null,
      modifiedMs: stat.mtimeMs,
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // A descriptor's number is used again at once: nothing may still run on it.
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    }
    await this.#call<void>((done) => fs.close(this.#fd, done), {});
  }

  #checkOpen(): void {
    if (this.#closed) throw closedStorage(this.label);
  }

  #checkWritable(): void {
    this.#checkOpen();
    if (!this.can.write) throw new ImageError('read-only', 'The file is open for reading only', { path: this.label });
  }

  /** One system call: counted, and its failure explained. */
  #call<T>(start: (done: (error: Error | null, value?: T) => void) => void, where: { offset?: number }): Promise<T> {
    this.#inFlight++;
    return new Promise((resolve, reject) => {
      start((error, value) => {
        this.#inFlight--;
        if (this.#inFlight === 0) this.#drained?.();
        if (error !== null && error !== undefined) reject(systemError(error, { path: this.label, ...where }));
        else resolve(value as T);
      });
    });
  }

  async #read(offset: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const at = offset + done;
      const rest = target.length - done;
      const count = await this.#call<number>((end) => fs.read(this.#fd, target, done, rest, at, end), { offset: at });
      if (count === 0) throw this.#shrunk(at);
      done += count;
    }
  }

  async #readList(offset: number, list: readonly Uint8Array[]): Promise<void> {
    let at = offset;
    for (let first = 0; first < list.length; first += IOV_MAX) {
      const group = list.slice(first, first + IOV_MAX);
      const length = group.reduce((sum, buffer) => sum + buffer.length, 0);
      const start = at;
      const count = await this.#call<number>((end) => fs.readv(this.#fd, group, start, end), { offset: start });
      if (count < length) await this.#finishList(start, group, count, (from, rest) => this.#read(from, rest));
      at += length;
    }
  }

  async #write(offset: number, source: Uint8Array): Promise<void> {
    for (let done = 0; done < source.length; ) {
      const at = offset + done;
      const rest = source.length - done;
      done += await this.#call<number>((end) => fs.write(this.#fd, source, done, rest, at, end), { offset: at });
    }
    this.#extent = null;
  }

  async #writeList(offset: number, list: readonly Uint8Array[]): Promise<void> {
    let at = offset;
    for (let first = 0; first < list.length; first += IOV_MAX) {
      const group = list.slice(first, first + IOV_MAX);
      const length = group.reduce((sum, buffer) => sum + buffer.length, 0);
      const start = at;
      const count = await this.#call<number>((end) => fs.writev(this.#fd, group, start, end), { offset: start });
      if (count < length) await this.#finishList(start, group, count, (from, rest) => this.#write(from, rest));
      at += length;
    }
    this.#extent = null;
  }

  /** A vector call may move less than asked for: the rest goes buffer by buffer. */
  async #finishList(
    offset: number,
    group: readonly Uint8Array[],
    moved: number,
    move: (offset: number, rest: Uint8Array) => Promise<void>,
  ): Promise<void> {
    let at = 0;
    for (const buffer of group) {
      const skip = Math.min(Math.max(moved - at, 0), buffer.length);
      if (skip < buffer.length) await move(offset + at + skip, buffer.subarray(skip));
      at += buffer.length;
    }
  }

  #shrunk(offset: number): ImageError {
    return new ImageError('io', 'The file became shorter while it was open', { path: this.label, offset });
  }

  #findExtent(offset: number): StorageExtent {
    const everything: StorageExtent = { start: 0, end: this.#size, data: true };
    if (this.#native === null) {
      const empty = this.#kind === 'file' && fs.fstatSync(this.#fd).blocks === 0;
      return { ...everything, data: !empty };
    }
    try {
      const data = this.#native.seekData(this.#fd, offset);
      if (data === null) return { start: offset, end: this.#size, data: false };
      if (data > offset) return { start: offset, end: Math.min(data, this.#size), data: false };
      const end = Math.min(this.#native.seekHole(this.#fd, offset), this.#size);
      return end > offset ? { start: offset, end, data: true } : everything;
    } catch {
      // A file system that cannot tell: everything is data.
      return everything;
    }
  }

  #zeroNatively(offset: number, length: number, punch: boolean): boolean {
    const native = this.#native;
    if (native === null) return false;
    if (punch && !this.#noPunch && this.#try(() => native.punchHole(this.#fd, offset, length), offset)) return true;
    if (punch) this.#noPunch = true;
    if (this.#noZeroRange) return false;
    if (this.#try(() => native.zeroRange(this.#fd, offset, length), offset)) return true;
    this.#noZeroRange = true;
    return false;
  }

  #try(call: () => void, offset: number): boolean {
    try {
      call();
      return true;
    } catch (error) {
      if (isMissingCall(error)) return false;
      throw systemError(error, { path: this.label, offset });
    }
  }

  async #allocate(native: NativeCalls, offset: number, length: number): Promise<void> {
    this.#checkWritable();
    this.#extent = null;
    if (this.#try(() => native.allocate(this.#fd, offset, length), offset)) {
      this.#size = Math.max(this.#size, offset + length);
      return;
    }
    // No such call here: written zeroes take the room as well.
    const end = offset + length;
    if (this.#size < end) await this.resize(end);
    for (let at = offset; at < end; at += ZERO_PIECE.length) {
      await this.#write(at, ZERO_PIECE.subarray(0, Math.min(ZERO_PIECE.length, end - at)));
    }
  }
}

/** Equal for all names and handles of one file. */
export function fileKey(stat: { readonly dev: number; readonly ino: number; readonly rdev: number; isFile(): boolean }): string {
  return stat.isFile() ? `file:${stat.dev}:${stat.ino}` : `node:${stat.dev}:${stat.ino}:${stat.rdev}`;
}
