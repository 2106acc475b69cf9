/** Web streams as storages: read or written once, from front to back. */
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
  LockState,
  OperationOptions,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
  WriteSource,
} from '../storage/contract.ts';
import { checkSignal, orAborted } from '../storage/or-aborted.ts';
import { READABLE, SIZED, STREAM_STORAGE_OPTIONS, WRITABLE } from './kinds.ts';
import { asIo } from './object-storage.ts';

/** Bytes of zeroes written at a time. */
const ZEROES = 1024 * 1024;
let serial = 0;

/** Options for a storage over a stream. */
export interface StreamStorageOptions {
  /** Length of the stream in bytes: required, since opening an image needs its end. */
  readonly size: number;
  readonly label?: string | undefined;
}

/**
 * A stream as a storage that is read from front to back: a read past the last one skips the bytes between, an earlier
 * one throws `unsupported`. Suits raw disks with an explicit format. Reads are served in the order of their calls.
 * Closing it cancels the stream.
 */
export function readableStorage(stream: ReadableStream<Uint8Array>, options: StreamStorageOptions): Storage {
  checkArguments('readableStorage', { stream: [stream, READABLE], options: [options, SIZED] });
  const { size, label = 'stream' } = options;
  checkSize(label, size);
  return new StreamReadStorage(stream.getReader(), size, label);
}

class StreamReadStorage implements Storage {
  readonly label: string;
  readonly size: number;
  readonly can: StorageCapabilities = { write: false, resize: false, random: false, punch: false, growsZeroed: false };
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #key = `stream:${++serial}`;
  #position = 0;
  /** Bytes received and not yet consumed. */
  #rest: Uint8Array = new Uint8Array(0);
  #chunk: Promise<ReadableStreamReadResult<Uint8Array>> | null = null;
  #queue: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | null = null;

  constructor(reader: ReadableStreamDefaultReader<Uint8Array>, size: number, label: string) {
    this.#reader = reader;
    this.size = size;
    this.label = label;
  }

  async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    this.#checkOpen();
    checkRange(this, offset, lengthOf(target));
    const reading = this.#queue.then(() => this.#read(offset, allOf(target), options));
    this.#queue = reading.catch(() => {});
    await reading;
  }

  async #read(offset: number, targets: readonly Uint8Array[], options: OperationOptions | undefined): Promise<void> {
    checkSignal(options, 'The read');
    if (offset < this.#position) {
      throw new ImageError('unsupported', 'A stream cannot be read again', {
        path: this.label,
        offset,
        expected: `${this.#position} or more`,
        hint: 'Read it into a file or into memory first.',
      });
    }
    while (this.#position < offset) this.#take((await this.#some(options)).length, offset - this.#position);
    for (const target of targets) {
      for (let done = 0; done < target.length; ) {
        const piece = (await this.#some(options)).subarray(0, target.length - done);
        target.set(piece, done);
        this.#take(piece.length, piece.length);
        done += piece.length;
      }
    }
  }

  #take(there: number, wanted: number): void {
    const count = Math.min(there, wanted);
    this.#rest = this.#rest.subarray(count);
    this.#position += count;
  }

  async #some(options: OperationOptions | undefined): Promise<Uint8Array> {
    while (this.#rest.length === 0) {
      // Who gives up leaves the chunk to the next read.
      this.#chunk ??= asIo(this.label, () => this.#reader.read());
      const { done, value } = await orAborted(this.#chunk, options, 'The read');
      this.#chunk = null;
      if (done) {
        throw new ImageError('io', 'The stream ended early', {
          path: this.label,
          status: 'VERR_EOF',
          offset: this.#position,
          expected: `${this.size} bytes`,
        });
      }
      this.#rest = value;
    }
    return this.#rest;
  }

  write(_offset?: number, _source?: WriteSource): Promise<void> {
    return Promise.reject(readOnlyStorage(this.label));
  }

  extentAt(offset: number): StorageExtent {
    this.#checkOpen();
    checkRange(this, offset, 1);
    return { start: 0, end: this.size, data: true };
  }

  zero(): Promise<void> {
    return this.write();
  }

  resize(): Promise<void> {
    return this.write();
  }

  async flush(): Promise<void> {
    this.#checkOpen();
  }

  async identity(): Promise<StorageIdentity> {
    this.#checkOpen();
    return { key: this.#key, kind: 'pipe', allocatedSize: null, modifiedMs: null };
  }

  /** A stream has a single owner, so a lock always succeeds. */
  async lock(_mode: LockMode): Promise<void> {
    this.#checkOpen();
  }

  async lockState(): Promise<LockState> {
    this.#checkOpen();
    return { held: 'none', holders: [] };
  }

  close(): Promise<void> {
    this.#closing ??= this.#reader.cancel().catch(() => {});
    return this.#closing;
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw closedStorage(this.label);
  }
}

