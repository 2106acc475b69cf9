/**
 * Cache images: a file on a fast medium that keeps data read from a slow one. A cache stores bytes in the form in which
 * the images store them, and nothing that cannot be read there again: in any doubt it is empty.
 */
import type { NewFiles, OpenMode, OperationOptions, Storage } from '../storage/contract.ts';
import type { FileExtension, Progress } from './contract.ts';
import type { Finding } from './findings.ts';

/** The disk and state that a cache belongs to. */
export interface CacheIdentity {
  /** UUID of the image; null for none. */
  readonly image: string | null;
  /** Changes whenever the content does. */
  readonly modification: string;
}

/** Cache metadata. */
export interface CacheInfo {
  readonly format: string;
  readonly variant: 'dynamic' | 'fixed';
  /** Maximum size of the file in bytes. */
  readonly capacity: number;
  /** Bytes of the disk in the cache. */
  readonly cached: number;
  /** Identity it was closed for; null: empty, because it was never closed properly or is invalid. */
  readonly identity: CacheIdentity | null;
}

/**
 * An open cache. Offsets are those of the disk; it stores whole blocks of 512 bytes. Calls may overlap, even for one
 * range; but nothing else may use a range being dropped, nor the cache while it is cleared.
 */
export interface CacheImage {
  readonly info: CacheInfo;
  /** Length of the prefix of the range that is entirely cached, or entirely not. */
  look(offset: number, length: number): { readonly cached: boolean; readonly length: number };
  /** Fills the target from a cached range. Throws `io`. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /**
   * Stores the whole blocks among the bytes, as far as space can be made. The bytes may be reused when it resolves.
   */
  fill(offset: number, bytes: Uint8Array): Promise<void>;
  /** Drops every block that the range touches, immediately. */
  drop(offset: number, length: number): void;
  /** Drops everything. */
  clear(): void;
  readonly storage: Storage;
  /** Stores the content for the next use with this identity; null: it will be empty then. */
  close(identity: CacheIdentity | null): Promise<void>;
}

/** Options for a new cache. */
export interface CacheCreateOptions extends OperationOptions {
  /** Maximum size of the file in bytes; rounded down to the format's granularity, at least 2 MiB. */
  readonly size: number;
  /** Allocate all space at once. */
  readonly fixed: boolean;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** A format of cache images. */
export interface CacheFormat {
  readonly name: string;
  readonly title: string;
  readonly extensions: readonly FileExtension[];
  /** Writes an empty cache into an empty file, durably. Throws `invalid-argument`. */
  create(files: NewFiles, options: CacheCreateOptions): Promise<void>;
  /**
   * Opens a cache, to which the file belongs when this resolves; an invalid one counts as empty. Throws `invalid-format`
   * for other files: the caller closes the file.
   */
  open(file: Storage, how: { readonly mode: OpenMode }): Promise<CacheImage>;
  /** Findings of a consistency check. Throws `invalid-format`. */
  check(file: Storage, options: OperationOptions): Promise<readonly Finding[]>;
}
