/** Options, outcome and messages of a model run. */
import type { ChainDisk } from '../../src/disk/disk.ts';
import { isImageError } from '../../src/errors.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import type { DiskContent } from './content.ts';
import type { KeptState } from './inner.ts';
import { Mismatch } from './mismatch.ts';
import type { ModelDisk } from './model-disk.ts';

/** Puts something around the disk under test. */
export type Wrap = (disk: ChainDisk) => ModelDisk;

/** First failure of a run; `step` is the number of the operation, the length of the list for the end. */
export interface Failure {
  readonly step: number;
  readonly message: string;
}

/** Number of operations of each kind that really ran. */
export type Tally = Map<string, number>;

/** Options for playing a list. */
export interface RunOptions {
  readonly wrap?: Wrap;
  readonly tally?: Tally;
  /** With filters and a cache. */
  readonly layers?: boolean;
  /** Milliseconds after which a run counts as hung. */
  readonly hangMs?: number;
  /** Looks at an image that was closed. Throws a {@link Mismatch}. */
  readonly inspect?: (image: ClosedImage) => Promise<void>;
}

/** An image that is not open, and its content. */
export interface ClosedImage {
  /** With all files that belong to it, in the directory of the image. */
  readonly provider: StorageProvider;
  readonly name: string;
  readonly content: DiskContent;
  readonly states: readonly KeptState[];
}

/** New space reads as zero, whatever is below. */
export function resized(bytes: Uint8Array, size: number): Uint8Array {
  const changed = new Uint8Array(size);
  changed.set(bytes.subarray(0, size));
  return changed;
}

/** Text of a failure: of an error of the library with its context. */
export function messageOf(error: unknown): string {
  if (error instanceof Mismatch) return error.message;
  if (isImageError(error)) return `${error.kind}: ${error.message} ${JSON.stringify(error.context)}`;
  return error instanceof Error ? `${error.stack}` : String(error);
}
