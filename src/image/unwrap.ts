/** Files around an image: compressed files and archives. Their formats find what is inside; the open path does the rest. */
import type { OperationOptions, Storage } from '../storage/contract.ts';

/** Options for finding the file inside another one. */
export interface UnwrapOptions extends OperationOptions {
  /** Name of the outer file, without a directory. */
  readonly name: string;
  /**
   * Name of the member that is wanted; undefined: the only disk. An archive inside an archive follows with a slash:
   * `inner.tar/disk.img`.
   */
  readonly member?: string | undefined;
  /** The content will be read: checksums that cover bytes in place are compared. Default false. */
  readonly verify?: boolean | undefined;
  /** True for a name that disk images have. */
  isDisk(name: string): boolean;
}

/** The file inside another one. */
export interface Unwrapped {
  /** Its name, without a directory. */
  readonly name: string;
  /** As stored in the archive; equal to the name for compressed files. */
  readonly member: string;
  /** What is left of the wanted name, for the file inside. */
  readonly rest?: string | undefined;
  /** True for an archive: what an image in it names is not in the directory of the outer file. */
  readonly isArchive?: boolean | undefined;
  /**
   * Its bytes: a range of the outer file, a storage over it, or chunks to be unpacked. Chunks are valid until the next is asked
   * for.
   */
  readonly content: InnerRange | InnerStorage | InnerChunks;
  readonly warnings: readonly string[];
}

/** A range of the outer file. */
export interface InnerRange {
  readonly offset: number;
  readonly length: number;
}

/** Bytes that are decoded at any place. Closing the storage leaves the outer file open. */
export interface InnerStorage {
  readonly storage: Storage;
}

/** Bytes that are decoded in order, once. */
export interface InnerChunks {
  /** Throws `corrupt` for damage, also at the end. `notice` gets warnings. */
  decode(notice: (text: string) => void): AsyncIterable<Uint8Array>;
  /**
   * Bytes of the content, as the file tells it, which may be wrong; `head`: its first bytes. Null, or absent: the file does
   * not tell.
   */
  expectedSize?(head: Uint8Array): Promise<number | null>;
}
