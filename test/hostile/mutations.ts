/**
 * Files that are wrong in one way each, made from a sound one by what its format says of it: every field of every
 * structure and entries of every table get the values that break parsers; files are cut off where parsers look; bytes
 * are flipped at random.
 */
import { Random } from '../../src/testing/random.ts';
import type { Effect, Sample, StructPlace, TablePlace } from './descriptor.ts';
import type { Expectation, Piece, Range } from './protocol.ts';

/** One way to be wrong. */
export interface Mutation {
  readonly title: string;
  /** The part that is changed, by its name; null: the main file. */
  readonly file: string | null;
  readonly edits: readonly Piece[];
  readonly size: number;
  readonly expect: Expectation;
}

/** Number of attempts. */
export interface Amount {
  /** Entries of one table. */
  readonly entries: number;
  /** Files with bytes flipped at random. */
  readonly flips: number;
  /** True when a field also gets the values of all other fields of its size. */
  readonly swaps: boolean;
  /** Only each so-manieth file; 1: all of them. */
  readonly every: number;
  readonly seed: number;
}

/** A file of a sample, to be changed. */
interface Target extends Pick<Sample, 'anatomy' | 'virtualSize'> {
  readonly file: string | null;
  readonly bytes: Uint8Array;
}

function targetsOf({ bytes, anatomy, virtualSize, parts = [] }: Sample): Target[] {
  const main = bytes === null ? [] : [{ file: null, bytes, anatomy, virtualSize }];
  return [...main, ...parts.map((part) => ({ ...part, file: part.name, virtualSize }))];
}

/** All mutations of one sample. The first one changes nothing. */
export function* mutationsOf(sample: Sample, amount: Amount): Generator<Mutation> {
  let number = 0;
  for (const target of targetsOf(sample)) {
    for (const mutation of allMutations(target, amount)) if (number++ % amount.every === 0) yield named(mutation);
  }
}

/** Says which file it is, where that is not the main one. */
function named(mutation: Mutation): Mutation {
  const { file, title } = mutation;
  return file === null ? mutation : { ...mutation, title: `${file}: ${title}` };
}

function* allMutations(target: Target, amount: Amount): Generator<Mutation> {
  yield edited(target, 'nothing changed', [], 'exact');
  for (const place of target.anatomy.structs) yield* fieldMutations(target, place, amount);
  for (const table of target.anatomy.tables) yield* tableMutations(target, table, amount);
  yield* lengthMutations(target);
  yield* randomMutations(target, amount);
}

function* fieldMutations(target: Target, place: StructPlace, amount: Amount): Generator<Mutation> {
  const all = Object.entries(place.table.fields);
  for (const [name, field] of all) {
    const effect = place.effects[name] ?? 'same';
    const offset = place.offset + field.offset;
    const values = field.size <= 8 ? numbers(target, place, field) : blobs(field.size, amount.seed);
    const others = all.filter(([, other]) => other.size === field.size && other !== field);
    const copies = amount.swaps || field.size > 8 ? others : others.slice(0, 6);
    for (const [what, bytes] of values) {
      yield edited(target, `${place.name} ${name} := ${what}`, summed(target, place, { offset, bytes }), effect);
    }
    for (const [other, { offset: from }] of copies) {
      const bytes = target.bytes.slice(place.offset + from, place.offset + from + field.size);
      yield edited(target, `${place.name} ${name} := ${other}`, summed(target, place, { offset, bytes }), effect);
    }
  }
}

/** A change of a structure, with the checksum that fits where it has one. */
function summed({ bytes }: Target, { summed: range }: StructPlace, edit: Piece): Piece[] {
  if (range === undefined) return [edit];
  const { offset, length, sum } = range;
  const changed = bytes.slice(offset, offset + length);
  changed.set(edit.bytes, edit.offset - offset);
  range.put(changed);
  return [edit, { offset: offset + sum.at, bytes: changed.slice(sum.at, sum.at + sum.length) }];
}

/** Values for a number of 1, 2, 4 or 8 bytes. */
function* numbers(
  target: Target,
  place: StructPlace,
  field: { readonly offset: number; readonly size: number },
): Generator<[string, Uint8Array]> {
  const present = numberAt(target.bytes, place.offset + field.offset, field.size, place.littleEndian);
  const fileSize = BigInt(target.bytes.length);
  const wanted = [...edgeValues(present, field.size), fileSize - 1n, fileSize, fileSize + 1n, 511n, 512n, 513n];
  for (const value of fitting(wanted, field.size)) {
    yield [String(value), numberBytes(value, field.size, place.littleEndian)];
  }
}

