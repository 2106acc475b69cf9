/** The disk as the model suite sees it: a layer that a test can break, with the operations that a disk may gain later. */
import type { ReadResult, ZeroOptions } from '../../src/disk/device.ts';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { ReadTarget, WriteSource } from '../../src/storage/contract.ts';
import type { Range } from './operations.ts';

/** Operations that take part as soon as disks have them. */
interface LaterOperations {
  readonly discard?: (ranges: readonly Range[]) => Promise<unknown>;
  readonly resize?: (size: number) => Promise<unknown>;
  readonly compact?: () => Promise<unknown>;
}

/** Hands everything on. Subclasses break something. */
export class ModelDisk {
  readonly inner: ChainDisk;

  constructor(inner: ChainDisk) {
    this.inner = inner;
  }

  get size(): number {
    return this.inner.size;
  }

  get #later(): LaterOperations {
    return this.inner as unknown as LaterOperations;
  }

  readNow(offset: number, target: Uint8Array): boolean {
    return this.inner.readNow(offset, target);
  }

  read(offset: number, target: ReadTarget): Promise<ReadResult> {
    return this.inner.read(offset, target);
  }

  write(offset: number, source: WriteSource): Promise<void> {
    return this.inner.write(offset, source);
  }

  zero(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    return this.inner.zero(offset, length, options);
  }

  flush(): Promise<void> {
    return this.inner.flush();
  }

  close(): Promise<void> {
    return this.inner.close();
  }

  /** Null when the disk has no such operation. */
  discard(ranges: readonly Range[]): Promise<unknown> | null {
    return this.inner.can.discard ? (this.#later.discard?.call(this.inner, ranges) ?? null) : null;
  }

  /** Null when the disk has no such operation. */
  resize(size: number): Promise<unknown> | null {
    return this.#later.resize?.call(this.inner, size) ?? null;
  }

  /** Null when the disk has no such operation. */
  compact(): Promise<unknown> | null {
    return this.#later.compact?.call(this.inner) ?? null;
  }
}
