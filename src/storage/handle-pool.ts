/**
 * Files of which a bounded number is open at a time: the parts of images that have hundreds.
 *
 * A file that nothing uses may be closed to make room for another one, the least recently used first, clean ones before
 * those that need a flush. It is opened again by the next call, under the lock that it had, and must be the same file in
 * the same state. A file is flushed before it is closed, so a flush of a closed one has nothing left to do.
 */
import { ImageError, isImageError, withPath } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { closedStorage } from './checks.ts';
import {
  type FileAttributes,
  isPromise,
  type LockMode,
  type LockOptions,
  type LockState,
  type MaybePromise,
  type OperationOptions,
  type ReadTarget,
  type Storage,
  type StorageExtent,
  type StorageIdentity,
  type StoragePlace,
  type WriteSource,
} from './contract.ts';
import { ForwardingStorage } from './forwarding.ts';

/** Files that share a bound. */
export class HandlePool {
  readonly #limit: number;
  /** Handles that are open, or being opened or closed. */
  #taken = 0;
  /** Open and not in use, the least recently used first. */
  readonly #idle = new Set<PooledStorage>();
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number = LIMITS.openParts) {
    this.#limit = limit;
  }

  /** Opens a file. `again` opens it when it is needed after it was closed; default: the same function. */
  async open(first: () => Promise<Storage>, again: () => Promise<Storage> = first): Promise<Storage> {
    await this.take();
    try {
      const storage = new PooledStorage(this, await first(), again);
      this.idle(storage);
      return storage;
    } catch (error) {
      this.free();
      throw error;
    }
  }

  /** Waits for room for one more open handle. */
  async take(): Promise<void> {
    while (this.#taken >= this.#limit) {
      const victim = this.#victim();
      if (victim === null) await new Promise<void>((resolve) => this.#waiting.push(resolve));
      else await victim.park();
    }
    this.#taken++;
  }

  /** A handle was closed. */
  free(storage?: PooledStorage): void {
    if (storage !== undefined) this.#idle.delete(storage);
    this.#taken--;
    this.#waiting.shift()?.();
  }

  /** The handle is in use. */
  busy(storage: PooledStorage): void {
    this.#idle.delete(storage);
  }

  /** The handle was used, and nothing uses it now. */
  idle(storage: PooledStorage): void {
    this.#idle.delete(storage);
    this.#idle.add(storage);
    this.#waiting.shift()?.();
  }

  #victim(): PooledStorage | null {
    let oldest: PooledStorage | null = null;
    for (const storage of this.#idle) {
      if (!storage.isDirty) return this.#chosen(storage);
      oldest ??= storage;
    }
    return oldest === null ? null : this.#chosen(oldest);
  }

  #chosen(storage: PooledStorage): PooledStorage {
    this.#idle.delete(storage);
    return storage;
  }
}

/** See the head of this file. */
class PooledStorage extends ForwardingStorage {
  readonly #pool: HandlePool;
  readonly #openAgain: () => Promise<Storage>;
  readonly #label: string;
  #isOpen = true;
  #running = 0;
  /** The file is being closed or opened. Resolves however that ends. */
  #moving: Promise<void> | null = null;
  #opening: Promise<void> | null = null;
  #closing: Promise<void> | null = null;
  /** Something was written since the last flush. */
  isDirty = false;
  #changing = 0;
  #lock: { readonly mode: LockMode; readonly how: LockOptions } | null = null;
  #sequential = false;
  /** State of the file when it was closed. */
  #parked: StorageIdentity | null = null;
  /** A flush or a close failed. */
  #failure: { readonly error: unknown } | null = null;

  constructor(pool: HandlePool, inner: Storage, openAgain: () => Promise<Storage>) {
    super(inner);
    this.#pool = pool;
    this.#openAgain = openAgain;
    this.#label = inner.label;
  }

  override get label(): string {
    return this.#label;
  }

