/** Standard input and output, which can only be read or written from front to back. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { ImageError, throwIfAborted } from '../../errors.ts';
import { allOf, checkSize, checkWriteRange, closedStorage, lengthOf } from '../checks.ts';
import type {
  LockState,
  OperationOptions,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
  WriteSource,
} from '../contract.ts';
import { checkSignal } from '../or-aborted.ts';
import { writeFully } from './descriptor.ts';
import { systemError } from './errno.ts';
import { FileStorage } from './file.ts';
import { randomHex } from './random.ts';

/** Unit in which zeroes of standard input become holes. */
const HOLE = 64 * 1024;
/** Bytes collected before they are written. */
const GATHER = 1024 * 1024;
const ZEROES = Buffer.alloc(HOLE);
let serial = 0;

/** Options of `stdinSpool`. */
export interface SpoolOptions {
  /** Directory of the temporary file. Default: the system's. */
  readonly directory?: string | undefined;
  readonly label?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes read so far. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/**
 * Reads a stream to its end into an unnamed temporary file, and returns it as a read-only storage. Zeroes become holes.
 * The file disappears when the storage is closed or the process ends.
 */
export async function stdinSpool(
  stream: Readable | AsyncIterable<Uint8Array>,
  options: SpoolOptions = {},
): Promise<Storage> {
  const { signal } = options;
  const label = options.label ?? 'standard input';
  throwIfAborted(signal, `Reading ${label}`);
  const fd = openNameless(options.directory ?? os.tmpdir());
  // A stream without a writer gives no chunk at which the signal could be looked at.
  const abort = (): void => {
    if ('destroy' in stream) stream.destroy();
  };
  signal?.addEventListener('abort', abort);
  try {
    const size = await fill(fd, stream, (bytes) => {
      throwIfAborted(signal, `Reading ${label}`);
      options.onBytes?.(bytes);
    });
    throwIfAborted(signal, `Reading ${label}`);
    return new FileStorage({ fd, label, mode: 'read', size, kind: 'file' });
  } catch (error) {
    fs.closeSync(fd);
    throwIfAborted(signal, `Reading ${label}`);
    throw systemError(error, { path: label });
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

function openNameless(directory: string): number {
  const name = path.join(directory, `.vdkit-${randomHex(8)}.spool`);
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  try {
    const fd = fs.openSync(name, O_RDWR | O_CREAT | O_EXCL, 0o600);
    fs.unlinkSync(name);
    return fd;
  } catch (error) {
    throw systemError(error, { path: directory });
  }
}

/** Collects chunks of any size, so that holes are found at whole units. Returns the total bytes. */
async function fill(
  fd: number,
  stream: AsyncIterable<Uint8Array | string>,
  onBytes: (bytes: number) => void,
): Promise<number> {
  const gathered = Buffer.allocUnsafe(GATHER);
  let start = 0;
  let filled = 0;
  for await (const chunk of stream) {
    const bytes: Uint8Array = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    for (let at = 0; at < bytes.length; ) {
      const count = Math.min(GATHER - filled, bytes.length - at);
      gathered.set(bytes.subarray(at, at + count), filled);
      at += count;
      filled += count;
      if (filled < GATHER) continue;
      await writeData(fd, start, gathered);
      start += filled;
      filled = 0;
    }
    onBytes(start + filled);
  }
  await writeData(fd, start, gathered.subarray(0, filled));
  fs.ftruncateSync(fd, start + filled);
  return start + filled;
}

/** Writes the non-zero units, consecutive ones together. */
async function writeData(fd: number, offset: number, bytes: Buffer): Promise<void> {
  let from = -1;
  for (let at = 0; at < bytes.length; at += HOLE) {
    const unit = bytes.subarray(at, at + HOLE);
    const zero = unit.equals(unit.length === HOLE ? ZEROES : ZEROES.subarray(0, unit.length));
    if (!zero && from === -1) from = at;
    if (!zero || from === -1) continue;
    await writeFully(fd, offset + from, bytes.subarray(from, at));
    from = -1;
  }
  if (from !== -1) await writeFully(fd, offset + from, bytes.subarray(from));
}

/**
 * A stream as a write-only storage, filled from front to back with zeroes in the gaps. Writes go out in the order of
 * their calls; each resolves when the stream has accepted its bytes, so the number in flight bounds memory. Closing it
 * leaves the stream open: it belongs to the caller.
 */
export class StreamStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities = { write: true, resize: true, random: false, punch: false, growsZeroed: true };
  readonly #stream: Writable;
  readonly #key = `pipe:${++serial}`;
  /** All writes started; rejects for good after the first failure, since later bytes would be misplaced. */
  #tail: Promise<void> = Promise.resolve();
  #size = 0;
  #failure: unknown = null;
  #closed = false;

  constructor(stream: Writable, label = 'standard output') {
    this.label = label;
    this.#stream = stream;
    // Stays on after closing: without a listener a late failure would end the process.
    stream.on('error', (error) => {
      this.#failure ??= systemError(error, { path: label });
    });
  }

  get size(): number {
    return this.#size;
  }

  async read(): Promise<void> {
    throw new ImageError('unsupported', 'Data written to a pipe cannot be read back', { path: this.label });
  }

  async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The write');
    const length = lengthOf(source);
    checkWriteRange(this.label, offset, length);
    const gap = this.#advance(offset, length);
    await this.#enqueue(async () => {
      await this.#pushZeroes(gap);
      for (const buffer of allOf(source)) await this.#push(buffer);
    });
  }

  extentAt(offset: number): StorageExtent {
    return { start: 0, end: Math.max(this.#size, offset + 1), data: true };
  }

  async zero(offset: number, length: number, _how: { readonly punch: boolean }): Promise<void> {
    checkWriteRange(this.label, offset, length);
    const gap = this.#advance(offset, length);
    await this.#enqueue(() => this.#pushZeroes(gap + length));
  }

  /** Grows with zeroes; written bytes cannot be taken back. */
  async resize(size: number): Promise<void> {
    checkSize(this.label, size);
    const gap = this.#advance(size, 0);
    await this.#enqueue(() => this.#pushZeroes(gap));
  }

  /** Resolves when the stream has accepted everything. Whether the reader stores it is unknowable. */
  async flush(): Promise<void> {
    await this.#enqueue(() => Promise.resolve());
  }

  async identity(): Promise<StorageIdentity> {
    return { key: this.#key, kind: 'pipe', allocatedSize: null, modifiedMs: null };
  }

  /** A pipe has no other writer to exclude. */
  async lock(): Promise<void> {
    if (this.#closed) throw closedStorage(this.label);
  }

  async lockState(): Promise<LockState> {
    return { held: null, holders: [] };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // Failures were reported by the operations themselves.
    await this.#tail.catch(() => {});
  }

  /** Moves the end immediately, before the bytes go out. Returns the zeroes that fill the gap. */
  #advance(offset: number, length: number): number {
    if (this.#closed) throw closedStorage(this.label);
    if (offset < this.#size) {
      throw new ImageError('invalid-argument', 'A pipe can only be written sequentially', {
        path: this.label,
        offset,
        expected: `at least ${this.#size}`,
        hint: 'Write to a file, or choose a format and variant that can be streamed.',
      });
    }
    const gap = offset - this.#size;
    this.#size = offset + length;
    return gap;
  }

  #enqueue(run: () => Promise<void>): Promise<void> {
    if (this.#closed) return Promise.reject(closedStorage(this.label));
    const result = this.#tail.then(() => {
      if (this.#failure !== null) throw this.#failure;
      return run();
    });
    this.#tail = result;
    // The caller of this operation receives the failure; the chain itself needs no second listener.
    result.catch(() => {});
    return result;
  }

  async #pushZeroes(length: number): Promise<void> {
    for (let rest = length; rest > 0; rest -= Math.min(rest, HOLE)) {
      await this.#push(rest >= HOLE ? ZEROES : ZEROES.subarray(0, rest));
    }
  }

  async #push(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    await new Promise<void>((resolve, reject) => {
      this.#stream.write(bytes, (error) => {
        if (error === null || error === undefined) resolve();
        else reject(this.#failure ?? systemError(error, { path: this.label }));
      });
    });
  }
}
