/**
 * LZFSE, after Apple's reference implementation: blocks of literals, of LZVN codes, and of values coded with finite state
 * entropy. Decoding only.
 */
import { damaged, decodeLzvn, type Output, repeat } from './lzvn.ts';

const MAGIC = {
  end: 0x2478_7662,
  plain: 0x2d78_7662,
  lzvn: 0x6e78_7662,
  first: 0x3178_7662,
  second: 0x3278_7662,
} as const;
/** States of each table: literal lengths, match lengths, distances, literals. */
const STATES = { l: 64, m: 64, d: 256, literal: 1024 } as const;
const SYMBOLS = { l: 20, m: 20, d: 64, literal: 256 } as const;
const FREQUENCIES = SYMBOLS.l + SYMBOLS.m + SYMBOLS.d + SYMBOLS.literal;
const LITERALS_MAX = 40_000;
const MATCHES_MAX = 10_000;
/** Sizes of the headers: the fixed part of the second kind, and all of the first. */
const HEADER = { second: 32, first: 772, firstFrequencies: 50 } as const;

const L_EXTRA = Uint8Array.from([...new Array(16).fill(0), 2, 3, 5, 8]);
const M_EXTRA = Uint8Array.from([...new Array(16).fill(0), 3, 5, 8, 11]);
const D_EXTRA = Uint8Array.from({ length: SYMBOLS.d }, (_, symbol) => symbol >> 2);

/**
 * Decodes a stream, which fills `bytes`, a block per step: the caller lets others run between them. Throws `corrupt` for one
 * that is damaged, or makes less or more.
 */
export function* decodeLzfse(stored: Uint8Array, bytes: Uint8Array): Generator<void> {
  const out: Output = { bytes, filled: 0 };
  const view = new DataView(stored.buffer, stored.byteOffset, stored.length);
  for (let at = 0; ; ) {
    const magic = word(view, at);
    if (magic === MAGIC.end) break;
    at = decodeBlock(magic, { stored, view, at, out });
    yield;
  }
  if (out.filled !== bytes.length) throw damaged();
}

interface Place {
  readonly stored: Uint8Array;
  readonly view: DataView;
  readonly at: number;
  readonly out: Output;
}

/** Decodes a block and returns the place behind it. */
function decodeBlock(magic: number, { stored, view, at, out }: Place): number {
  const length = word(view, at + 4);
  if (length > out.bytes.length - out.filled) throw damaged();
  const target = out.filled + length;
  let end: number;
  if (magic === MAGIC.plain) {
    end = at + 8 + length;
    if (end > stored.length) throw damaged();
    out.bytes.set(stored.subarray(at + 8, end), out.filled);
    out.filled = target;
  } else if (magic === MAGIC.lzvn) {
    end = at + 12 + word(view, at + 8);
    if (end > stored.length) throw damaged();
    decodeLzvn(stored.subarray(at + 12, end), out, target);
  } else if (magic === MAGIC.first || magic === MAGIC.second) {
    const header = magic === MAGIC.second ? secondHeader(stored, view, at) : firstHeader(view, at);
    end = at + header.size + header.literalBytes + header.matchBytes;
    if (end > stored.length) throw damaged();
    decodeValues(stored, at + header.size, header, out, target);
  } else throw damaged();
  if (out.filled !== target) throw damaged();
  return end;
}

/** Numbers of a block. */
interface Header {
  readonly size: number;
  readonly literals: number;
  readonly literalBytes: number;
  readonly literalBits: number;
  readonly literalStates: readonly number[];
  readonly matches: number;
  readonly matchBytes: number;
  readonly matchBits: number;
  readonly states: { readonly l: number; readonly m: number; readonly d: number };
  readonly frequencies: Uint16Array;
}