/** 0, 1, the largest, off by one both ways, the sign bit, twice, half, and what overflows a double. */
function edgeValues(present: bigint, size: number): bigint[] {
  const bits = BigInt(size * 8);
  const max = (1n << bits) - 1n;
  const sign = 1n << (bits - 1n);
  const near = [present - 1n, present + 1n, present * 2n, present / 2n, present | sign, present + 512n, present - 512n];
  return [
    0n,
    1n,
    2n,
    max,
    max - 1n,
    max - 2n,
    sign,
    sign - 1n,
    sign + 1n,
    1n << 30n,
    1n << 53n,
    (1n << 53n) - 1n,
    ...near,
  ];
}

function fitting(values: readonly bigint[], size: number): Set<bigint> {
  const max = (1n << BigInt(size * 8)) - 1n;
  return new Set(values.filter((value) => value >= 0n && value <= max));
}

/** Values for texts, GUIDs and reserved bytes. */
function* blobs(size: number, seed: number): Generator<[string, Uint8Array]> {
  const random = new Random(seed + size);
  const filled = (make: (index: number) => number): Uint8Array => Uint8Array.from({ length: size }, (_, i) => make(i));
  yield ['zeroes', filled(() => 0)];
  yield ['ones', filled(() => 0xff)];
  yield ['letters without an end', filled(() => 0x41)];
  yield ['broken UTF-8', filled((index) => (index % 2 === 0 ? 0xc3 : 0x28))];
  yield ['control characters', filled((index) => 1 + (index % 31))];
  yield ['a half surrogate', filled((index) => [0xed, 0xa0, 0x80][index % 3] ?? 0)];
  yield ['noise', filled(() => random.below(256))];
  yield ['noise again', filled(() => random.below(256))];
}

function* tableMutations(target: Target, table: TablePlace, amount: Amount): Generator<Mutation> {
  if (!(table.count > 0)) throw new Error(`${table.name} has no entries: leave it out of the sample`);
  const picked = spread(table.count, amount.entries);
  const at = (index: number): bigint =>
    numberAt(target.bytes, table.offset + index * table.entryBytes, table.entryBytes, table.littleEndian);
  for (const index of picked) {
    const others = picked.filter((other) => other !== index).map(at);
    const wanted = [...table.values, ...others, ...edgeValues(at(index), table.entryBytes)];
    for (const value of fitting(wanted, table.entryBytes)) {
      yield entryMutation(target, table, [index], () => value, `entry ${index} := ${value}`);
    }
  }
  const few = Array.from({ length: Math.min(table.count, 4096) }, (_, index) => index);
  const whole = (title: string, value: (index: number) => bigint): Mutation =>
    entryMutation(target, table, few, value, `all entries ${title}`);
  for (const value of fitting([0n, ...table.values, (1n << 32n) - 1n], table.entryBytes)) {
    yield whole(`${value}`, () => value);
  }
  yield whole('in file order', (index) => BigInt(index));
  yield whole('backwards', (index) => at(table.count - 1 - index));
  yield whole('moved by one', (index) => at((index + 1) % table.count));
  yield whole('in pairs', (index) => BigInt(Math.floor(index / 2)));
  const random = new Random(amount.seed);
  for (let round = 0; round < 4; round++) yield whole(`noise ${round}`, () => BigInt(random.next()));
  for (let round = 0; round < 4; round++)
    yield whole(`small noise ${round}`, () => BigInt(random.below(table.count + 2)));
}

function entryMutation(
  target: Target,
  table: TablePlace,
  indexes: readonly number[],
  value: (index: number) => bigint,
  title: string,
): Mutation {
  const edits = indexes.map((index) => ({
    offset: table.offset + index * table.entryBytes,
    bytes: numberBytes(value(index), table.entryBytes, table.littleEndian),
  }));
  const changed = indexes.map((index) => table.guestRange(index));
  const expect = { opens: false, unchanged: outside(changed, target.virtualSize), sameSize: true };
  return {
    title: `${table.name}: ${title}`,
    file: target.file,
    edits: joined(edits),
    size: target.bytes.length,
    expect,
  };
}

