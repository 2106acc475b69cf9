/**
 * A provider whose storages fail on demand: the n-th read, write, growth, flush or change of names, once or for good,
 * before anything is done or half way, with the error of a broken, full or write-protected medium.
 */
import { checkArguments, OBJECT } from '../arguments.ts';
import { alignDown, SECTOR } from '../binary/numbers.ts';
import { type ErrorKind, ImageError } from '../errors.ts';
import { PROVIDER } from '../storage/checks.ts';
import type {
  CreateMode,
  OpenMode,
  OperationOptions,
  ReadTarget,
  Storage,
  StorageProvider,
  WriteSource,
} from '../storage/contract.ts';
import { ForwardingProvider, ForwardingStorage } from '../storage/forwarding.ts';

/**
 * Operations that can fail. `write` covers all changes of content or size, `growth` those that extend a file, `names`
 * create, rename, remove and sync.
 */
export type FaultPoint = 'read' | 'write' | 'growth' | 'flush' | 'names';

/** Plan of failures: which, when and how. */
export interface FaultPlan {
  /** Index, from 0, of the failing operation of each kind. */
  readonly fail?: Partial<Record<FaultPoint, number>>;
  /**
   * Operations that keep failing, as on a medium that is gone: all of the kind that failed, or the kinds listed here.
   * Default: none.
   */
  readonly forGood?: boolean | readonly FaultPoint[];
  /** Kind of the errors, e.g. `no-space` or `read-only`. Default `io`. */
  readonly kind?: ErrorKind;
  /** A read fills half of its buffer and a write stores half of its sectors before it fails. Default: no effect. */
  readonly half?: boolean;
  /** Bytes that all files together may hold; exceeding it throws `no-space`. */
  readonly capacity?: number;
}

const NONE: Readonly<Record<FaultPoint, number>> = { read: 0, write: 0, growth: 0, flush: 0, names: 0 };

/** Fails as planned, and counts operations. The plan can be replaced at any time, which restarts the counts. */
export class FaultProvider extends ForwardingProvider {
  #plan: FaultPlan;
  #counts: Record<FaultPoint, number> = { ...NONE };
  #failing = new Set<FaultPoint>();
  #fired = false;
  readonly #sizes = new Map<string, number>();

  constructor(inner: StorageProvider, plan: FaultPlan = {}) {
    super(inner);
    checkArguments('FaultProvider', { inner: [inner, PROVIDER], plan: [plan, OBJECT] });
    this.#plan = plan;
  }

  /** Operations so far, including failed ones. */
  get counts(): Readonly<Record<FaultPoint, number>> {
    return this.#counts;
  }

  /** True when a planned failure has happened. False: the planned number was not reached. */
  get fired(): boolean {
    return this.#fired;
  }

  /** Sets another plan and counts from zero. */
  plan(plan: FaultPlan): void {
    this.#plan = plan;
    this.#counts = { ...NONE };
    this.#failing = new Set();
    this.#fired = false;
  }

  override async open(name: string, mode: OpenMode): Promise<Storage> {
    return this.#wrap(await this.inner.open(name, mode));
  }

  override async create(name: string, how?: CreateMode): Promise<Storage> {
    await this.check('names', name);
    return this.#wrap(await this.inner.create(name, how));
  }

