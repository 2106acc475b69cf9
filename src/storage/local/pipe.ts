/** Standard input and output, which can only be read or written from front to back. */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { ImageError, throwIfAborted } from '../../errors.ts';
import { isZero } from '../../codec/bytes.ts';
import { allOf } from '../checks.ts';
import type { Storage, StorageCapabilities, StorageExtent, StorageIdentity, WriteSource } from '../contract.ts';
import { systemError } from './errno.ts';
import { FileStorage } from './file.ts';

const ZEROES = new Uint8Array(64 * 1024);

/** What `stdinSpool` takes beside the stream. */
export interface SpoolOptions {
  /** Where the temporary file goes. Default: the system's place for them. */
  readonly directory?: string;
  readonly label?: string;
  readonly signal?: AbortSignal;
  /** Called with the bytes read so far. */
  readonly onBytes?: (bytes: number) => void;
}

/**
 * Reads a stream to its end into a temporary file that has no name any more, and gives it as a read-only storage.
 * Zeroes become holes. The file goes away when the storage is closed, or the process ends.
 */
export async function stdinSpool(stream: Readable, options: SpoolOptions = {}): Promise<Storage> {
  const label = options.label ?? 'standard input';
  const name = path.join(options.directory ?? os.tmpdir(), `.vdkit-${randomBytes(8).toString('hex')}.spool`);
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  const fd = fs.openSync(name, O_RDWR | O_CREAT | O_EXCL, 0o600);
  fs.unlinkSync(name);
  const file = new FileStorage({ fd, label, mode: 'write', size: 0, kind: 'file' });
  try {
    let size = 0;
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      throwIfAborted(options.signal, 'Reading standard input');
      if (!isZero(chunk)) await file.write(size, chunk);
      size += chunk.length;
      options.onBytes?.(size);
    }
    await file.resize(size);
    return file;
  } catch (error) {
    await file.close();
    throw systemError(error, { path: label });
  }
}

/** A stream as a storage that is only written, from front to back. Gaps are filled with zeroes. */
export class StreamStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities = { write: true, resize: true, random: false, punch: false, growsZeroed: true };
  readonly #stream: Writable;
  #position = 0;
  #size = 0;
  #failure: unknown = null;

  constructor(stream: Writable, label = 'standard output') {
    this.label = label;
    this.#stream = stream;
    stream.on('error', (error) => {
      this.#failure = systemError(error, { path: label });
    });
  }

  get size(): number {
    return this.#size;
  }

  read(): Promise<void> {
    return Promise.reject(new ImageError('unsupported', 'A pipe cannot be read back', { path: this.label }));
  }

  async write(offset: number, source: WriteSource): Promise<void> {
    if (offset < this.#position) {
      throw new ImageError('invalid-argument', 'A pipe is written from front to back', {
        path: this.label,
        offset,
        expected: `at least ${this.#position}`,
      });
    }
    while (this.#position < offset) await this.#push(ZEROES.subarray(0, Math.min(ZEROES.length, offset - this.#position)));
    for (const buffer of allOf(source)) await this.#push(buffer);
  }

  extentAt(offset: number): StorageExtent {
    return { start: 0, end: Math.max(this.#size, offset + 1), data: true };
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.write(offset + length, []);
  }

  async resize(size: number): Promise<void> {
    await this.write(size, []);
  }

  async flush(): Promise<void> {
    this.#check();
  }

  async identity(): Promise<StorageIdentity> {
    return { key: `pipe:${this.label}`, kind: 'pipe', allocatedSize: null, modifiedMs: null };
  }

  async close(): Promise<void> {
    this.#check();
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  /** Resolves when the stream has taken the bytes, so that the buffer is the caller's again. */
  async #push(bytes: Uint8Array): Promise<void> {
    this.#check();
    this.#position += bytes.length;
    this.#size = Math.max(this.#size, this.#position);
    await new Promise<void>((resolve, reject) => {
      this.#stream.write(bytes, (error) => {
        if (error === null || error === undefined) resolve();
        else reject(systemError(error, { path: this.label }));
      });
    });
  }
}
