/**
 * Ranges of a disk with what holds them, in order and without overlaps. Kept in chunks, so that looking up, adding and
 * removing one costs little however many there are.
 */

/** A point that others wait for: a lock that was asked for, or a group of them. */
export interface LockNode {
  done: boolean;
  /** Number of nodes that this one waits for. */
  blockers: number;
  /** Later nodes that wait for this one. */
  waiters: LockNode[] | null;
  /** The last node that was made to wait for it. */
  seenBy: LockNode | null;
  /** Of a lock: gives it to its owner. A group has none, and is done when it waits for nothing. */
  grant?(): void;
  /** Several segments name it, so nothing joins it. */
  shared: boolean;
  /** Of a group: the holder that others joined. */
  readonly rest?: LockNode;
}

/** Bytes `[start, end)` that are held alike. */
export interface Segment {
  readonly start: number;
  readonly end: number;
  /** The last exclusive request, or a group that stands for several. */
  readonly writer: LockNode | null;
  /** All shared requests since then. */
  readonly readers: LockNode | null;
}

/** Maximum length of a chunk. */
const CHUNK = 128;

/** Position in the list. */
interface Place {
  readonly chunk: number;
  readonly index: number;
}

/** See the head of this file. */
export class SegmentList {
  #chunks: Segment[][] = [];
  #count = 0;
  /** Segments looked at so far: a measure of the work. */
  visited = 0;

  get count(): number {
    return this.#count;
  }

  /** The segments that overlap `[start, end)`, at most `most` of them. */
  overlapping(start: number, end: number, most = Number.POSITIVE_INFINITY): Segment[] {
    const found: Segment[] = [];
    if (this.#count === 0) return found;
    let { chunk, index } = this.#find(start);
    while (found.length < most) {
      const segment = this.#chunks[chunk]?.[index];
      if (segment === undefined || segment.start >= end) break;
      found.push(segment);
      index++;
      if (index === this.#chunks[chunk]?.length) [chunk, index] = [chunk + 1, 0];
    }
    this.visited += found.length;
    return found;
  }

  /** Puts segments in the place of the `removed` ones from the first that ends behind `start` on. */
  replace(start: number, removed: number, added: readonly Segment[]): void {
    const { chunk, index } = this.#find(start);
    this.#remove(chunk, index, removed);
    this.#count += added.length - removed;
    if (added.length === 0) return;
    const into = this.#chunks[chunk];
    if (into === undefined) {
      this.#chunks.push([...added]);
      return;
    }
    // A chunk that was emptied is gone: the next one begins there.
    const list = [...into.slice(0, index), ...added, ...into.slice(index)];
    const half = list.length >> 1;
    if (list.length > CHUNK) this.#chunks.splice(chunk, 1, list.slice(0, half), list.slice(half));
    else this.#chunks.splice(chunk, 1, list);
  }

  clear(): void {
    this.#chunks = [];
    this.#count = 0;
  }

  /** Keeps only some of the segments. */
  sweep(keeps: (segment: Segment) => boolean): void {
    this.visited += this.#count;
    this.#chunks = this.#chunks.map((chunk) => chunk.filter(keeps)).filter(({ length }) => length > 0);
    this.#count = this.#chunks.reduce((sum, { length }) => sum + length, 0);
  }

  #remove(chunk: number, index: number, count: number): void {
    let [at, first, left] = [chunk, index, count];
    while (left > 0) {
      const from = this.#chunks[at] ?? [];
      const taken = from.splice(first, left).length;
      left -= taken;
      if (from.length === 0) this.#chunks.splice(at, 1);
      else at++;
      first = 0;
    }
  }

  /** The first segment that ends behind `start`. */
  #find(start: number): Place {
    const chunk = firstWhere(this.#chunks.length, (n) => (this.#chunks[n]?.at(-1)?.end ?? 0) > start);
    const list = this.#chunks[chunk];
    return { chunk, index: list === undefined ? 0 : firstWhere(list.length, (n) => (list[n]?.end ?? 0) > start) };
  }
}

/** The first of `count` numbers for which a condition holds that holds for all behind it; `count` if there is none. */
function firstWhere(count: number, holds: (number: number) => boolean): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
