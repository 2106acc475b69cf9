/**
 * Location of guest data in an image and space for new data, and the metadata writes of a flush: the part of the
 * contract of formats that every read and write passes.
 */
import type { MaybePromise, Storage } from '../storage/contract.ts';

/** Location of a guest range in one image. Covers at least the first requested sector; valid under its range lock. */
export type Mapping =
  | {
      readonly kind: 'data';
      readonly storage: Storage;
      /** Byte offset in that storage. */
      readonly fileOffset: number;
      readonly length: number;
      /** May be overwritten in place. */
      readonly writable: boolean;
    }
  /** Explicit zeroes: hide the parent. */
  | { readonly kind: 'zero'; readonly length: number }
  /** Not here: ask the parent; zeroes when there is none. */
  | { readonly kind: 'absent'; readonly length: number }
  /** Stored in a form of the format's own, compressed: `readEncoded` gives the bytes. Never overwritten in place. */
  | {
      readonly kind: 'encoded';
      readonly length: number;
      /** Reads as zero: a part of a unit that was never written. Default false. */
      readonly zero?: boolean;
    };

/** Space for whole allocation units: one file range. May be shorter than requested; ask again for the rest. */
export interface WriteSlot {
  readonly storage: Storage;
  readonly fileOffset: number;
  readonly length: number;
  /** Guest offset of the slot's first byte; may lie before the request. */
  readonly guestOffset: number;
  /** True when unwritten bytes read as zero, even after a power cut. False for reused space. */
  readonly readsZero: boolean;
  /** Points the map at the slot. In memory, synchronous; only after all bytes of the slot are written. */
  commit(): void;
  /** Frees the space. */
  abort(): void;
}

/** New space for a unit that is moved. */
export interface Relocation extends WriteSlot {
  /** Place of the unit now, which is copied as it is. Left out: where the image maps its first byte. */
  readonly from?: { readonly storage: Storage; readonly fileOffset: number } | undefined;
}

/** A unit of guest data in its stored form. */
export interface EncodedUnit {
  readonly guestOffset: number;
  readonly bytes: Uint8Array;
}

/** Space for encoded units: one write of everything in `buffers`, then `commit` or `abort`. */
export interface EncodedSlot {
  readonly storage: Storage;
  readonly fileOffset: number;
  /** The units, with the format's framing. */
  readonly buffers: readonly Uint8Array[];
  /** Number of units included, at least one: ask again for the rest. */
  readonly count: number;
  /** Points the map at the units. In memory, synchronous; only after everything is written. */
  commit(): void;
  /** Frees the space. Bytes written to it are harmless. */
  abort(): void;
}

/** Storage of compressed units. */
export interface Encoder {
  /** Unit size in bytes; units are aligned to it. A unit cut by the end of the disk is padded with zeroes. */
  readonly unit: number;
  /** Compression method, e.g. `zlib`. */
  readonly method: string;
  /** Everything is stored encoded: `encode` never returns null, and only whole units can be written. Default false. */
  readonly must?: boolean;
  /** The stored form of one whole unit; null when it is not smaller, and must be stored plain. Several at a time. */
  encode(bytes: Uint8Array): MaybePromise<Uint8Array | null>;
  /**
   * Allocates space for encoded units in ascending order, as many as fit together, freeing their old space. Slots are
   * sequential: waits until the previous one has ended.
   */
  prepare(units: readonly EncodedUnit[]): Promise<EncodedSlot>;
}

/** One metadata write of a flush. The bytes are a copy: later changes do not affect it. */
export interface MetaWrite {
  readonly storage: Storage;
  readonly fileOffset: number;
  readonly bytes: Uint8Array;
}

/** Writes of one flush, in this order: stage, flush, each root list, flush, each publish list, flush, settle. */
export interface SealedMetadata {
  /** Metadata that nothing on the medium refers to yet: raised counts, new tables. */
  readonly stage: readonly MetaWrite[];
  /** Pointers that must be durable before others. Usually empty. */
  readonly root: readonly (readonly MetaWrite[])[];
  /** Entries that make new space visible, in numbered steps. Usually one. */
  readonly publish: readonly (readonly MetaWrite[])[];
}
