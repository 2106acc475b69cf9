/** A storage whose reads end with a signal, while something is opened from it. */
import type { OperationOptions, ReadTarget, Storage } from './contract.ts';
import { ForwardingStorage } from './forwarding.ts';
import { orAborted } from './or-aborted.ts';

/**
 * Adds a signal to each read until `settle`, also for a storage that ignores signals: then the read is abandoned, and may
 * still deliver. For readers that drop their buffers when they are aborted, such as code that opens an image.
 */
export class SignalledStorage extends ForwardingStorage {
  #options: OperationOptions | null;
  readonly #what: string;

  constructor(inner: Storage, signal: AbortSignal, what: string) {
    super(inner);
    this.#options = { signal };
    this.#what = what;
  }

  /** From now on reads have the signals of their callers alone. */
  settle(): void {
    this.#options = null;
  }

  override read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    const own = this.#options;
    if (own === null) return super.read(offset, target, options);
    return orAborted(super.read(offset, target, options ?? own), own, this.#what);
  }
}
