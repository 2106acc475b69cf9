/** Writes to an image that is written once, from front to back: each begins where the last one ended, or behind that. */
import { ImageError } from '../../errors.ts';

/** Order and state of those writes. */
export class AscendingWrites {
  #end = 0;
  #last: Promise<void> = Promise.resolve();
  #failed = false;

  /** True when a write failed: what was written has a gap, and nothing may follow. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Takes a range. Throws `unsupported` for one before the end of the last, and after a failure. */
  take(offset: number, length: number, path: string): void {
    if (this.#failed) {
      throw new ImageError('io', 'An earlier write to this image failed, so it cannot be continued', {
        path,
        guestOffset: offset,
        hint: 'Create the image again.',
      });
    }
    if (offset < this.#end) {
      throw new ImageError('unsupported', 'This image can only be written sequentially', {
        // The only code that vd.h has for it.
        status: 'VERR_VD_VMDK_INVALID_WRITE',
        path,
        guestOffset: offset,
        expected: `${this.#end} or more`,
        hint: 'Write in ascending order, or convert into another format or variant.',
      });
    }
    this.#end = offset + length;
  }

  /** Runs a write after all that were given before. */
  inOrder(write: () => Promise<void>): Promise<void> {
    const running = this.#last.then(async () => {
      if (this.#failed) throw new ImageError('io', 'An earlier write of this image failed');
      try {
        await write();
      } catch (error) {
        this.#failed = true;
        throw error;
      }
    });
    this.#last = running.catch(() => {});
    return running;
  }
}
