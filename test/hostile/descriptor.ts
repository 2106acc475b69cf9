/**
 * The hostile part of a format's kit: where its structures and tables lie, and what each field means for the content.
 * Everything else (which values to try, what must hold) is the same for all formats.
 */
import type { Storage } from '../../src/storage/contract.ts';
import type { ContentOp } from '../golden/content.ts';
import type { BaseImage, Range } from './protocol.ts';

/**
 * Permitted effect of a changed field on the guest's bytes. `exact`: opens and reads as before. `same`: is refused, or
 * reads as before; single ranges may be refused. `prefix`: as `same`, but the disk may be shorter or longer. `free`:
 * the field decides what is read, so only the rules for all files hold.
 */
export type Effect = 'exact' | 'same' | 'prefix' | 'free';

/** The part of a struct table that matters here; `struct` in `src/binary/struct.ts` makes it. */
export interface FieldTable {
  readonly size: number;
  readonly fields: Readonly<Record<string, { readonly offset: number; readonly size: number }>>;
}

/** Bytes with a checksum. */
export interface SummedRange {
  readonly offset: number;
  readonly length: number;
  /** The checksum: place in these bytes, and length. */
  readonly sum: { readonly at: number; readonly length: number };
  /** Stores the right one. */
  put(bytes: Uint8Array): void;
}

/** A structure at its place in one image. */
export interface StructPlace {
  readonly name: string;
  /** Every change of a field comes with the checksum that fits. */
  readonly summed?: SummedRange;
  readonly table: FieldTable;
  readonly offset: number;
  readonly littleEndian: boolean;
  /** Fields not listed are `same`: a new field with a meaning must be listed. */
  readonly effects: Readonly<Record<string, Effect>>;
}

/** A table of numbers at its place in one image. */
export interface TablePlace {
  readonly name: string;
  readonly offset: number;
  readonly count: number;
  readonly entryBytes: 4 | 8;
  readonly littleEndian: boolean;
  /** Values that mean something here, beside those that are tried on every number: markers, the last place in the file. */
  readonly values: readonly bigint[];
  /** Guest bytes that entry `index` answers for. All others must stay as they are. */
  guestRange(index: number): Range;
}

/** Positions of all parts of one image. */
export interface Anatomy {
  readonly structs: readonly StructPlace[];
  readonly tables: readonly TablePlace[];
  /** Offsets in the file at which cutting it off is worth a try, beside the edges of structures and tables. */
  readonly edges: readonly number[];
  /**
   * Guest ranges that may read otherwise, without being refused, when the file is cut off at that size: where a format
   * says that what is missing at the end of a file reads zero. Left out: there are none.
   */
  readonly lost?: (size: number) => readonly Range[];
  /** Effect of another length of the file. Left out: `same`. */
  readonly length?: Effect;
}

/** A file that the image needs, or one that it must not touch. */
export interface SampleFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** A further file of the image itself: an extent, a track, a part of a bundle. */
export interface SamplePart extends SampleFile {
  readonly anatomy: Anatomy;
}

/** A sound image to begin with. */
export interface Sample {
  readonly name: string;
  readonly format: string;
  /** Null: the image is a directory, which holds the parts. */
  readonly bytes: Uint8Array | null;
  /** Further files, each of them changed in turn: in a directory that is an image, or beside a file called `image`. */
  readonly parts?: readonly SamplePart[];
  /** Its parents and whatever else lies beside it. */
  readonly beside: readonly SampleFile[];
  /** Of the main file. */
  readonly anatomy: Anatomy;
  readonly virtualSize: number;
  /** Content of the disk: of all of it, or by the rule of the golden images. */
  readonly content: Uint8Array | readonly ContentOp[];
  /** Made by another program, and large for what it holds. */
  readonly golden: boolean;
  /** In the usual run only each so-manieth file is tried, where another sample covers most of the same code. */
  readonly every: number;
  /** Reads only with its parents, which must be allowed. */
  readonly differencing: boolean;
}

/** A sample that is a file, with others or without. */
export interface FileSample extends Sample {
  readonly bytes: Uint8Array;
}

/** The hostile part of a format's kit. */
export interface HostileKit<S extends Sample = Sample> {
  samples(): Promise<readonly S[]>;
  /** Images whose tables are as long as they get in a file that is nearly all hole: cheap to send, costly to believe. */
  hollow(): readonly BaseImage[];
  /** Steps of `examine.ts` that some file must reach, beside those of all formats. */
  readonly reaches?: readonly string[];
  /** Files that the usual run aims at, however many the samples make. Left out: 600. */
  readonly files?: number;
  /** Length of the largest sample whose repair is tried, for a format that has no short files. Left out: 256 KiB. */
  readonly longestRepaired?: number;
  /** Of the changes of tables one in this many is tried as damage. Left out: 50, for tables of many entries. */
  readonly damagedEvery?: number;
  /** Changed bits that are tried as damage, for a format whose data has checksums and whose tables are few. Left out: none. */
  readonly damagedFlips?: number;
  /** Images that the suite of damage has to meet, sound ones and damaged ones. Left out: 10 of each. */
  readonly damagedLeast?: readonly [sound: number, damaged: number];
  /** Count of each unit of a file, by number: a repair must not lower counts that it cannot verify. */
  counts?(storage: Storage): Promise<ReadonlyMap<number, number>>;
}
