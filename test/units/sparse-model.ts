/** Content of a disk of any size as the pieces that were written; zeroes elsewhere. */
import type { BlockDevice } from '../../src/disk/device.ts';
import type { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';

const SECTOR = 512;
const NOTHING = new Uint8Array(SECTOR);
/** Sectors read together. */
const MOST = 2048;

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
    const wanted = new Set([0, this.size / SECTOR - 1]);
    for (const sector of this.#sectors.keys()) {
      for (const one of [sector - 1, sector, sector + 1]) wanted.add(one);
    }
    const sorted = [...wanted].filter((one) => one >= 0 && one * SECTOR < this.size).sort((a, b) => a - b);
    for (let from = 0; from < sorted.length; ) {
      const first = sorted[from] ?? 0;
      let count = 1;
      while (count < MOST && sorted[from + count] === first + count) count++;
      const wrong = await this.#wrongIn(disk, first, count);
      if (wrong !== null) return `sector ${wrong} of ${this.size / SECTOR} is wrong`;
      from += count;
    }
    return null;
  }

  /** The first wrong sector of neighbours; null: none. */
  async #wrongIn(disk: BlockDevice, first: number, count: number): Promise<number | null> {
    const bytes = new Uint8Array(count * SECTOR);
    await disk.read(first * SECTOR, bytes);
    for (let number = 0; number < count; number++) {
      const found = bytes.subarray(number * SECTOR, (number + 1) * SECTOR);
      const expected = this.#sectors.get(first + number) ?? NOTHING;
      if (Buffer.compare(found, expected) !== 0) return first + number;
    }
    return null;
  }
}
