/** Changes in memory over an untouched storage: for experiments. */
import { checkArguments } from '../arguments.ts';
import { allOf, checkRange, checkSize, checkWriteRange, closedStorage, lengthOf, STORAGE } from './checks.ts';
import {
  isPromise,
  type LockMode,
  type LockOptions,
  type LockState,
  type MaybePromise,
  type OperationOptions,
  type ReadTarget,
  type Storage,
  type StorageCapabilities,
  type StorageExtent,
  type StorageIdentity,
  type WriteSource,
} from './contract.ts';
import { checkSignal } from './or-aborted.ts';
import { RangeSet } from './range-set.ts';
import { SparseBytes } from './sparse-bytes.ts';

/** Small pages: changes are mostly metadata, a sector here and there. */
const PAGE = 4096;
let serial = 0;

/**
 * Copy-on-write over a base. Changes are kept in memory and lost at the end. Closing it closes the base. `#own` holds
 * the ranges that hide the base, `#changes` their bytes.
 */
export class OverlayStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities;
  readonly #base: Storage;
  readonly #own = new RangeSet();
  readonly #changes = new SparseBytes(PAGE);
  readonly #key = `overlay:${++serial}`;
  /** End of the visible part of the base: a truncation hides the rest for good. */
  #baseEnd: number;
  #closed = false;

  constructor(base: Storage) {
    checkArguments('OverlayStorage', { base: [base, STORAGE] });
    this.#base = base;
    this.#baseEnd = base.size;
    this.#changes.resize(base.size);
    this.label = base.label;
    this.can = { write: true, resize: true, random: base.can.random, punch: true, growsZeroed: true };
  }

  get size(): number {
    return this.#changes.size;
  }

  readNow(offset: number, target: Uint8Array): boolean {
    this.#checkOpen();
    checkRange(this, offset, target.length);
    const end = offset + target.length;
    const run = this.#runAt(offset);
    if (run.end < end) return false;
    if (!run.own) return this.#base.readNow?.(offset, target) ?? false;
    this.#changes.read(offset, target);
    return true;
  }

  async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    this.#checkOpen();
    checkSignal(options, 'The read');
    checkRange(this, offset, lengthOf(target));
    let at = offset;
    const waiting: Promise<void>[] = [];
    for (const buffer of allOf(target)) {
      this.#readPieces(at, buffer, waiting, options);
      at += buffer.length;
    }
    const results = await Promise.allSettled(waiting);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    this.#checkOpen();
    checkSignal(options, 'The write');
    const length = lengthOf(source);
    checkWriteRange(this.label, offset, length);
    let at = offset;
    for (const buffer of allOf(source)) {
      this.#changes.write(at, buffer);
      at += buffer.length;
    }
    this.#own.add(offset, offset + length);
  }

  extentAt(offset: number, options?: OperationOptions): MaybePromise<StorageExtent> {
    this.#checkOpen();
    checkRange(this, offset, 1);
    const run = this.#runAt(offset);
    if (run.own) return within(this.#changes.extentAt(offset), run);
    const answer = this.#base.extentAt(offset, options);
    return isPromise(answer) ? answer.then((extent) => within(extent, run)) : within(answer, run);
  }

  async zero(offset: number, length: number, _how: { readonly punch: boolean }): Promise<void> {
    this.#checkOpen();
    checkRange(this, offset, length);
    this.#changes.zero(offset, length);
    this.#own.add(offset, offset + length);
  }

  async resize(size: number): Promise<void> {
    this.#checkOpen();
    checkSize(this.label, size);
    this.#baseEnd = Math.min(this.#baseEnd, size);
    this.#own.cutFrom(size);
    this.#changes.resize(size);
  }

  async flush(): Promise<void> {
    this.#checkOpen();
  }

  async identity(): Promise<StorageIdentity> {
    this.#checkOpen();
    return { key: this.#key, kind: 'memory', allocatedSize: this.#changes.allocatedSize, modifiedMs: null };
  }

  /** The base is only read, and the overlay cannot be reached from elsewhere. */
  async lock(_mode: LockMode, how?: LockOptions, options?: OperationOptions): Promise<void> {
    this.#checkOpen();
    await this.#base.lock('shared', how, options);
  }

  async lockState(options?: OperationOptions): Promise<LockState> {
    this.#checkOpen();
    return this.#base.lockState(options);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#base.close();
  }

  #checkOpen(): void {
    if (this.#closed) throw closedStorage(this.label);
  }

  #readPieces(offset: number, target: Uint8Array, waiting: Promise<void>[], options?: OperationOptions): void {
    for (let at = 0; at < target.length; ) {
      const run = this.#runAt(offset + at);
      const end = Math.min(run.end - offset, target.length);
      const piece = target.subarray(at, end);
      if (run.own) this.#changes.read(offset + at, piece);
      else waiting.push(this.#base.read(offset + at, piece, options));
      at = end;
    }
  }

  /** Origin of the bytes at `offset`, and the end of that run. */
  #runAt(offset: number): OverlayRun {
    const { start, end, inside } = this.#own.runAt(offset);
    if (inside) return { start, end, own: true };
    // Behind the base there is only what grew since: zeroes that were never written.
    if (offset >= this.#baseEnd) return { start: Math.max(start, this.#baseEnd), end, own: true };
    return { start, end: Math.min(end, this.#baseEnd), own: false };
  }
}

interface OverlayRun {
  readonly start: number;
  readonly end: number;
  readonly own: boolean;
}

function within(extent: StorageExtent, run: OverlayRun): StorageExtent {
  return { start: Math.max(extent.start, run.start), end: Math.min(extent.end, run.end), data: extent.data };
}
