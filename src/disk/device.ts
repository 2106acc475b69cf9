/** The surface that users, the copy engine, `compare` and servers work on. */
import { ImageError } from '../errors.ts';
import type { RegionList } from '../image/regions.ts';
import type { MaybePromise, OperationOptions, ReadTarget, WriteSource } from '../storage/contract.ts';

/** What a device can do; fixed while it is open. */
export interface DeviceCapabilities {
  readonly write: boolean;
  readonly zero: boolean;
  readonly discard: boolean;
  /** False for pipes and streams: each request must begin where the last one ended, or behind that. */
  readonly random: boolean;
}

/** Throws `unsupported` for a device that goes forwards only; `what` needs more: `Verifying a copy`. */
export function requireRandom({ can, label }: BlockDevice, what: string): void {
  if (can.random) return;
  throw new ImageError('unsupported', `${what} needs a source that can be read again, not a stream`, {
    path: label,
    hint: 'Read it into a file or into memory first.',
  });
}

/** `data` is stored, `zero` reads zero by decision or because of a hole, `absent` is nowhere in the chain and reads zero. */
export type ExtentState = 'data' | 'zero' | 'absent';

/** A run of one kind in one image. */
export interface Extent {
  /** Guest bytes. */
  readonly offset: number;
  readonly length: number;
  readonly state: ExtentState;
  /** Number of the image that answers, 0 = base; null where nobody does. */
  readonly image: number | null;
  /** 0 = the image that was opened, 1 = its parent, …; null where nobody answers. */
  readonly depth: number | null;
  /** Data that is stored in a form of the format's own: it has no place of its own in the file. */
  readonly compressed: boolean;
  /** Only for `data` that is not compressed. */
  readonly file: string | null;
  readonly fileOffset: number | null;
}

/** A stretch of the disk, bytes. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** What a read found. */
export interface ReadResult {
  /** Every byte came from space that no image of the chain holds: vd.h's VINF_VD_NEW_ZEROED_BLOCK. */
  readonly unallocated: boolean;
}

/** Bytes that are compressed and not yet written. */
export interface CompressedWrite {
  /** Writes them. Durable after the next flush. */
  store(): Promise<void>;
}

/** How a range is made to read zero. */
export interface ZeroOptions extends OperationOptions {
  /** Give the room back where the storage can. Default true. */
  readonly punch?: boolean | undefined;
}

/** Random access to a disk of fixed size. Requests need no alignment. */
export interface BlockDevice {
  /** For messages. */
  readonly label: string;
  readonly size: number;
  readonly can: DeviceCapabilities;
  /** Unit in which writing whole is cheap; 0 when there is none. */
  readonly blockSize: number;
  /** How the medium is divided into sectors. Left out: one region of sectors of 512 bytes. */
  readonly regions?: RegionList;
  /** Reads without waiting when everything is at hand. False: nothing was read. */
  readNow?(offset: number, target: Uint8Array): boolean;
  read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<ReadResult>;
  write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void>;
  /** Compresses bytes for a write at `offset`, which `store` does. Absent where nothing is stored compressed. */
  compress?(offset: number, bytes: Uint8Array, options?: OperationOptions): Promise<CompressedWrite>;
  zero(offset: number, length: number, options?: ZeroOptions): Promise<void>;
  /** Tells that nobody needs the ranges any more. Absent where the device has no such thing. */
  discard?(ranges: readonly Range[], options?: OperationOptions): Promise<void>;
  /** The run at `offset`, at most up to `end`. */
  extentAt(offset: number, end: number): MaybePromise<Extent>;
  /** Everything that was written is durable when it resolves. */
  flush(options?: OperationOptions): Promise<void>;
  close(): Promise<void>;
}
