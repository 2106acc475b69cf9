/** A part of a disk in a file without a header: byte n of the part is byte n of the file. */
import { ImageError } from '../../../errors.ts';
import type { ImageInfo, Mapping } from '../../../image/contract.ts';
import { PlainImage } from '../../../image/plain-image.ts';
import { plainInfo } from '../../../image/plain-info.ts';
import type { OpenMode, Storage } from '../../../storage/contract.ts';

/** See the head of this file. */
export class PlainPart extends PlainImage {
  readonly #size: number;

  /** Throws `corrupt` for a file that is too short. */
  constructor(storage: Storage, size: number, mode: OpenMode) {
    super(storage, mode);
    this.#size = size;
    if (storage.size >= size) return;
    throw new ImageError('corrupt', 'A plain file of the bundle is shorter than its part of the disk', {
      path: storage.label,
      found: `${storage.size} bytes`,
      expected: `at least ${size}`,
    });
  }

  get info(): ImageInfo {
    return plainInfo({ format: 'parallels', virtualSize: this.#size, blockSize: null, allocation: 'fixed' });
  }

  /** Asked for only after a failure, when nothing is writable any more. */
  prepareWrite(): never {
    throw new ImageError('io', 'An earlier write to this image failed, so it takes no more', {
      path: this.storage.label,
      hint: 'Close it and open it again: what was flushed is safe.',
    });
  }

  map(guestOffset: number, length: number): Mapping {
    return {
      kind: 'data',
      storage: this.storage,
      fileOffset: guestOffset,
      length: Math.min(length, this.#size - guestOffset),
      writable: this.writable,
    };
  }
}