  override async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    await this.check('names', from);
    return this.inner.rename(from, to, how);
  }

  override async link(from: string, to: string): Promise<void> {
    await this.check('names', from);
    await super.link?.(from, to);
  }

  override async remove(name: string): Promise<void> {
    await this.check('names', name);
    return this.inner.remove(name);
  }

  override async makeDirectory(name: string): Promise<void> {
    await this.check('names', name);
    await super.makeDirectory?.(name);
  }

  override async removeDirectory(name: string): Promise<void> {
    await this.check('names', name);
    await super.removeDirectory?.(name);
  }

  override async syncNames(directory: string): Promise<void> {
    await this.check('names', directory);
    return this.inner.syncNames(directory);
  }

  /** Counts one operation and throws when it is due, after half of it was done if planned. */
  async check(point: FaultPoint, path: string, half?: () => Promise<void>): Promise<void> {
    const error = this.#failure(point, path);
    if (error === null) return;
    if (this.#plan.half === true) await half?.();
    throw error;
  }

  #failure(point: FaultPoint, path: string): ImageError | null {
    const count = this.#counts[point]++;
    const { fail, forGood = false, kind = 'io' } = this.#plan;
    if (count === fail?.[point]) {
      this.#fired = true;
      for (const other of forGood === true ? [point] : forGood || []) this.#failing.add(other);
    } else if (!this.#failing.has(point)) {
      return null;
    }
    return new ImageError(kind, `This ${point} was made to fail`, { path, found: count });
  }

  /** Throws when a file of this size exceeds the capacity. */
  claim(key: string, size: number, path: string): void {
    const others = [...this.#sizes].reduce((sum, [other, bytes]) => sum + (other === key ? 0 : bytes), 0);
    const capacity = this.#plan.capacity ?? Number.POSITIVE_INFINITY;
    if (size > (this.#sizes.get(key) ?? 0) && others + size > capacity) {
      this.#fired = true;
      throw new ImageError('no-space', 'There is no room left', { path, found: others + size, expected: capacity });
    }
    this.#sizes.set(key, size);
  }

  async #wrap(storage: Storage): Promise<Storage> {
    const { key } = await storage.identity();
    this.#sizes.set(key, storage.size);
    return new FaultStorage(storage, this, key);
  }
}

class FaultStorage extends ForwardingStorage {
  readonly #faults: FaultProvider;
  readonly #key: string;

  constructor(inner: Storage, faults: FaultProvider, key: string) {
    // All reads are counted.
    super(inner, ['readNow']);
    this.#faults = faults;
    this.#key = key;
  }

  override async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    await this.#faults.check('read', this.label, () => this.inner.read(offset, firstHalf(target, 1)));
    return this.inner.read(offset, target, options);
  }

  override async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    const parts = listed(source);
    const end = offset + parts.reduce((sum, part) => sum + part.length, 0);
    await this.#change(end, () => this.inner.write(offset, firstHalf(source, SECTOR)));
    return this.inner.write(offset, source, options);
  }

  override async zero(
    offset: number,
    length: number,
    how: { readonly punch: boolean },
    options?: OperationOptions,
  ): Promise<void> {
    await this.#change(0, () => this.inner.zero(offset, half(length, SECTOR), how));
    return this.inner.zero(offset, length, how, options);
  }

  override async allocate(offset: number, length: number, options?: OperationOptions): Promise<void> {
    await this.#change(offset + length);
    await super.allocate?.(offset, length, options);
  }

  override async resize(size: number, options?: OperationOptions): Promise<void> {
    await this.#change(size);
    this.#faults.claim(this.#key, size, this.label);
    return this.inner.resize(size, options);
  }

  override async flush(options?: OperationOptions): Promise<void> {
    await this.#faults.check('flush', this.label);
    return this.inner.flush(options);
  }

  /** Stores bytes up to `end`. */
  async #change(end: number, half?: () => Promise<void>): Promise<void> {
    await this.#faults.check('write', this.label, half);
    if (end > this.size) await this.#faults.check('growth', this.label, half);
    this.#faults.claim(this.#key, Math.max(this.size, end), this.label);
  }
}

/** The completed part of a torn operation: single sectors are never torn. */
function half(length: number, unit: number): number {
  return alignDown(Math.floor(length / 2), unit);
}

function firstHalf<T extends Uint8Array>(buffers: T | readonly T[], unit: number): Uint8Array[] {
  const parts = listed(buffers);
  let left = half(
    parts.reduce((sum, part) => sum + part.length, 0),
    unit,
  );
  const first: Uint8Array[] = [];
  for (const part of parts) {
    first.push(part.subarray(0, left));
    left -= Math.min(left, part.length);
  }
  return first;
}

function listed<T extends Uint8Array>(buffers: T | readonly T[]): readonly T[] {
  return buffers instanceof Uint8Array ? [buffers] : buffers;
}
