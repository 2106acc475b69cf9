/** Extents: the pieces that the disk of a VMDK image is put together from. Offsets count from the start of an extent. */
import type { SealedTables } from '../../../blocks/two-level-table.ts';
import { isImageError } from '../../../errors.ts';
import type { Mapping, MetadataExtent, Progress, WriteSlot } from '../../../image/contract.ts';
import type { MaybePromise, OperationOptions, ReadTarget, Storage } from '../../../storage/contract.ts';

const NOTHING: SealedTables = { stage: [], publish: [], copy: [] };

/** Content of what is new in a longer extent. */
export interface GrowHow extends OperationOptions {
  /** End, in the extent, of the range in which new units read zero whatever a parent has there; 0: none do. */
  readonly zeroUntil: number;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** The extent is as it was before: the growth was cancelled, or there was no room for it. */
export function isGivenBack(error: unknown): boolean {
  return isImageError(error) && (error.kind === 'aborted' || error.kind === 'no-space');
}

/** One extent. A read-only one answers `map`; the other members do nothing unless it overrides them. */
export abstract class Extent {
  /** Bytes of the disk that it holds. */
  readonly length: number;

  constructor(length: number) {
    this.length = length;
  }

  /** Its file; null: it has none. */
  abstract get storage(): Storage | null;

  /** Location of a range, which lies inside: see `Image.map`. */
  abstract map(offset: number, length: number): MaybePromise<Mapping>;

  /** Bytes allocated at a time; null: all of it has a place. */
  get unit(): number | null {
    return null;
  }

  /** Its units get room when they are first written. */
  get isDynamic(): boolean {
    return this.unit !== null;
  }

  /** May be changed. */
  get isWritten(): boolean {
    return false;
  }

  /** Reason why it is not written although it was opened for that; null: it is, or it was opened for reading. */
  get obstacle(): string | null {
    return null;
  }

  /** Whole units can be marked as zero. */
  get marksZero(): boolean {
    return false;
  }

  /** Harmless irregularities, for people. */
  get warnings(): readonly string[] {
    return [];
  }

  /** See `Image.readEncoded`. Only where `map` answers `encoded`. */
  readEncoded?(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void>;

  /** See `Image.prepareWrite`. Only where `map` answers `absent`. */
  prepareWrite?(offset: number, length: number): MaybePromise<WriteSlot>;

  /** See `Image.unmap`. */
  unmap?(offset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void>;

  /** `grow` and `shrink` exist, and change how much of the disk it holds. */
  get resizes(): boolean {
    return false;
  }

  /** Its file may have room behind its end, which `shrink` gives up. */
  get hasExcess(): boolean {
    return false;
  }

  /** Throws `limit` where it cannot become that long. Touches nothing. */
  checkLength?(length: number): void;

  /**
   * Makes room, durably, for a larger part of the disk, which `withLength` gives it. What is new reads zero, in a child
   * up to `zeroUntil`. Cancelled, or without room, it is as before.
   */
  grow?(length: number, how: GrowHow): Promise<void>;

  /** Gives up what lies behind a new end, which its line has already. */
  shrink?(length: number, options: OperationOptions): Promise<void>;

  /** The extent with another length, as the medium has it. Absent: it has the one that its line gave it. */
  withLength?(length: number, options?: OperationOptions): MaybePromise<Extent>;

  get dirtyBytes(): number {
    return 0;
  }

  /** The writes of the next flush. */
  seal(): SealedTables {
    return NOTHING;
  }

  /** The flush ended. */
  settle(_ok: boolean): void {}

  /**
   * Ends a session: stores durably that the extent is whole. Everything must be flushed. An extent that a cut left
   * unclean is made whole first, if the session changed the image (`changed`).
   */
  async end(_changed: boolean): Promise<void> {}

  /** The header says that a session did not end. */
  get unclean(): boolean {
    return false;
  }

  /** Bytes that compacting can give back. */
  get reclaimable(): number {
    return 0;
  }

  /** See `Image.movable`. */
  async *movable(_options?: OperationOptions): AsyncGenerator<number> {}

  /** See `Image.relocate`. */
  relocate(_offset: number): MaybePromise<WriteSlot | null> {
    return null;
  }

  /** See `Image.trim`. */
  async trim(_options?: OperationOptions): Promise<void> {}

  /** See `Image.metadata`; guest offsets count from the start of the extent. */
  async *metadata(_how: { readonly perUnit: boolean }): AsyncGenerator<MetadataExtent> {}
}
