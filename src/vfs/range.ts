/**
 * A range of a disk, a device or a storage as a storage: the basis of images inside images. Reads, writes and flushes
 * go to the outer one; holes and locks come from it.
 *
 * The range of a partition cannot grow. An image in it may shrink, and grow again up to the end of the range: `#size`
 * is the size that the image sees, `#limit` the end of the range. The part that is cut off is zeroed and its space
 * freed. A range without a length reaches to the end of a storage and grows with it.
 */
import { checkArguments, NUMBER, optional } from '../arguments.ts';
import type { BlockDevice, Extent } from '../disk/device.ts';
import { ImageError } from '../errors.ts';
import { checkRange, checkSize, checkWriteRange, closedStorage, lengthOf, readOnlyStorage } from '../storage/checks.ts';
import {
  type FileAttributes,
  isPromise,
  type LockMode,
  type LockOptions,
  type LockState,
  type MaybePromise,
  type OpenMode,
  type ReadTarget,
  type Storage,
  type StorageCapabilities,
  type StorageExtent,
  type StorageIdentity,
  type WriteSource,
} from '../storage/contract.ts';
import { type Bytes, behindEnd, checkOffset, isStorage } from './bytes.ts';
import { RANGE_OPTIONS, STORE } from './kinds.ts';
import { outerOf } from './outer.ts';

/** Options for a range. */
export interface RangeOptions {
  /** Name for messages. Default: the outer label and the offset. */
  readonly label?: string;
  /**
   * `read`: the range is read-only. Default: as the outer one.
   */
  readonly mode?: OpenMode;
  /** Closing it closes the outer one. Default false. */
  readonly closeOuter?: boolean;
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

class RangeStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities;
  readonly #outer: Bytes;
  readonly #offset: number;
  /** Null: grows with the outer storage, whose size it has. */
  readonly #limit: number | null;
  readonly #range: string;
  readonly #closesOuter: boolean;
  #size: number;
  #closing: Promise<void> | null = null;

  constructor(outer: Bytes, offset: number, length: number | undefined, options: RangeOptions) {
    this.label = options.label ?? `${outer.label} (at ${offset})`;
    this.#outer = outer;
    this.#offset = offset;
    const grows = length === undefined && isStorage(outer) && outer.can.resize;
    this.#limit = grows ? null : (length ?? outer.size - offset);
    this.#size = this.#limit ?? 0;
    this.#range = `${offset}+${this.#limit ?? ''}`;
    this.#closesOuter = options.closeOuter ?? false;
    const write = outer.can.write && options.mode !== 'read';
    this.can = {
      write,
      resize: write,
      random: outer.can.random,
      punch: write && (isStorage(outer) ? outer.can.punch : outer.can.zero),
      // Behind an image inside a partition lies what was there before.
      growsZeroed: this.#limit === null && isStorage(outer) && outer.can.growsZeroed,
    };
  }

  get size(): number {
    return this.#limit === null ? this.#outer.size - this.#offset : this.#size;
  }

  readNow(offset: number, target: Uint8Array): boolean {
    this.#checkOpen();
    checkRange(this, offset, target.length);
    return this.#outer.readNow?.(this.#offset + offset, target) ?? false;
  }

  async read(offset: number, target: ReadTarget): Promise<void> {
    this.#checkOpen();
    checkRange(this, offset, lengthOf(target));
    await this.#outer.read(this.#offset + offset, target);
  }

  async write(offset: number, source: WriteSource): Promise<void> {
    this.#checkWritable();
    const length = lengthOf(source);
    checkWriteRange(this.label, offset, length);
    this.#checkLimit(offset + length);
    if (length === 0) return;
    this.#size = Math.max(this.#size, offset + length);
    await this.#outer.write(this.#offset + offset, source);
  }

  extentAt(offset: number): MaybePromise<StorageExtent> {
    this.#checkOpen();
    checkRange(this, offset, 1);
    const { size } = this;
    const from = this.#offset;
    if (isStorage(this.#outer)) {
      const inside = ({ start, end, data }: StorageExtent): StorageExtent => ({
        start: Math.max(start - from, 0),
        end: Math.min(end - from, size),
        data,
      });
      const answer = this.#outer.extentAt(from + offset);
      return isPromise(answer) ? answer.then(inside) : inside(answer);
    }
    const inside = ({ offset: start, length, state }: Extent): StorageExtent => ({
      start: start - from,
      end: start - from + length,
      data: state === 'data',
    });
    const answer = this.#outer.extentAt(from + offset, from + size);
    return isPromise(answer) ? answer.then(inside) : inside(answer);
  }

  async zero(offset: number, length: number, how: { readonly punch: boolean }): Promise<void> {
    this.#checkWritable();
    checkRange(this, offset, length);
    if (length > 0) await this.#zeroOuter(offset, length, how);
  }

  async resize(size: number): Promise<void> {
    this.#checkWritable();
    checkSize(this.label, size);
    this.#checkLimit(size);
    const before = this.size;
    if (this.#limit === null && isStorage(this.#outer)) return this.#outer.resize(this.#offset + size);
    this.#size = size;
    if (size < before) await this.#zeroOuter(size, before - size, { punch: true });
  }

  async flush(): Promise<void> {
    this.#checkOpen();
    await this.#outer.flush();
  }

  async identity(): Promise<StorageIdentity> {
    this.#checkOpen();
    return outerOf(this.#outer).identity(this.#range);
  }

  async attributes(): Promise<FileAttributes | null> {
    this.#checkOpen();
    return outerOf(this.#outer).attributes();
  }

  async lock(mode: LockMode, how?: LockOptions): Promise<void> {
    this.#checkOpen();
    await outerOf(this.#outer).lock(this, this.#range, mode, how);
  }

  async lockState(): Promise<LockState> {
    this.#checkOpen();
    return outerOf(this.#outer).lockState(this.#range);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    outerOf(this.#outer).release(this, this.#range);
    if (this.#closesOuter) await this.#outer.close();
  }

  #zeroOuter(offset: number, length: number, how: { readonly punch: boolean }): Promise<void> {
    const outer: Pick<BlockDevice, 'zero'> | Pick<Storage, 'zero'> = this.#outer;
    return outer.zero(this.#offset + offset, length, how);
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw closedStorage(this.label);
  }

  #checkWritable(): void {
    this.#checkOpen();
    if (!this.can.write) throw readOnlyStorage(this.label);
  }

  #checkLimit(end: number): void {
    if (this.#limit === null || end <= this.#limit) return;
    throw new ImageError('no-space', 'The image does not fit into its place any more', {
      path: this.label,
      found: `${end} bytes`,
      expected: `at most ${this.#limit}`,
      hint: 'Give it more room, or convert it into a file of its own.',
    });
  }
}
