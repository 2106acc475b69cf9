/** Images that are read from a stream: once, from front to back, without going back to their tables. */
import type { ByteStream } from '../storage/byte-stream.ts';
import type { OperationOptions } from '../storage/contract.ts';
import type { ImageInfo } from './contract.ts';

/** Data of the disk, as it came: its place is known, its bytes may still have to be decoded. */
export interface ForwardUnit {
  readonly guestOffset: number;
  /** Bytes of the disk. */
  readonly size: number;
  /** The bytes of the disk, in `room` if it is as large as the unit and suits; several units at a time. Throws `corrupt`. */
  decode(room?: Uint8Array): Promise<Uint8Array>;
}

/** An image that comes through a stream. */
export interface ForwardImage {
  readonly info: ImageInfo;
  /**
   * The next unit in the order of the disk; ranges without one read as zero. Null: the image ended, and everything in it
   * that could be compared agreed. Throws `corrupt`, also for a stream that was cut off.
   */
  next(): Promise<ForwardUnit | null>;
}

/** The ability of a format whose images, or some of them, can be read from a stream. */
export interface ForwardReading {
  /** True when an image that begins with these bytes, 64 KiB unless it is shorter, can be read from a stream. */
  readsForwards?(head: Uint8Array): boolean;
  /**
   * Reads the start of an image. Null, with nothing taken from the stream: this one must be read at random, such as a
   * child, whose parent the stream does not have. Throws `corrupt`, `invalid-format`, `unsupported`, `limit`.
   */
  openForwards?(stream: ByteStream, options: OperationOptions): Promise<ForwardImage | null>;
}
