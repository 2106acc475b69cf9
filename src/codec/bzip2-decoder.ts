/**
 * A decoder of bzip2 in JavaScript, where the system's library is not available. It collects the bits of a block, which
 * are bounded, and then decodes it as a whole: Huffman codes, move-to-front, the Burrows-Wheeler transform, runs.
 */
import { ImageError } from '../errors.ts';

/** The digits of π begin a block, those of its root the end of a stream. */
const BLOCK_MAGIC = 0x3141_5926_5359;
const END_MAGIC = 0x1772_4538_5090;
const LEVEL_BYTES = 100_000;
/** Symbols per selector. */
const GROUP = 50;
const CODE_BITS_MAX = 20;
const TABLES_MAX = 6;
/** More than the bits of any sound block: 900,000 symbols of 20 bits, its tables and its selectors. */
const INPUT_MAX = 4 * 1024 * 1024;
/** Bytes made at a time. */
const PIECE = 256 * 1024;
/** Polynomial of the checksum, highest bit first. */
const POLYNOMIAL = 0x04c1_1db7;

/** The input ends inside of what is being decoded. */
class NeedsMore extends Error {}

/** Bits of the input that is in memory, highest first. */
class Bits {
  readonly bytes: Uint8Array;
  at: number;
  #buffer = 0;
  #count = 0;

  constructor(bytes: Uint8Array, bit: number) {
    this.bytes = bytes;
    this.at = bit >> 3;
    if ((bit & 7) !== 0) this.take(bit & 7);
  }

  /** Place of the next bit. */
  get bit(): number {
    return this.at * 8 - this.#count;
  }

  /** At most 24 bits. */
  take(count: number): number {
    while (this.#count < count) {
      if (this.at >= this.bytes.length) throw new NeedsMore();
      this.#buffer = ((this.#buffer << 8) | (this.bytes[this.at++] ?? 0)) & 0x7fff_ffff;
      this.#count += 8;
    }
    this.#count -= count;
    return (this.#buffer >>> this.#count) & ((1 << count) - 1);
  }

  word(): number {
    const high = this.take(16);
    return high * 0x1_0000 + this.take(16);
  }

  magic(): number {
    const high = this.take(24);
    return high * 0x100_0000 + this.take(24);
  }
}

/**
 * Decodes all streams of a file. A chunk is valid until the next is asked for. `follows`: false for the three bytes
 * behind a stream, fewer at the end, that are left out with everything behind them. Throws `corrupt`.
 */
export async function* decodeStreams(
  input: AsyncIterable<Uint8Array>,
  follows: (start: Uint8Array) => boolean,
): AsyncGenerator<Uint8Array> {
  const source = new Source(input);
  let streams = 0;
  for (; !(await source.ended()); streams++) {
    if (streams > 0 && !follows(await source.peek(3))) return;
    const level = await source.parse(headerOf);
    const block = { capacity: level * LEVEL_BYTES, words: new Uint32Array(level * LEVEL_BYTES) };
    let combined = 0;
    for (;;) {
      // A block takes a tenth of a second: others run between them.
      await new Promise((resolve) => void setTimeout(resolve));
      const found = await source.parse((bits) => blockOf(bits, block));
      if (found.kind === 'end') {
        if (found.crc !== combined) throw corrupt('has a wrong checksum');
        break;
      }
      let crc = 0xffff_ffff;
      for (const piece of unpacked(found.length, found.origin, block.words)) {
        crc = update(crc, piece);
        yield piece;
      }
      crc = ~crc >>> 0;
      if (crc !== found.crc) throw corrupt('has a block with a wrong checksum');
      combined = (((combined << 1) | (combined >>> 31)) ^ crc) >>> 0;
    }
    source.align();
  }
  if (streams === 0) throw corrupt('ends early');
}

/** Input in memory: what is not yet decoded. */
class Source {
  readonly #input: AsyncIterator<Uint8Array>;
  #bytes: Uint8Array = new Uint8Array(0);
  #bit = 0;
  #done = false;

  constructor(input: AsyncIterable<Uint8Array>) {
    this.#input = input[Symbol.asyncIterator]();
  }

