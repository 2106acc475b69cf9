/** Messages between the parent process and its children. */

/** Guest bytes `[start, end)`. */
export type Range = readonly [start: number, end: number];

/** A page of a file; the rest reads zero. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A file to begin with; sent once to each child. */
export interface BaseFile {
  readonly name: string;
  readonly size: number;
  readonly pieces: readonly Piece[];
}

/** A sound image to begin with, and what its disk reads. Sent once to each child. */
export interface BaseImage {
  readonly name: string;
  /** Null: the image is a directory, which holds the parts. */
  readonly image: BaseFile | null;
  /** Further files of the image itself. */
  readonly parts?: readonly BaseFile[];
  readonly beside: readonly BaseFile[];
  /** Null: not known, or not to be compared. */
  readonly content: BaseFile | null;
  readonly differencing: boolean;
}

/** Expectations for one file. */
export interface Expectation {
  /** The image must open and every byte be read. */
  readonly opens: boolean;
  /** Guest ranges that must read as before, or be refused. */
  readonly unchanged: readonly Range[];
  /** The size must be as before, where the image opens. */
  readonly sameSize: boolean;
}

/** One image to try: a base image, of which one file has other bytes at some places, or another length. */
export interface HostileCase {
  readonly title: string;
  readonly base: string;
  readonly format: string;
  /** The part that is changed, by its name; null or left out: the main file. */
  readonly file?: string | null;
  readonly edits: readonly Piece[];
  readonly size: number;
  readonly expect: Expectation;
}

/** Outcome of one case. */
export interface CaseReport {
  /** Defects found in vdkit; empty for none. */
  readonly findings: readonly string[];
  /** Steps and their outcomes: `read:ok`, `write:corrupt`. */
  readonly steps: readonly string[];
  readonly milliseconds: number;
  /** Most memory that was resident since the last rest of the child, bytes. */
  readonly peakBytes: number;
  /** The child cannot get rid of the memory of its cases: the next one would be blamed for it. */
  readonly isTired: boolean;
  /** Branches that no case of this child reached before; only when coverage is on. */
  readonly newBranches: readonly string[];
}

export type ToChild =
  | { readonly kind: 'base'; readonly base: BaseImage }
  | { readonly kind: 'forget' }
  /** Several at once, since asking for coverage costs more than one of them. */
  | { readonly kind: 'cases'; readonly works: readonly HostileCase[] }
  | { readonly kind: 'coverage' };

export type FromChild =
  | { readonly kind: 'ready' }
  | { readonly kind: 'reports'; readonly reports: readonly CaseReport[] };

/** Time and memory that any file may cost. */
export const BOUNDS = { milliseconds: 2000, bytes: 200 * 1024 * 1024, heapMegabytes: 150 } as const;
