/**
 * The state that every writable image needs after a failure: a write or flush that failed leaves the medium in an unknown
 * state, so the image takes no more changes and publishes nothing. It can still be read.
 */
import { ImageError, isImageError } from '../errors.ts';

/** Refuses changes of an image after one of them failed. */
export class ChangeGuard {
  readonly #label: string;
  #failed = false;

  /** `label`: names the image in errors. */
  constructor(label: string) {
    this.#label = label;
  }

  /** True once a change failed. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Notes a failure. */
  fail(): void {
    this.#failed = true;
  }

  /** Notes how a flush ended, for `Image.settle`. */
  settle(ok: boolean): void {
    if (!ok) this.#failed = true;
  }

  /** Throws `io` when a change failed before. */
  check(): void {
    if (!this.#failed) return;
    throw new ImageError('io', 'An earlier write to this image failed, so it takes no more', {
      path: this.#label,
      hint: 'Close it and open it again: what was flushed is safe.',
    });
  }

  /** Carries out a change that notes its own failure. A change that was cancelled did not fail. */
  async run<T>(change: () => Promise<T>): Promise<T> {
    try {
      return await change();
    } catch (error) {
      if (!isImageError(error) || error.kind !== 'aborted') this.#failed = true;
      throw error;
    }
  }
}

/** The error for a change of an image that is open for reading only. */
export function imageReadOnly(path: string): ImageError {
  return new ImageError('read-only', 'The image is open for reading only', { path });
}