  async ended(): Promise<boolean> {
    while (this.#bytes.length * 8 <= this.#bit && !this.#done) await this.#grow(1);
    return this.#bytes.length * 8 <= this.#bit;
  }

  /** The next whole bytes, fewer at the end. */
  async peek(count: number): Promise<Uint8Array> {
    while (this.#bytes.length * 8 < this.#bit + count * 8 && !this.#done) await this.#grow(count);
    return this.#bytes.subarray(this.#bit >> 3, (this.#bit >> 3) + count);
  }

  align(): void {
    this.#bit = (this.#bit + 7) & ~7;
  }

  /** Repeats the work with more input, twice as much each time, until there is enough. */
  async parse<T>(work: (bits: Bits) => T): Promise<T> {
    for (;;) {
      const bits = new Bits(this.#bytes, this.#bit);
      try {
        const result = work(bits);
        this.#bit = bits.bit;
        return result;
      } catch (error) {
        if (!(error instanceof NeedsMore)) throw error;
      }
      if (this.#done || this.#bytes.length > INPUT_MAX) throw corrupt('ends early');
      await this.#grow(Math.max(this.#bytes.length - (this.#bit >> 3), 1));
    }
  }

  async #grow(atLeast: number): Promise<void> {
    const from = this.#bit >> 3;
    const parts = [this.#bytes.subarray(from)];
    this.#bit -= from * 8;
    for (let got = 0; got < atLeast; ) {
      const { done, value } = await this.#input.next();
      if (done === true) {
        this.#done = true;
        break;
      }
      // A copy: the memory belongs to the caller, who may use it for the next piece.
      parts.push(value.slice());
      got += value.length;
    }
    this.#bytes = joined(parts);
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function headerOf(bits: Bits): number {
  const level = bits.take(24) === 0x42_5a68 ? bits.take(8) - 0x30 : 0;
  if (level < 1 || level > 9) throw corrupt('has no bzip2 stream where one is expected');
  return level;
}

interface Block {
  readonly capacity: number;
  /** The bytes of the block in the low bits, then the links of the transform above them. */
  readonly words: Uint32Array;
}

type Found =
  | { readonly kind: 'end'; readonly crc: number }
  | { readonly kind: 'block'; readonly crc: number; readonly length: number; readonly origin: number };

function blockOf(bits: Bits, block: Block): Found {
  const magic = bits.magic();
  const crc = bits.word();
  if (magic === END_MAGIC) return { kind: 'end', crc };
  if (magic !== BLOCK_MAGIC) throw corrupt('is damaged');
  if (bits.take(1) === 1) throw corrupt('has a randomised block, which no program has made since 1997');
  const origin = bits.take(24);
  const symbols = usedBytes(bits);
  const length = symbolsOf(bits, symbols, block);
  if (origin >= length) throw corrupt('is damaged');
  link(block.words, length);
  return { kind: 'block', crc, length, origin };
}

/** The bytes that occur, as a bitmap of bitmaps. */
function usedBytes(bits: Bits): Uint8Array {
  const used: number[] = [];
  const rows = bits.take(16);
  for (let row = 0; row < 16; row++) {
    const columns = (rows & (0x8000 >> row)) === 0 ? 0 : bits.take(16);
    for (let column = 0; column < 16; column++) if ((columns & (0x8000 >> column)) !== 0) used.push(row * 16 + column);
  }
  if (used.length === 0) throw corrupt('is damaged');
  return Uint8Array.from(used);
}

/** Canonical Huffman codes of one table. */
interface Codes {
  /** By length: the largest code, or -1. */
  readonly limit: Int32Array;
  /** By length: subtracted from a code, it gives the index of its symbol. */
  readonly base: Int32Array;
  readonly symbols: Uint16Array;
  readonly shortest: number;
}

function codesOf(bits: Bits, count: number): Codes {
  const lengths = new Uint8Array(count);
  let length = bits.take(5);
  for (let symbol = 0; symbol < count; symbol++) {
    for (;;) {
      if (length < 1 || length > CODE_BITS_MAX) throw corrupt('is damaged');
      if (bits.take(1) === 0) break;
      length += bits.take(1) === 0 ? 1 : -1;
    }
    lengths[symbol] = length;
  }
  const limit = new Int32Array(CODE_BITS_MAX + 2).fill(-1);
  const base = new Int32Array(CODE_BITS_MAX + 2);
  const symbols = new Uint16Array(count);
  let [code, index, shortest] = [0, 0, CODE_BITS_MAX];
  for (let bitCount = 1; bitCount <= CODE_BITS_MAX; bitCount++) {
    base[bitCount] = code - index;
    for (let symbol = 0; symbol < count; symbol++) {
      if (lengths[symbol] !== bitCount) continue;
      symbols[index++] = symbol;
      limit[bitCount] = code++;
      shortest = Math.min(shortest, bitCount);
    }
    code *= 2;
  }
  return { limit, base, symbols, shortest };
}

function selectorsOf(bits: Bits, tables: number): Uint8Array {
  const count = bits.take(15);
  if (count === 0) throw corrupt('is damaged');
  const order = Uint8Array.from({ length: tables }, (_, table) => table);
  const selectors = new Uint8Array(count);
  for (let at = 0; at < count; at++) {
    let rank = 0;
    while (bits.take(1) === 1) if (++rank >= tables) throw corrupt('is damaged');
    const chosen = order[rank] ?? 0;
    order.copyWithin(1, 0, rank);
    order[0] = chosen;
    selectors[at] = chosen;
  }
  return selectors;
}

/** Decodes the symbols of a block into the low bits of its words, and returns their number. */
function symbolsOf(bits: Bits, used: Uint8Array, { words, capacity }: Block): number {
  const tableCount = bits.take(3);
  if (tableCount < 2 || tableCount > TABLES_MAX) throw corrupt('is damaged');
  const selectors = selectorsOf(bits, tableCount);
  const tables = Array.from({ length: tableCount }, () => codesOf(bits, used.length + 2));
  const end = used.length + 1;
  const order = used.slice();
  let [length, run, weight, left, group] = [0, 0, 1, 0, 0];
  let codes: Codes | undefined;
  for (;;) {
    if (left === 0) {
      if (group >= selectors.length) throw corrupt('is damaged');
      codes = tables[selectors[group++] ?? 0];
      left = GROUP;
    }
    left--;
    const symbol = nextSymbol(bits, codes as Codes);
    if (symbol <= 1) {
      // Digits of a number in base two, whose values are 1 and 2.
      run += weight << symbol;
      weight *= 2;
      if (run > capacity) throw corrupt('is damaged');
      continue;
    }
    if (run > 0) {
      if (length + run > capacity) throw corrupt('is damaged');
      words.fill(order[0] ?? 0, length, length + run);
      length += run;
      [run, weight] = [0, 1];
    }
    if (symbol === end) return length;
    if (length >= capacity) throw corrupt('is damaged');
    const byte = order[symbol - 1] ?? 0;
    order.copyWithin(1, 0, symbol - 1);
    order[0] = byte;
    words[length++] = byte;
  }
}

function nextSymbol(bits: Bits, { limit, base, symbols, shortest }: Codes): number {
  let length = shortest;
  let code = bits.take(length);
  while (code > (limit[length] ?? -1)) {
    if (++length > CODE_BITS_MAX) throw corrupt('is damaged');
    code = (code << 1) | bits.take(1);
  }
  const symbol = symbols[code - (base[length] ?? 0)];
  if (symbol === undefined) throw corrupt('is damaged');
  return symbol;
}

/** Puts above each byte the place of the one that follows it. */
function link(words: Uint32Array, length: number): void {
  const next = new Uint32Array(257);
  for (let at = 0; at < length; at++) {
    const after = ((words[at] ?? 0) & 0xff) + 1;
    next[after] = (next[after] ?? 0) + 1;
  }
  for (let byte = 1; byte < 257; byte++) next[byte] = (next[byte] ?? 0) + (next[byte - 1] ?? 0);
  for (let at = 0; at < length; at++) {
    const byte = (words[at] ?? 0) & 0xff;
    const place = next[byte] ?? 0;
    next[byte] = place + 1;
    words[place] = ((words[place] ?? 0) | (at << 8)) >>> 0;
  }
}

/** The content of a block: four equal bytes are followed by the number of further ones. */
function* unpacked(length: number, origin: number, words: Uint32Array): Generator<Uint8Array> {
  const room = new Uint8Array(PIECE + 256);
  let [filled, run, last] = [0, 0, -1];
  let place = (words[origin] ?? 0) >>> 8;
  for (let at = 0; at < length; at++) {
    const word = words[place] ?? 0;
    const byte = word & 0xff;
    place = word >>> 8;
    if (run === 4) {
      room.fill(last, filled, filled + byte);
      filled += byte;
      [run, last] = [0, -1];
    } else {
      run = byte === last ? run + 1 : 1;
      last = byte;
      room[filled++] = byte;
    }
    if (filled >= PIECE) {
      yield room.subarray(0, filled);
      filled = 0;
    }
  }
  if (filled > 0) yield room.subarray(0, filled);
}

let crcTable: Uint32Array | null = null;

function update(crc: number, bytes: Uint8Array): number {
  crcTable ??= buildTable();
  let value = crc;
  for (const byte of bytes) value = ((value << 8) ^ (crcTable[(value >>> 24) ^ byte] ?? 0)) >>> 0;
  return value;
}

function buildTable(): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte << 24;
    for (let bit = 0; bit < 8; bit++) value = value < 0 ? (value << 1) ^ POLYNOMIAL : value << 1;
    return value >>> 0;
  });
}

function corrupt(what: string): ImageError {
  return new ImageError('corrupt', `The bzip2 data ${what}`);
}
