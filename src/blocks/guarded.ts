/**
 * State of a writable image after a failure: a failed write or flush leaves the medium in an unknown state, so the
 * image refuses further changes and publishes nothing. It can still be read.
 */
import { ImageError, isImageError } from '../errors.ts';

/** Refuses changes of an image after one of them failed. */
export class ChangeGuard {
  readonly #label: string;
  #failed = false;

  /**
   * `label`: name of the image in errors.
   */
  constructor(label: string) {
    this.#label = label;
  }

  /** True once a change failed. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Records a failure. */
  fail(): void {
    this.#failed = true;
  }

  /** Records the outcome of a flush, for `Image.settle`. */
  settle(ok: boolean): void {
    if (!ok) this.#failed = true;
  }

  /** Throws `io` after a failed change. */
  check(): void {
    if (!this.#failed) return;
    throw new ImageError('io', 'An earlier write to this image failed, so it takes no more', {
      path: this.#label,
      hint: 'Close it and open it again: what was flushed is safe.',
    });
  }

  /** Runs a change and records its failure. A cancelled change is not a failure. */
  async run<T>(change: () => Promise<T>): Promise<T> {
    try {
      return await change();
    } catch (error) {
      if (!isImageError(error) || error.kind !== 'aborted') this.#failed = true;
      throw error;
    }
  }
}

/** Error for a change to an image opened for reading. */
export function imageReadOnly(path: string): ImageError {
  return new ImageError('read-only', 'The image is open for reading only', { path });
}
