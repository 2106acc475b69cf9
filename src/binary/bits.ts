/** Sets of whole numbers as bits. */
import { assert } from '../errors.ts';

const CHUNK_BITS = 65_536;

/** A set of the numbers below a fixed length: one bit each, allocated at once. */
export class BitSet {
  readonly length: number;
  readonly #words: Uint32Array;
  #size = 0;

  constructor(length: number) {
    this.length = length;
    this.#words = new Uint32Array(Math.ceil(length / 32));
  }

  /** Number of members. */
  get size(): number {
    return this.#size;
  }

  has(value: number): boolean {
    return value < this.length && ((this.#words[Math.floor(value / 32)] ?? 0) & (1 << (value % 32))) !== 0;
  }

  /** True when it was not a member before. */
  add(value: number): boolean {
    assert(value >= 0 && value < this.length, 'a member below the length');
    if (!setBit(this.#words, value)) return false;
    this.#size++;
    return true;
  }

  /** True when it was a member. */
  delete(value: number): boolean {
    if (value >= this.length || !clearBit(this.#words, value)) return false;
    this.#size--;
    return true;
  }

  /** The first member from `from` on; -1 when there is none. */
  next(from: number): number {
    const found = nextBit(this.#words, from, false);
    return found < this.length ? found : -1;
  }

  /** The first number from `from` on that is not a member; -1 when all are. */
  nextFree(from: number): number {
    const found = nextBit(this.#words, from, true);
    return found < this.length ? found : -1;
  }
}

/** A set of numbers up to 2^53 whose memory grows with its members: chunks of 8 KiB, allocated where needed. */
export class SparseBitSet {
  readonly #chunks = new Map<number, Chunk>();
  #size = 0;

  /** Number of members. */
  get size(): number {
    return this.#size;
  }

  has(value: number): boolean {
    const chunk = this.#chunks.get(Math.floor(value / CHUNK_BITS));
    const bit = value % CHUNK_BITS;
    return chunk !== undefined && ((chunk.words[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0;
  }

  /** True when it was not a member before. */
  add(value: number): boolean {
    const index = Math.floor(value / CHUNK_BITS);
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = { words: new Uint32Array(CHUNK_BITS / 32), size: 0 };
      this.#chunks.set(index, chunk);
    }
    if (!setBit(chunk.words, value % CHUNK_BITS)) return false;
    chunk.size++;
    this.#size++;
    return true;
  }

  /** True when it was a member. An empty chunk frees its memory. */
  delete(value: number): boolean {
    const index = Math.floor(value / CHUNK_BITS);
    const chunk = this.#chunks.get(index);
    if (chunk === undefined || !clearBit(chunk.words, value % CHUNK_BITS)) return false;
    chunk.size--;
    this.#size--;
    if (chunk.size === 0) this.#chunks.delete(index);
    return true;
  }

  /** Bytes allocated. */
  get memoryBytes(): number {
    return this.#chunks.size * (CHUNK_BITS / 8);
  }
}

interface Chunk {
  readonly words: Uint32Array;
  size: number;
}

/** False when it was set before. */
function setBit(words: Uint32Array, bit: number): boolean {
  const word = Math.floor(bit / 32);
  const before = words[word] ?? 0;
  const mask = 1 << (bit % 32);
  words[word] = before | mask;
  return (before & mask) === 0;
}

/** False when it was not set. */
function clearBit(words: Uint32Array, bit: number): boolean {
  const word = Math.floor(bit / 32);
  const before = words[word] ?? 0;
  const mask = 1 << (bit % 32);
  words[word] = before & ~mask;
  return (before & mask) !== 0;
}

/** The first set bit from `from` on, or the first clear one; Infinity when there is none. */
function nextBit(words: Uint32Array, from: number, clear: boolean): number {
  const flip = clear ? 0xffff_ffff : 0;
  const first = Math.floor(from / 32);
  for (let index = first; index < words.length; index++) {
    let word = (words[index] ?? 0) ^ flip;
    if (index === first) word &= 0xffff_ffff << (from % 32);
    if (word !== 0) return index * 32 + (31 - Math.clz32(word & -word));
  }
  return Number.POSITIVE_INFINITY;
}
