/** A disk or another device as a storage of fixed size. */
import type { BlockDevice, Extent } from '../disk/device.ts';
import { ImageError } from '../errors.ts';
import type {
  FileAttributes,
  LockMode,
  LockOptions,
  LockState,
  MaybePromise,
  OperationOptions,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageHints,
  StorageIdentity,
  WriteSource,
} from '../storage/contract.ts';
import { isPromise } from '../storage/contract.ts';
import { outerOf } from './outer.ts';

/** Names the whole device among the ranges of it. */
const WHOLE = 'whole';

/** All bytes of a device. Closing it closes the device. */
export class DeviceStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities;
  readonly #device: BlockDevice;

  constructor(device: BlockDevice) {
    const { write, zero, random } = device.can;
    this.#device = device;
    this.label = device.label;
    this.can = { write, resize: false, random, punch: zero, growsZeroed: false };
  }

  get size(): number {
    return this.#device.size;
  }

  get hints(): StorageHints | undefined {
    return this.#device.hints;
  }

  readNow(offset: number, target: Uint8Array): boolean {
    return this.#device.readNow?.(offset, target) ?? false;
  }

  async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    await this.#device.read(offset, target, options);
  }

  write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    return this.#device.write(offset, source, options);
  }

  extentAt(offset: number): MaybePromise<StorageExtent> {
    const answer = this.#device.extentAt(offset, this.size);
    return isPromise(answer) ? answer.then(storageExtent) : storageExtent(answer);
  }

  zero(offset: number, length: number, how: { readonly punch: boolean }, options?: OperationOptions): Promise<void> {
    return this.#device.zero(offset, length, options === undefined ? how : { ...how, ...options });
  }

  resize(): Promise<void> {
    return Promise.reject(new ImageError('unsupported', 'The size of a device is fixed', { path: this.label }));
  }

  flush(options?: OperationOptions): Promise<void> {
    return this.#device.flush(options);
  }

  identity(): Promise<StorageIdentity> {
    return outerOf(this.#device).identity(WHOLE);
  }

  attributes(): Promise<FileAttributes | null> {
    return outerOf(this.#device).attributes();
  }

  lock(mode: LockMode, how?: LockOptions): Promise<void> {
    return outerOf(this.#device).lock(this, WHOLE, mode, how);
  }

  lockState(): Promise<LockState> {
    return outerOf(this.#device).lockState(WHOLE);
  }

  close(): Promise<void> {
    outerOf(this.#device).release(this, WHOLE);
    return this.#device.close();
  }
}

function storageExtent({ offset, length, state }: Extent): StorageExtent {
  return { start: offset, end: offset + length, data: state === 'data' };
}
