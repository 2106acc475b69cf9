/** An ISO 9660 image that is made as it is read, as a device to copy from. */
import type { IsoBytes } from '../../blocks/iso9660/storage.ts';
import type { BlockDevice, Extent, ReadResult } from '../../disk/device.ts';
import { ImageError } from '../../errors.ts';
import { allOf } from '../../storage/checks.ts';
import type { OperationOptions, ReadTarget } from '../../storage/contract.ts';

/** See the head of this file. */
export class IsoDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly can = { write: false, zero: false, discard: false, random: true };
  readonly blockSize = 0;
  readonly #bytes: IsoBytes;

  constructor(label: string, bytes: IsoBytes) {
    this.label = label;
    this.size = bytes.size;
    this.#bytes = bytes;
  }

  async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<ReadResult> {
    let from = offset;
    for (const buffer of allOf(target)) {
      await this.#fill(from, buffer, options);
      from += buffer.length;
    }
    return { unallocated: false };
  }

  async #fill(offset: number, buffer: Uint8Array, options?: OperationOptions): Promise<void> {
    for (let at = 0; at < buffer.length; ) {
      const run = this.#bytes.map(offset + at, buffer.length - at);
      const part = buffer.subarray(at, at + run.length);
      if (run.kind === 'data') await run.storage.read(run.fileOffset, part, options);
      else part.fill(0);
      at += run.length;
    }
  }

  async extentAt(offset: number, end: number): Promise<Extent> {
    const run = this.#bytes.map(offset, end - offset);
    // Holes of sparse files are not read.
    const found = run.kind === 'data' ? await run.storage.extentAt(run.fileOffset) : null;
    const state = found?.data === true ? 'data' : 'zero';
    const length =
      run.kind === 'data' && found !== null ? Math.min(run.length, found.end - run.fileOffset) : run.length;
    return { offset, length, state, image: null, depth: null, compressed: false, file: null, fileOffset: null };
  }

  write(): Promise<never> {
    return this.#refuse();
  }

  zero(): Promise<never> {
    return this.#refuse();
  }

  async flush(): Promise<void> {}

  close(): Promise<void> {
    return this.#bytes.close();
  }

  async #refuse(): Promise<never> {
    throw new ImageError('read-only', 'An image that is made of files is read-only', { path: this.label });
  }
}