/** Cuts at every field, entry and edge, and one byte around it; and files that go on behind their end. */
function* lengthMutations(target: Target): Generator<Mutation> {
  const { file, anatomy } = target;
  const { structs, tables, edges, length = 'same' } = anatomy;
  const cuts = new Set<number>([0, 1]);
  const around = (offset: number): void => {
    for (const cut of [offset - 1, offset, offset + 1]) if (cut >= 0 && cut < target.bytes.length) cuts.add(cut);
  };
  for (const { offset, table } of structs) {
    for (const field of Object.values(table.fields)) around(offset + field.offset);
    around(offset + table.size);
  }
  for (const { offset, count, entryBytes } of tables) {
    for (const index of [0, 1, count >> 1, count - 1, count]) around(offset + index * entryBytes);
  }
  for (const edge of edges) for (const delta of [0, 511, 512]) around(edge + delta);
  for (const size of [...cuts].sort((a, b) => a - b)) {
    const lost = target.anatomy.lost?.(size) ?? [];
    const expect = expectationOf(target, length);
    const unchanged = lost.length === 0 ? expect.unchanged : outside(lost, target.virtualSize);
    yield { title: `cut off at ${size}`, file, edits: [], size, expect: { ...expect, unchanged } };
  }
  for (const more of [1, 511, 512, 4096, 2 ** 21]) {
    const size = target.bytes.length + more;
    yield { title: `${more} zero bytes behind it`, file, edits: [], size, expect: expectationOf(target, length) };
  }
}

/** Flipped bits and bytes, alone and in groups, in what is not guest data. */
function* randomMutations(target: Target, amount: Amount): Generator<Mutation> {
  const random = new Random(amount.seed);
  const { structs, tables } = target.anatomy;
  const places: [number, number][] = [
    ...structs.map(({ offset, table }): [number, number] => [offset, table.size]),
    ...tables.map(({ offset, count, entryBytes }): [number, number] => [offset, Math.min(count * entryBytes, 4096)]),
  ];
  if (places.length === 0) return;
  for (let round = 0; round < amount.flips; round++) {
    const edits: Piece[] = [];
    for (let left = round % 3 === 0 ? 1 : 1 + random.below(6); left > 0; left--) {
      const [from, length] = places[random.below(places.length)] ?? [0, 1];
      const offset = Math.min(from + random.below(length), target.bytes.length - 1);
      const present = target.bytes[offset] ?? 0;
      const byte = random.chance(0.5) ? present ^ (1 << random.below(8)) : random.below(256);
      edits.push({ offset, bytes: Uint8Array.of(byte) });
    }
    const places_ = edits.map(({ offset, bytes }) => `${offset}=${bytes[0]}`).join(' ');
    yield edited(target, `bytes ${places_}`, edits, 'free');
  }
}

function edited(target: Target, title: string, edits: readonly Piece[], effect: Effect): Mutation {
  return { title, file: target.file, edits, size: target.bytes.length, expect: expectationOf(target, effect) };
}

function expectationOf(target: Target, effect: Effect): Expectation {
  if (effect === 'free') return { opens: false, unchanged: [], sameSize: false };
  return { opens: effect === 'exact', unchanged: [[0, target.virtualSize]], sameSize: effect !== 'prefix' };
}

/** Up to `count` numbers below `total`: the first, the last, and some between. */
function spread(total: number, count: number): number[] {
  if (total <= count) return Array.from({ length: total }, (_, index) => index);
  return Array.from({ length: count }, (_, index) => Math.round((index * (total - 1)) / (count - 1)));
}

/** The rest of `[0, size)`. */
function outside(ranges: readonly Range[], size: number): Range[] {
  const left: Range[] = [];
  let at = 0;
  for (const [start, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
    if (start > at) left.push([at, start]);
    at = Math.max(at, end);
  }
  if (at < size) left.push([at, size]);
  return left;
}

/** Neighbours as one piece. */
function joined(edits: readonly Piece[]): Piece[] {
  const result: Piece[] = [];
  for (const edit of edits) {
    const last = result.at(-1);
    if (last === undefined || last.offset + last.bytes.length !== edit.offset) result.push(edit);
    else result[result.length - 1] = { offset: last.offset, bytes: concat(last.bytes, edit.bytes) };
  }
  return result;
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** The number of `size` bytes at `offset`. */
export function numberAt(bytes: Uint8Array, offset: number, size: number, littleEndian: boolean): bigint {
  let value = 0n;
  for (let index = 0; index < size; index++) {
    const byte = BigInt(bytes[offset + (littleEndian ? size - 1 - index : index)] ?? 0);
    value = (value << 8n) | byte;
  }
  return value;
}

/** The bytes of a number. */
export function numberBytes(value: bigint, size: number, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let index = 0; index < size; index++) {
    bytes[littleEndian ? index : size - 1 - index] = Number((value >> BigInt(8 * index)) & 0xffn);
  }
  return bytes;
}
