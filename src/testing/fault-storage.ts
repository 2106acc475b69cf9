/** A provider whose storages fail on demand: the n-th read, write or flush, or when the medium is full. */
import { ImageError } from '../errors.ts';
import type {
  CreateMode,
  LockMode,
  LockOptions,
  LockState,
  MaybePromise,
  OpenMode,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
  StorageProvider,
  WriteSource,
} from '../storage/contract.ts';
import { WrappedProvider } from './wrapped-provider.ts';

/** What can fail. `write` stands for everything that changes content or size, `names` for create, rename, remove, sync. */
export type FaultPoint = 'read' | 'write' | 'flush' | 'names';

/** What fails, and when. */
export interface FaultPlan {
  /** Number, from 0, of the operation of each kind that fails. */
  readonly fail?: Partial<Record<FaultPoint, number>>;
  /** Everything of that kind after it fails too, as on a medium that is gone. Default false. */
  readonly forGood?: boolean;
  /** Bytes that all files together may hold; more throws `no-space`. */
  readonly capacity?: number;
}

/** Fails as planned, and counts. The plan can be exchanged at any time; counting starts again then. */
export class FaultProvider extends WrappedProvider {
  #plan: FaultPlan;
  #counts: Record<FaultPoint, number> = { read: 0, write: 0, flush: 0, names: 0 };
  readonly #sizes = new Map<string, number>();

  constructor(inner: StorageProvider, plan: FaultPlan = {}) {
    super(inner);
    this.#plan = plan;
  }

  /** Operations so far, failed ones included. */
  get counts(): Readonly<Record<FaultPoint, number>> {
    return this.#counts;
  }

  /** Sets another plan and counts from zero. */
  plan(plan: FaultPlan): void {
    this.#plan = plan;
    this.#counts = { read: 0, write: 0, flush: 0, names: 0 };
  }

  async open(name: string, mode: OpenMode): Promise<Storage> {
    return this.#wrap(await this.inner.open(name, mode));
  }

  async create(name: string, how?: CreateMode): Promise<Storage> {
    this.check('names', name);
    return this.#wrap(await this.inner.create(name, how));
  }

  async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    this.check('names', from);
    return this.inner.rename(from, to, how);
  }

  async remove(name: string): Promise<void> {
    this.check('names', name);
    return this.inner.remove(name);
  }

  async syncNames(directory: string): Promise<void> {
    this.check('names', directory);
    return this.inner.syncNames(directory);
  }

  /** Counts one operation and throws when it is its turn. */
  check(point: FaultPoint, path: string): void {
    const count = this.#counts[point]++;
    const turn = this.#plan.fail?.[point];
    if (turn === undefined || !(count === turn || (this.#plan.forGood === true && count > turn))) return;
    throw new ImageError('io', `This ${point} was made to fail`, { path, found: count });
  }

  /** Throws when a file of this size does not fit beside the others. */
  claim(key: string, size: number, path: string): void {
    const others = [...this.#sizes].reduce((sum, [other, bytes]) => sum + (other === key ? 0 : bytes), 0);
    const capacity = this.#plan.capacity ?? Number.POSITIVE_INFINITY;
    if (size > (this.#sizes.get(key) ?? 0) && others + size > capacity) {
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

class FaultStorage implements Storage {
  readonly allocate?: (offset: number, length: number) => Promise<void>;
  readonly #inner: Storage;
  readonly #faults: FaultProvider;
  readonly #key: string;

  constructor(inner: Storage, faults: FaultProvider, key: string) {
    this.#inner = inner;
    this.#faults = faults;
    this.#key = key;
    const allocate = inner.allocate?.bind(inner);
    if (allocate !== undefined) {
      this.allocate = async (offset, length) => {
        this.#change(offset + length);
        await allocate(offset, length);
      };
    }
  }

  get label(): string {
    return this.#inner.label;
  }

  get size(): number {
    return this.#inner.size;
  }

  get can(): StorageCapabilities {
    return this.#inner.can;
  }

  async read(offset: number, target: ReadTarget): Promise<void> {
    this.#faults.check('read', this.label);
    return this.#inner.read(offset, target);
  }

  async write(offset: number, source: WriteSource): Promise<void> {
    const parts: readonly Uint8Array[] = source instanceof Uint8Array ? [source] : source;
    this.#change(offset + parts.reduce((sum, part) => sum + part.length, 0));
    return this.#inner.write(offset, source);
  }

  extentAt(offset: number): MaybePromise<StorageExtent> {
    return this.#inner.extentAt(offset);
  }

  async zero(offset: number, length: number, how: { readonly punch: boolean }): Promise<void> {
    this.#change(0);
    return this.#inner.zero(offset, length, how);
  }

  async resize(size: number): Promise<void> {
    this.#faults.check('write', this.label);
    this.#faults.claim(this.#key, size, this.label);
    return this.#inner.resize(size);
  }

  async flush(): Promise<void> {
    this.#faults.check('flush', this.label);
    return this.#inner.flush();
  }

  identity(): Promise<StorageIdentity> {
    return this.#inner.identity();
  }

  lock(mode: LockMode, how?: LockOptions): Promise<void> {
    return this.#inner.lock(mode, how);
  }

  lockState(): Promise<LockState> {
    return this.#inner.lockState();
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  /** Something is stored up to `end`. */
  #change(end: number): void {
    this.#faults.check('write', this.label);
    this.#faults.claim(this.#key, Math.max(this.size, end), this.label);
  }
}
