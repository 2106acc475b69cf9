/** The interface that users, the copy engine, `compare` and servers work on. */
import { ImageError } from '../errors.ts';
import type { RegionList } from '../image/regions.ts';
import type { MaybePromise, OperationOptions, ReadTarget, StorageHints, WriteSource } from '../storage/contract.ts';

/** Capabilities of a device; constant while it is open. */
export interface DeviceCapabilities {
  readonly write: boolean;
  readonly zero: boolean;
  readonly discard: boolean;
  /** False for pipes and streams: each request must begin at or after the end of the previous one. */
  readonly random: boolean;
}

/** Throws `unsupported` for a forward-only device; `what` is the operation: `Verifying a copy`. */
export function requireRandom({ can, label }: BlockDevice, what: string): void {
  if (can.random) return;
  throw new ImageError('unsupported', `${what} needs a source that can be read twice, not a stream`, {
    path: label,
    hint: 'Read it into a file or into memory first.',
  });
}

/**
 * `data` is stored, `zero` is explicitly zero or a hole, `absent` is unallocated in the whole chain and reads as zero.
 * `damaged` cannot be read; reported only on request.
 */
export type ExtentState = 'data' | 'zero' | 'absent' | 'damaged';

/** A run of one kind in one image. */
export interface Extent {
  /** Guest offset in bytes. */
  readonly offset: number;
  readonly length: number;
  readonly state: ExtentState;
  /** Number of the image that supplies the data, 0 = base; null for none. */
  readonly image: number | null;
  /** 0 = the image that was opened, 1 = its parent, …; null for none. */
  readonly depth: number | null;
  /** True for compressed data, which has no file position. */
  readonly compressed: boolean;
  /** File with the bytes; only for uncompressed `data`. */
  readonly file: string | null;
  readonly fileOffset: number | null;
  /** Reason why the range cannot be read; only for `damaged`. */
  readonly reason?: string;
}

/** Options for locating data. */
export interface ExtentOptions extends OperationOptions {
  /**
   * Report ranges that cannot be read because metadata or a file is damaged as `damaged`. Default: throw. A device may
   * throw all the same, and data on a bad medium is found only by reading it.
   */
  readonly damaged?: boolean | undefined;
}

/** A range of the disk in bytes. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** Result of a read. */
export interface ReadResult {
  /** Every byte was unallocated in all images of the chain: vd.h's VINF_VD_NEW_ZEROED_BLOCK. */
  readonly unallocated: boolean;
}

/** Compressed bytes that are not written yet. */
export interface CompressedWrite {
  /** Writes them. Durable after the next flush. */
  store(): Promise<void>;
}

/** Options for zeroing a range. */
export interface ZeroOptions extends OperationOptions {
  /** Free the space where the storage can. Default true. */
  readonly punch?: boolean | undefined;
}

/** Options for a write. */
export interface WriteOptions extends OperationOptions {
  /**
   * Receives the guest bytes that were stored, part by part. Zeroes that need no space, and data that a parent has at
   * the same place, are not.
   */
  readonly onStored?: ((bytes: number) => void) | undefined;
}

/** Random access to a disk of fixed size. Requests need no alignment. */
export interface BlockDevice {
  /** Name for messages. */
  readonly label: string;
  readonly size: number;
  readonly can: DeviceCapabilities;
  /** Request sizes that suit what is behind it; absent for files at hand. */
  readonly hints?: StorageHints | undefined;
  /** Preferred unit of writing in bytes; 0 when there is none. */
  readonly blockSize: number;
  /** Sector layout of the medium. Absent: one region of sectors of 512 bytes. */
  readonly regions?: RegionList;
  /** Reads without waiting if the data is available. False: nothing was read. */
  readNow?(offset: number, target: Uint8Array): boolean;
  /** Fills the target. An abort ends the wait at once; the target belongs to the caller again, as it was before. */
  read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<ReadResult>;
  /** Writes call `onStored`. Without this everything that is written counts as stored. */
  readonly countsStored?: boolean;
  write(offset: number, source: WriteSource, options?: WriteOptions): Promise<void>;
  /** Compresses bytes for a write at `offset`, made by `store`. Absent for devices without compression. */
  compress?(offset: number, bytes: Uint8Array, options?: WriteOptions): Promise<CompressedWrite>;
  zero(offset: number, length: number, options?: ZeroOptions): Promise<void>;
  /** Marks the ranges as unneeded. Absent for devices without discard. */
  discard?(ranges: readonly Range[], options?: OperationOptions): Promise<void>;
  /** The run at `offset`, at most up to `end`. */
  extentAt(offset: number, end: number, options?: ExtentOptions): MaybePromise<Extent>;
  /** Resolves when all earlier writes are durable. */
  flush(options?: OperationOptions): Promise<void>;
  close(): Promise<void>;
}
