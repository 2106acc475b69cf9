/** Blobs and files chosen in a browser, as storages. */
import { checkArguments, optional, TEXT, withMethods } from '../arguments.ts';
import { ImageError, throwIfAborted } from '../errors.ts';
import { allOf, checkRange, closedStorage, lengthOf, readOnlyStorage } from './checks.ts';
import type {
  LockMode,
  LockOptions,
  LockState,
  OperationOptions,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
} from './contract.ts';
import { orAborted } from './or-aborted.ts';
import { THIS_RUN } from './this-run.ts';

const keys = new WeakMap<Blob, string>();
let serial = 0;

/** A Blob. */
export const BLOB = withMethods('a Blob', 'slice');

/** A read-only byte store over a Blob or File. Nothing is read in advance. */
export class BlobStorage implements Storage {
  readonly label: string;
  readonly size: number;
  readonly can: StorageCapabilities = { write: false, resize: false, random: true, punch: false, growsZeroed: false };
  readonly #blob: Blob;
  #closed = false;

  constructor(blob: Blob, label?: string) {
    checkArguments('BlobStorage', { blob: [blob, BLOB], label: [label, optional(TEXT)] });
    this.#blob = blob;
    this.size = blob.size;
    this.label = label ?? ('name' in blob && typeof blob.name === 'string' ? blob.name : 'blob');
  }

  async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    this.#checkOpen();
    const length = lengthOf(target);
    checkRange(this, offset, length);
    throwIfAborted(options?.signal, 'The read');
    // The Blob fills separate memory, so a cancelled caller need not wait.
    const bytes = await orAborted(this.#bytes(offset, length), options, 'The read');
    let at = 0;
    for (const buffer of allOf(target)) {
      buffer.set(bytes.subarray(at, at + buffer.length));
      at += buffer.length;
    }
  }

  write(): Promise<void> {
    return this.#refuse();
  }

  extentAt(offset: number): StorageExtent {
    this.#checkOpen();
    checkRange(this, offset, 1);
    return { start: 0, end: this.size, data: true };
  }

  zero(): Promise<void> {
    return this.#refuse();
  }

  resize(): Promise<void> {
    return this.#refuse();
  }

  async flush(): Promise<void> {
    this.#checkOpen();
  }

  async identity(): Promise<StorageIdentity> {
    this.#checkOpen();
    const modified = 'lastModified' in this.#blob ? this.#blob.lastModified : null;
    const modifiedMs = typeof modified === 'number' ? modified : null;
    // What a Blob holds never changes, and its key is its own.
    const revision = { text: THIS_RUN, atMs: modifiedMs ?? 0, tickMs: 0 };
    return { key: blobKey(this.#blob), kind: 'blob', allocatedSize: null, modifiedMs, revision };
  }

  /** Blobs are immutable, so there is nothing to lock. */
  async lock(_mode: LockMode, _how?: LockOptions): Promise<void> {
    this.#checkOpen();
  }

  async lockState(): Promise<LockState> {
    this.#checkOpen();
    return { held: 'none', holders: [] };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #checkOpen(): void {
    if (this.#closed) throw closedStorage(this.label);
  }

  async #refuse(): Promise<never> {
    this.#checkOpen();
    throw readOnlyStorage(this.label);
  }

  async #bytes(offset: number, length: number): Promise<Uint8Array> {
    let bytes: Uint8Array;
    try {
      bytes = new Uint8Array(await this.#blob.slice(offset, offset + length).arrayBuffer());
    } catch (cause) {
      // A browser reports a file that changed or went away since it was chosen as unreadable, without saying why.
      throw new ImageError('io', 'The file can no longer be read', {
        path: this.label,
        offset,
        hint: 'It may have been changed or moved: choose it again.',
        cause,
      });
    }
    if (bytes.length === length) return bytes;
    throw new ImageError('io', 'The file became shorter while it was open', { path: this.label, offset });
  }
}

/** Equal for two storages over one Blob. */
export function blobKey(blob: Blob): string {
  const known = keys.get(blob);
  if (known !== undefined) return known;
  const key = `blob:${++serial}`;
  keys.set(blob, key);
  return key;
}
