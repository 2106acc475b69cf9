/** The disk as the model suite sees it: a layer that a test can break. */
import type { Range, ReadResult, ZeroOptions } from '../../src/disk/device.ts';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { ReadTarget, WriteSource } from '../../src/storage/contract.ts';

/** Hands everything on. Subclasses break something. */
export class ModelDisk {
  readonly inner: ChainDisk;

  constructor(inner: ChainDisk) {
    this.inner = inner;
  }

  get size(): number {
    return this.inner.size;
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

  discard(ranges: readonly Range[]): Promise<void> {
    return this.inner.discard(ranges);
  }

  resize(size: number, shrink: boolean): Promise<void> {
    return this.inner.resize(size, { shrink });
  }

  compact(): Promise<void> {
    return this.inner.compact();
  }

  async createDiff(...how: Parameters<ChainDisk['createDiff']>): Promise<void> {
    await this.inner.createDiff(...how);
  }

  merge(from: number, to: number): Promise<void> {
    return this.inner.merge(from, to);
  }

  flush(): Promise<void> {
    return this.inner.flush();
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}
