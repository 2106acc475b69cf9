/** A device in memory that completes operations on command: for tests of what happens before, during and after. */

import type { BlockDevice, DeviceCapabilities, Extent, Range, ReadResult } from '../disk/device.ts';
import { bufferList, totalLength } from '../disk/path/buffers.ts';
import type { OperationOptions, ReadTarget, WriteSource } from '../storage/contract.ts';

/** A pending operation of the device. */
export interface HeldOperation {
  readonly what: 'read' | 'write' | 'zero' | 'discard' | 'flush';
  readonly offset: number;
  readonly length: number;
  readonly signal: AbortSignal | undefined;
  /** Completes it. */
  finish(): void;
  /** Fails it. */
  fail(error: unknown): void;
}

/** Holds every operation until a test completes it. */
export class HeldDevice implements BlockDevice {
  readonly label = 'held';
  readonly blockSize = 0;
  readonly can: DeviceCapabilities = { write: true, zero: true, discard: true, random: true };
  readonly bytes: Uint8Array;
  /** Requested operations, in order: `read 0 512`. */
  readonly log: string[] = [];
  /** Pending operations, in order. */
  readonly held: HeldOperation[] = [];
  /** Reads complete at once. */
  atOnce = false;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  get size(): number {
    return this.bytes.length;
  }

  /** Completes the first pending operations, or all of them. */
  finish(count = this.held.length): void {
    for (const operation of this.held.splice(0, count)) operation.finish();
  }

  readNow(offset: number, target: Uint8Array): boolean {
    if (!this.atOnce) return false;
    this.log.push(`now ${offset} ${target.length}`);
    target.set(this.bytes.subarray(offset, offset + target.length));
    return true;
  }

  async read(offset: number, target: ReadTarget): Promise<ReadResult> {
    await this.#hold('read', offset, totalLength(target), () => {
      let at = offset;
      for (const buffer of bufferList(target)) {
        buffer.set(this.bytes.subarray(at, at + buffer.length));
        at += buffer.length;
      }
    });
    return { unallocated: false };
  }

  write(offset: number, source: WriteSource): Promise<void> {
    return this.#hold('write', offset, totalLength(source), () => {
      let at = offset;
      for (const buffer of bufferList(source)) {
        this.bytes.set(buffer, at);
        at += buffer.length;
      }
    });
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#hold('zero', offset, length, () => this.bytes.fill(0, offset, offset + length));
  }

  discard(ranges: readonly Range[], options: OperationOptions = {}): Promise<void> {
    const [first] = ranges;
    const length = ranges.reduce((sum, range) => sum + range.length, 0);
    return this.#hold('discard', first?.offset ?? 0, length, () => {}, options.signal);
  }

  flush(): Promise<void> {
    return this.#hold('flush', 0, 0, () => {});
  }

  extentAt(offset: number, end: number): Extent {
    const none = { image: null, depth: null, compressed: false, file: null, fileOffset: null };
    return { offset, length: end - offset, state: 'data', ...none };
  }

  async close(): Promise<void> {}

  #hold(
    what: HeldOperation['what'],
    offset: number,
    length: number,
    run: () => void,
    signal?: AbortSignal,
  ): Promise<void> {
    this.log.push(what === 'flush' ? what : `${what} ${offset} ${length}`);
    return new Promise((resolve, reject) => {
      const finish = () => {
        run();
        resolve();
      };
      this.held.push({ what, offset, length, signal, finish, fail: reject });
    });
  }
}
