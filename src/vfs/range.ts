/**
 * A range of a disk, a device or a storage as a storage: the basis of images inside images. Reads, writes and
 * flushes go to the outer one, as in every view; identity and locks are the range's own, under those of the outer one.
 * The range of a partition does not get longer; one without a length reaches to the end of a storage and grows with it.
 */
import { checkArguments, NUMBER, optional } from '../arguments.ts';
import type {
  FileAttributes,
  LockMode,
  LockOptions,
  LockState,
  OpenMode,
  OperationOptions,
  Storage,
  StorageIdentity,
} from '../storage/contract.ts';
import { StorageView } from '../storage/view.ts';
import { type Bytes, behindEnd, checkOffset, isStorage } from './bytes.ts';
import { DeviceStorage } from './device-storage.ts';
import { RANGE_OPTIONS, STORE } from './kinds.ts';
import { outerOf } from './outer.ts';

/** Options for a range. */
export interface RangeOptions {
  /** Name for messages. Default: the outer label and the offset. */
  readonly label?: string | undefined;
  /**
   * `read`: the range is read-only. Default: as the outer one.
   */
  readonly mode?: OpenMode | undefined;
  /** Closing it closes the outer one. Default false. */
  readonly closeOuter?: boolean | undefined;
}

/**
 * The bytes from `offset` on as a storage. Without a length: up to the end, growing with an outer storage that can
 * grow. Throws `out-of-bounds` if the range does not lie inside, `invalid-argument`.
 */
export function rangeStorage(outer: Bytes, offset: number, length?: number, options: RangeOptions = {}): Storage {
  checkArguments('rangeStorage', {
    outer: [outer, STORE],
    offset: [offset, NUMBER],
    length: [length, optional(NUMBER)],
    options: [options, RANGE_OPTIONS],
  });
  checkOffset(outer.label, offset);
  if (length !== undefined) checkOffset(outer.label, length);
  if (offset + (length ?? 0) > outer.size) throw behindEnd(outer, offset, length ?? 0);
  return new RangeStorage(outer, offset, length, options);
}

class RangeStorage extends StorageView {
  readonly #outer: Bytes;
  readonly #range: string;
  readonly #closesOuter: boolean;

  constructor(outer: Bytes, offset: number, length: number | undefined, options: RangeOptions) {
    const inner = isStorage(outer) ? outer : new DeviceStorage(outer);
    const { mode, label = `${outer.label} (at ${offset})`, closeOuter = false } = options;
    // It has no neighbours, and room that is reserved may hold what was there before.
    super(inner, { offset, limit: length, mode, label }, ['place', 'allocate']);
    this.#outer = outer;
    const grows = length === undefined && inner.can.resize;
    this.#range = `${offset}+${grows ? '' : this.size}`;
    this.#closesOuter = closeOuter;
  }

  override async identity(options?: OperationOptions): Promise<StorageIdentity> {
    this.checkOpen();
    return outerOf(this.#outer).identity(this.#range, options);
  }

  override async attributes(options?: OperationOptions): Promise<FileAttributes | null> {
    this.checkOpen();
    return outerOf(this.#outer).attributes(options);
  }

  override async lock(mode: LockMode, how?: LockOptions, options?: OperationOptions): Promise<void> {
    this.checkOpen();
    await outerOf(this.#outer).lock(this, this.#range, mode, how, options);
  }

  override async lockState(options?: OperationOptions): Promise<LockState> {
    this.checkOpen();
    return outerOf(this.#outer).lockState(this.#range, options);
  }

  protected override async closeInner(): Promise<void> {
    outerOf(this.#outer).release(this, this.#range);
    if (this.#closesOuter) await this.#outer.close();
  }
}
