/**
 * Index of cached blocks, in memory: the data area is divided into lines of 64 blocks, each for an aligned piece of the
 * disk, with a bit for each block. When no line is free, the least recently used one is replaced.
 */
import { assert } from '../../errors.ts';
import { BLOCK } from './layout.ts';

/** Blocks per line; the bits of a line are kept in two words. */
export const LINE_BLOCKS = 64;
export const LINE = LINE_BLOCKS * BLOCK;
const NONE = -1;

/** Blocks `[from, to)` of one line. */
export interface LinePart {
  /** Index of the line's piece of the disk. */
  readonly piece: number;
  readonly from: number;
  readonly to: number;
}

/** Lines by piece of the disk. All synchronous. */
export class Lines {
  readonly count: number;
  readonly #byPiece = new Map<number, number>();
  readonly #piece: Float64Array;
  /** Two words for each line: bits of its first 32 blocks, and of the others. */
  readonly #bits: Uint32Array;
  readonly #pins: Uint16Array;
  /** Neighbours in order of use; the ends of the list are stored separately. */
  readonly #older: Int32Array;
  readonly #newer: Int32Array;
  #oldest = NONE;
  #newest = NONE;
  /** First line never used. */
  #fresh = 0;
  /** Freed lines. */
  #free: number[] = [];
  #blocks = 0;

  constructor(count: number) {
    this.count = count;
    this.#piece = new Float64Array(count);
    this.#bits = new Uint32Array(count * 2);
    this.#pins = new Uint16Array(count);
    this.#older = new Int32Array(count);
    this.#newer = new Int32Array(count);
  }

  /** Number of cached blocks. */
  get blocks(): number {
    return this.#blocks;
  }

  /** The line of a piece of the disk; null for none. */
  find(piece: number): number | null {
    return this.#byPiece.get(piece) ?? null;
  }

  /** State of a block, and the end of the run with that state, at most `to`. */
  run(line: number, from: number, to: number): { readonly held: boolean; readonly to: number } {
    const held = this.#has(line, from);
    let end = from + 1;
    while (end < to && this.#has(line, end) === held) end++;
    return { held, to: end };
  }

  /** A line for the piece, its own or another one; null: all are pinned. */
  take(piece: number): number | null {
    const known = this.#byPiece.get(piece);
    if (known !== undefined) {
      this.touch(known);
      return known;
    }
    const line = this.#free.pop() ?? (this.#fresh < this.count ? this.#fresh++ : this.#evict());
    if (line === null) return null;
    this.#piece[line] = piece;
    this.#byPiece.set(piece, line);
    this.#append(line);
    return line;
  }

  /** Marks a line as most recently used. */
  touch(line: number): void {
    if (line === this.#newest) return;
    this.#unlink(line);
    this.#append(line);
  }

  /** Pins a line: it is not given to another piece. */
  pin(line: number): void {
    this.#pins[line] = (this.#pins[line] ?? 0) + 1;
  }

  unpin(line: number): void {
    const pins = (this.#pins[line] ?? 0) - 1;
    assert(pins >= 0, 'a line is unpinned as often as it is pinned');
    this.#pins[line] = pins;
    if (pins === 0 && this.#isEmpty(line)) this.#release(line);
  }

  /** Marks blocks as cached. */
  add(line: number, from: number, to: number): void {
    for (let block = from; block < to; block++) {
      if (this.#has(line, block)) continue;
      this.#flip(line, block);
      this.#blocks++;
    }
  }

  /** Removes blocks. */
  drop({ piece, from, to }: LinePart): void {
    const line = this.#byPiece.get(piece);
    if (line === undefined) return;
    for (let block = from; block < to; block++) {
      if (!this.#has(line, block)) continue;
      this.#flip(line, block);
      this.#blocks--;
    }
    if (this.#isEmpty(line) && this.#pins[line] === 0) this.#release(line);
  }

  /** Removes everything. No line may be pinned. */
  clear(): void {
    this.#byPiece.clear();
    this.#bits.fill(0);
    this.#pins.fill(0);
    this.#oldest = NONE;
    this.#newest = NONE;
    this.#fresh = 0;
    this.#free = [];
    this.#blocks = 0;
  }

  /** Assigns a line of the file to its piece, in file order; false: it is taken. */
  restore(line: number, piece: number): boolean {
    const known = this.#byPiece.get(piece);
    if (known !== undefined) return known === line;
    if (line < this.#fresh) return false;
    while (this.#fresh < line) this.#free.push(this.#fresh++);
    this.#fresh = line + 1;
    this.#piece[line] = piece;
    this.#byPiece.set(piece, line);
    this.#append(line);
    return true;
  }

  /** All lines in disk order. */
  *inOrder(): Generator<{ readonly piece: number; readonly line: number }> {
    for (const piece of [...this.#byPiece.keys()].sort((a, b) => a - b)) {
      const line = this.#byPiece.get(piece);
      if (line !== undefined) yield { piece, line };
    }
  }

  /** Number of lines ever used. */
  get used(): number {
    return this.#fresh;
  }

  #has(line: number, block: number): boolean {
    return (((this.#bits[line * 2 + (block >> 5)] ?? 0) >>> (block & 31)) & 1) === 1;
  }

  #flip(line: number, block: number): void {
    const word = line * 2 + (block >> 5);
    this.#bits[word] = (this.#bits[word] ?? 0) ^ (1 << (block & 31));
  }

  #isEmpty(line: number): boolean {
    return this.#bits[line * 2] === 0 && this.#bits[line * 2 + 1] === 0;
  }

  #evict(): number | null {
    for (let line = this.#oldest; line !== NONE; line = this.#newer[line] ?? NONE) {
      if (this.#pins[line] !== 0) continue;
      this.#forget(line);
      return line;
    }
    return null;
  }

  #release(line: number): void {
    this.#forget(line);
    this.#free.push(line);
  }

  #forget(line: number): void {
    for (const word of [line * 2, line * 2 + 1]) {
      for (let bits = this.#bits[word] ?? 0; bits !== 0; bits &= bits - 1) this.#blocks--;
      this.#bits[word] = 0;
    }
    this.#byPiece.delete(this.#piece[line] ?? NONE);
    this.#unlink(line);
  }

  #append(line: number): void {
    this.#older[line] = this.#newest;
    this.#newer[line] = NONE;
    if (this.#newest === NONE) this.#oldest = line;
    else this.#newer[this.#newest] = line;
    this.#newest = line;
  }

  #unlink(line: number): void {
    const [older, newer] = [this.#older[line] ?? NONE, this.#newer[line] ?? NONE];
    if (older === NONE) this.#oldest = newer;
    else this.#newer[older] = newer;
    if (newer === NONE) this.#newest = older;
    else this.#older[newer] = older;
  }
}
