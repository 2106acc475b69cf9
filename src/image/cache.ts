/**
 * Cache images: a file on a quick medium that keeps what was read of a slow one. A cache holds bytes in the form in which
 * the images store them, and nothing that cannot be read there again: whenever anything about it is in doubt, it is empty.
 */
import type { NewFiles, OpenMode, OperationOptions, Source, Storage } from '../storage/contract.ts';
import type { FileExtension, Progress } from './contract.ts';
import type { Finding } from './findings.ts';

/** What a cache belongs to, and in which state. */
export interface CacheIdentity {
  /** UUID of the image; null: it has none. */
  readonly image: string | null;
  /** Changes whenever the content does. */
  readonly modification: string;
}

/** What a cache says of itself. */
export interface CacheInfo {
  readonly format: string;
  readonly variant: 'dynamic' | 'fixed';
  /** Bytes that the file may have at most. */
  readonly capacity: number;
  /** Bytes of the disk that are in it. */
  readonly cached: number;
  /** What it was closed for; null: it is empty, since it never was closed, or not in order. */
  readonly identity: CacheIdentity | null;
}

/**
 * An open cache. Offsets are those of the disk; it keeps whole blocks of 512 bytes. Calls may overlap, also those for one
 * range; only where something is dropped nothing else runs, and nowhere while all is cleared.
 */
export interface CacheImage {
  readonly info: CacheInfo;
  /** How much of the range, from its start on, is either in the cache or not. */
  look(offset: number, length: number): { readonly cached: boolean; readonly length: number };
  /** Fills the target from a range that is in the cache. Throws `io`. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Keeps the whole blocks among the bytes, as far as there is room to be made. The bytes may be used again then. */
  fill(offset: number, bytes: Uint8Array): Promise<void>;
  /** Forgets every block that the range touches. At once. */
  drop(offset: number, length: number): void;
  /** Forgets everything. */
  clear(): void;
  readonly storage: Storage;
  /** Stores what is in it, for the next time that a disk of that identity is there; null: it will be empty then. */
  close(identity: CacheIdentity | null): Promise<void>;
}

/** How a cache is made. */
export interface CacheCreateOptions extends OperationOptions {
  /** Bytes that its file may have at most; rounded down to what the format can, at least 2 MiB. */
  readonly size: number;
  /** Take all the room at once. */
  readonly fixed: boolean;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** A format of cache images. */
export interface CacheFormat {
  readonly name: string;
  readonly title: string;
  readonly extensions: readonly FileExtension[];
  /** Writes an empty one into an empty file, durably. Throws `invalid-argument`. */
  create(files: NewFiles, options: CacheCreateOptions): Promise<void>;
  /** Opens one; what is not in order makes it an empty one. Throws `invalid-format` when it is something else. */
  open(source: Source, how: { readonly mode: OpenMode }): Promise<CacheImage>;
  /** What is wrong with one. Throws `invalid-format`. */
  check(source: Source, options: OperationOptions): Promise<readonly Finding[]>;
}
