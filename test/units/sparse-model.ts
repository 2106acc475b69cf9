/** Content of a disk of any size as the pieces that were written; zeroes elsewhere. */
import type { BlockDevice } from '../../src/disk/device.ts';
import type { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';

const SECTOR = 512;

/** Sectors of a disk that hold something. */
export class SparseModel {
  size: number;
  readonly #sectors: Map<number, Uint8Array>;

  constructor(size: number, sectors: ReadonlyMap<number, Uint8Array> = new Map()) {
    this.size = size;
    this.#sectors = new Map(sectors);
  }

  copy(): SparseModel {
    return new SparseModel(this.size, this.#sectors);
  }

  /** Writes noise to the disk and to the model. */
  async write(disk: BlockDevice, random: Random, offset: number, length: number): Promise<void> {
    const bytes = randomBytes(random, length);
    await disk.write(offset, bytes);
    for (let at = 0; at < length; at += SECTOR) {
      this.#sectors.set((offset + at) / SECTOR, bytes.slice(at, at + SECTOR));
    }
  }

  zero(offset: number, length: number): void {
    for (const sector of this.#sectors.keys()) {
      if (sector * SECTOR >= offset && sector * SECTOR < offset + length) this.#sectors.delete(sector);
    }
  }

  resize(size: number): void {
    this.zero(size, Math.max(this.size - size, 0));
    this.size = size;
  }

  /**
   * A difference between disk and model, in words; null: none in the written ranges, around them, and at both ends.
   */
  async difference(disk: BlockDevice): Promise<string | null> {
    if (disk.size !== this.size) return `the disk has ${disk.size} bytes, not ${this.size}`;
    const bytes = new Uint8Array(SECTOR);
    const wanted = new Set([0, this.size / SECTOR - 1]);
    for (const sector of this.#sectors.keys()) {
      for (const one of [sector - 1, sector, sector + 1]) wanted.add(one);
    }
    for (const sector of wanted) {
      if (sector < 0 || sector * SECTOR >= this.size) continue;
      await disk.read(sector * SECTOR, bytes);
      const expected = this.#sectors.get(sector);
      const same = expected === undefined ? bytes.every((byte) => byte === 0) : Buffer.compare(bytes, expected) === 0;
      if (!same) return `sector ${sector} of ${this.size / SECTOR} is wrong`;
    }
    return null;
  }
}