function firstHeader(view: DataView, at: number): Header {
  if (at + HEADER.first > view.byteLength) throw damaged();
  const half = (offset: number): number => view.getUint16(at + offset, true);
  return {
    size: HEADER.first,
    literals: word(view, at + 12),
    matches: word(view, at + 16),
    literalBytes: word(view, at + 20),
    matchBytes: word(view, at + 24),
    literalBits: view.getInt32(at + 28, true),
    literalStates: [half(32), half(34), half(36), half(38)],
    matchBits: view.getInt32(at + 40, true),
    states: { l: half(44), m: half(46), d: half(48) },
    frequencies: Uint16Array.from({ length: FREQUENCIES }, (_, index) => half(HEADER.firstFrequencies + 2 * index)),
  };
}

function secondHeader(stored: Uint8Array, view: DataView, at: number): Header {
  if (at + HEADER.second > stored.length) throw damaged();
  const field = (index: number, first: number, bits: number): number =>
    Number((view.getBigUint64(at + 8 + 8 * index, true) >> BigInt(first)) & ((1n << BigInt(bits)) - 1n));
  const size = field(2, 0, 32);
  if (size < HEADER.second || at + size > stored.length) throw damaged();
  return {
    size,
    literals: field(0, 0, 20),
    literalBytes: field(0, 20, 20),
    matches: field(0, 40, 20),
    literalBits: field(0, 60, 3) - 7,
    literalStates: [field(1, 0, 10), field(1, 10, 10), field(1, 20, 10), field(1, 30, 10)],
    matchBytes: field(1, 40, 20),
    matchBits: field(1, 60, 3) - 7,
    states: { l: field(2, 32, 10), m: field(2, 42, 10), d: field(2, 52, 10) },
    frequencies: frequenciesIn(stored.subarray(at + HEADER.second, at + size)),
  };
}

/** Values of 2 to 14 bits, lowest bit first. */
function frequenciesIn(packed: Uint8Array): Uint16Array {
  let bit = 0;
  const peek = (): number => {
    const byte = bit >> 3;
    return ((packed[byte] ?? 0) | ((packed[byte + 1] ?? 0) << 8) | ((packed[byte + 2] ?? 0) << 16)) >>> (bit & 7);
  };
  const frequencies = new Uint16Array(FREQUENCIES);
  // Without values the tables are unused.
  if (packed.length === 0) return frequencies;
  for (let index = 0; index < FREQUENCIES; index++) {
    const bits = peek();
    const [length, value] = frequencyOf(bits);
    frequencies[index] = value;
    bit += length;
    if (bit > packed.length * 8) throw damaged();
  }
  if (packed.length * 8 - bit >= 8) throw damaged();
  return frequencies;
}

function frequencyOf(bits: number): readonly [length: number, value: number] {
  if ((bits & 3) === 0) return [2, 0];
  if ((bits & 3) === 2) return [2, 1];
  if ((bits & 7) === 1) return [3, 2];
  if ((bits & 7) === 5) return [3, 3];
  if ((bits & 7) === 3) return [5, 4 + ((bits >> 3) & 3)];
  if ((bits & 15) === 7) return [8, 8 + ((bits >> 4) & 15)];
  return [14, 24 + ((bits >> 4) & 0x3ff)];
}

/** A decoding table: for each state its symbol, the bits to read, and what they are added to. */
interface Table {
  readonly symbols: Uint8Array;
  readonly bits: Uint8Array;
  readonly deltas: Int16Array;
}

function tableOf(frequencies: Uint16Array, states: number): Table {
  const table = {
    symbols: new Uint8Array(states),
    bits: new Uint8Array(states),
    deltas: new Int16Array(states),
  };
  let state = 0;
  for (const [symbol, count] of frequencies.entries()) {
    if (count === 0) continue;
    if (state + count > states) throw damaged();
    const bits = Math.clz32(count) - Math.clz32(states);
    const long = ((2 * states) >> bits) - count;
    for (let index = 0; index < count; index++, state++) {
      table.symbols[state] = symbol;
      table.bits[state] = index < long ? bits : bits - 1;
      table.deltas[state] = index < long ? ((count + index) << bits) - states : (index - long) << (bits - 1);
    }
  }
  return table;
}

/** Bits of a payload, which is one number that is taken from the top downward. */
class Bits {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  #left: number;

  constructor(bytes: Uint8Array, start: number, length: number, bits: number) {
    if (bits < -7 || bits > 0) throw damaged();
    this.#bytes = bytes;
    this.#start = start;
    this.#left = 8 * length + bits;
  }

