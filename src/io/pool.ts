/**
 * Memory for buffers: slabs of up to 1 MiB, cut into pieces that are powers of two from 4 KiB on (a buddy allocator).
 * Freed pieces join their neighbours and are reused.
 *
 * A buffer may consist of several pieces, so fragmentation never makes an allocation fail: it succeeds whenever enough
 * pages are free.
 */
import { alignUp, divCeil } from '../binary/numbers.ts';
import { assert } from '../errors.ts';
import type { LockedMemory } from '../storage/contract.ts';

/** Smallest piece in bytes: allocations are rounded up to it. */
export const PIECE_MIN = 4096;
/** A slab of order n has 2^n of the smallest pieces. */
const ORDER_MAX = 8;
/** Unused memory that is kept for reuse. */
const IDLE_BYTES = 16 * 1024 * 1024;

/** A piece of a slab. The object is reused with the piece. */
export interface Piece {
  readonly slab: Slab;
  readonly node: number;
  readonly bytes: Uint8Array;
}

/** One stretch of memory, as a binary tree of halves: node n has the halves 2n and 2n + 1. */
class Slab {
  readonly memory: LockedMemory;
  readonly order: number;
  /** By node: 1 more than the order of the largest free piece in it; 0: nothing is free. */
  readonly #free: Uint8Array;
  readonly #pieces: (Piece | undefined)[] = [];

  constructor(order: number, memory: LockedMemory) {
    this.order = order;
    this.memory = memory;
    this.#free = new Uint8Array(2 ** (order + 1));
    for (let node = 1; node < this.#free.length; node++) this.#free[node] = this.#orderOf(node) + 1;
  }

  /** Order of the largest free piece; -1 when there is none. */
  get largest(): number {
    return (this.#free[1] ?? 0) - 1;
  }

  get isIdle(): boolean {
    return this.largest === this.order;
  }

  /** Takes a piece of this order, which must not exceed `largest`. */
  take(order: number): Piece {
    assert(order <= this.largest, 'the slab has such a piece');
    let node = 1;
    while (this.#orderOf(node) > order) {
      const [left = 0, right = 0] = [this.#free[2 * node], this.#free[2 * node + 1]];
      // The half where less is left, so that the other stays whole.
      const useLeft = left > order && (right <= order || left <= right);
      node = useLeft ? 2 * node : 2 * node + 1;
    }
    this.#free[node] = 0;
    this.#update(node);
    return this.#piece(node);
  }

  give({ node }: Piece): void {
    assert(this.#free[node] === 0, 'a piece is given back once');
    this.#free[node] = this.#orderOf(node) + 1;
    this.#update(node);
  }

  #orderOf(node: number): number {
    return this.order - (31 - Math.clz32(node));
  }

  /** Updates the nodes up to the root. */
  #update(node: number): void {
    for (let parent = node >> 1; parent > 0; parent >>= 1) {
      const [left = 0, right = 0] = [this.#free[2 * parent], this.#free[2 * parent + 1]];
      const order = this.#orderOf(parent);
      this.#free[parent] = left === order && right === order ? order + 1 : Math.max(left, right);
    }
  }

  #piece(node: number): Piece {
    const known = this.#pieces[node];
    if (known !== undefined) return known;
    const order = this.#orderOf(node);
    const start = (node - 2 ** (this.order - order)) * 2 ** order * PIECE_MIN;
    const made = { slab: this, node, bytes: this.memory.bytes.subarray(start, start + 2 ** order * PIECE_MIN) };
    this.#pieces[node] = made;
    return made;
  }
}

/** All slabs of one manager. */
export class Pool {
  /** Bytes that may be in use at a time, a multiple of the smallest piece. */
  readonly capacity: number;
  readonly #make: (length: number) => LockedMemory;
  #slabs: Slab[] = [];
  /** Bytes of all slabs, of unused slabs, and in use. */
  #held = 0;
  #idle = 0;
  #used = 0;

  constructor(capacity: number, make: (length: number) => LockedMemory) {
    this.capacity = capacity;
    this.#make = make;
  }

  get usedBytes(): number {
    return this.#used;
  }

  get heldBytes(): number {
    return this.#held;
  }

  /** True when there is memory and all of it is locked. */
  get isLocked(): boolean {
    return this.#slabs.length > 0 && this.#slabs.every(({ memory }) => memory.locked);
  }

  /** True when `length` bytes can be allocated now. */
  fits(length: number): boolean {
    return this.#used + alignUp(length, PIECE_MIN) <= this.capacity;
  }

  /** Takes pieces of `length` bytes in all, rounded up to the smallest piece. Must fit. */
  take(length: number): Piece[] {
    assert(this.fits(length), 'the pool has room');
    const pieces: Piece[] = [];
    for (let left = divCeil(length, PIECE_MIN); left > 0; ) {
      const wanted = Math.min(31 - Math.clz32(Math.min(left, 2 ** ORDER_MAX)), ORDER_MAX);
      const slab = this.#slabWith(wanted);
      const order = Math.min(wanted, slab.largest);
      if (slab.isIdle) this.#idle -= 2 ** slab.order * PIECE_MIN;
      pieces.push(slab.take(order));
      left -= 2 ** order;
    }
    this.#used += alignUp(length, PIECE_MIN);
    return pieces;
  }

  give(pieces: readonly Piece[]): void {
    for (const piece of pieces) {
      const { slab } = piece;
      slab.give(piece);
      this.#used -= piece.bytes.length;
      if (!slab.isIdle) continue;
      this.#idle += 2 ** slab.order * PIECE_MIN;
      if (this.#idle > IDLE_BYTES) this.#drop(slab);
    }
  }

  /** Frees all memory; nothing may be in use. */
  clear(): void {
    for (const slab of [...this.#slabs]) this.#drop(slab);
  }

  #slabWith(order: number): Slab {
    let largest: Slab | null = null;
    // From the front, so that those at the end fall idle.
    for (const slab of this.#slabs) {
      if (slab.largest >= order) return slab;
      if (slab.largest > (largest?.largest ?? -1)) largest = slab;
    }
    const left = Math.floor((this.capacity - this.#held) / PIECE_MIN);
    if (left > 0) return this.#grow(left);
    assert(largest !== null, 'what fits is free somewhere');
    return largest;
  }

  #grow(pages: number): Slab {
    const order = pages >= 2 ** ORDER_MAX ? ORDER_MAX : 31 - Math.clz32(pages);
    const length = 2 ** order * PIECE_MIN;
    const slab = new Slab(order, this.#make(length));
    this.#slabs.push(slab);
    this.#held += length;
    this.#idle += length;
    return slab;
  }

  #drop(slab: Slab): void {
    assert(slab.isIdle, 'nothing of the slab is in use');
    this.#slabs = this.#slabs.filter((other) => other !== slab);
    const length = 2 ** slab.order * PIECE_MIN;
    this.#held -= length;
    this.#idle -= length;
    slab.memory.unlock();
  }
}