  /** Closes the file for now. Only while nothing uses it. */
  park(): Promise<void> {
    this.#moving = this.#park().finally(() => {
      this.#moving = null;
    });
    return this.#moving;
  }

  override readNow(offset: number, target: Uint8Array): boolean {
    if (!this.#isReady) return false;
    const done = this.inner.readNow?.(offset, target) ?? false;
    if (done && this.#running === 0) this.#pool.idle(this);
    return done;
  }

  override read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    return this.#use((inner) => inner.read(offset, target, options));
  }

  override write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    return this.#change((inner) => inner.write(offset, source, options));
  }

  override extentAt(offset: number, options?: OperationOptions): MaybePromise<StorageExtent> {
    if (!this.#isReady) return this.#use(async (inner) => inner.extentAt(offset, options));
    const answer = this.inner.extentAt(offset, options);
    return isPromise(answer) ? this.#use(() => answer) : answer;
  }

  override zero(
    offset: number,
    length: number,
    how: { readonly punch: boolean },
    options?: OperationOptions,
  ): Promise<void> {
    return this.#change((inner) => inner.zero(offset, length, how, options));
  }

  override allocate(offset: number, length: number, options?: OperationOptions): Promise<void> {
    return this.#change(async (inner) => inner.allocate?.(offset, length, options));
  }

  override adviseSequential(): void {
    this.#sequential = true;
    if (this.#isReady) this.inner.adviseSequential?.();
  }

  override resize(size: number, options?: OperationOptions): Promise<void> {
    return this.#change((inner) => inner.resize(size, options));
  }

  override async flush(options?: OperationOptions): Promise<void> {
    await this.#moving;
    if (this.#closing === null && this.#failure === null && !this.#isOpen) return;
    await this.#use(async (inner) => {
      if (this.#changing === 0) this.isDirty = false;
      try {
        await inner.flush(options);
      } catch (error) {
        this.isDirty = true;
        if (!isImageError(error) || error.kind !== 'aborted') this.#failure ??= { error };
        throw error;
      }
    });
  }

  override async identity(options?: OperationOptions): Promise<StorageIdentity> {
    await this.#moving;
    if (!this.#isOpen && this.#parked !== null && this.#closing === null) return this.#parked;
    return this.#use((inner) => inner.identity(options));
  }

  override attributes(options?: OperationOptions): Promise<FileAttributes | null> {
    return this.#use(async (inner) => (await inner.attributes?.(options)) ?? null);
  }

  override place(options?: OperationOptions): Promise<StoragePlace | null> {
    return this.#use(async (inner) => (await inner.place?.(options)) ?? null);
  }

  override lock(mode: LockMode, how: LockOptions = {}, options?: OperationOptions): Promise<void> {
    return this.#use(async (inner) => {
      await inner.lock(mode, how, options);
      this.#lock = { mode, how };
    });
  }

  override lockState(options?: OperationOptions): Promise<LockState> {
    return this.#use((inner) => inner.lockState(options));
  }

  override close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  get #isReady(): boolean {
    return this.#isOpen && this.#moving === null && this.#closing === null;
  }

  async #use<T>(call: (inner: Storage) => Promise<T>): Promise<T> {
    if (this.#isReady && this.#failure === null) this.#hold();
    else await this.#holdOpened();
    const { inner } = this;
    try {
      return await call(inner);
    } catch (error) {
      throw withPath(error, inner.label, this.#label);
    } finally {
      if (--this.#running === 0 && this.#closing === null) this.#pool.idle(this);
    }
  }

  #change(call: (inner: Storage) => Promise<void>): Promise<void> {
    return this.#use(async (inner) => {
      this.isDirty = true;
      this.#changing++;
      try {
        await call(inner);
      } finally {
        this.#changing--;
      }
    });
  }

  #hold(): void {
    this.#running++;
    this.#pool.busy(this);
  }

  async #holdOpened(): Promise<void> {
    for (;;) {
      if (this.#closing !== null) throw closedStorage(this.#label);
      if (this.#failure !== null) throw this.#failure.error;
      if (this.#moving !== null) await this.#moving;
      else if (this.#isOpen) return this.#hold();
      else await this.#reopen();
    }
  }

  #reopen(): Promise<void> {
    this.#opening ??= this.#openNow().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #openNow(): Promise<void> {
    await this.#pool.take();
    try {
      this.inner = await this.#openSame();
      this.#isOpen = true;
    } catch (error) {
      this.#pool.free();
      throw error;
    }
  }

  async #openSame(): Promise<Storage> {
    const storage = await this.#openAgain();
    try {
      if (this.#lock !== null) await storage.lock(this.#lock.mode, this.#lock.how);
      this.#checkSame(await storage.identity());
      if (this.#sequential) storage.adviseSequential?.();
      return storage;
    } catch (error) {
      await storage.close();
      throw withPath(error, storage.label, this.#label);
    }
  }

  /** Without a lock, or with one that admits others, the file may change; it is the same one all the same. */
  #checkSame(now: StorageIdentity): void {
    const before = this.#parked;
    const alone = this.#lock !== null && this.#lock.how.shareable !== true;
    if (before?.key === now.key && (!alone || before.modifiedMs === now.modifiedMs)) return;
    throw new ImageError('io', 'Another program changed a file of the image while the image was open', {
      path: this.#label,
      hint: 'Close the image and check it before it is used again (on the command line: check).',
    });
  }

  async #park(): Promise<void> {
    const { inner } = this;
    try {
      if (this.isDirty) await inner.flush();
      this.isDirty = false;
      this.#parked = await inner.identity();
    } catch (error) {
      this.#failure ??= { error: withPath(error, inner.label, this.#label) };
    }
    await inner.close().catch((error: unknown) => {
      this.#failure ??= { error };
    });
    this.#isOpen = false;
    this.#pool.free(this);
  }

  async #close(): Promise<void> {
    await this.#moving;
    await this.#opening?.catch(() => {});
    if (!this.#isOpen) return;
    this.#isOpen = false;
    try {
      await this.inner.close();
    } finally {
      this.#pool.free(this);
    }
  }
}

const PARTS = new HandlePool();
/** Opens or makes a file whose handle is closed while others are in use. */
export function openPooled(first: () => Promise<Storage>, again: () => Promise<Storage>): Promise<Storage> {
  return PARTS.open(first, again);
}