  take(count: number): number {
    this.#left -= count;
    if (this.#left < 0) throw damaged();
    const bytes = this.#bytes;
    const at = this.#start + (this.#left >> 3);
    const word =
      (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
    return (word >>> (this.#left & 7)) & ((1 << count) - 1);
  }
}

function literalsOf(stored: Uint8Array, at: number, header: Header, frequencies: Uint16Array): Uint8Array {
  const { literals: count, literalBytes, literalBits, literalStates } = header;
  if (count > LITERALS_MAX || count % 4 !== 0) throw damaged();
  const { symbols, bits, deltas } = tableOf(frequencies, STATES.literal);
  const source = new Bits(stored, at, literalBytes, literalBits);
  const states = Uint16Array.from(literalStates);
  if (states.some((state) => state >= STATES.literal)) throw damaged();
  const literals = new Uint8Array(count);
  for (let index = 0; index < count; index++) {
    const state = states[index & 3] ?? 0;
    literals[index] = symbols[state] ?? 0;
    states[index & 3] = nextState(deltas[state] ?? 0, source.take(bits[state] ?? 0), STATES.literal);
  }
  return literals;
}

function nextState(delta: number, bits: number, states: number): number {
  const state = delta + bits;
  if (state < 0 || state >= states) throw damaged();
  return state;
}

/** One of the three numbers of a match: its table, its state, and the values of its symbols. */
class Values {
  readonly #table: Table;
  readonly #states: number;
  readonly #extra: Uint8Array;
  readonly #base: Uint32Array;
  #state: number;

  constructor(frequencies: Uint16Array, states: number, extra: Uint8Array, state: number) {
    if (state >= states) throw damaged();
    this.#table = tableOf(frequencies, states);
    this.#states = states;
    this.#extra = extra;
    this.#base = new Uint32Array(extra.length);
    for (let symbol = 1; symbol < extra.length; symbol++) {
      this.#base[symbol] = (this.#base[symbol - 1] ?? 0) + (1 << (extra[symbol - 1] ?? 0));
    }
    this.#state = state;
  }

  next(source: Bits): number {
    const { symbols, bits, deltas } = this.#table;
    const symbol = symbols[this.#state] ?? 0;
    const extra = this.#extra[symbol] ?? 0;
    const taken = source.take((bits[this.#state] ?? 0) + extra);
    this.#state = nextState(deltas[this.#state] ?? 0, taken >>> extra, this.#states);
    return (this.#base[symbol] ?? 0) + (taken & ((1 << extra) - 1));
  }
}

function decodeValues(stored: Uint8Array, at: number, header: Header, out: Output, target: number): void {
  const { frequencies, literalBytes, matches, matchBytes, matchBits, states } = header;
  if (matches > MATCHES_MAX) throw damaged();
  const [m, d, literal] = [SYMBOLS.l, SYMBOLS.l + SYMBOLS.m, SYMBOLS.l + SYMBOLS.m + SYMBOLS.d];
  const literals = literalsOf(stored, at, header, frequencies.subarray(literal));
  const source = new Bits(stored, at + literalBytes, matchBytes, matchBits);
  const lengths = new Values(frequencies.subarray(0, m), STATES.l, L_EXTRA, states.l);
  const copies = new Values(frequencies.subarray(m, d), STATES.m, M_EXTRA, states.m);
  const distances = new Values(frequencies.subarray(d, literal), STATES.d, D_EXTRA, states.d);
  let [used, distance] = [0, 0];
  for (let match = 0; match < matches; match++) {
    const length = lengths.next(source);
    const copied = copies.next(source);
    distance = distances.next(source) || distance;
    if (used + length > literals.length || out.filled + length + copied > target) throw damaged();
    out.bytes.set(literals.subarray(used, used + length), out.filled);
    used += length;
    out.filled += length;
    repeat(out, distance, copied);
  }
}

function word(view: DataView, at: number): number {
  if (at + 4 > view.byteLength) throw damaged();
  return view.getUint32(at, true);
}
