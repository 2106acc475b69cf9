/** Sets of whole numbers as bits. */

const CHUNK_BITS = 65_536;

/** A set of numbers up to 2^53 whose memory follows its members: chunks of 8 KiB where there are any. */
export class SparseBitSet {
  readonly #chunks = new Map<number, Uint32Array>();
  #size = 0;

  /** Number of members. */
  get size(): number {
    return this.#size;
  }

  has(value: number): boolean {
    const bit = value % CHUNK_BITS;
    const chunk = this.#chunks.get(Math.floor(value / CHUNK_BITS));
    return chunk !== undefined && ((chunk[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0;
  }

  /** True when it was not a member before. */
  add(value: number): boolean {
    if (this.has(value)) return false;
    const index = Math.floor(value / CHUNK_BITS);
    const chunk = this.#chunks.get(index) ?? new Uint32Array(CHUNK_BITS / 32);
    this.#chunks.set(index, chunk);
    const bit = value % CHUNK_BITS;
    chunk[bit >>> 5] = (chunk[bit >>> 5] ?? 0) | (1 << (bit & 31));
    this.#size++;
    return true;
  }
}