/**
 * A stream as a storage that is written from front to back, with zeroes in the gaps: for raw targets. Each write
 * resolves when the stream has accepted it. `flush` waits for all of them; closing ends the stream. It cannot be read.
 */
export function writableStorage(
  stream: WritableStream<Uint8Array>,
  options: { readonly label?: string | undefined } = {},
): Storage {
  checkArguments('writableStorage', { stream: [stream, WRITABLE], options: [options, STREAM_STORAGE_OPTIONS] });
  return new StreamWriteStorage(stream.getWriter(), options.label ?? 'stream');
}

class StreamWriteStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities = { write: true, resize: true, random: false, punch: false, growsZeroed: true };
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #key = `stream:${++serial}`;
  #position = 0;
  #queue: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | null = null;

  constructor(writer: WritableStreamDefaultWriter<Uint8Array>, label: string) {
    this.#writer = writer;
    this.label = label;
    // A failure is heard of by the write that meets it.
    writer.closed.catch(() => {});
  }

  get size(): number {
    return this.#position;
  }

  read(): Promise<void> {
    return Promise.reject(
      new ImageError('unsupported', 'A stream opened for writing cannot be read', { path: this.label }),
    );
  }

  async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The write');
    this.#checkOpen();
    const length = lengthOf(source);
    checkWriteRange(this.label, offset, length);
    if (offset < this.#position) {
      throw new ImageError('unsupported', 'A stream can only be written sequentially', {
        path: this.label,
        offset,
        expected: `${this.#position} or more`,
      });
    }
    const gap = offset - this.#position;
    this.#position = offset + length;
    await this.#append(gap, allOf(source));
  }

  extentAt(offset: number): StorageExtent {
    checkRange(this, offset, 1);
    return { start: 0, end: this.size, data: true };
  }

  /** Only past the last write: the gap before the next one. */
  async zero(offset: number, length: number): Promise<void> {
    checkSize(this.label, offset + length);
    if (length > 0) await this.resize(offset + length);
  }

  async resize(size: number): Promise<void> {
    checkSize(this.label, size);
    await this.write(size, []);
  }

  async flush(): Promise<void> {
    this.#checkOpen();
    await this.#queue;
    await asIo(this.label, () => this.#writer.ready);
  }

  async identity(): Promise<StorageIdentity> {
    this.#checkOpen();
    return { key: this.#key, kind: 'pipe', allocatedSize: null, modifiedMs: null };
  }

  async lock(_mode: LockMode): Promise<void> {
    this.#checkOpen();
  }

  async lockState(): Promise<LockState> {
    this.#checkOpen();
    return { held: 'none', holders: [] };
  }

  close(): Promise<void> {
    this.#closing ??= this.#queue.then(() => asIo(this.label, () => this.#writer.close()));
    return this.#closing;
  }

  #append(gap: number, buffers: readonly Uint8Array[]): Promise<void> {
    const writing = this.#queue.then(async () => {
      for (const piece of zeroPieces(gap)) await asIo(this.label, () => this.#writer.write(piece));
      // The stream keeps what it is given, and the buffers belong to the caller again.
      for (const buffer of buffers) await asIo(this.label, () => this.#writer.write(buffer.slice()));
    });
    this.#queue = writing.catch(() => {});
    return writing;
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw closedStorage(this.label);
  }
}

/** Zeroes of this total length. Each piece is new, since a stream may transfer its memory. */
function* zeroPieces(length: number): Generator<Uint8Array, void, void> {
  for (let left = length; left > 0; left -= ZEROES) yield new Uint8Array(Math.min(left, ZEROES));
}
